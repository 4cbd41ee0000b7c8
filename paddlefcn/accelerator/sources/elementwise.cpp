// Ends of residual blocks and joins of maps, over maps that lie the same way.
#include "exports.h"

#include <cstring>

int fcn_add_relu(const float* a, const float* b, int64_t count, float* z) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) {
        float sum = a[i] + b[i];
        z[i] = sum <= 0 ? 0.f : sum;  // NaN stays NaN
    }
    return 1;
}

int fcn_add_relu_gradient(const float* dz, const float* z, int64_t count, float* da, float* db) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) {
        float through = z[i] > 0 ? dz[i] : 0.f;
        da[i] = through;
        db[i] = through;
    }
    return 1;
}

int fcn_copy_channels(const float* from, int64_t from_channels, float* to, int64_t to_channels, int64_t channels,
                      int64_t pixels) {
#pragma omp parallel for schedule(static)
    for (int64_t pixel = 0; pixel < pixels; pixel++)
        std::memcpy(to + pixel * to_channels, from + pixel * from_channels, size_t(channels) * sizeof(float));
    return 1;
}
