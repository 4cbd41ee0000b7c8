// Sixteen channels at a time, and the transforms of Winograd's minimal filtering F(4x4, 3x3).
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: an output tile of 4x4 takes
// a patch of 6x6; both and the kernel are moved to 36 numbers, between which a convolution is one product
// each. One dimension at a time, the numbers are values of polynomials at 0, a, -a, b, -b and infinity. The
// error in float32 is a fifth of that with the paper's points, 1 and 2.
#pragma once
#include "shared.h"

constexpr int kLanes = 16, kTile = 4, kPatch = 6, kProducts = kPatch * kPatch;

typedef float vec __attribute__((vector_size(64), may_alias));
typedef float loose_vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(64), may_alias));
typedef bfloat loose_halves __attribute__((vector_size(32), aligned(2), may_alias));

#define INLINE inline __attribute__((always_inline))

INLINE vec load(const float* from) { return *reinterpret_cast<const loose_vec*>(from); }
INLINE vec load(const bfloat* from) {
    return vec(__builtin_convertvector(*reinterpret_cast<const loose_halves*>(from), words) << 16);
}
INLINE void store(vec value, float* to) { *reinterpret_cast<loose_vec*>(to) = value; }
INLINE void store(vec value, bfloat* to) {
    for (int lane = 0; lane < kLanes; lane++) narrow(value[lane], to[lane]);
}

template <class T>
INLINE vec load_some(const T* from, int64_t count) {  // the rest is zero
    vec value = {};
    for (int64_t lane = 0; lane < count; lane++) value[lane] = widen(from[lane]);
    return value;
}

template <class T>
INLINE void store_some(vec value, T* to, int64_t count) {
    for (int64_t lane = 0; lane < count; lane++) narrow(value[lane], to[lane]);
}

namespace points {
// a = sqrt(1/2), b = sqrt(2); at_a and at_b are the weights of the values there, that at 0 is one
constexpr float a = 0.70710678f, b = 1.41421356f, a2 = 0.5f, b2 = 2, a3 = 0.35355339f, b3 = 2.82842712f;
constexpr float at_a = -2 / 3.f, at_b = 1 / 6.f;
}  // namespace points

// Each takes numbers `from` apart and leaves its own `to` apart.
struct PatchTransform {  // 6 -> 6: of the image
    static constexpr int kIn = 6, kOut = 6;
    static INLINE void run(const vec* d, int from, vec* v, int to) {
        using namespace points;
        vec d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from];
        vec even_a = d4 - b2 * d2, odd_a = a * (d3 - b2 * d1), even_b = d4 - a2 * d2, odd_b = b * (d3 - a2 * d1);
        v[0] = d[0] + (d4 - (a2 + b2) * d2);
        v[to] = even_a + odd_a;
        v[2 * to] = even_a - odd_a;
        v[3 * to] = even_b + odd_b;
        v[4 * to] = even_b - odd_b;
        v[5 * to] = d1 + (d[5 * from] - (a2 + b2) * d3);
    }
};

struct ResultTransform {  // 6 -> 4: of the products, to the result
    static constexpr int kIn = 6, kOut = 4;
    static INLINE void run(const vec* m, int from, vec* y, int to) {
        using namespace points;
        vec sum_a = m[from] + m[2 * from], off_a = m[from] - m[2 * from];
        vec sum_b = m[3 * from] + m[4 * from], off_b = m[3 * from] - m[4 * from];
        y[0] = m[0] + (sum_a + sum_b);
        y[to] = a * off_a + b * off_b;
        y[2 * to] = a2 * sum_a + b2 * sum_b;
        y[3 * to] = a3 * off_a + (b3 * off_b + m[5 * from]);
    }
};

struct GradientTransform {  // 4 -> 6: of the result's gradient; ResultTransform transposed
    static constexpr int kIn = 4, kOut = 6;
    static INLINE void run(const vec* y, int from, vec* v, int to) {
        using namespace points;
        vec y0 = y[0], y1 = y[from], y2 = y[2 * from], y3 = y[3 * from];
        vec even_a = y0 + a2 * y2, odd_a = a * y1 + a3 * y3, even_b = y0 + b2 * y2, odd_b = b * y1 + b3 * y3;
        v[0] = y0;
        v[to] = even_a + odd_a;
        v[2 * to] = even_a - odd_a;
        v[3 * to] = even_b + odd_b;
        v[4 * to] = even_b - odd_b;
        v[5 * to] = y3;
    }
};

struct KernelTransform {  // 3 -> 6: of the weights
    static constexpr int kIn = 3, kOut = 6;
    static INLINE void run(const vec* g, int from, vec* v, int to) {
        using namespace points;
        vec g0 = g[0], g1 = g[from], g2 = g[2 * from];
        vec even_a = at_a * g0 + (at_a * a2) * g2, even_b = at_b * g0 + (at_b * b2) * g2;
        v[0] = g0;
        v[to] = even_a + (at_a * a) * g1;
        v[2 * to] = even_a - (at_a * a) * g1;
        v[3 * to] = even_b + (at_b * b) * g1;
        v[4 * to] = even_b - (at_b * b) * g1;
        v[5 * to] = g2;
    }
};

struct KernelGradientTransform {  // 6 -> 3: KernelTransform transposed
    static constexpr int kIn = 6, kOut = 3;
    static INLINE void run(const vec* u, int from, vec* g, int to) {
        using namespace points;
        vec sum_a = at_a * (u[from] + u[2 * from]), sum_b = at_b * (u[3 * from] + u[4 * from]);
        vec off_a = (at_a * a) * (u[from] - u[2 * from]), off_b = (at_b * b) * (u[3 * from] - u[4 * from]);
        g[0] = u[0] + (sum_a + sum_b);
        g[to] = off_a + off_b;
        g[2 * to] = a2 * sum_a + (b2 * sum_b + u[5 * from]);
    }
};

// Both dimensions: kIn x kIn -> kOut x kOut, row by row.
template <class Transform>
INLINE void transform(const vec* from, vec* to) {
    constexpr int kIn = Transform::kIn, kOut = Transform::kOut;
    vec half[kOut * kIn];
    for (int column = 0; column < kIn; column++) Transform::run(from + column, kIn, half + column, kIn);
    for (int row = 0; row < kOut; row++) Transform::run(half + row * kIn, 1, to + row * kOut, 1);
}
