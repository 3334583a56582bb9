// The verbs that kernels are written in, once for each instruction set.
//
//   vec                   `lanes` floats
//   load(p)               lanes values of float or bf16, widened to float32; no alignment needed
//   store(p, v)           rounded to nearest even where p is bf16
//   load(p, n), store(p, v, n)   the first n < lanes values only; the others are read as zero and never written
//   broadcast, add, subtract, multiply, divide, minimum, maximum, multiply_add(a, b, c) = a * b + c
//                         minimum and maximum are NaN where b is; where only a is, it depends on the set
//   sum, largest          over the lanes
//   exponential(v)        e^v within 2 units in the last place; below -87.3 a number under 1.2e-38, above 88.7 the largest
//
// Everything is inside the namespace of its instruction set, and nothing comes from the standard library but plain C.
#pragma once

#include <string.h>

#include "ops.h"

// The sets that add instructions to AVX-512 or NEON share its verbs.
#if defined(OSSATURE_ISA_avx512) || defined(OSSATURE_ISA_avx512_vnni) || defined(OSSATURE_ISA_avx512_bf16) || \
    defined(OSSATURE_ISA_amx)
#define OSSATURE_AVX512
#elif defined(OSSATURE_ISA_neon) || defined(OSSATURE_ISA_neon_dot)
#define OSSATURE_NEON
#endif

#if defined(OSSATURE_AVX512) || defined(OSSATURE_ISA_avx2)
#include <immintrin.h>
#elif defined(OSSATURE_NEON)
#include <arm_neon.h>
#elif !defined(OSSATURE_ISA_scalar)
#error "CMakeLists.txt defines OSSATURE_ISA and OSSATURE_ISA_<its value>"
#endif

namespace ossature {
namespace OSSATURE_ISA {

// bf16 keeps the upper 16 bits of a float32. Adding half of the dropped range, less one when the kept part is even,
// rounds to nearest even, and carries into the exponent as it should. A NaN could carry into infinity: it is kept a
// NaN by setting its quiet bit.
constexpr std::uint32_t half_below = 0x7fff;
constexpr std::uint32_t quiet = 0x40;

#if defined(OSSATURE_AVX512)

constexpr std::int64_t lanes = 16;
using vec = __m512;

inline vec broadcast(float a) { return _mm512_set1_ps(a); }
inline vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
inline vec multiply(vec a, vec b) { return _mm512_mul_ps(a, b); }
inline vec multiply_add(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
inline vec subtract(vec a, vec b) { return _mm512_sub_ps(a, b); }
inline vec divide(vec a, vec b) { return _mm512_div_ps(a, b); }
inline vec minimum(vec a, vec b) { return _mm512_min_ps(a, b); }
inline vec maximum(vec a, vec b) { return _mm512_max_ps(a, b); }
inline vec nearest(vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline vec times_two_to(vec a, vec whole) { return _mm512_scalef_ps(a, whole); }
inline float sum(vec a) { return _mm512_reduce_add_ps(a); }
inline float largest(vec a) { return _mm512_reduce_max_ps(a); }

inline vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, vec v) { _mm512_storeu_ps(p, v); }

inline vec load(const bf16* p) {
    const __m256i upper = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
}

// Not VCVTNEPS2BF16: it takes subnormal numbers for zero.
inline void store(bf16* p, vec v) {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i carried = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(half_below)));
    const __m512i rounded = _mm512_srli_epi32(carried, 16);
    const __m512i nan = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(quiet));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m256i upper = _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, is_nan, nan));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), upper);
}

#elif defined(OSSATURE_ISA_avx2)

constexpr std::int64_t lanes = 8;
using vec = __m256;

inline vec broadcast(float a) { return _mm256_set1_ps(a); }
inline vec add(vec a, vec b) { return _mm256_add_ps(a, b); }
inline vec multiply(vec a, vec b) { return _mm256_mul_ps(a, b); }
inline vec multiply_add(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
inline vec subtract(vec a, vec b) { return _mm256_sub_ps(a, b); }
inline vec divide(vec a, vec b) { return _mm256_div_ps(a, b); }
inline vec minimum(vec a, vec b) { return _mm256_min_ps(a, b); }
inline vec maximum(vec a, vec b) { return _mm256_max_ps(a, b); }
inline vec nearest(vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline vec times_two_to(vec a, vec whole) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

inline float sum(vec a) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float largest(vec a) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline vec load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, vec v) { _mm256_storeu_ps(p, v); }

inline vec load(const bf16* p) {
    const __m128i upper = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(upper), 16));
}

inline void store(bf16* p, vec v) {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i carried = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(half_below)));
    const __m256i rounded = _mm256_srli_epi32(carried, 16);
    const __m256i nan = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(quiet));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i kept = _mm256_blendv_epi8(rounded, nan, is_nan);
    const __m128i upper = _mm_packus_epi32(_mm256_castsi256_si128(kept), _mm256_extracti128_si256(kept, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), upper);
}

#elif defined(OSSATURE_NEON)

constexpr std::int64_t lanes = 4;
using vec = float32x4_t;

inline vec broadcast(float a) { return vdupq_n_f32(a); }
inline vec add(vec a, vec b) { return vaddq_f32(a, b); }
inline vec multiply(vec a, vec b) { return vmulq_f32(a, b); }
inline vec multiply_add(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
inline vec subtract(vec a, vec b) { return vsubq_f32(a, b); }
inline vec divide(vec a, vec b) { return vdivq_f32(a, b); }
inline vec minimum(vec a, vec b) { return vminq_f32(a, b); }
inline vec maximum(vec a, vec b) { return vmaxq_f32(a, b); }
inline vec nearest(vec a) { return vrndnq_f32(a); }
inline vec times_two_to(vec a, vec whole) {
    const int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(whole), vdupq_n_s32(127));
    return vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23)));
}
inline float sum(vec a) { return vaddvq_f32(a); }
inline float largest(vec a) { return vmaxvq_f32(a); }

inline vec load(const float* p) { return vld1q_f32(p); }
inline void store(float* p, vec v) { vst1q_f32(p, v); }

inline vec load(const bf16* p) {
    uint16x4_t upper;
    memcpy(&upper, p, sizeof upper);
    return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(upper), 16));
}

inline void store(bf16* p, vec v) {
    const uint32x4_t bits = vreinterpretq_u32_f32(v);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(half_below))), 16);
    const uint32x4_t nan = vorrq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(quiet));
    const uint16x4_t upper = vmovn_u32(vbslq_u32(vceqq_f32(v, v), rounded, nan));
    memcpy(p, &upper, sizeof upper);
}

#else // scalar: plain C++ that any compiler can turn into the vectors of its baseline

constexpr std::int64_t lanes = 8;
struct vec {
    float lane[lanes];
};

inline vec broadcast(float a) {
    vec v;
    for (float& lane : v.lane) lane = a;
    return v;
}

inline vec add(vec a, vec b) {
    for (std::int64_t i = 0; i < lanes; ++i) a.lane[i] += b.lane[i];
    return a;
}

inline vec multiply(vec a, vec b) {
    for (std::int64_t i = 0; i < lanes; ++i) a.lane[i] *= b.lane[i];
    return a;
}

inline vec multiply_add(vec a, vec b, vec c) { return add(multiply(a, b), c); }

inline vec subtract(vec a, vec b) {
    for (std::int64_t i = 0; i < lanes; ++i) a.lane[i] -= b.lane[i];
    return a;
}

inline vec divide(vec a, vec b) {
    for (std::int64_t i = 0; i < lanes; ++i) a.lane[i] /= b.lane[i];
    return a;
}

inline vec minimum(vec a, vec b) {
    for (std::int64_t i = 0; i < lanes; ++i) a.lane[i] = a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

inline vec maximum(vec a, vec b) {
    for (std::int64_t i = 0; i < lanes; ++i) a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    return a;
}

// Within the range of `exponential`: adding and taking off 1.5 * 2^23 leaves a whole number.
inline vec nearest(vec a) {
    const vec shift = broadcast(12582912.0f);
    return subtract(add(a, shift), shift);
}

inline vec times_two_to(vec a, vec whole) {
    for (std::int64_t i = 0; i < lanes; ++i) {
        const std::int32_t exponent = (static_cast<std::int32_t>(whole.lane[i]) + 127) << 23;
        float factor;
        memcpy(&factor, &exponent, sizeof factor);
        a.lane[i] *= factor;
    }
    return a;
}

inline float largest(vec a) {
    float top = a.lane[0];
    for (float lane : a.lane) top = lane > top ? lane : top;
    return top;
}

inline float sum(vec a) {
    float total = 0;
    for (float lane : a.lane) total += lane;
    return total;
}

inline vec load(const float* p) {
    vec v;
    memcpy(v.lane, p, sizeof v.lane);
    return v;
}

inline void store(float* p, vec v) { memcpy(p, v.lane, sizeof v.lane); }

inline vec load(const bf16* p) {
    vec v;
    for (std::int64_t i = 0; i < lanes; ++i) {
        const std::uint32_t bits = static_cast<std::uint32_t>(p[i].bits) << 16;
        memcpy(&v.lane[i], &bits, sizeof bits);
    }
    return v;
}

inline void store(bf16* p, vec v) {
    for (std::int64_t i = 0; i < lanes; ++i) {
        std::uint32_t bits;
        memcpy(&bits, &v.lane[i], sizeof bits);
        const std::uint32_t upper = bits >> 16;
        const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
        p[i].bits = static_cast<std::uint16_t>(is_nan ? upper | quiet : (bits + half_below + (upper & 1)) >> 16);
    }
}

#endif

// Cody and Waite's reduction to |r| <= ln(2)/2, then the polynomial of the Cephes library's expf.
inline vec exponential(vec x) {
    x = minimum(maximum(x, broadcast(-87.3f)), broadcast(88.3f));
    const vec whole = nearest(multiply(x, broadcast(1.44269504088896341f)));
    vec r = multiply_add(whole, broadcast(-0.693359375f), x);
    r = multiply_add(whole, broadcast(2.12194440e-4f), r);
    vec p = broadcast(1.9875691500e-4f);
    p = multiply_add(p, r, broadcast(1.3981999507e-3f));
    p = multiply_add(p, r, broadcast(8.3334519073e-3f));
    p = multiply_add(p, r, broadcast(4.1665795894e-2f));
    p = multiply_add(p, r, broadcast(1.6666665459e-1f));
    p = multiply_add(p, r, broadcast(5.0000001201e-1f));
    return times_two_to(multiply_add(p, multiply(r, r), add(r, broadcast(1))), whole);
}

template <class T>
inline vec load(const T* p, std::int64_t n) {
    T padded[lanes] = {};
    memcpy(padded, p, static_cast<size_t>(n) * sizeof(T));
    return load(padded);
}

template <class T>
inline void store(T* p, vec v, std::int64_t n) {
    T padded[lanes];
    store(padded, v);
    memcpy(p, padded, static_cast<size_t>(n) * sizeof(T));
}

} // namespace OSSATURE_ISA
} // namespace ossature
