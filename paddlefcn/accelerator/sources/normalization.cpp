// BatchNorm with ReLU, biases, and changes of layout, over channels-last images.
//
// Sums run over fixed runs of pixels whose results are added in order: the same bits however many threads.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "exports.h"
#include "shared.h"

namespace {
struct Runs {  // pixels in runs of about 64 KB, so that a second look finds them in the cache
    int64_t pixels, length, count;
    Runs(int64_t all, int64_t channels)
        : pixels(all), length(std::max<int64_t>(8, 16384 / channels)), count((all + length - 1) / length) {}
    int64_t first(int64_t run) const { return run * length; }
    int64_t last(int64_t run) const { return std::min(pixels, (run + 1) * length); }
};

template <class T>
bool statistics(const T* y, int64_t pixels, int64_t channels, float* mean, float* variance) {
    Runs runs(pixels, channels);
    float* partial = static_cast<float*>(buffer(kPartial, size_t(runs.count * channels * 2) * sizeof(float)));
#pragma omp parallel for schedule(static)
    for (int64_t run = 0; run < runs.count; run++) {
        float *middle = partial + run * channels * 2, *spread = middle + channels;
        std::fill(middle, middle + channels * 2, 0.f);
        for (int64_t p = runs.first(run); p < runs.last(run); p++) {
            const T* row = y + p * channels;
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) middle[c] += widen(row[c]);
        }
        float share = 1.f / float(runs.last(run) - runs.first(run));
        for (int64_t c = 0; c < channels; c++) middle[c] *= share;
        for (int64_t p = runs.first(run); p < runs.last(run); p++) {
            const T* row = y + p * channels;
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                float off = widen(row[c]) - middle[c];
                spread[c] += off * off;
            }
        }
    }
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < channels; c++) {  // Chan, Golub and LeVeque's rule for joining parts
        double count = 0, middle = 0, spread = 0;
        for (int64_t run = 0; run < runs.count; run++) {
            double more = double(runs.last(run) - runs.first(run)), all = count + more;
            double off = partial[run * channels * 2 + c] - middle;
            middle += off * more / all;
            spread += partial[run * channels * 2 + channels + c] + off * off * count * more / all;
            count = all;
        }
        mean[c] = float(middle);
        variance[c] = float(spread / count);
    }
    return true;
}

// y * scale + shift is what BatchNorm does once its statistics are known
struct Affine {
    float *scale, *shift;
    Affine(int64_t channels, const float* mean, const float* variance, float epsilon, const float* gamma,
           const float* beta, float* space) : scale(space), shift(space + channels) {
        for (int64_t c = 0; c < channels; c++) {
            scale[c] = float((gamma ? gamma[c] : 1.0) / std::sqrt(double(variance[c]) + epsilon));
            shift[c] = (beta ? beta[c] : 0.f) - mean[c] * scale[c];
        }
    }
};

template <class T, bool kRelu>
void apply(const T* y, int64_t pixels, int64_t channels, const float* scale, const float* shift, float* z) {
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < pixels; p++) {
        const T* row = y + p * channels;
        float* out = z + p * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) {
            float value = widen(row[c]) * (scale ? scale[c] : 1.f) + shift[c];
            out[c] = kRelu && value <= 0 ? 0.f : value;  // NaN stays NaN, as in Paddle
        }
    }
}

template <class T, bool kRelu>
bool normalize_gradient(const float* dz, const T* y, int64_t pixels, int64_t channels, const Affine& affine,
                        const float* mean, const float* deviation, bool batch, T* dy, float* dgamma, float* dbeta) {
    const float *scale = affine.scale, *shift = affine.shift;
    Runs runs(pixels, channels);
    float* partial = static_cast<float*>(buffer(kPartial, size_t(runs.count * channels * 2) * sizeof(float)));
#pragma omp parallel for schedule(static)
    for (int64_t run = 0; run < runs.count; run++) {
        float *sum = partial + run * channels * 2, *weighted = sum + channels;
        std::fill(sum, sum + channels * 2, 0.f);
        for (int64_t p = runs.first(run); p < runs.last(run); p++) {
            const T* row = y + p * channels;
            const float* gradient = dz + p * channels;
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                float value = widen(row[c]);
                float through = !kRelu || value * scale[c] + shift[c] > 0 ? gradient[c] : 0.f;
                sum[c] += through;
                weighted[c] += through * (value - mean[c]);
            }
        }
    }
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, weighted = 0;
        for (int64_t run = 0; run < runs.count; run++) {
            sum += partial[run * channels * 2 + c];
            weighted += partial[run * channels * 2 + channels + c];
        }
        dbeta[c] = float(sum);
        dgamma[c] = float(weighted / deviation[c]);
    }
    // dy = scale * (through - mean of through - normalised y * mean of (through * normalised y))
    float* terms = partial;  // the partial sums have been used
    for (int64_t c = 0; c < channels; c++) {
        double slope = batch ? double(scale[c]) * dgamma[c] / (double(pixels) * deviation[c]) : 0.0;
        terms[c] = float(slope);
        terms[channels + c] = batch ? float(slope * mean[c] - double(scale[c]) * dbeta[c] / double(pixels)) : 0.f;
    }
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < pixels; p++) {
        const T* row = y + p * channels;
        const float* gradient = dz + p * channels;
        T* out = dy + p * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) {
            float value = widen(row[c]);
            float through = !kRelu || value * scale[c] + shift[c] > 0 ? gradient[c] : 0.f;
            narrow(scale[c] * through - value * terms[c] + terms[channels + c], out[c]);
        }
    }
    return true;
}

template <class T>
bool bias_gradient(const float* dz, const float* z, int64_t pixels, int64_t channels, bool relu, T* dy, float* dbias) {
    Runs runs(pixels, channels);
    float* partial = static_cast<float*>(buffer(kPartial, size_t(runs.count * channels) * sizeof(float)));
#pragma omp parallel for schedule(static)
    for (int64_t run = 0; run < runs.count; run++) {
        float* sum = partial + run * channels;
        std::fill(sum, sum + channels, 0.f);
        for (int64_t p = runs.first(run); p < runs.last(run); p++) {
            const float *gradient = dz + p * channels, *seen = z + p * channels;
            T* out = dy + p * channels;
#pragma omp simd
            for (int64_t c = 0; c < channels; c++) {
                float through = !relu || seen[c] > 0 ? gradient[c] : 0.f;
                sum[c] += through;
                narrow(through, out[c]);
            }
        }
    }
    for (int64_t c = 0; dbias && c < channels; c++) {
        double sum = 0;
        for (int64_t run = 0; run < runs.count; run++) sum += partial[run * channels + c];
        dbias[c] = float(sum);
    }
    return true;
}

template <class T>
bool to_channels_last(const float* x, int64_t images, int64_t channels, int64_t area, T* result) {
    constexpr int64_t kTile = 16;
    int64_t tiles = (area + kTile - 1) / kTile;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t n = 0; n < images; n++) {
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t last = std::min(area, (tile + 1) * kTile);
            for (int64_t first = 0; first < channels; first += kTile) {
                int64_t end = std::min(channels, first + kTile);
                for (int64_t p = tile * kTile; p < last; p++)
                    for (int64_t c = first; c < end; c++)
                        narrow(x[(n * channels + c) * area + p], result[(n * area + p) * channels + c]);
            }
        }
    }
    return true;
}
}  // namespace

int fcn_statistics(int wide, const void* y, int64_t pixels, int64_t channels, float* mean, float* variance) {
    return guarded([&] {
        return wide ? statistics(static_cast<const float*>(y), pixels, channels, mean, variance)
                    : statistics(static_cast<const bfloat*>(y), pixels, channels, mean, variance);
    });
}

int fcn_normalize(int wide, const void* y, int64_t pixels, int64_t channels, const float* mean,
                  const float* variance, float epsilon, const float* gamma, const float* beta, int relu, float* z) {
    return guarded([&] {
        auto* space = static_cast<float*>(buffer(kPartial, size_t(channels * 2) * sizeof(float)));
        Affine affine(channels, mean, variance, epsilon, gamma, beta, space);
        auto *f = static_cast<const float*>(y);
        auto *b = static_cast<const bfloat*>(y);
        if (wide && relu) apply<float, true>(f, pixels, channels, affine.scale, affine.shift, z);
        if (wide && !relu) apply<float, false>(f, pixels, channels, affine.scale, affine.shift, z);
        if (!wide && relu) apply<bfloat, true>(b, pixels, channels, affine.scale, affine.shift, z);
        if (!wide && !relu) apply<bfloat, false>(b, pixels, channels, affine.scale, affine.shift, z);
        return true;
    });
}

int fcn_normalize_gradient(int wide, const float* dz, const void* y, int64_t pixels, int64_t channels,
                           const float* mean, const float* variance, float epsilon, const float* gamma,
                           const float* beta, int relu, int batch_statistics, void* dy, float* dgamma, float* dbeta) {
    return guarded([&] {
        auto* space = static_cast<float*>(buffer(kChannels, size_t(channels * 3) * sizeof(float)));
        Affine affine(channels, mean, variance, epsilon, gamma, beta, space);
        float* deviation = space + channels * 2;
        for (int64_t c = 0; c < channels; c++) deviation[c] = float(std::sqrt(double(variance[c]) + epsilon));
        auto run = [&](auto* typed, auto has_relu) {
            using T = std::remove_const_t<std::remove_pointer_t<decltype(typed)>>;
            return normalize_gradient<T, decltype(has_relu)::value>(dz, typed, pixels, channels, affine, mean, deviation,
                                                                    batch_statistics, static_cast<T*>(dy), dgamma, dbeta);
        };
        auto *f = static_cast<const float*>(y);
        auto *b = static_cast<const bfloat*>(y);
        if (wide) return relu ? run(f, std::true_type()) : run(f, std::false_type());
        return relu ? run(b, std::true_type()) : run(b, std::false_type());
    });
}

int fcn_add_bias(int wide, const void* y, int64_t pixels, int64_t channels, const float* bias, int relu, float* z) {
    return guarded([&] {
        auto *f = static_cast<const float*>(y);
        auto *b = static_cast<const bfloat*>(y);
        if (wide && relu) apply<float, true>(f, pixels, channels, nullptr, bias, z);
        if (wide && !relu) apply<float, false>(f, pixels, channels, nullptr, bias, z);
        if (!wide && relu) apply<bfloat, true>(b, pixels, channels, nullptr, bias, z);
        if (!wide && !relu) apply<bfloat, false>(b, pixels, channels, nullptr, bias, z);
        return true;
    });
}

int fcn_bias_gradient(int wide, const float* dz, const float* z, int64_t pixels, int64_t channels, int relu,
                      void* dy, float* dbias) {
    return guarded([&] {
        return wide ? bias_gradient(dz, z, pixels, channels, relu, static_cast<float*>(dy), dbias)
                    : bias_gradient(dz, z, pixels, channels, relu, static_cast<bfloat*>(dy), dbias);
    });
}

int fcn_to_channels_last(int wide, const float* x, int64_t images, int64_t channels, int64_t area, void* result) {
    return guarded([&] {
        return wide ? to_channels_last(x, images, channels, area, static_cast<float*>(result))
                    : to_channels_last(x, images, channels, area, static_cast<bfloat*>(result));
    });
}

int fcn_narrow(const float* x, int64_t count, void* result) {
    to_bfloat(x, static_cast<bfloat*>(result), count);
    return 1;
}
