// Convolution forward, data and weight gradient over channels-last images; weights as Paddle keeps them.
//
// Three roads. Primitives do everything, but want their weights in a layout of their own: cheap for 3x3 kernels,
// ruinous for FCN's fc6 (411 MB, three times a step). There, and for large 1x1 kernels, a matrix product over
// the plain weights is as fast and touches them once. Most 3x3 and 7x7 kernels of stride 1 take fewer
// multiplications by Winograd's minimal filtering.
#include <sys/mman.h>

#include <algorithm>

#include "exports.h"
#include "matrices.h"
#include "winograd.h"

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

// A block of the weights, rows by columns, in bfloat16. Slices of 16 MB: fc6 as a whole would take 200 MB more.
constexpr int64_t kSlice = int64_t(1) << 23;

const bfloat* narrowed(const float* weight, int64_t rows, int64_t columns, int64_t stride) {
    auto* result = static_cast<bfloat*>(buffer(kWeights, size_t(rows * columns) * sizeof(bfloat)));
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < columns; c++) narrow(weight[row * stride + c], result[row * columns + c]);
    return result;
}

bool forward(const Convolution& g, const void* x, const float* weight, void* y) {
    if (g.method == kMinimal) return g.kh == 3 ? small_forward(g, x, weight, y) : large_forward(g, x, weight, y);
    if (g.method == kPrimitive) return primitive_forward(g, x, weight, y);
    int64_t pixels = g.pixels(), taps = g.taps();
    if (!g.bf16)
        return product({false, true, pixels, g.o, taps, taps, taps, g.o}, columns(g, static_cast<const float*>(x)),
                       weight, static_cast<float*>(y));
    const bfloat* seen = columns(g, static_cast<const bfloat*>(x));
    int64_t step = std::max<int64_t>(64, kSlice / taps);
    for (int64_t first = 0; first < g.o; first += step) {
        int64_t rows = std::min(step, g.o - first);
        if (!product({false, true, pixels, rows, taps, taps, taps, g.o}, seen,
                     narrowed(weight + first * taps, rows, taps, taps), static_cast<bfloat*>(y) + first, false))
            return false;
    }
    return true;
}

bool data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx) {
    if (g.method == kMinimal)
        return g.kh == 3 ? small_data_gradient(g, dy, weight, dx) : large_data_gradient(g, dy, weight, dx);
    if (g.method == kPrimitive) return primitive_data_gradient(g, dy, weight, dx);
    int64_t pixels = g.pixels(), taps = g.taps();
    float* to = dx;
    if (!g.pointwise()) to = static_cast<float*>(buffer(kColumns, size_t(pixels * taps) * sizeof(float)));
    if (!g.bf16) {
        if (!product({false, false, pixels, taps, g.o, g.o, taps, taps}, static_cast<const float*>(dy), weight, to))
            return false;
    } else {
        int64_t step = std::max<int64_t>(64, kSlice / g.o);
        for (int64_t first = 0; first < taps; first += step) {
            int64_t width = std::min(step, taps - first);
            if (!product({false, false, pixels, width, g.o, g.o, width, taps}, static_cast<const bfloat*>(dy),
                         narrowed(weight + first, g.o, width, taps), to + first, true))
                return false;
        }
    }
    if (!g.pointwise()) gather(g, to, dx);
    return true;
}

bool weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight) {
    if (g.method == kMinimal)
        return g.kh == 3 ? small_weight_gradient(g, x, dy, dweight) : large_weight_gradient(g, x, dy, dweight);
    if (g.method == kPrimitive) return primitive_weight_gradient(g, x, dy, dweight);
    int64_t pixels = g.pixels(), taps = g.taps();
    Product whole{true, false, g.o, taps, pixels, g.o, taps, taps};
    if (!g.bf16)
        return product(whole, static_cast<const float*>(dy), columns(g, static_cast<const float*>(x)), dweight);
    return product(whole, static_cast<const bfloat*>(dy), columns(g, static_cast<const bfloat*>(x)), dweight, true);
}

const Convolution& read(const int64_t* numbers) { return *reinterpret_cast<const Convolution*>(numbers); }
}  // namespace

void to_bfloat(const float* source, bfloat* target, int64_t count) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) narrow(source[i], target[i]);
}

int fcn_supported(const int64_t* numbers) {
    return guarded([&] { return read(numbers).method != kPrimitive || primitive_exists(read(numbers)); });
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

void fcn_use_large_pages(void* start, int64_t bytes) {
    // a fresh page costs more than writing it; 2 MB at a time, hardly anything. Only a hint: failure is no harm.
    constexpr uintptr_t kPage = uintptr_t(2) << 20;
    uintptr_t first = (uintptr_t(start) + kPage - 1) / kPage * kPage;
    uintptr_t last = (uintptr_t(start) + uintptr_t(bytes)) / kPage * kPage;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}
