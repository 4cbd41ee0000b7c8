// 3x3 convolutions of stride 1 by Winograd's minimal filtering, see vectors.h for the arithmetic.
//
// Patches, weights and products lie by their 36 numbers, then by blocks of 16 channels. Tiles go through in
// blocks that stay in the cache: transformed, 36 matrix products, transformed back. Every sum runs in an order
// that depends on the sizes and the number of threads alone.
#include "winograd.h"

#include <omp.h>

#include <algorithm>

#include "vectors.h"

namespace {
#ifdef __AVX512F__
constexpr int kRows = 12, kPanels = 2;  // 24 of 32 registers hold sums
#else
constexpr int kRows = 6, kPanels = 1;
#endif

int64_t blocks_of(int64_t channels) { return (channels + kLanes - 1) / kLanes; }

// An image or a result in channels-last storage, cut into the patches or tiles of a result of rows x columns tiles.
struct Map {
    int64_t n, h, w, c, blocks;
    Map(int64_t n_, int64_t h_, int64_t w_, int64_t c_) : n(n_), h(h_), w(w_), c(c_), blocks(blocks_of(c_)) {}
};

struct Tiles {
    int64_t rows, columns, count;
    explicit Tiles(const Map& result)
        : rows((result.h + kTile - 1) / kTile), columns((result.w + kTile - 1) / kTile),
          count(result.n * rows * columns) {}
};

// Where the 36 numbers of a block of tiles go: [36][channel block][tile][16]
struct Layout {
    int64_t tiles, blocks, element;  // from one of the 36 to the next; a line more, so that they do not collide
    Layout(int64_t tiles_, int64_t blocks_)
        : tiles(tiles_), blocks(blocks_), element(tiles_ * blocks_ * kLanes + kLanes) {}
    int64_t floats() const { return element * kProducts; }
};

template <class T, int kSide>
INLINE void fetch(const T* image, const Map& map, int64_t y, int64_t x, int64_t channel, vec* values) {
    const T* start = image + (y * map.w + x) * map.c + channel;
    int64_t count = map.c - channel;
    if (y >= 0 && x >= 0 && y + kSide <= map.h && x + kSide <= map.w && count >= kLanes) {
        for (int row = 0; row < kSide; row++)
            for (int column = 0; column < kSide; column++)
                values[row * kSide + column] = load(start + (row * map.w + column) * map.c);
        return;
    }
    for (int row = 0; row < kSide; row++) {
        for (int column = 0; column < kSide; column++) {
            bool inside = y + row >= 0 && y + row < map.h && x + column >= 0 && x + column < map.w;
            const T* at = start + (row * map.w + column) * map.c;
            values[row * kSide + column] = !inside ? vec{} : count >= kLanes ? load(at) : load_some(at, count);
        }
    }
}

// The patches (of 6, `before` pixels up and left of their tile) or tiles (of 4) of a map, transformed.
template <class Transform, class T>
void into_products(const T* image, const Map& map, const Tiles& tiles, int64_t top, int64_t left, int64_t tile,
                   int64_t slot, const Layout& layout, float* to) {
    constexpr int kSide = Transform::kIn;
    int64_t n = tile / (tiles.rows * tiles.columns), row = tile / tiles.columns % tiles.rows, column = tile % tiles.columns;
    const T* start = image + n * map.h * map.w * map.c;
    for (int64_t block = 0; block < map.blocks; block++) {
        vec values[kSide * kSide], result[kProducts];
        fetch<T, kSide>(start, map, row * kTile - top, column * kTile - left, block * kLanes, values);
        transform<Transform>(values, result);
        float* at = to + (block * layout.tiles + slot) * kLanes;
        for (int e = 0; e < kProducts; e++) store(result[e], at + e * layout.element);
    }
}

template <class T>
void out_of_products(const float* from, const Layout& layout, int64_t slot, const Map& map, const Tiles& tiles,
                     int64_t tile, T* image) {
    int64_t n = tile / (tiles.rows * tiles.columns), y = tile / tiles.columns % tiles.rows * kTile;
    int64_t x = tile % tiles.columns * kTile, height = std::min<int64_t>(kTile, map.h - y);
    int64_t width = std::min<int64_t>(kTile, map.w - x);
    for (int64_t block = 0; block < map.blocks; block++) {
        vec values[kProducts], result[kTile * kTile];
        const float* at = from + (block * layout.tiles + slot) * kLanes;
        for (int e = 0; e < kProducts; e++) values[e] = load(at + e * layout.element);
        transform<ResultTransform>(values, result);
        int64_t count = std::min<int64_t>(kLanes, map.c - block * kLanes);
        T* start = image + ((n * map.h + y) * map.w + x) * map.c + block * kLanes;
        for (int64_t row = 0; row < height; row++) {
            for (int64_t column = 0; column < width; column++) {
                T* to = start + (row * map.w + column) * map.c;
                count == kLanes ? store(result[row * kTile + column], to)
                                : store_some(result[row * kTile + column], to, count);
            }
        }
    }
}

// c[row, 16 columns] (+)= sum of a[row, step] b[step, 16 columns], for kCount rows and kSides blocks of columns.
// Rows of a and c and steps of b are 16 apart; with kTurned, steps of a are, and its rows are neighbours.
template <int kCount, int kSides, bool kTurned>
void block_product(const float* a, int64_t chunk, const float* b, int64_t b_side, int64_t steps, float* c,
                   int64_t c_side, bool adds) {
    vec sums[kCount][kSides];
    for (int row = 0; row < kCount; row++)
        for (int side = 0; side < kSides; side++)
            sums[row][side] = adds ? load(c + side * c_side + row * kLanes) : vec{};
    for (int64_t first = 0; first < steps; first += kLanes, a += chunk) {
        int64_t last = std::min<int64_t>(kLanes, steps - first);
        for (int64_t step = 0; step < last; step++, b += kLanes) {
            vec sides[kSides];
            for (int side = 0; side < kSides; side++) sides[side] = load(b + side * b_side);
            for (int row = 0; row < kCount; row++) {
                float value = kTurned ? a[step * kLanes + row] : a[row * kLanes + step];
                for (int side = 0; side < kSides; side++) sums[row][side] += value * sides[side];
            }
        }
    }
    for (int row = 0; row < kCount; row++)
        for (int side = 0; side < kSides; side++) store(sums[row][side], c + side * c_side + row * kLanes);
}

template <int kSides, int kCount = kRows>
void some_rows(int64_t count, const float* a, int64_t chunk, const float* b, int64_t b_side, int64_t steps, float* c,
               int64_t c_side) {
    if constexpr (kCount > 1) {
        if (count < kCount) return some_rows<kSides, kCount - 1>(count, a, chunk, b, b_side, steps, c, c_side);
    }
    block_product<kCount, kSides, false>(a, chunk, b, b_side, steps, c, c_side, false);
}

// One of the 36 products for all tiles, for a panel of output channels: [tile, C] x [C, panel]
void tile_product(const float* patches, const Layout& in, const float* weights, int64_t steps, float* result,
                  const Layout& out, int64_t panel, int64_t tiles) {
    int64_t parts = (tiles + kRows - 1) / kRows, sides = std::min<int64_t>(kPanels, out.blocks - panel);
    const float* b = weights + panel * steps * kLanes;
    for (int64_t part = 0; part < parts; part++) {
        int64_t first = tiles * part / parts, count = tiles * (part + 1) / parts - first;
        const float* a = patches + first * kLanes;
        float* c = result + (panel * out.tiles + first) * kLanes;
        int64_t chunk = in.tiles * kLanes, b_side = steps * kLanes, c_side = out.tiles * kLanes;
        if (sides == kPanels)
            some_rows<kPanels>(count, a, chunk, b, b_side, steps, c, c_side);
        else
            some_rows<1>(count, a, chunk, b, b_side, steps, c, c_side);
    }
}

// One of the 36 products over a block of tiles: [C, tile] x [tile, O] added to [O block][C][16]
void weight_product(const float* patches, const Layout& in, const float* gradient, const Layout& out, int64_t tiles,
                    float* sums, bool adds) {
    constexpr int kCount = kLanes / 2;
    int64_t channels = in.blocks * kLanes;
    for (int64_t panel = 0; panel < out.blocks; panel += kPanels) {
        const float* b = gradient + panel * out.tiles * kLanes;
        int64_t b_side = out.tiles * kLanes, c_side = channels * kLanes;
        for (int64_t row = 0; row < channels; row += kCount) {
            const float* a = patches + row / kLanes * in.tiles * kLanes + row % kLanes;
            float* c = sums + (panel * channels + row) * kLanes;
            if (out.blocks - panel >= kPanels)
                block_product<kCount, kPanels, true>(a, kLanes * kLanes, b, b_side, tiles, c, c_side, adds);
            else
                block_product<kCount, 1, true>(a, kLanes * kLanes, b, b_side, tiles, c, c_side, adds);
        }
    }
}

// Transformed weights as [36][column block][row][16 columns], rows filled up to whole blocks with zero. Columns are
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
                transform<KernelTransform>(values, result);
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
                transform<KernelGradientTransform>(values, result);
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
    Tiles all(target);
    Plan plan(all, (source.blocks + target.blocks) * kLanes, shape.bytes());
    Layout in(plan.tiles, source.blocks), out(plan.tiles, target.blocks);
    int64_t space = in.floats() + out.floats(), blocks = (all.count + plan.tiles - 1) / plan.tiles;
    int64_t steps = source.blocks * kLanes;
    auto* weights = static_cast<float*>(buffer(kWeights, shape.bytes()));
    auto* spaces = static_cast<float*>(buffer(kColumns, size_t(space * (plan.shared ? 1 : plan.threads)) * sizeof(float)));
    transform_weights(shape, weight, weights);
    auto fill = [&](int64_t tile, int64_t slot, float* to) {
        into_products<PatchTransform>(image, source, all, top, left, tile, slot, in, to);
    };
    auto multiply = [&](int64_t e, int64_t panel, int64_t count, float* patches) {
        tile_product(patches + e * in.element, in, weights + e * shape.element(), steps,
                     patches + in.floats() + e * out.element, out, panel, count);
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
                    out_of_products(spaces + in.floats(), out, tile, target, all, first + tile, result);
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
            out_of_products(own + in.floats(), out, tile, target, all, first + tile, result);
    }
    return true;
}

template <class T>
bool weight_gradient(const Convolution& g, const T* x, const T* dy, float* dweight) {
    Map source(g.n, g.h, g.w, g.c), target(g.n, g.oh, g.ow, g.o);
    Tiles all(target);
    Weights shape(g, false);
    Plan plan(all, (source.blocks + target.blocks) * kLanes, shape.bytes());
    Layout in(plan.tiles, source.blocks), out(plan.tiles, target.blocks);
    int64_t space = in.floats() + out.floats(), blocks = (all.count + plan.tiles - 1) / plan.tiles;
    int64_t parts = plan.shared ? 1 : std::min(plan.threads, blocks), part_floats = shape.element() * kProducts;
    auto* sums = static_cast<float*>(buffer(kWeights, shape.bytes() * size_t(parts)));
    auto* spaces = static_cast<float*>(buffer(kColumns, size_t(space * parts) * sizeof(float)));
    auto fill = [&](int64_t tile, int64_t slot, float* to) {
        into_products<PatchTransform>(x, source, all, g.top, g.left, tile, slot, in, to);
        into_products<GradientTransform>(dy, target, all, 0, 0, tile, slot, out, to + in.floats());
    };
    auto multiply = [&](int64_t e, int64_t count, float* patches, float* to, bool adds) {
        weight_product(patches + e * in.element, in, patches + in.floats() + e * out.element, out, count,
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

bool winograd_forward(const Convolution& g, const void* x, const float* weight, void* y) {
    Map source(g.n, g.h, g.w, g.c), target(g.n, g.oh, g.ow, g.o);
    Weights shape(g, false);
    if (!g.bf16)
        return filter(static_cast<const float*>(x), source, static_cast<float*>(y), target, g.top, g.left, shape, weight);
    return filter(static_cast<const bfloat*>(x), source, static_cast<bfloat*>(y), target, g.top, g.left, shape, weight);
}

bool winograd_data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx) {
    Map source(g.n, g.oh, g.ow, g.o), target(g.n, g.h, g.w, g.c);
    Weights shape(g, true);
    if (!g.bf16)
        return filter(static_cast<const float*>(dy), source, dx, target, 2 - g.top, 2 - g.left, shape, weight);
    return filter(static_cast<const bfloat*>(dy), source, dx, target, 2 - g.top, 2 - g.left, shape, weight);
}

bool winograd_weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight) {
    if (!g.bf16) return weight_gradient(g, static_cast<const float*>(x), static_cast<const float*>(dy), dweight);
    return weight_gradient(g, static_cast<const bfloat*>(x), static_cast<const bfloat*>(dy), dweight);
}
