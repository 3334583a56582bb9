// The extension module ossature._core. The only file that knows Python, beside probe_bind.cpp: pointers arrive as
// integers, because a tensor's address is all that every release of torch has in common. Shapes and dtypes are checked
// in ops/cpu.py.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "dispatch.h"
#include "probe_bind.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace ossature {
namespace {

enum DType : int { float32 = 0, bfloat16 = 1 };

template <class X, class Weight>
void call(RmsNorm<X, Weight>* kernel, std::uintptr_t out, std::uintptr_t x, std::uintptr_t weight, std::int64_t rows,
          std::int64_t cols, float eps) {
    nb::gil_scoped_release release;
    kernel(reinterpret_cast<X*>(out), reinterpret_cast<const X*>(x), reinterpret_cast<const Weight*>(weight), rows,
           cols, eps);
}

void rmsnorm(const Kernels& kernels, std::uintptr_t out, std::uintptr_t x, std::uintptr_t weight, std::int64_t rows,
             std::int64_t cols, float eps, int dtype, int weight_dtype) {
    const RmsNorms& table = kernels.rmsnorm;
    if (dtype == float32 && weight_dtype == float32) return call(table.f32_f32, out, x, weight, rows, cols, eps);
    if (dtype == float32 && weight_dtype == bfloat16) return call(table.f32_bf16, out, x, weight, rows, cols, eps);
    if (dtype == bfloat16 && weight_dtype == float32) return call(table.bf16_f32, out, x, weight, rows, cols, eps);
    if (dtype == bfloat16 && weight_dtype == bfloat16) return call(table.bf16_bf16, out, x, weight, rows, cols, eps);
    throw std::invalid_argument("rmsnorm: dtypes are FLOAT32 or BFLOAT16");
}

} // namespace

NB_MODULE(_core, module) {
    module.doc() = "Compiled kernels of ossature; call them through ossature.ops.";
    module.attr("FLOAT32") = static_cast<int>(float32);
    module.attr("BFLOAT16") = static_cast<int>(bfloat16);
    module.def("built", &built, "Instruction sets that were compiled, best first.");
    module.def("usable", &usable, "Instruction sets that were compiled and run on this machine, best first.");
    module.def("kernels", &kernels, "isa"_a, nb::rv_policy::reference,
               "The kernels of one instruction set. ValueError where this machine cannot run it.");
    nb::class_<Kernels>(module, "Kernels")
        .def("rmsnorm", &rmsnorm, "out"_a, "x"_a, "weight"_a, "rows"_a, "cols"_a, "eps"_a, "dtype"_a, "weight_dtype"_a);
    bind_probe(module);
}

} // namespace ossature
