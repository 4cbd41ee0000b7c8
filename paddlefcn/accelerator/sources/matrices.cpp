// Matrix products and convolutions on oneDNN, primitives kept by shape.
#include "matrices.h"

#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <vector>

#include "exports.h"
#include "onednn.h"

namespace {
dnnl_engine* engine() {
    static dnnl_engine* made = [] {
        dnnl_engine* result = nullptr;
        dnnl_engine_create(&result, onednn::cpu, 0);
        return result;
    }();
    return made;
}

dnnl_stream* stream() {
    static dnnl_stream* made = [] {
        dnnl_stream* result = nullptr;
        dnnl_stream_create(&result, engine(), onednn::in_order);
        return result;
    }();
    return made;
}

dnnl_primitive_attr* attributes() {
    static dnnl_primitive_attr* made = [] {
        dnnl_primitive_attr* result = nullptr;
        dnnl_primitive_attr_create(&result);
        dnnl_primitive_attr_set_scratchpad_mode(result, onednn::user_scratchpad);
        return result;
    }();
    return made;
}

struct Desc {  // a memory layout
    dnnl_memory_desc* it = nullptr;
    Desc() = default;
    Desc(const Desc&) = delete;
    ~Desc() { if (it) dnnl_memory_desc_destroy(it); }
    bool strided(std::vector<int64_t> dims, std::vector<int64_t> strides, int type) {
        dims.resize(12), strides.resize(12);
        int rank = 0;
        while (rank < 12 && dims[rank] > 0) rank++;
        return dnnl_memory_desc_create_with_strides(&it, rank, dims.data(), type, strides.data()) == 0;
    }
    bool chosen(std::vector<int64_t> dims, int type) {
        int rank = int(dims.size());
        dims.resize(12);
        return dnnl_memory_desc_create_with_tag(&it, rank, dims.data(), type, onednn::any) == 0;
    }
};

// A primitive with its memories; the handles are set before each call.
class Primitive {
public:
    Primitive() = default;
    Primitive(const Primitive&) = delete;
    ~Primitive() {
        for (auto& arg : args_) dnnl_memory_destroy(arg.memory);
        if (primitive_) dnnl_primitive_destroy(primitive_);
        if (desc) dnnl_primitive_desc_destroy(desc);
    }
    bool finish(const std::vector<std::pair<int, int>>& arguments) {  // (argument, query of its layout)
        for (auto [argument, query] : arguments) {
            if (!add(argument, dnnl_primitive_desc_query_md(desc, query, 0))) return false;
        }
        return create();
    }
    bool finish_reorder(const dnnl_memory_desc* from, const dnnl_memory_desc* to) {
        return add(onednn::arg_src, from) && add(onednn::arg_dst, to) && create();
    }
    bool run(const std::vector<void*>& handles) {
        for (size_t i = 0; i < handles.size(); i++) dnnl_memory_set_data_handle(args_[i].memory, handles[i]);
        if (scratch_) dnnl_memory_set_data_handle(args_.back().memory, buffer(kScratchpad, scratch_));
        if (dnnl_primitive_execute(primitive_, stream(), int(args_.size()), args_.data()) != 0) return false;
        return dnnl_stream_wait(stream()) == 0;
    }
    const dnnl_memory_desc* layout(int query) const { return dnnl_primitive_desc_query_md(desc, query, 0); }
    bool is_reference() const {  // oneDNN's fallback, slower than anything
        const char* name = nullptr;
        dnnl_primitive_desc_query(desc, onednn::query_implementation, 0, &name);
        return name && std::strncmp(name, "ref", 3) == 0;
    }
    dnnl_primitive_desc* desc = nullptr;

private:
    bool add(int argument, const dnnl_memory_desc* layout) {
        dnnl_memory* memory = nullptr;
        if (!layout || dnnl_memory_create(&memory, layout, engine(), nullptr) != 0) return false;
        args_.push_back({argument, memory});
        return true;
    }
    bool create() {
        const dnnl_memory_desc* scratch = layout(onednn::query_scratchpad);
        scratch_ = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
        if (scratch_ && !add(onednn::arg_scratchpad, scratch)) return false;
        return dnnl_primitive_create(&primitive_, desc) == 0;
    }
    dnnl_primitive* primitive_ = nullptr;
    std::vector<dnnl_exec_arg> args_;
    size_t scratch_ = 0;
};

enum Direction { kForward, kData, kWeight };

// A convolution in one direction, and the way of its weights from or to Paddle's plain float layout.
struct Step {
    Primitive convolution, reorder;
    size_t weight_bytes = 0;
    bool reordered = false, usable = false;
};

bool convolution_desc(Primitive& made, const Convolution& g, Direction direction) {
    int type = g.bf16 ? onednn::bf16 : onednn::f32;
    Desc src, weights, dst;
    std::vector<int64_t> kernel{g.o, g.c, g.kh, g.kw};
    if (g.groups > 1) kernel = {g.groups, g.o / g.groups, g.c / g.groups, g.kh, g.kw};
    // the data gradient leaves bfloat16 at once: what networks see between layers is always float
    bool wide_source = g.bf16 && direction == kData;
    bool described =
        src.strided({g.n, g.c, g.h, g.w}, {g.h * g.w * g.c, 1, g.w * g.c, g.c}, wide_source ? onednn::f32 : type) &&
        dst.strided({g.n, g.o, g.oh, g.ow}, {g.oh * g.ow * g.o, 1, g.ow * g.o, g.o}, type) &&
        weights.chosen(kernel, direction == kWeight ? onednn::f32 : type);
    dnnl_dims strides{g.sh, g.sw}, dilates{g.dh - 1, g.dw - 1}, before{g.top, g.left}, after{g.bottom, g.right};
    if (!described) return false;
    if (direction == kForward) {
        return dnnl_convolution_forward_primitive_desc_create(&made.desc, engine(), onednn::forward_training,
                   onednn::direct, src.it, weights.it, nullptr, dst.it, strides, dilates, before, after,
                   attributes()) == 0;
    }
    Desc hint_src, hint_weights;
    if (!hint_src.strided({g.n, g.c, g.h, g.w}, {g.h * g.w * g.c, 1, g.w * g.c, g.c}, type) ||
        !hint_weights.chosen(kernel, type)) return false;
    Primitive hint;
    if (dnnl_convolution_forward_primitive_desc_create(&hint.desc, engine(), onednn::forward_training,
            onednn::direct, hint_src.it, hint_weights.it, nullptr, dst.it, strides, dilates, before, after,
            attributes()) != 0) return false;
    if (direction == kData) {
        return dnnl_convolution_backward_data_primitive_desc_create(&made.desc, engine(), onednn::direct, src.it,
                   weights.it, dst.it, strides, dilates, before, after, hint.desc, attributes()) == 0;
    }
    return dnnl_convolution_backward_weights_primitive_desc_create(&made.desc, engine(), onednn::direct, src.it,
               weights.it, nullptr, dst.it, strides, dilates, before, after, hint.desc, attributes()) == 0;
}

bool weight_way(Step& step, const Convolution& g, Direction direction) {
    std::vector<int64_t> dims{g.o, g.c, g.kh, g.kw}, strides{g.c * g.kh * g.kw, g.kh * g.kw, g.kw, 1};
    if (g.groups > 1) {
        dims = {g.groups, g.o / g.groups, g.c / g.groups, g.kh, g.kw};
        strides = {g.o / g.groups * g.taps(), g.taps(), g.kh * g.kw, g.kw, 1};
    }
    Desc plain;
    if (!plain.strided(dims, strides, onednn::f32)) return false;
    auto* inner = step.convolution.layout(direction == kWeight ? onednn::query_diff_weights : onednn::query_weights);
    step.weight_bytes = dnnl_memory_desc_get_size(inner);
    step.reordered = !dnnl_memory_desc_equal(inner, plain.it);
    if (!step.reordered) return true;
    auto* from = direction == kWeight ? inner : plain.it;
    auto* to = direction == kWeight ? plain.it : inner;
    return dnnl_reorder_primitive_desc_create(&step.reorder.desc, from, engine(), to, engine(), attributes()) == 0 &&
           step.reorder.finish_reorder(from, to);
}

bool build(Step& step, const Convolution& g, Direction direction) {
    using namespace onednn;
    if (!convolution_desc(step.convolution, g, direction) || step.convolution.is_reference()) return false;
    std::vector<std::pair<int, int>> arguments;
    if (direction == kForward) arguments = {{arg_src, query_src}, {arg_weights, query_weights}, {arg_dst, query_dst}};
    if (direction == kData)
        arguments = {{arg_diff_dst, query_diff_dst}, {arg_weights, query_weights}, {arg_diff_src, query_diff_src}};
    if (direction == kWeight)
        arguments = {{arg_src, query_src}, {arg_diff_dst, query_diff_dst}, {arg_diff_weights, query_diff_weights}};
    return step.convolution.finish(arguments) && weight_way(step, g, direction);
}

template <class Value>
class Kept {  // by key, the least recently used go: images of every size pass through validation
public:
    template <class Make>
    Value& get(const std::vector<int64_t>& key, Make make) {
        auto found = values_.find(key);
        if (found == values_.end()) {
            if (values_.size() >= kLimit) {
                auto oldest = values_.begin();
                for (auto it = values_.begin(); it != values_.end(); ++it)
                    if (it->second.first < oldest->second.first) oldest = it;
                values_.erase(oldest);
            }
            found = values_.emplace(key, std::make_pair(0, std::make_unique<Value>())).first;
            make(*found->second.second);
        }
        found->second.first = ++clock_;
        return *found->second.second;
    }

private:
    static constexpr size_t kLimit = 600;
    std::map<std::vector<int64_t>, std::pair<int64_t, std::unique_ptr<Value>>> values_;
    int64_t clock_ = 0;
};

Step& step_of(const Convolution& g, Direction direction) {
    static Kept<Step> kept;
    auto* numbers = reinterpret_cast<const int64_t*>(&g);
    std::vector<int64_t> key(numbers, numbers + sizeof(g) / sizeof(int64_t));
    key.push_back(direction);
    return kept.get(key, [&](Step& step) { step.usable = build(step, g, direction); });
}
}  // namespace

bool primitive_exists(const Convolution& g) {
    return step_of(g, kForward).usable && step_of(g, kData).usable && step_of(g, kWeight).usable;
}

bool primitive_forward(const Convolution& g, const void* x, const float* weight, void* y) {
    Step& step = step_of(g, kForward);
    if (!step.usable) return false;
    void* weights = const_cast<float*>(weight);
    if (step.reordered) {
        weights = buffer(kWeights, step.weight_bytes);
        if (!step.reorder.run({const_cast<float*>(weight), weights})) return false;
    }
    return step.convolution.run({const_cast<void*>(x), weights, y});
}

bool primitive_data_gradient(const Convolution& g, const void* dy, const float* weight, float* dx) {
    Step& step = step_of(g, kData);
    if (!step.usable) return false;
    void* weights = const_cast<float*>(weight);
    if (step.reordered) {
        weights = buffer(kWeights, step.weight_bytes);
        if (!step.reorder.run({const_cast<float*>(weight), weights})) return false;
    }
    return step.convolution.run({const_cast<void*>(dy), weights, dx});
}

bool primitive_weight_gradient(const Convolution& g, const void* x, const void* dy, float* dweight) {
    Step& step = step_of(g, kWeight);
    if (!step.usable) return false;
    void* weights = step.reordered ? buffer(kWeights, step.weight_bytes) : dweight;
    if (!step.convolution.run({const_cast<void*>(x), const_cast<void*>(dy), weights})) return false;
    return !step.reordered || step.reorder.run({weights, dweight});
}

bool product(const Product& p, const float* a, const float* b, float* c) {
    return dnnl_sgemm(p.ta ? 'T' : 'N', p.tb ? 'T' : 'N', p.m, p.n, p.k, 1.f, a, p.lda, b, p.ldb, 0.f, c, p.ldc) == 0;
}

bool product(const Product& p, const bfloat* a, const bfloat* b, void* c, bool wide_result) {
    static Kept<Primitive> kept;
    auto make = [&](Primitive& made) {
        Desc src, weights, dst;
        bool described = src.strided({p.m, p.k}, {p.ta ? 1 : p.lda, p.ta ? p.lda : 1}, onednn::bf16) &&
                         weights.strided({p.k, p.n}, {p.tb ? 1 : p.ldb, p.tb ? p.ldb : 1}, onednn::bf16) &&
                         dst.strided({p.m, p.n}, {p.ldc, 1}, wide_result ? onednn::f32 : onednn::bf16);
        if (!described) return;
        if (dnnl_matmul_primitive_desc_create(&made.desc, engine(), src.it, weights.it, nullptr, dst.it,
                                              attributes()) == 0) {
            made.finish({{onednn::arg_src, onednn::query_src},
                         {onednn::arg_weights, onednn::query_weights},
                         {onednn::arg_dst, onednn::query_dst}});
        }
    };
    Primitive& primitive = kept.get({p.ta, p.tb, p.m, p.n, p.k, p.lda, p.ldb, p.ldc, wide_result}, make);
    return primitive.desc && primitive.run({const_cast<bfloat*>(a), const_cast<bfloat*>(b), c});
}

bool bfloat_is_fast() { return (dnnl_get_effective_cpu_isa() & onednn::isa_avx512_bf16) == onednn::isa_avx512_bf16; }

void* buffer(Purpose purpose, size_t bytes) {
    static void* held[kPurposes] = {};
    static size_t sizes[kPurposes] = {};
    if (sizes[purpose] < bytes) {
        std::free(held[purpose]);
        size_t rounded = (bytes + 4095) / 4096 * 4096;
        held[purpose] = std::aligned_alloc(4096, rounded);
        if (!held[purpose]) { sizes[purpose] = 0; throw std::bad_alloc(); }
        sizes[purpose] = rounded;
        fcn_use_large_pages(held[purpose], int64_t(rounded));
    }
    return held[purpose];
}
