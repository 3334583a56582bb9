// What a kernel is: a function of raw pointers and sizes that owns nothing, allocates nothing and knows no Python.
//
// Every source file of kernels is compiled once for each instruction set, inside the namespace of that set. This
// header is seen by all of those objects, so it holds declarations only: an inline function here would be compiled
// many times under one name, and the linker could keep the AVX-512 copy for every machine. For the same reason no
// template of the standard library is used below dispatch.cpp.
#pragma once

#include <cstdint>

namespace ossature {

// The upper half of a float32. Bits, not a number: simd.h converts.
struct bf16 {
    std::uint16_t bits;
};

// out[r, c] = x[r, c] / sqrt(mean over c of x[r, c]^2 + eps) * weight[c]
//
// Computed in float32, rounded once to X, to nearest even. Pointers need the alignment of one element only; out must
// not overlap the inputs. rows >= 0, cols >= 0, eps in units of x^2.
template <class X, class Weight>
using RmsNorm = void(X* __restrict out,               // (rows, cols)
                     const X* __restrict x,           // (rows, cols)
                     const Weight* __restrict weight, // (cols)
                     std::int64_t rows, std::int64_t cols, float eps);

// The dtype of x and out, then that of weight.
struct RmsNorms {
    RmsNorm<float, float>* f32_f32;
    RmsNorm<float, bf16>* f32_bf16;
    RmsNorm<bf16, float>* bf16_f32;
    RmsNorm<bf16, bf16>* bf16_bf16;
};

// Every kernel of one instruction set.
struct Kernels {
    RmsNorms rmsnorm;
};

// One source file defines one of these in each namespace it is compiled for; dispatch.cpp collects them.
namespace scalar {
extern const RmsNorms rmsnorm;
}
namespace avx2 {
extern const RmsNorms rmsnorm;
}
namespace avx512 {
extern const RmsNorms rmsnorm;
}
namespace neon {
extern const RmsNorms rmsnorm;
}

} // namespace ossature
