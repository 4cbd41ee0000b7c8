// What Python calls. Pointers are those of Paddle's tensors, sizes are checked there. 1 is success, 0 is
// "cannot": out of memory, or refused by oneDNN. Images are float unless a parameter says `wide` = 0: bfloat16.
#pragma once
#include <cstdint>
#include <exception>

extern "C" {
int fcn_supported(const int64_t* numbers);
int fcn_convolution(const int64_t* numbers, const void* x, const float* weight, void* y);
int fcn_data_gradient(const int64_t* numbers, const void* dy, const float* weight, float* dx);
int fcn_weight_gradient(const int64_t* numbers, const void* x, const void* dy, float* dweight);
int fcn_bfloat_is_fast();
void* fcn_buffer(int purpose, int64_t bytes);
void fcn_use_large_pages(void* start, int64_t bytes);

int fcn_statistics(int wide, const void* y, int64_t pixels, int64_t channels, float* mean, float* variance);
int fcn_normalize(int wide, const void* y, int64_t pixels, int64_t channels, const float* mean,
                  const float* variance, float epsilon, const float* gamma, const float* beta, int relu, float* z);
int fcn_normalize_gradient(int wide, const float* dz, const void* y, int64_t pixels, int64_t channels,
                           const float* mean, const float* variance, float epsilon, const float* gamma,
                           const float* beta, int relu, int batch_statistics, void* dy, float* dgamma, float* dbeta);
int fcn_add_bias(int wide, const void* y, int64_t pixels, int64_t channels, const float* bias, int relu, float* z);
int fcn_bias_gradient(int wide, const float* dz, const float* z, int64_t pixels, int64_t channels, int relu,
                      void* dy, float* dbias);
int fcn_to_channels_last(int wide, const float* x, int64_t images, int64_t channels, int64_t area, void* result);
int fcn_narrow(const float* x, int64_t count, void* result);
int fcn_add_relu(const float* a, const float* b, int64_t count, float* z);
int fcn_add_relu_gradient(const float* dz, const float* z, int64_t count, float* da, float* db);
int fcn_copy_channels(const float* from, int64_t from_channels, float* to, int64_t to_channels, int64_t channels,
                      int64_t pixels);
int fcn_max_pool(const int64_t* numbers, const float* x, float* y, uint8_t* winner);
int fcn_max_pool_gradient(const int64_t* numbers, const float* dy, const uint8_t* winner, float* dx);
}

template <class Act>
int guarded(Act act) {  // no exception may cross into Python
    try {
        return act() ? 1 : 0;
    } catch (const std::exception&) {
        return 0;
    }
}
