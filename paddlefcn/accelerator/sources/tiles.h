// Maps cut into tiles, moved to products and back, and the matrix products between (filtering.h).
#pragma once
#include <algorithm>

#include "filtering.h"

#ifdef __AVX512F__
constexpr int kRows = 12, kPanels = 2;  // 24 of 32 registers hold sums
#else
constexpr int kRows = 6, kPanels = 2;
#endif

inline int64_t blocks_of(int64_t channels) { return (channels + kLanes - 1) / kLanes; }

// An image or a result in channels-last storage, cut into the patches or tiles of a result of rows x columns tiles.
struct Map {
    int64_t n, h, w, c, blocks;
    Map(int64_t n_, int64_t h_, int64_t w_, int64_t c_) : n(n_), h(h_), w(w_), c(c_), blocks(blocks_of(c_)) {}
};

struct Tiles {
    int64_t rows, columns, count;
    Tiles(const Map& result, int side)
        : rows((result.h + side - 1) / side), columns((result.w + side - 1) / side), count(result.n * rows * columns) {}
};

// Where the numbers of a block of tiles go: [product][channel block][tile][lane]
struct Layout {
    int64_t tiles, blocks, element;  // from one product to the next; a line more, so that they do not collide
    Layout(int64_t tiles_, int64_t blocks_)
        : tiles(tiles_), blocks(blocks_), element(tiles_ * blocks_ * kLanes + kLanes) {}
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

// A patch (`top` and `left` pixels before its tile) or a tile of a map, transformed.
template <class Filter, class Transform, class T>
void into_products(const T* image, const Map& map, const Tiles& tiles, int64_t top, int64_t left, int64_t tile,
                   int64_t slot, const Layout& layout, float* to) {
    constexpr int kSide = Transform::kIn, kTile = Filter::kTile, kProducts = Sizes<Filter>::kProducts;
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

// A tile's products for the blocks of channels from `first` on, as many as the layout has, into the map.
template <class Filter, class T>
void out_of_products(const float* from, const Layout& layout, int64_t slot, int64_t first, const Map& map,
                     const Tiles& tiles, int64_t tile, T* image) {
    constexpr int kTile = Filter::kTile, kProducts = Sizes<Filter>::kProducts;
    int64_t n = tile / (tiles.rows * tiles.columns), y = tile / tiles.columns % tiles.rows * kTile;
    int64_t x = tile % tiles.columns * kTile, height = std::min<int64_t>(kTile, map.h - y);
    int64_t width = std::min<int64_t>(kTile, map.w - x);
    for (int64_t block = first; block < first + layout.blocks; block++) {
        vec values[kProducts], result[kTile * kTile];
        const float* at = from + ((block - first) * layout.tiles + slot) * kLanes;
        for (int e = 0; e < kProducts; e++) values[e] = load(at + e * layout.element);
        transform<ResultTransform<Filter>>(values, result);
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

// c[row, lane] (+)= sum of a[row, step] b[step, lane], for kCount rows and kSides blocks of columns.
// Rows of a and c and steps of b are a vector apart; with kTurned, steps of a are, and its rows are neighbours.
template <int kCount, int kSides, bool kTurned>
void block_product(const float* a, int64_t chunk, const float* b, int64_t b_side, int64_t steps, float* c,
                   int64_t c_side, bool adds) {
    vec sums[kCount][kSides] = {};
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
        for (int side = 0; side < kSides; side++) {
            float* at = c + side * c_side + row * kLanes;
            store(adds ? sums[row][side] + load(at) : sums[row][side], at);
        }
}

template <int kSides, int kCount = kRows>
void some_rows(int64_t count, const float* a, int64_t chunk, const float* b, int64_t b_side, int64_t steps, float* c,
               int64_t c_side, bool adds) {
    if constexpr (kCount > 1) {
        if (count < kCount) return some_rows<kSides, kCount - 1>(count, a, chunk, b, b_side, steps, c, c_side, adds);
    }
    block_product<kCount, kSides, false>(a, chunk, b, b_side, steps, c, c_side, adds);
}

// One product for all tiles and a panel of output channels: [tile, steps] x [steps, panel]
inline void tile_product(const float* patches, const Layout& in, const float* weights, int64_t steps, float* result,
                         const Layout& out, int64_t panel, int64_t tiles, bool adds) {
    int64_t parts = (tiles + kRows - 1) / kRows, sides = std::min<int64_t>(kPanels, out.blocks - panel);
    const float* b = weights + panel * steps * kLanes;
    for (int64_t part = 0; part < parts; part++) {
        int64_t first = tiles * part / parts, count = tiles * (part + 1) / parts - first;
        const float* a = patches + first * kLanes;
        float* c = result + (panel * out.tiles + first) * kLanes;
        int64_t chunk = in.tiles * kLanes, b_side = steps * kLanes, c_side = out.tiles * kLanes;
        if (sides == kPanels)
            some_rows<kPanels>(count, a, chunk, b, b_side, steps, c, c_side, adds);
        else
            some_rows<1>(count, a, chunk, b, b_side, steps, c, c_side, adds);
    }
}

// One product over a block of tiles: [channels, tile] x [tile, O] to, or added to, [O block][channels][lane]
inline void weight_product(const float* patches, const Layout& in, int64_t channels, const float* gradient,
                           const Layout& out, int64_t blocks, int64_t tiles, float* sums, bool adds) {
    constexpr int kCount = kLanes / 2;
    for (int64_t panel = 0; panel < blocks; panel += kPanels) {
        const float* b = gradient + panel * out.tiles * kLanes;
        int64_t b_side = out.tiles * kLanes, c_side = channels * kLanes;
        for (int64_t row = 0; row < channels; row += kCount) {
            const float* a = patches + row / kLanes * in.tiles * kLanes + row % kLanes;
            float* c = sums + (panel * channels + row) * kLanes;
            if (blocks - panel >= kPanels)
                block_product<kCount, kPanels, true>(a, kLanes * kLanes, b, b_side, tiles, c, c_side, adds);
            else
                block_product<kCount, 1, true>(a, kLanes * kLanes, b, b_side, tiles, c, c_side, adds);
        }
    }
}

