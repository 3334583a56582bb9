// What a kernel is: a function of raw pointers and sizes that owns nothing, allocates nothing and knows no Python.
//
// Every source file of kernels is compiled once for each instruction set, inside the namespace of that set. This
// header is seen by all of those objects, so it holds declarations only: an inline function here would be compiled
// many times under one name, and the linker could keep the AVX-512 copy for every machine. For the same reason no
// template of the standard library is used below dispatch.cpp.
//
// Pointers need the alignment of one element only, unless it says otherwise; outputs do not overlap inputs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ossature {

// The upper half of a float32. Bits, not a number: simd.h converts.
struct bf16 {
    std::uint16_t bits;
};

enum class Type : int {
    float32 = 0,
    bfloat16 = 1,
    mxfp4 = 2, // 32 values of 4 bits in 16 bytes, the low nibble first; one byte s scales them by 2^(s - 127)
    int8 = 3,  // 32 values of 8 bits, -127 to 127, and one bf16 that scales them
};

// A matrix in row-major order. scales: one for each 32 values of a row (mxfp4: uint8, int8: bf16), else null.
struct Matrix {
    Type type;
    const void* values; // (rows, cols)
    const void* scales; // (rows, cols / 32)
    std::int64_t rows, cols;
};

// out[r, c] = x[r, c] / sqrt(mean over c of x[r, c]^2 + eps) * weight[c]
//
// Computed in float32, rounded once to X, to nearest even. rows >= 0, cols >= 0, eps in units of x^2.
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

// out[t, r] = sum over c of x[t, c] * weight[r, c], + bias[r]
//
// Sums in float32, rounded once. With an int8 weight, x is first rounded to int8 in blocks of 32; tiles, where the
// processor has them, take x as bf16 and serve many tokens only.
struct Linear {
    void* out;      // (tokens, rows)  type
    const void* x;  // (tokens, cols)  type
    Matrix weight;  // (rows, cols)    float32, bfloat16 or int8
    const void* bias; // (rows)        bias_type, or null
    std::int64_t tokens;
    Type type, bias_type; // float32 or bfloat16
    bool one_order;       // one summation order for a row of x, whatever the number of rows: no tiles
    void* workspace;      // linear_workspace(...) bytes, aligned to 64
};

// out[t] = sum over j of share[t, j] * (down[e] swiglu(gate_up[e] x[t] + bias) + bias), e = index[t, j]
//
// gate_up has even rows for the gate and odd ones for the linear branch. Sums in float32; the neurons are rounded to
// the type of x; the result is rounded once. With int8, x and the neurons are first rounded to int8 in blocks of 32;
// tiles, where the processor has them, take both as bf16 and serve many tokens only.
struct Experts {
    void* out;                 // (tokens, down.rows)             type
    void* neurons;             // (tokens, chosen, down.cols)     type: written
    float* expert_out;         // (tokens, chosen, down.rows)     written: each expert's output before its share
    const void* x;             // (tokens, gate_up.cols)          type
    const std::int64_t* index; // (tokens, chosen), each in [0, experts)
    const float* share;        // (tokens, chosen)
    Matrix gate_up, down;      // of the first expert; the others follow without a gap. mxfp4
    const void* gate_up_bias;  // (experts, gate_up.rows)         bias_type
    const void* down_bias;     // (experts, down.rows)            bias_type
    std::int64_t tokens, chosen, experts;
    float alpha, limit;
    Type type, bias_type;
    bool one_order, int8;
    void* workspace; // experts_workspace(...) bytes, aligned to 64
};

// Causal attention with one sink logit a head, over stored rows: position p of sequence s is stored in row
// table[s, (p / block) % width] * block + p % block.
struct Attention {
    void* out;                        // (tokens, heads, dim)         type
    const void* q;                    // (tokens, heads, dim)         type
    const void *k, *v;                // (stored rows, kv_heads, dim) type
    const void* sinks;                // (heads)                      sinks_type, in logit units
    const std::int64_t* position;     // (tokens)
    const std::int64_t* sequence;     // (tokens)
    const std::int32_t* table;        // (sequences, width)
    std::int64_t tokens, heads, kv_heads, dim, width, block;
    std::int64_t window; // keys seen, the query's own included; 0: all
    float scale;
    Type type, sinks_type;
    void* workspace; // attention_workspace(...) bytes, aligned to 64
};

// out[t, h, i] = x[i] cos - x[i + dim/2] sin, out[t, h, i + dim/2] = x[i + dim/2] cos + x[i] sin
struct Rope {
    void* out;         // (tokens, heads, dim)  type
    const void* x;     // (tokens, heads, dim)  type
    const float *cos, *sin; // (tokens, dim / 2)
    std::int64_t tokens, heads, dim;
    Type type;
};

// out[t] = weight[ids[t]], converted to `type`.
struct Embed {
    void* out;              // (tokens, cols)  type
    const std::int64_t* ids; // (tokens), each in [0, rows)
    const void* weight;     // (rows, cols)    weight_type
    std::int64_t tokens, cols;
    Type type, weight_type;
};

// Every kernel of one instruction set. The workspace functions look at sizes and types only.
struct Kernels {
    const RmsNorms* rmsnorm;
    void (*linear)(const Linear&);
    std::size_t (*linear_workspace)(const Linear&);
    void (*experts)(const Experts&);
    std::size_t (*experts_workspace)(const Experts&);
    void (*attention)(const Attention&);
    std::size_t (*attention_workspace)(const Attention&);
    void (*rope)(const Rope&);
    void (*embed)(const Embed&);
};

// One source file defines one of these in each namespace it is compiled for; dispatch.cpp collects them.
#define OSSATURE_DECLARE_KERNELS(isa)                                                                                  \
    namespace isa {                                                                                                    \
    extern const RmsNorms rmsnorm;                                                                                     \
    void linear(const Linear&);                                                                                        \
    std::size_t linear_workspace(const Linear&);                                                                       \
    void experts(const Experts&);                                                                                      \
    std::size_t experts_workspace(const Experts&);                                                                     \
    void attention(const Attention&);                                                                                  \
    std::size_t attention_workspace(const Attention&);                                                                 \
    void rope(const Rope&);                                                                                            \
    void embed(const Embed&);                                                                                          \
    }
OSSATURE_DECLARE_KERNELS(scalar)
OSSATURE_DECLARE_KERNELS(avx2)
OSSATURE_DECLARE_KERNELS(avx512)
OSSATURE_DECLARE_KERNELS(avx512_vnni)
OSSATURE_DECLARE_KERNELS(avx512_bf16)
OSSATURE_DECLARE_KERNELS(amx)
OSSATURE_DECLARE_KERNELS(neon)
OSSATURE_DECLARE_KERNELS(neon_dot)
#undef OSSATURE_DECLARE_KERNELS

// The 16 values of an E2M1 nibble times the power of two that scale byte s stands for. s = 255 is NaN.
struct Mxfp4Tables {
    alignas(64) float floats[256][16];
    alignas(64) bf16 halves[256][32]; // twice the 16 values: an index of 5 bits may carry one bit too many
};
extern const Mxfp4Tables mxfp4_tables;

} // namespace ossature
