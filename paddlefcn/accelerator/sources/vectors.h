// A register of channels at a time.
#pragma once
#include "shared.h"

#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;  // wider than a register they would live in memory
#endif

typedef float vec __attribute__((vector_size(kLanes * 4), may_alias));
typedef float loose_vec __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint32_t words __attribute__((vector_size(kLanes * 4), may_alias));
typedef bfloat loose_halves __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

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

// Rows and lanes of as many vectors exchanged, by swapping ever larger squares.
template <int kSquare>
INLINE void exchange(vec* rows) {
#ifdef __clang__
    for (int row = 0; row < kLanes; row++) {
        if (row & kSquare) continue;
        for (int lane = 0; lane < kLanes; lane++) {
            if (lane & kSquare) continue;
            float kept = rows[row + kSquare][lane];
            rows[row + kSquare][lane] = rows[row][lane + kSquare];
            rows[row][lane + kSquare] = kept;
        }
    }
#else
    words low, high;
    for (int lane = 0; lane < kLanes; lane++) {
        low[lane] = lane & kSquare ? kLanes + lane - kSquare : lane;
        high[lane] = lane & kSquare ? kLanes + lane : lane + kSquare;
    }
    for (int row = 0; row < kLanes; row++) {
        if (row & kSquare) continue;
        vec first = rows[row], second = rows[row + kSquare];
        rows[row] = __builtin_shuffle(first, second, low);
        rows[row + kSquare] = __builtin_shuffle(first, second, high);
    }
#endif
}

INLINE void transpose(vec* rows) {
    exchange<1>(rows);
    exchange<2>(rows);
    exchange<4>(rows);
    if constexpr (kLanes > 8) exchange<kLanes / 2>(rows);
}
