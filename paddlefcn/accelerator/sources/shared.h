// What the operators share: the numbers of a convolution, numbers in bfloat16, buffers that stay.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

enum Method { kPrimitive, kProduct, kMinimal };  // oneDNN's convolution, matrix product, winograd.h

// A convolution over [N,C,H,W] in channels-last storage, as Python hands it over: 20 numbers in this order.
struct Convolution {
    int64_t n, c, h, w;          // image
    int64_t o, kh, kw;           // output channels, kernel
    int64_t sh, sw;              // stride
    int64_t top, left, bottom, right;
    int64_t dh, dw;              // dilation, 1 is none
    int64_t groups;
    int64_t oh, ow;              // output size
    int64_t bf16;                // arithmetic and activations in bfloat16 (weights come as float)
    int64_t method;              // one of Method

    int64_t pixels() const { return n * oh * ow; }
    int64_t taps() const { return c / groups * kh * kw; }
    int64_t weights() const { return o * taps(); }
    bool pointwise() const {
        return kh == 1 && kw == 1 && sh == 1 && sw == 1 && top + left + bottom + right == 0;
    }
};

// bfloat16 is the upper half of a float; rounding is to nearest even, NaN stays NaN.
using bfloat = uint16_t;

inline float widen(bfloat value) {
    uint32_t bits = uint32_t(value) << 16;
    float result;
    std::memcpy(&result, &bits, 4);
    return result;
}
inline float widen(float value) { return value; }

inline void narrow(float value, float& result) { result = value; }
inline void narrow(float value, bfloat& result) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    result = bfloat((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16) | 0x40 : rounded);
}

// `body` with the numbers as what they are.
template <class Body>
bool typed(bool bf16, const void* numbers, Body body) {
    return bf16 ? body(static_cast<const bfloat*>(numbers)) : body(static_cast<const float*>(numbers));
}

// Buffers that only live within a call keep their memory from call to call: fresh pages cost more than the
// arithmetic of most layers. One a purpose; contents are lost when the same purpose is asked for again.
enum Purpose { kScratchpad, kWeights, kGradient, kColumns, kTransposed, kPartial, kChannels, kPurposes };
void* buffer(Purpose purpose, size_t bytes);

void to_bfloat(const float* source, bfloat* target, int64_t count);
