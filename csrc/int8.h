// Int8 weights times x rounded to int8, in blocks of 32 with a scale on each side: an arithmetic as in weights.h.
#pragma once

#include "weights.h"

namespace ossature {
namespace OSSATURE_ISA {

struct Bytes {
#if defined(OSSATURE_VNNI)
    static constexpr std::int64_t step = 2 * block; // a register full
#else
    static constexpr std::int64_t step = block;
#endif

    // One step of x. VPDPBUSD wants one side unsigned: there the values are 128 more.
    struct X {
        std::int8_t values[step];
        float scale[lanes]; // of the block that a lane's products come from
    };

    struct Row {
        const std::int8_t* p;
        const bf16* scales;
    };

    static std::int64_t x_size(std::int64_t cols) { return (cols + step - 1) / step; }

    static Row row(const Matrix& m, std::int64_t r) {
        return {static_cast<const std::int8_t*>(m.values) + r * m.cols,
                static_cast<const bf16*>(m.scales) + r * m.cols / block};
    }

    static void ahead(const Row& row, std::int64_t cols, std::int64_t rows, std::int64_t s) {
        prefetch(row.p + rows * cols + s * step);
    }

#if defined(OSSATURE_VNNI)

    struct Step {
        __m512i w, base; // base: what the 128 in every value of x adds
        vec scale;
    };

    static Step ready(__m512i w, __m512i scales) {
        const __m512i base = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(static_cast<char>(128)), w);
        return {w, base, _mm512_castsi512_ps(scales)};
    }

    static Step fetch(const Row& row, std::int64_t s) {
        const __m512i shift = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 16, 16, 16, 16, 16, 16, 16, 16);
        std::int32_t both;
        memcpy(&both, row.scales + 2 * s, sizeof both);
        const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
        const __m512i scales = _mm512_and_si512(_mm512_sllv_epi32(_mm512_set1_epi32(both), shift), upper);
        return ready(_mm512_loadu_si512(row.p + s * step), scales);
    }

    static Step fetch_rest(const Row& row, std::int64_t s, std::int64_t) {
        const std::int32_t scale = row.scales[2 * s].bits << 16;
        return ready(_mm512_maskz_loadu_epi8(0xffffffffu, row.p + s * step), _mm512_set1_epi32(scale));
    }

    static vec accumulate(vec sum, const Step& w, const X* x, std::int64_t s) {
        const __m512i values = _mm512_loadu_si512(x[s].values);
        const __m512i products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), values, w.w);
        const vec exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(products, w.base));
        return multiply_add(exact, multiply(w.scale, load(x[s].scale)), sum);
    }

#else

#if defined(OSSATURE_AVX512)

    using Values = __m512i;
    static Values values(const std::int8_t* p) {
        return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static vec products(Values w, const std::int8_t* x) { return _mm512_cvtepi32_ps(_mm512_madd_epi16(w, values(x))); }

#elif defined(OSSATURE_ISA_avx2)

    using Values = __m256i;
    static Values values(const std::int8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    // |w| times x with the sign of w: two products of at most 127 * 127 fit 16 bits.
    static vec products(Values w, const std::int8_t* x) {
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(values(x), w));
        return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }

#elif defined(OSSATURE_NEON)

    using Values = int8x16x2_t;
    static Values values(const std::int8_t* p) { return {{vld1q_s8(p), vld1q_s8(p + 16)}}; }
    static vec products(const Values& w, const std::int8_t* p) {
        const Values x = values(p);
        int32x4_t sums = vdupq_n_s32(0);
        for (int i = 0; i < 2; ++i) {
#if defined(OSSATURE_ISA_neon_dot)
            sums = vdotq_s32(sums, w.val[i], x.val[i]);
#else
            sums = vpadalq_s16(sums, vmull_s8(vget_low_s8(w.val[i]), vget_low_s8(x.val[i])));
            sums = vpadalq_s16(sums, vmull_s8(vget_high_s8(w.val[i]), vget_high_s8(x.val[i])));
#endif
        }
        return vcvtq_f32_s32(sums);
    }

#else

    struct Values {
        std::int8_t value[block];
    };
    static Values values(const std::int8_t* p) {
        Values v;
        memcpy(v.value, p, sizeof v.value);
        return v;
    }
    static vec products(const Values& w, const std::int8_t* x) {
        vec sums;
        for (std::int64_t i = 0; i < lanes; ++i) {
            std::int32_t sum = 0;
            for (std::int64_t j = i * (block / lanes); j < (i + 1) * (block / lanes); ++j) sum += w.value[j] * x[j];
            sums.lane[i] = static_cast<float>(sum);
        }
        return sums;
    }

#endif

    struct Step {
        Values w;
        float scale;
    };

    static Step fetch(const Row& row, std::int64_t s) { return {values(row.p + s * step), value(row.scales, Type::bfloat16, s)}; }
    static Step fetch_rest(const Row& row, std::int64_t s, std::int64_t) { return fetch(row, s); }

    static vec accumulate(vec sum, const Step& w, const X* x, std::int64_t s) {
        return multiply_add(products(w.w, x[s].values), multiply(broadcast(w.scale), load(x[s].scale)), sum);
    }

#endif

    static vec accumulate_rest(vec sum, const Step& w, const X* x, std::int64_t s, std::int64_t) {
        return accumulate(sum, w, x, s);
    }

    // Rounds a row of x, cols a multiple of 32, into x_size(cols) steps: the largest magnitude of a block becomes 127.
    template <class T>
    static void quantize(X* out, const T* x, std::int64_t cols) {
        for (std::int64_t b = 0; b < x_size(cols) * (step / block); ++b) {
            float rounded[block] = {}, scale = 0;
            if (b * block < cols) {
                vec top = broadcast(0), none = broadcast(0);
                for (std::int64_t i = 0; i < parts; ++i) {
                    const vec v = load(x + b * block + i * lanes);
                    top = maximum(top, maximum(v, subtract(broadcast(0), v)));
                    none = multiply_add(v, broadcast(0), none);
                }
                scale = largest(top) / 127 + sum(none); // NaN where x has a NaN or an infinity: so is the product then
                const vec inverse = broadcast(scale > 0 ? 1 / scale : 0);
                for (std::int64_t i = 0; i < parts && scale == scale; ++i)
                    store(rounded + i * lanes, nearest(multiply(load(x + b * block + i * lanes), inverse)));
            }
            X& target = out[b / (step / block)];
            const std::int64_t half = b % (step / block);
            for (std::int64_t i = 0; i < block; ++i) {
                const int value = static_cast<int>(rounded[i]);
#if defined(OSSATURE_VNNI)
                target.values[half * block + i] = static_cast<std::int8_t>(value + 128);
#else
                target.values[half * block + i] = static_cast<std::int8_t>(value);
#endif
            }
            const std::int64_t width = lanes / (step / block);
            for (std::int64_t i = 0; i < width; ++i) target.scale[half * width + i] = scale;
        }
    }
};

} // namespace OSSATURE_ISA
} // namespace ossature
