// Convolutions of stride 1 with fewer multiplications (filtering.h): 3x3 kernels with a quarter, and 7x7 ones, whose
// channels must be whole blocks of 16, with a third.
#pragma once
#include "shared.h"

bool small_forward(const Convolution& g, const void* x, const float* weight, void* y);
bool small_data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx);
bool small_weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight);
bool large_forward(const Convolution& g, const void* x, const float* weight, void* y);
bool large_data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx);
bool large_weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight);
