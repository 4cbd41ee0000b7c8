// Convolutions and matrix products as oneDNN's primitives do them. All return false where oneDNN refuses.
#pragma once
#include "shared.h"

bool primitive_exists(const Convolution& g);
bool primitive_forward(const Convolution& g, const void* x, const float* weight, void* y);
bool primitive_data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx);
bool primitive_weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight);

// c[m,n] = a[m,k] b[k,n], row by row; ta, tb: stored transposed; lda, ldb, ldc: from one stored row to the next
struct Product {
    bool ta, tb;
    int64_t m, n, k, lda, ldb, ldc;
};
bool product(const Product& p, const float* a, const float* b, float* c);
bool product(const Product& p, const bfloat* a, const bfloat* b, void* c, bool wide_result);
bool bfloat_is_fast();
