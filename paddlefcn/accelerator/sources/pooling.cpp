// Max pooling over channels-last images, windows cut off at the border (ceil mode and padding alike).
#include <algorithm>
#include <limits>

#include "exports.h"
#include "shared.h"

namespace {
struct Pool {  // 12 numbers, in this order
    int64_t n, c, h, w, kh, kw, sh, sw, top, left, oh, ow;
};

// The winner of each window is kept as its place in it (at most 15x15). The first of equals wins, as in Paddle.
void pool(const Pool& g, const float* x, float* y, uint8_t* winner) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t n = 0; n < g.n; n++) {
        for (int64_t row = 0; row < g.oh; row++) {
            for (int64_t column = 0; column < g.ow; column++) {
                int64_t at = ((n * g.oh + row) * g.ow + column) * g.c;
                float* best = y + at;
                uint8_t* place = winner + at;
                std::fill(best, best + g.c, -std::numeric_limits<float>::max());
                std::fill(place, place + g.c, uint8_t(255));
                for (int64_t ky = 0; ky < g.kh; ky++) {
                    int64_t iy = row * g.sh - g.top + ky;
                    for (int64_t kx = 0; kx < g.kw; kx++) {
                        int64_t ix = column * g.sw - g.left + kx;
                        if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
                        const float* source = x + ((n * g.h + iy) * g.w + ix) * g.c;
                        uint8_t here = uint8_t(ky * g.kw + kx);
#pragma omp simd
                        for (int64_t c = 0; c < g.c; c++) {
                            bool larger = source[c] > best[c];
                            best[c] = larger ? source[c] : best[c];
                            place[c] = larger ? here : place[c];
                        }
                    }
                }
            }
        }
    }
}

void pool_gradient(const Pool& g, const float* dy, const uint8_t* winner, float* dx) {
    // each thread owns rows of the image and adds the windows over them in order
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t n = 0; n < g.n; n++) {
        for (int64_t iy = 0; iy < g.h; iy++) {
            float* line = dx + (n * g.h + iy) * g.w * g.c;
            std::fill(line, line + g.w * g.c, 0.f);
            int64_t above = iy + g.top - g.kh + 1;
            int64_t first = above <= 0 ? 0 : (above + g.sh - 1) / g.sh, last = std::min(g.oh - 1, (iy + g.top) / g.sh);
            for (int64_t row = first; row <= last; row++) {
                int64_t ky = iy - (row * g.sh - g.top);
                for (int64_t column = 0; column < g.ow; column++) {
                    int64_t at = ((n * g.oh + row) * g.ow + column) * g.c;
                    for (int64_t kx = 0; kx < g.kw; kx++) {
                        int64_t ix = column * g.sw - g.left + kx;
                        if (ix < 0 || ix >= g.w) continue;
                        float* target = line + ix * g.c;
                        uint8_t here = uint8_t(ky * g.kw + kx);
#pragma omp simd
                        for (int64_t c = 0; c < g.c; c++) target[c] += winner[at + c] == here ? dy[at + c] : 0.f;
                    }
                }
            }
        }
    }
}
}  // namespace

int fcn_max_pool(const int64_t* numbers, const float* x, float* y, uint8_t* winner) {
    pool(*reinterpret_cast<const Pool*>(numbers), x, y, winner);
    return 1;
}

int fcn_max_pool_gradient(const int64_t* numbers, const float* dy, const uint8_t* winner, float* dx) {
    pool_gradient(*reinterpret_cast<const Pool*>(numbers), dy, winner, dx);
    return 1;
}
