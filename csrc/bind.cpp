// The extension module ossature._core. The only file that knows Python, beside probe_bind.cpp: pointers arrive as
// integers, because a tensor's address is all that every release of torch has in common. Shapes and dtypes are checked
// in ops/cpu.py.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <new>
#include <stdexcept>

#include "dispatch.h"
#include "platform.h"
#include "probe_bind.h"
#include "threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace ossature {
namespace {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

Type type(int code) {
    if (code < 0 || code > static_cast<int>(Type::int8)) throw std::invalid_argument("no such type of number");
    return static_cast<Type>(code);
}

// Memory of the calling thread for what a kernel needs in between; it grows and is kept.
class Workspace {
  public:
    ~Workspace() { std::free(memory_); }
    void* of(std::size_t bytes) {
        if (bytes > size_) {
            std::free(memory_);
            size_ = (bytes + 4095) / 4096 * 4096;
            memory_ = std::aligned_alloc(64, size_);
            if (!memory_) {
                size_ = 0;
                throw std::bad_alloc();
            }
        }
        return memory_;
    }

  private:
    void* memory_ = nullptr;
    std::size_t size_ = 0;
};
thread_local Workspace workspace;

template <class X, class Weight>
void call(RmsNorm<X, Weight>* kernel, Address out, Address x, Address weight, std::int64_t rows, std::int64_t cols,
          float eps) {
    nb::gil_scoped_release release;
    kernel(at<X>(out), at<const X>(x), at<const Weight>(weight), rows, cols, eps);
}

void rmsnorm(const Kernels& kernels, Address out, Address x, Address weight, std::int64_t rows, std::int64_t cols,
             float eps, int dtype, int weight_dtype) {
    const RmsNorms& table = *kernels.rmsnorm;
    const bool wide = type(dtype) == Type::float32, wide_weight = type(weight_dtype) == Type::float32;
    if (wide && wide_weight) return call(table.f32_f32, out, x, weight, rows, cols, eps);
    if (wide) return call(table.f32_bf16, out, x, weight, rows, cols, eps);
    if (wide_weight) return call(table.bf16_f32, out, x, weight, rows, cols, eps);
    call(table.bf16_bf16, out, x, weight, rows, cols, eps);
}

void linear(const Kernels& kernels, Address out, Address x, Address values, Address scales, Address bias,
            std::int64_t tokens, std::int64_t rows, std::int64_t cols, int dtype, int weight_dtype, int bias_dtype,
            bool one_order) {
    const Matrix weight{type(weight_dtype), at<void>(values), at<void>(scales), rows, cols};
    Linear c{at<void>(out), at<void>(x), weight, at<void>(bias), tokens, type(dtype), type(bias_dtype), one_order, nullptr};
    c.workspace = workspace.of(kernels.linear_workspace(c));
    nb::gil_scoped_release release;
    kernels.linear(c);
}

// A projection of all experts: addresses of blocks, scales and biases, rows and cols of one expert's matrix.
struct Projection {
    Address blocks, scales, bias;
    std::int64_t rows, cols;
    int bias_dtype;

    Matrix matrix() const { return {Type::mxfp4, at<void>(blocks), at<void>(scales), rows, cols}; }
};

void experts(const Kernels& kernels, Address out, Address neurons, Address expert_out, Address x, Address index,
             Address share, const Projection& gate_up, const Projection& down, std::int64_t tokens, std::int64_t chosen,
             std::int64_t count, float alpha, float limit, int dtype, bool one_order, bool int8) {
    Experts c{at<void>(out), at<void>(neurons), at<float>(expert_out), at<void>(x), at<std::int64_t>(index),
              at<float>(share), gate_up.matrix(), down.matrix(), at<void>(gate_up.bias), at<void>(down.bias), tokens,
              chosen, count, alpha, limit, type(dtype), type(gate_up.bias_dtype), one_order, int8, nullptr};
    c.workspace = workspace.of(kernels.experts_workspace(c));
    nb::gil_scoped_release release;
    kernels.experts(c);
}

// Where a batch's queries find their keys: addresses of positions, sequence numbers and the block table.
struct StoredRows {
    Address position, sequence, table;
    std::int64_t width, block, window;
};

void attention(const Kernels& kernels, Address out, Address q, Address k, Address v, Address sinks,
               const StoredRows& rows, std::int64_t tokens, std::int64_t heads, std::int64_t kv_heads, std::int64_t dim,
               float scale, int dtype, int sinks_dtype) {
    Attention c{at<void>(out), at<void>(q), at<void>(k), at<void>(v), at<void>(sinks), at<std::int64_t>(rows.position),
                at<std::int64_t>(rows.sequence), at<std::int32_t>(rows.table), tokens, heads, kv_heads, dim, rows.width,
                rows.block, rows.window, scale, type(dtype), type(sinks_dtype), nullptr};
    c.workspace = workspace.of(kernels.attention_workspace(c));
    nb::gil_scoped_release release;
    kernels.attention(c);
}

void rope(const Kernels& kernels, Address out, Address x, Address cos, Address sin, std::int64_t tokens,
          std::int64_t heads, std::int64_t dim, int dtype) {
    nb::gil_scoped_release release;
    kernels.rope({at<void>(out), at<void>(x), at<float>(cos), at<float>(sin), tokens, heads, dim, type(dtype)});
}

void embed(const Kernels& kernels, Address out, Address ids, Address weight, std::int64_t tokens, std::int64_t cols,
           int dtype, int weight_dtype) {
    nb::gil_scoped_release release;
    kernels.embed({at<void>(out), at<std::int64_t>(ids), at<void>(weight), tokens, cols, type(dtype), type(weight_dtype)});
}

} // namespace

NB_MODULE(_core, module) {
    module.doc() = "Compiled kernels of ossature; call them through ossature.ops.";
    module.attr("FLOAT32") = static_cast<int>(Type::float32);
    module.attr("BFLOAT16") = static_cast<int>(Type::bfloat16);
    module.attr("INT8") = static_cast<int>(Type::int8);
    module.attr("SCRATCH_BYTES") = scratch_bytes;
    module.def("built", &built, "Instruction sets that were compiled, best first.");
    module.def("usable", &usable, "Instruction sets that were compiled and run on this machine, best first.");
    module.def("kernels", &kernels, "isa"_a, nb::rv_policy::reference,
               "The kernels of one instruction set. ValueError where this machine cannot run it.");
    module.def("threads", &threads, "Threads that a kernel runs on.");
    module.def("set_threads", &set_threads, "count"_a, "From the next kernel on. ValueError outside 1 to 1024.");
    module.def("read_ahead", [](Address address, std::size_t bytes) { read_ahead(at<void>(address), bytes); },
               "address"_a, "bytes"_a, nb::call_guard<nb::gil_scoped_release>(),
               "Ask the system to read these bytes of a file mapping, without waiting.");
    nb::class_<Projection>(module, "Projection")
        .def(nb::init<Address, Address, Address, std::int64_t, std::int64_t, int>(), "blocks"_a, "scales"_a, "bias"_a,
             "rows"_a, "cols"_a, "bias_dtype"_a);
    nb::class_<StoredRows>(module, "StoredRows")
        .def(nb::init<Address, Address, Address, std::int64_t, std::int64_t, std::int64_t>(), "position"_a,
             "sequence"_a, "table"_a, "width"_a, "block"_a, "window"_a);
    nb::class_<Kernels>(module, "Kernels")
        .def("rmsnorm", &rmsnorm, "out"_a, "x"_a, "weight"_a, "rows"_a, "cols"_a, "eps"_a, "dtype"_a, "weight_dtype"_a)
        .def("linear", &linear, "out"_a, "x"_a, "values"_a, "scales"_a, "bias"_a, "tokens"_a, "rows"_a, "cols"_a,
             "dtype"_a, "weight_dtype"_a, "bias_dtype"_a, "one_order"_a)
        .def("experts", &experts, "out"_a, "neurons"_a, "expert_out"_a, "x"_a, "index"_a, "share"_a, "gate_up"_a,
             "down"_a, "tokens"_a, "chosen"_a, "experts"_a, "alpha"_a, "limit"_a, "dtype"_a, "one_order"_a,
             "int8"_a)
        .def("attention", &attention, "out"_a, "q"_a, "k"_a, "v"_a, "sinks"_a, "rows"_a, "tokens"_a, "heads"_a,
             "kv_heads"_a, "dim"_a, "scale"_a, "dtype"_a, "sinks_dtype"_a)
        .def("rope", &rope, "out"_a, "x"_a, "cos"_a, "sin"_a, "tokens"_a, "heads"_a, "dim"_a, "dtype"_a)
        .def("embed", &embed, "out"_a, "ids"_a, "weight"_a, "tokens"_a, "cols"_a, "dtype"_a, "weight_dtype"_a);
    bind_probe(module);
}

} // namespace ossature
