// Convolution forward, data and weight gradient over channels-last images; weights as Paddle keeps them.
//
// Two roads. Primitives are fastest for 3x3 kernels, but want their weights in a layout of their own: cheap
// for 3x3, ruinous for FCN's fc6 (411 MB, three times a step). There, and for 1x1 kernels, a matrix product
// over the plain weights is as fast and touches them once.
#include <algorithm>

#include "exports.h"
#include "matrices.h"

namespace {
// [pixels, c*kh*kw]: what each output pixel sees, in the order of a weight's row
template <class T>
const T* columns(const Convolution& g, const T* x) {
    if (g.pointwise()) return x;
    int64_t taps = g.taps(), area = g.kh * g.kw;
    T* result = static_cast<T*>(buffer(kColumns, size_t(g.pixels() * taps) * sizeof(T)));
#pragma omp parallel for schedule(static)
    for (int64_t pixel = 0; pixel < g.pixels(); pixel++) {
        int64_t n = pixel / (g.oh * g.ow), row = pixel / g.ow % g.oh, column = pixel % g.ow;
        for (int64_t ky = 0; ky < g.kh; ky++) {
            int64_t y = row * g.sh - g.top + ky * g.dh;
            for (int64_t kx = 0; kx < g.kw; kx++) {
                int64_t at = column * g.sw - g.left + kx * g.dw;
                T* target = result + pixel * taps + ky * g.kw + kx;
                if (y < 0 || y >= g.h || at < 0 || at >= g.w) {
                    for (int64_t c = 0; c < g.c; c++) target[c * area] = T(0);
                } else {
                    const T* source = x + ((n * g.h + y) * g.w + at) * g.c;
                    for (int64_t c = 0; c < g.c; c++) target[c * area] = source[c];
                }
            }
        }
    }
    return result;
}

// the adjoint of `columns`; each thread owns its channels, so the order of sums is fixed
void gather(const Convolution& g, const float* from, float* dx) {
    constexpr int64_t kBlock = 16;
    int64_t blocks = (g.c + kBlock - 1) / kBlock, area = g.kh * g.kw, taps = g.taps();
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < g.n * blocks; task++) {
        int64_t n = task / blocks, first = task % blocks * kBlock, last = std::min(first + kBlock, g.c);
        float* image = dx + n * g.h * g.w * g.c;
        for (int64_t pixel = 0; pixel < g.h * g.w; pixel++)
            std::fill(image + pixel * g.c + first, image + pixel * g.c + last, 0.f);
        for (int64_t out = 0; out < g.oh * g.ow; out++) {
            const float* source = from + (n * g.oh * g.ow + out) * taps;
            int64_t y0 = out / g.ow * g.sh - g.top, x0 = out % g.ow * g.sw - g.left;
            for (int64_t ky = 0; ky < g.kh; ky++) {
                int64_t y = y0 + ky * g.dh;
                if (y < 0 || y >= g.h) continue;
                for (int64_t kx = 0; kx < g.kw; kx++) {
                    int64_t at = x0 + kx * g.dw;
                    if (at < 0 || at >= g.w) continue;
                    float* target = image + (y * g.w + at) * g.c;
                    for (int64_t c = first; c < last; c++) target[c] += source[c * area + ky * g.kw + kx];
                }
            }
        }
    }
}

const bfloat* narrowed(const Convolution& g, const float* weight) {
    auto* result = static_cast<bfloat*>(buffer(kWeights, size_t(g.weights()) * sizeof(bfloat)));
    to_bfloat(weight, result, g.weights());
    return result;
}

bool forward(const Convolution& g, const void* x, const float* weight, void* y) {
    if (!g.gemm) return primitive_forward(g, x, weight, y);
    if (!g.bf16)
        return product(false, true, g.pixels(), g.o, g.taps(), columns(g, static_cast<const float*>(x)), weight,
                       static_cast<float*>(y));
    return product(false, true, g.pixels(), g.o, g.taps(), columns(g, static_cast<const bfloat*>(x)),
                   narrowed(g, weight), y, false);
}

bool data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx) {
    if (!g.gemm) return primitive_data_gradient(g, dy, weight, dx);
    float* to = dx;
    if (!g.pointwise()) to = static_cast<float*>(buffer(kColumns, size_t(g.pixels() * g.taps()) * sizeof(float)));
    bool done = g.bf16 ? product(false, false, g.pixels(), g.taps(), g.o, static_cast<const bfloat*>(dy),
                                 narrowed(g, weight), to, true)
                       : product(false, false, g.pixels(), g.taps(), g.o, static_cast<const float*>(dy), weight, to);
    if (done && !g.pointwise()) gather(g, to, dx);
    return done;
}

bool weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight) {
    if (!g.gemm) return primitive_weight_gradient(g, x, dy, dweight);
    if (!g.bf16)
        return product(true, false, g.o, g.taps(), g.pixels(), static_cast<const float*>(dy),
                       columns(g, static_cast<const float*>(x)), dweight);
    return product(true, false, g.o, g.taps(), g.pixels(), static_cast<const bfloat*>(dy),
                   columns(g, static_cast<const bfloat*>(x)), dweight, true);
}

const Convolution& read(const int64_t* numbers) { return *reinterpret_cast<const Convolution*>(numbers); }
}  // namespace

void to_bfloat(const float* source, bfloat* target, int64_t count) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) narrow(source[i], target[i]);
}

int fcn_supported(const int64_t* numbers) {
    return guarded([&] { return read(numbers).gemm || primitive_exists(read(numbers)); });
}

int fcn_convolution(const int64_t* numbers, const void* x, const float* weight, void* y) {
    return guarded([&] { return forward(read(numbers), x, weight, y); });
}

int fcn_data_gradient(const int64_t* numbers, const void* dy, const float* weight, float* dx) {
    return guarded([&] { return data_gradient(read(numbers), dy, weight, dx); });
}

int fcn_weight_gradient(const int64_t* numbers, const void* x, const void* dy, float* dweight) {
    return guarded([&] { return weight_gradient(read(numbers), x, dy, dweight); });
}

int fcn_bfloat_is_fast() { return bfloat_is_fast(); }

void* fcn_buffer(int purpose, int64_t bytes) {
    void* result = nullptr;
    guarded([&] { return (result = buffer(Purpose(purpose), size_t(bytes))) != nullptr; });
    return result;
}
