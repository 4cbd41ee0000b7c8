// 3x3 convolutions of stride 1 by minimal filtering, F(4x4, 3x3).
//
// Patches, weights and products lie by their 36 numbers, then by blocks of channels, a vector each. Tiles go through in
// blocks that stay in the cache: transformed, 36 matrix products, transformed back. Every sum runs in an order
// that depends on the sizes and the number of threads alone.
#include <omp.h>

#include <type_traits>

#include "tiles.h"
#include "winograd.h"

namespace {
using Filter = SmallKernel;
constexpr int kTile = Filter::kTile, kProducts = Sizes<Filter>::kProducts;

// Transformed weights as [36][column block][row][lane], rows filled up to whole blocks with zero. Columns are
// the outputs: with `turned` the input channels, and the kernel is turned round, for the gradient of the image.
struct Weights {
    int64_t o, c, rows, columns;  // rows and columns in blocks
    bool turned;
    Weights(const Convolution& g, bool turned_)
        : o(g.o), c(g.c), rows(blocks_of(turned_ ? g.o : g.c)), columns(blocks_of(turned_ ? g.c : g.o)), turned(turned_) {}
    int64_t element() const { return rows * columns * kLanes * kLanes + kLanes; }
    size_t bytes() const { return size_t(element() * kProducts) * sizeof(float); }
};

void transform_weights(const Weights& shape, const float* weight, float* to) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t column = 0; column < shape.columns; column++) {
        for (int64_t row = 0; row < shape.rows; row++) {
            alignas(64) float taps[kLanes][9][kLanes] = {};
            int64_t output = (shape.turned ? row : column) * kLanes, input = (shape.turned ? column : row) * kLanes;
            int64_t outputs = std::min<int64_t>(kLanes, shape.o - output), inputs = std::min<int64_t>(kLanes, shape.c - input);
            for (int64_t o = 0; o < outputs; o++) {
                const float* from = weight + ((output + o) * shape.c + input) * 9;
                for (int64_t c = 0; c < inputs; c++)
                    for (int tap = 0; tap < 9; tap++)
                        (shape.turned ? taps[o][8 - tap][c] : taps[c][tap][o]) = from[c * 9 + tap];
            }
            for (int line = 0; line < kLanes; line++) {
                vec values[9], result[kProducts];
                for (int tap = 0; tap < 9; tap++) values[tap] = load(taps[line][tap]);
                transform<KernelTransform<Filter>>(values, result);
                float* at = to + ((column * shape.rows + row) * kLanes + line) * kLanes;
                for (int e = 0; e < kProducts; e++) store(result[e], at + e * shape.element());
            }
        }
    }
}

void sum_weights(const Weights& shape, const float* parts, int64_t count, float* dweight) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t column = 0; column < shape.columns; column++) {
        for (int64_t row = 0; row < shape.rows; row++) {
            alignas(64) float taps[kLanes][9][kLanes];
            for (int line = 0; line < kLanes; line++) {
                vec values[kProducts], result[9];
                const float* at = parts + ((column * shape.rows + row) * kLanes + line) * kLanes;
                for (int e = 0; e < kProducts; e++) {
                    values[e] = load(at + e * shape.element());
                    for (int64_t part = 1; part < count; part++)
                        values[e] += load(at + (part * kProducts + e) * shape.element());
                }
                transform<KernelGradientTransform<Filter>>(values, result);
                for (int tap = 0; tap < 9; tap++) store(result[tap], taps[line][tap]);
            }
            int64_t outputs = std::min(int64_t(kLanes), shape.o - column * kLanes);
            int64_t inputs = std::min(int64_t(kLanes), shape.c - row * kLanes);
            for (int64_t o = 0; o < outputs; o++)
                for (int64_t c = 0; c < inputs; c++)
                    for (int tap = 0; tap < 9; tap++)
                        dweight[((column * kLanes + o) * shape.c + row * kLanes + c) * 9 + tap] = taps[c][tap][o];
        }
    }
}

// How many tiles go through at a time. With little to multiply by, each thread has blocks of its own that stay
// in its cache; else all threads share one block, so that weights come from memory once for many tiles.
struct Plan {
    bool shared;
    int64_t tiles, threads;
    Plan(const Tiles& all, int64_t channels, size_t weight_bytes) {
        constexpr int64_t kOwn = int64_t(1) << 19, kTogether = int64_t(20) << 20, kSmall = int64_t(5) << 20;
        threads = omp_get_max_threads();
        shared = int64_t(weight_bytes) > kSmall;
        int64_t fit = (shared ? kTogether : kOwn) / (channels * kProducts * int64_t(sizeof(float)));
        tiles = std::min(std::max<int64_t>(fit / kRows, 1) * kRows, shared ? all.count : (all.count + threads - 1) / threads);
    }
};

template <class In, class Out>
bool filter(const In* image, const Map& source, Out* result, const Map& target, int64_t top, int64_t left,
            const Weights& shape, const float* weight) {
    Tiles all(target, kTile);
    Plan plan(all, (source.blocks + target.blocks) * kLanes, shape.bytes());
    Layout in(plan.tiles, source.blocks), out(plan.tiles, target.blocks);
    int64_t space = (in.element + out.element) * kProducts, blocks = (all.count + plan.tiles - 1) / plan.tiles;
    int64_t steps = source.blocks * kLanes;
    auto* weights = static_cast<float*>(buffer(kWeights, shape.bytes()));
    auto* spaces = static_cast<float*>(buffer(kColumns, size_t(space * (plan.shared ? 1 : plan.threads)) * sizeof(float)));
    transform_weights(shape, weight, weights);
    auto fill = [&](int64_t tile, int64_t slot, float* to) {
        into_products<Filter, PatchTransform<Filter>>(image, source, all, top, left, tile, slot, in, to);
    };
    auto multiply = [&](int64_t e, int64_t panel, int64_t count, float* patches) {
        tile_product(patches + e * in.element, in, weights + e * shape.element(), steps,
                     patches + in.element * kProducts + e * out.element, out, panel, count, false);
    };
    if (plan.shared) {
        for (int64_t block = 0; block < blocks; block++) {
            int64_t first = block * plan.tiles, count = std::min(plan.tiles, all.count - first);
#pragma omp parallel
            {
#pragma omp for schedule(static)
                for (int64_t tile = 0; tile < count; tile++) fill(first + tile, tile, spaces);
#pragma omp for collapse(2) schedule(static)
                for (int64_t e = 0; e < kProducts; e++)
                    for (int64_t panel = 0; panel < out.blocks; panel += kPanels) multiply(e, panel, count, spaces);
#pragma omp for schedule(static)
                for (int64_t tile = 0; tile < count; tile++)
                    out_of_products<Filter>(spaces + in.element * kProducts, out, tile, 0, target, all, first + tile, result);
            }
        }
        return true;
    }
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < blocks; block++) {
        int64_t first = block * plan.tiles, count = std::min(plan.tiles, all.count - first);
        float* own = spaces + omp_get_thread_num() * space;
        for (int64_t tile = 0; tile < count; tile++) fill(first + tile, tile, own);
        for (int64_t e = 0; e < kProducts; e++)
            for (int64_t panel = 0; panel < out.blocks; panel += kPanels) multiply(e, panel, count, own);
        for (int64_t tile = 0; tile < count; tile++)
            out_of_products<Filter>(own + in.element * kProducts, out, tile, 0, target, all, first + tile, result);
    }
    return true;
}

template <class T>
bool weight_gradient(const Convolution& g, const T* x, const T* dy, float* dweight) {
    Map source(g.n, g.h, g.w, g.c), target(g.n, g.oh, g.ow, g.o);
    Tiles all(target, kTile);
    Weights shape(g, false);
    Plan plan(all, (source.blocks + target.blocks) * kLanes, shape.bytes());
    Layout in(plan.tiles, source.blocks), out(plan.tiles, target.blocks);
    int64_t space = (in.element + out.element) * kProducts, blocks = (all.count + plan.tiles - 1) / plan.tiles;
    int64_t parts = plan.shared ? 1 : std::min(plan.threads, blocks), part_floats = shape.element() * kProducts;
    auto* sums = static_cast<float*>(buffer(kWeights, shape.bytes() * size_t(parts)));
    auto* spaces = static_cast<float*>(buffer(kColumns, size_t(space * parts) * sizeof(float)));
    auto fill = [&](int64_t tile, int64_t slot, float* to) {
        into_products<Filter, PatchTransform<Filter>>(x, source, all, g.top, g.left, tile, slot, in, to);
        into_products<Filter, GradientTransform<Filter>>(dy, target, all, 0, 0, tile, slot, out, to + in.element * kProducts);
    };
    auto multiply = [&](int64_t e, int64_t count, float* patches, float* to, bool adds) {
        weight_product(patches + e * in.element, in, in.blocks * kLanes,
                       patches + in.element * kProducts + e * out.element, out, out.blocks, count,
                       to + e * shape.element(), adds);
    };
    if (plan.shared) {
        for (int64_t block = 0; block < blocks; block++) {
            int64_t first = block * plan.tiles, count = std::min(plan.tiles, all.count - first);
#pragma omp parallel
            {
#pragma omp for schedule(static)
                for (int64_t tile = 0; tile < count; tile++) fill(first + tile, tile, spaces);
#pragma omp for schedule(static)
                for (int64_t e = 0; e < kProducts; e++) multiply(e, count, spaces, sums, block > 0);
            }
        }
    } else {
#pragma omp parallel for schedule(static, 1)
        for (int64_t part = 0; part < parts; part++) {
            float* own = spaces + part * space;
            for (int64_t block = blocks * part / parts; block < blocks * (part + 1) / parts; block++) {
                int64_t first = block * plan.tiles, count = std::min(plan.tiles, all.count - first);
                for (int64_t tile = 0; tile < count; tile++) fill(first + tile, tile, own);
                for (int64_t e = 0; e < kProducts; e++)
                    multiply(e, count, own, sums + part * part_floats, block > blocks * part / parts);
            }
        }
    }
    sum_weights(shape, sums, parts, dweight);
    return true;
}
}  // namespace

bool small_forward(const Convolution& g, const void* x, const float* weight, void* y) {
    Map source(g.n, g.h, g.w, g.c), target(g.n, g.oh, g.ow, g.o);
    Weights shape(g, false);
    return typed(g.bf16, x, [&](auto* from) {
        auto* to = static_cast<std::remove_const_t<std::remove_pointer_t<decltype(from)>>*>(y);
        return filter(from, source, to, target, g.top, g.left, shape, weight);
    });
}

bool small_data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx) {
    Map source(g.n, g.oh, g.ow, g.o), target(g.n, g.h, g.w, g.c);
    Weights shape(g, true);
    return typed(g.bf16, dy, [&](auto* from) {
        return filter(from, source, dx, target, 2 - g.top, 2 - g.left, shape, weight);
    });
}

bool small_weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight) {
    return typed(g.bf16, x, [&](auto* from) {
        return weight_gradient(g, from, static_cast<decltype(from)>(dy), dweight);
    });
}
