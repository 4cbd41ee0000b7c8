// Winograd's minimal filtering, F(4x4, 3x3) and F(2x2, 7x7): fewer multiplications for a convolution.
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. One dimension at a time, a
// patch of the image and the kernel are moved to as many numbers as the patch has, a product each, and moved
// back to a tile of the result. The numbers are values of polynomials at 0, at pairs of points p and -p, and at
// infinity. What float32 loses grows with their count, and depends on where they lie: the points here lose a
// fifth of what the paper's do.
#pragma once
#include "vectors.h"

struct SmallKernel {  // 36 multiplications for 144
    static constexpr int kTile = 4, kKernel = 3, kPairs = 2;
    static constexpr double kPoints[] = {0.70710678118654752, 1.41421356237309505}, kSquares[] = {0.5, 2};
};

struct LargeKernel {  // 64 for 196
    static constexpr int kTile = 2, kKernel = 7, kPairs = 3;
    static constexpr double kPoints[] = {0.5, 1, 2}, kSquares[] = {0.25, 1, 4};
};

template <class Filter>
struct Sizes {
    static constexpr int kTile = Filter::kTile, kKernel = Filter::kKernel, kPairs = Filter::kPairs;
    static constexpr int kPatch = kTile + kKernel - 1, kProducts = kPatch * kPatch, kTaps = kKernel * kKernel;
    static_assert(kPatch == 2 * kPairs + 2);
};

template <class Filter>
struct Constants {
    static constexpr int kPairs = Filter::kPairs, kPatch = Sizes<Filter>::kPatch;
    float whole[kPairs + 1] = {};         // coefficients of the product of x^2 - p^2, in powers of x^2
    float without[kPairs][kPairs] = {};   // the same without one pair
    float power[kPairs][kPatch] = {};     // p^i
    float scaled[kPairs][kPatch] = {};    // p^i by the pair's weight in the kernel's transform
    float at0 = 0;                        // the weight of the kernel's value at 0

    constexpr Constants() {
        double product[kPairs + 1] = {1};
        for (int pair = 0; pair < kPairs; pair++) multiply(product, pair + 1, Filter::kSquares[pair]);
        for (int i = 0; i <= kPairs; i++) whole[i] = float(product[i]);
        at0 = float(1 / product[0]);
        for (int pair = 0; pair < kPairs; pair++) {
            double rest[kPairs + 1] = {1}, square = Filter::kSquares[pair], slope = 2 * square, even = 1;
            for (int other = 0, degree = 1; other < kPairs; other++) {
                if (other == pair) continue;
                multiply(rest, degree++, Filter::kSquares[other]);
                slope *= square - Filter::kSquares[other];
            }
            for (int i = 0; i < kPairs; i++) without[pair][i] = float(rest[i]);
            for (int i = 0; i < kPatch; i++) {
                double value = i % 2 ? even * Filter::kPoints[pair] : even;
                power[pair][i] = float(value);
                scaled[pair][i] = float(value / slope);
                if (i % 2) even *= square;
            }
        }
    }

private:
    static constexpr void multiply(double* product, int degree, double square) {  // by x^2 - square
        for (int i = degree; i >= 0; i--) product[i] = (i > 0 ? product[i - 1] : 0) - square * (i < degree ? product[i] : 0);
    }
};

template <class Filter>
constexpr Constants<Filter> kConstants;

// Each transform takes numbers `from` apart and leaves its own `to` apart.
template <class Filter>
struct PatchTransform : Sizes<Filter> {  // of the image
    static constexpr int kIn = Sizes<Filter>::kPatch, kOut = kIn;
    static INLINE void run(const vec* d, int from, vec* v, int to) {
        constexpr const auto& k = kConstants<Filter>;
        constexpr int kPairs = Filter::kPairs;
        vec first = k.whole[0] * d[0], last = k.whole[0] * d[from];
        for (int i = 1; i <= kPairs; i++) first += k.whole[i] * d[2 * i * from], last += k.whole[i] * d[(2 * i + 1) * from];
        for (int pair = 0; pair < kPairs; pair++) {
            vec even = k.without[pair][0] * d[2 * from], odd = k.without[pair][0] * d[from];
            for (int i = 1; i < kPairs; i++) {
                even += k.without[pair][i] * d[(2 * i + 2) * from];
                odd += k.without[pair][i] * d[(2 * i + 1) * from];
            }
            v[(2 * pair + 1) * to] = even + k.power[pair][1] * odd;
            v[(2 * pair + 2) * to] = even - k.power[pair][1] * odd;
        }
        v[0] = first;
        v[(kOut - 1) * to] = last;
    }
};

template <class Filter>
struct ResultTransform {  // from the products
    static constexpr int kIn = Sizes<Filter>::kPatch, kOut = Filter::kTile;
    static INLINE void run(const vec* m, int from, vec* y, int to) {
        constexpr const auto& k = kConstants<Filter>;
        for (int i = 0; i < kOut; i++) {
            vec sum = i == 0 ? m[0] : i == kOut - 1 ? m[(kIn - 1) * from] : vec{};
            for (int pair = 0; pair < Filter::kPairs; pair++) {
                vec one = m[(2 * pair + 1) * from], other = m[(2 * pair + 2) * from];
                sum += k.power[pair][i] * (i % 2 ? one - other : one + other);
            }
            y[i * to] = sum;
        }
    }
};

// values at the points of a polynomial of kCount coefficients, `scales` being p^i or multiples of it
template <int kCount, class Scales>
INLINE void evaluate(const Scales& scales, int pairs, const vec* g, int from, vec* v, int to) {
    for (int pair = 0; pair < pairs; pair++) {
        vec even = scales[pair][0] * g[0], odd = scales[pair][1] * g[from];
        for (int i = 2; i < kCount; i++) (i % 2 ? odd : even) += scales[pair][i] * g[i * from];
        v[(2 * pair + 1) * to] = even + odd;
        v[(2 * pair + 2) * to] = even - odd;
    }
}

template <class Filter>
struct GradientTransform {  // of the result's gradient; ResultTransform transposed
    static constexpr int kIn = Filter::kTile, kOut = Sizes<Filter>::kPatch;
    static INLINE void run(const vec* y, int from, vec* v, int to) {
        v[0] = y[0];
        evaluate<kIn>(kConstants<Filter>.power, Filter::kPairs, y, from, v, to);
        v[(kOut - 1) * to] = y[(kIn - 1) * from];
    }
};

template <class Filter>
struct KernelTransform {  // of the weights
    static constexpr int kIn = Filter::kKernel, kOut = Sizes<Filter>::kPatch;
    static INLINE void run(const vec* g, int from, vec* v, int to) {
        v[0] = kConstants<Filter>.at0 * g[0];
        evaluate<kIn>(kConstants<Filter>.scaled, Filter::kPairs, g, from, v, to);
        v[(kOut - 1) * to] = g[(kIn - 1) * from];
    }
};

template <class Filter>
struct KernelGradientTransform {  // KernelTransform transposed
    static constexpr int kIn = Sizes<Filter>::kPatch, kOut = Filter::kKernel;
    static INLINE void run(const vec* u, int from, vec* g, int to) {
        constexpr const auto& k = kConstants<Filter>;
        for (int i = 0; i < kOut; i++) {
            vec sum = i == 0 ? k.at0 * u[0] : i == kOut - 1 ? u[(kIn - 1) * from] : vec{};
            for (int pair = 0; pair < Filter::kPairs; pair++) {
                vec one = u[(2 * pair + 1) * from], other = u[(2 * pair + 2) * from];
                sum += k.scaled[pair][i] * (i % 2 ? one - other : one + other);
            }
            g[i * to] = sum;
        }
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
