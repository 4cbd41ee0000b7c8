// 7x7 convolutions of stride 1 by minimal filtering, F(2x2, 7x7): FCN's fc6.
//
// Its weights are 411 MB, 537 MB when transformed: more than the rest of the network's numbers. So they are
// transformed a few rows and columns at a time, within the cache, used for all tiles and forgotten; their
// gradient comes about the same way.
#include <omp.h>

#include <type_traits>

#include "tiles.h"
#include "winograd.h"

namespace {
using Filter = LargeKernel;
constexpr int kTile = Filter::kTile, kProducts = Sizes<Filter>::kProducts, kTaps = Sizes<Filter>::kTaps;
constexpr int64_t kRun = 64;       // rows of weights at a time
constexpr int64_t kWide = 4;       // vectors of columns
constexpr int64_t kMostTiles = 64;  // at a time; their numbers lie in memory as a whole

// As many rows of taps as a vector has lanes, `stride` apart, as vectors of one tap each; `turned`: in the opposite
// order.
INLINE void gather_taps(const float* from, int64_t stride, bool turned, vec* taps) {
    for (int first = 0; first + kLanes <= kTaps; first += kLanes) {
        vec rows[kLanes];
        for (int lane = 0; lane < kLanes; lane++) rows[lane] = load(from + lane * stride + first);
        transpose(rows);
        for (int i = 0; i < kLanes; i++) taps[turned ? kTaps - 1 - first - i : first + i] = rows[i];
    }
    for (int lane = 0; lane < kLanes; lane++) taps[turned ? 0 : kTaps - 1][lane] = from[lane * stride + kTaps - 1];
}

INLINE void scatter_taps(const vec* taps, float* to, int64_t stride, bool adds) {
    for (int first = 0; first + kLanes <= kTaps; first += kLanes) {
        vec rows[kLanes];
        for (int i = 0; i < kLanes; i++) rows[i] = taps[first + i];
        transpose(rows);
        for (int lane = 0; lane < kLanes; lane++) {
            float* at = to + lane * stride + first;
            store(adds ? rows[lane] + load(at) : rows[lane], at);
        }
    }
    for (int lane = 0; lane < kLanes; lane++) {
        float* at = to + lane * stride + kTaps - 1;
        *at = taps[kTaps - 1][lane] + (adds ? *at : 0.f);
    }
}

// How plain weights are seen: columns are the outputs, a vector at a time; steps count floats.
struct Weights {
    int64_t row, column;
    bool turned;
    Weights(const Convolution& g, bool turned_)
        : row(turned_ ? g.c * kTaps : kTaps), column(turned_ ? kTaps : g.c * kTaps), turned(turned_) {}
};

// A run of rows for a panel of columns: [product][side][row][lane]
struct Run {
    int64_t rows, sides;
    int64_t side() const { return rows * kLanes; }
    int64_t element() const { return rows * sides * kLanes + kLanes; }
    static int64_t floats() { return (kRun * kWide * kLanes + kLanes) * kProducts; }
};

void transform_run(const float* weight, const Weights& shape, const Run& run, float* to) {
    for (int64_t side = 0; side < run.sides; side++) {
        for (int64_t row = 0; row < run.rows; row++) {
            vec taps[kTaps], result[kProducts];
            gather_taps(weight + row * shape.row + side * kLanes * shape.column, shape.column, shape.turned, taps);
            transform<KernelTransform<Filter>>(taps, result);
            float* at = to + side * run.side() + row * kLanes;
            for (int e = 0; e < kProducts; e++) store(result[e], at + e * run.element());
        }
    }
}

void sum_run(const float* sums, const Weights& shape, const Run& run, bool adds, float* dweight) {
    for (int64_t side = 0; side < run.sides; side++) {
        for (int64_t row = 0; row < run.rows; row++) {
            vec values[kProducts], taps[kTaps];
            const float* at = sums + side * run.side() + row * kLanes;
            for (int e = 0; e < kProducts; e++) values[e] = load(at + e * run.element());
            transform<KernelGradientTransform<Filter>>(values, taps);
            scatter_taps(taps, dweight + row * shape.row + side * kLanes * shape.column, shape.column, adds);
        }
    }
}

int64_t tiles_at_a_time(const Tiles& all) {
    int64_t blocks = (all.count + kMostTiles - 1) / kMostTiles;
    return (all.count + blocks - 1) / blocks;
}

template <class In, class Out>
bool filter(const In* image, const Map& source, Out* result, const Map& target, int64_t top, int64_t left,
            const Weights& shape, const float* weight) {
    Tiles all(target, kTile);
    int64_t tiles = tiles_at_a_time(all), rows = source.c;
    Layout in(tiles, source.blocks);
    int64_t own = Run::floats() + Layout(tiles, kWide).element * kProducts;
    auto* patches = static_cast<float*>(buffer(kColumns, size_t(in.element * kProducts) * sizeof(float)));
    auto* spaces = static_cast<float*>(buffer(kWeights, size_t(own * omp_get_max_threads()) * sizeof(float)));
    for (int64_t first = 0; first < all.count; first += tiles) {
        int64_t count = std::min(tiles, all.count - first);
#pragma omp parallel
        {
#pragma omp for schedule(static)
            for (int64_t tile = 0; tile < count; tile++)
                into_products<Filter, PatchTransform<Filter>>(image, source, all, top, left, first + tile, tile, in,
                                                              patches);
            float *weights = spaces + omp_get_thread_num() * own, *products = weights + Run::floats();
#pragma omp for schedule(static)
            for (int64_t panel = 0; panel < target.blocks; panel += kWide) {
                Layout out(tiles, std::min<int64_t>(kWide, target.blocks - panel));
                for (int64_t row = 0; row < rows; row += kRun) {
                    Run run{std::min(kRun, rows - row), out.blocks};
                    transform_run(weight + row * shape.row + panel * kLanes * shape.column, shape, run, weights);
                    for (int64_t e = 0; e < kProducts; e++)
                        for (int64_t part = 0; part < out.blocks; part += kPanels)
                            tile_product(patches + e * in.element + row * tiles, in, weights + e * run.element(),
                                         run.rows, products + e * out.element, out, part, count, row > 0);
                }
                for (int64_t tile = 0; tile < count; tile++)
                    out_of_products<Filter>(products, out, tile, panel, target, all, first + tile, result);
            }
        }
    }
    return true;
}

template <class T>
bool weight_gradient(const Convolution& g, const T* x, const T* dy, float* dweight) {
    Map source(g.n, g.h, g.w, g.c), target(g.n, g.oh, g.ow, g.o);
    Tiles all(target, kTile);
    Weights shape(g, false);
    int64_t tiles = tiles_at_a_time(all);
    Layout in(tiles, source.blocks), out(tiles, target.blocks);
    size_t bytes = size_t((in.element + out.element) * kProducts) * sizeof(float);
    auto* patches = static_cast<float*>(buffer(kColumns, bytes));
    float* gradients = patches + in.element * kProducts;
    auto* spaces = static_cast<float*>(buffer(kWeights, size_t(Run::floats() * omp_get_max_threads()) * sizeof(float)));
    for (int64_t first = 0; first < all.count; first += tiles) {
        int64_t count = std::min(tiles, all.count - first);
#pragma omp parallel
        {
#pragma omp for schedule(static)
            for (int64_t tile = 0; tile < count; tile++) {
                into_products<Filter, PatchTransform<Filter>>(x, source, all, g.top, g.left, first + tile, tile, in,
                                                              patches);
                into_products<Filter, GradientTransform<Filter>>(dy, target, all, 0, 0, first + tile, tile, out,
                                                                 gradients);
            }
            float* sums = spaces + omp_get_thread_num() * Run::floats();
#pragma omp for schedule(static)
            for (int64_t panel = 0; panel < target.blocks; panel += kWide) {
                for (int64_t row = 0; row < g.c; row += kRun) {
                    Run run{std::min(kRun, g.c - row), std::min<int64_t>(kWide, target.blocks - panel)};
                    for (int64_t e = 0; e < kProducts; e++)
                        weight_product(patches + e * in.element + row * tiles, in, run.rows,
                                       gradients + e * out.element + panel * tiles * kLanes, out, run.sides, count,
                                       sums + e * run.element(), false);
                    sum_run(sums, shape, run, first > 0, dweight + row * shape.row + panel * kLanes * shape.column);
                }
            }
        }
    }
    return true;
}
}  // namespace

bool large_forward(const Convolution& g, const void* x, const float* weight, void* y) {
    Map source(g.n, g.h, g.w, g.c), target(g.n, g.oh, g.ow, g.o);
    Weights shape(g, false);
    return typed(g.bf16, x, [&](auto* from) {
        auto* to = static_cast<std::remove_const_t<std::remove_pointer_t<decltype(from)>>*>(y);
        return filter(from, source, to, target, g.top, g.left, shape, weight);
    });
}

bool large_data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx) {
    Map source(g.n, g.oh, g.ow, g.o), target(g.n, g.h, g.w, g.c);
    Weights shape(g, true);
    return typed(g.bf16, dy, [&](auto* from) {
        return filter(from, source, dx, target, 6 - g.top, 6 - g.left, shape, weight);
    });
}

bool large_weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight) {
    return typed(g.bf16, x, [&](auto* from) {
        return weight_gradient(g, from, static_cast<decltype(from)>(dy), dweight);
    });
}
