// 3x3 convolutions of stride 1 with a quarter of the multiplications.
#pragma once
#include "shared.h"

bool winograd_forward(const Convolution& g, const void* x, const float* weight, void* y);
bool winograd_data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx);
bool winograd_weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight);
