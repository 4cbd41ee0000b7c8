// The part of oneDNN's C interface that is used here, declared instead of included: Paddle's wheel brings
// the library but not its headers, and the version is whatever that wheel holds. The interface is stable
// within version 3 (oneDNN's versioning policy); `oneapi/dnnl/dnnl.h` documents it. The build is checked
// against Paddle's own results before anything uses it.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {
struct dnnl_engine;
struct dnnl_stream;
struct dnnl_memory;
struct dnnl_memory_desc;
struct dnnl_primitive;
struct dnnl_primitive_desc;
struct dnnl_primitive_attr;

using dnnl_dim = int64_t;
using dnnl_dims = dnnl_dim[12];

struct dnnl_exec_arg {
    int arg;
    dnnl_memory* memory;
};
struct dnnl_version_info {
    int major, minor, patch;
};

const dnnl_version_info* dnnl_version(void);
int dnnl_get_effective_cpu_isa(void);
int dnnl_engine_create(dnnl_engine**, int kind, size_t index);
int dnnl_stream_create(dnnl_stream**, dnnl_engine*, unsigned flags);
int dnnl_stream_wait(dnnl_stream*);
int dnnl_memory_desc_create_with_strides(dnnl_memory_desc**, int ndims, const dnnl_dims, int type, const dnnl_dims);
int dnnl_memory_desc_create_with_tag(dnnl_memory_desc**, int ndims, const dnnl_dims, int type, int tag);
int dnnl_memory_desc_clone(dnnl_memory_desc**, const dnnl_memory_desc*);
int dnnl_memory_desc_destroy(dnnl_memory_desc*);
size_t dnnl_memory_desc_get_size(const dnnl_memory_desc*);
int dnnl_memory_desc_equal(const dnnl_memory_desc*, const dnnl_memory_desc*);
int dnnl_memory_create(dnnl_memory**, const dnnl_memory_desc*, dnnl_engine*, void* handle);
int dnnl_memory_destroy(dnnl_memory*);
int dnnl_memory_set_data_handle(dnnl_memory*, void* handle);
int dnnl_primitive_attr_create(dnnl_primitive_attr**);
int dnnl_primitive_attr_set_scratchpad_mode(dnnl_primitive_attr*, int mode);
int dnnl_convolution_forward_primitive_desc_create(dnnl_primitive_desc**, dnnl_engine*, int prop, int alg,
    const dnnl_memory_desc* src, const dnnl_memory_desc* weights, const dnnl_memory_desc* bias,
    const dnnl_memory_desc* dst, const dnnl_dims strides, const dnnl_dims dilates, const dnnl_dims before,
    const dnnl_dims after, const dnnl_primitive_attr*);
int dnnl_convolution_backward_data_primitive_desc_create(dnnl_primitive_desc**, dnnl_engine*, int alg,
    const dnnl_memory_desc* diff_src, const dnnl_memory_desc* weights, const dnnl_memory_desc* diff_dst,
    const dnnl_dims strides, const dnnl_dims dilates, const dnnl_dims before, const dnnl_dims after,
    const dnnl_primitive_desc* hint, const dnnl_primitive_attr*);
int dnnl_convolution_backward_weights_primitive_desc_create(dnnl_primitive_desc**, dnnl_engine*, int alg,
    const dnnl_memory_desc* src, const dnnl_memory_desc* diff_weights, const dnnl_memory_desc* diff_bias,
    const dnnl_memory_desc* diff_dst, const dnnl_dims strides, const dnnl_dims dilates, const dnnl_dims before,
    const dnnl_dims after, const dnnl_primitive_desc* hint, const dnnl_primitive_attr*);
int dnnl_matmul_primitive_desc_create(dnnl_primitive_desc**, dnnl_engine*, const dnnl_memory_desc* src,
    const dnnl_memory_desc* weights, const dnnl_memory_desc* bias, const dnnl_memory_desc* dst,
    const dnnl_primitive_attr*);
int dnnl_reorder_primitive_desc_create(dnnl_primitive_desc**, const dnnl_memory_desc* src, dnnl_engine*,
    const dnnl_memory_desc* dst, dnnl_engine*, const dnnl_primitive_attr*);
const dnnl_memory_desc* dnnl_primitive_desc_query_md(const dnnl_primitive_desc*, int what, int index);
int dnnl_primitive_desc_query(const dnnl_primitive_desc*, int what, int index, void* result);
int dnnl_primitive_desc_destroy(dnnl_primitive_desc*);
int dnnl_primitive_create(dnnl_primitive**, const dnnl_primitive_desc*);
int dnnl_primitive_destroy(dnnl_primitive*);
int dnnl_primitive_execute(const dnnl_primitive*, dnnl_stream*, int count, const dnnl_exec_arg*);
int dnnl_sgemm(char transa, char transb, dnnl_dim M, dnnl_dim N, dnnl_dim K, float alpha, const float* A,
    dnnl_dim lda, const float* B, dnnl_dim ldb, float beta, float* C, dnnl_dim ldc);
}

namespace onednn {
enum { bf16 = 2, f32 = 3 };                                  // data types
enum { any = 1 };                                            // format tag: the primitive chooses
enum { cpu = 1, in_order = 1, user_scratchpad = 1 };         // engine kind, stream flag, scratchpad mode
enum { forward_training = 64, direct = 1 };                  // propagation kind, algorithm
enum { query_implementation = 8, query_src = 129, query_diff_src = 130, query_weights = 131,
       query_diff_weights = 132, query_dst = 133, query_diff_dst = 134, query_scratchpad = 136 };
enum { arg_src = 1, arg_dst = 17, arg_weights = 33, arg_scratchpad = 80, arg_diff_src = 129, arg_diff_dst = 145,
       arg_diff_weights = 161 };
enum { isa_avx512_bf16 = 0xe7 };
}
