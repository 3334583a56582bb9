// Weights of a few bits times x rounded to int8, in blocks of 32 with a scale on each side: arithmetics as in weights.h.
#pragma once

#include "weights.h"

namespace ossature {
namespace OSSATURE_ISA {

// Rounds 32 values of x to whole numbers: the largest magnitude becomes 127. Returns what one unit is worth: NaN where x
// has a NaN or an infinity, and so is every product then.
template <class T>
inline float round_block(float* rounded, const T* x) {
    vec top = broadcast(0), none = broadcast(0);
    for (std::int64_t i = 0; i < parts; ++i) {
        const vec v = load(x + i * lanes);
        top = maximum(top, maximum(v, subtract(broadcast(0), v)));
        none = multiply_add(v, broadcast(0), none);
    }
    const float scale = largest(top) / 127 + sum(none);
    const vec inverse = broadcast(scale > 0 ? 1 / scale : 0);
    for (std::int64_t i = 0; i < parts; ++i)
        store(rounded + i * lanes, scale == scale ? nearest(multiply(load(x + i * lanes), inverse)) : broadcast(0));
    return scale;
}

// Rounds a row of x, cols a multiple of 32, into A::x_size(cols) steps, the last one filled up with zeros. A::put places
// the values of one block.
template <class A, class T>
inline void round_row(typename A::X* out, const T* x, std::int64_t cols) {
    for (std::int64_t b = 0; b < A::x_size(cols) * (A::step / block); ++b) {
        float rounded[block] = {};
        const float scale = b * block < cols ? round_block(rounded, x + b * block) : 0;
        std::int8_t values[block];
        for (std::int64_t i = 0; i < block; ++i) values[i] = static_cast<std::int8_t>(static_cast<int>(rounded[i]));
        A::put(out, b, values, scale);
    }
}

// Int8 weights.
struct Bytes {
#if defined(OSSATURE_VNNI)
    static constexpr std::int64_t step = 2 * block; // a register full
#else
    static constexpr std::int64_t step = block;
#endif

    static constexpr int rows = row_group;

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

    static void put(X* out, std::int64_t b, const std::int8_t* values, float scale) {
        constexpr std::int64_t blocks = step / block, width = lanes / blocks;
        X& target = out[b / blocks];
        const std::int64_t at = b % blocks;
#if defined(OSSATURE_VNNI)
        for (std::int64_t i = 0; i < block; ++i) target.values[at * block + i] = static_cast<std::int8_t>(values[i] + 128);
#else
        memcpy(target.values + at * block, values, block);
#endif
        for (std::int64_t i = 0; i < width; ++i) target.scale[at * width + i] = scale;
    }
};

// MXFP4 weights, whose values are halves of whole numbers from -12 to 12. As in weights.h, x of a block has its even
// values first.
struct BytesOfMxfp4 {
    using Row = Mxfp4Row;

    static Row row(const Matrix& m, std::int64_t r) { return mxfp4_row(m, r); }

#if defined(OSSATURE_VNNI)

    static constexpr std::int64_t step = 4 * block; // the packed bytes fill a register
    // The processor foresees one stream of memory better than several close to each other, and the products leave time
    // to read x again for every row.
    static constexpr int rows = 1;

    // One step of x. VPDPBUSD wants one side unsigned: the look-up gives 12 more than the value.
    struct X {
        std::int8_t values[2][step / 2]; // the even ones of the four blocks, the odd ones
        std::int32_t base[lanes];        // takes off what 12 in every value of a weight adds
        float scale[lanes];              // half a unit of the block that a lane's products come from
    };

    struct Step {
        __m512i even, odd;
        vec scale;
    };

    static void ahead(const Row& row, std::int64_t cols, std::int64_t rows, std::int64_t s) {
        prefetch_far(row.p + 4 * rows * cols / 2 + s * (step / 2)); // about 6 KB
    }

    static Step ready(__m512i bytes, std::int32_t scales) {
        const __m512i table = _mm512_broadcast_i32x4(_mm_set_epi8(0, 4, 6, 8, 9, 10, 11, 12, 24, 20, 18, 16, 15, 14, 13, 12));
        const __m512i low = _mm512_set1_epi8(15);
        // The byte s of a block is the exponent of 2^(s - 127): it is turned to the place where float32 has its own.
        const __m512i turn = _mm512_set_epi32(31, 31, 31, 31, 7, 7, 7, 7, 15, 15, 15, 15, 23, 23, 23, 23);
        const __m512i exponents = _mm512_and_si512(_mm512_rolv_epi32(_mm512_set1_epi32(scales), turn),
                                                   _mm512_set1_epi32(0x7f800000));
        return {_mm512_shuffle_epi8(table, _mm512_and_si512(bytes, low)),
                _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low)),
                _mm512_castsi512_ps(exponents)};
    }

    static Step fetch(const Row& row, std::int64_t s) {
        std::int32_t scales;
        memcpy(&scales, row.scales + s * (step / block), sizeof scales);
        return ready(_mm512_loadu_si512(row.p + s * (step / 2)), scales);
    }

    static Step fetch_rest(const Row& row, std::int64_t s, std::int64_t n) {
        std::int32_t scales = 0;
        memcpy(&scales, row.scales + s * (step / block), static_cast<size_t>(n / block));
        const __mmask64 there = (std::uint64_t{1} << (n / 2)) - 1;
        return ready(_mm512_maskz_loadu_epi8(there, row.p + s * (step / 2)), scales);
    }

    static vec accumulate(vec sum, const Step& w, const X* x, std::int64_t s) {
        __m512i products = _mm512_loadu_si512(x[s].base);
        products = _mm512_dpbusd_epi32(products, w.even, _mm512_loadu_si512(x[s].values[0]));
        products = _mm512_dpbusd_epi32(products, w.odd, _mm512_loadu_si512(x[s].values[1]));
        return multiply_add(_mm512_cvtepi32_ps(products), multiply(w.scale, load(x[s].scale)), sum);
    }

    static void put(X* out, std::int64_t b, const std::int8_t* values, float scale) {
        constexpr std::int64_t blocks = step / block, width = lanes / blocks;
        X& target = out[b / blocks];
        const std::int64_t at = b % blocks;
        for (std::int64_t i = 0; i < block; ++i) target.values[i % 2][at * (block / 2) + i / 2] = values[i];
        for (std::int64_t i = 0; i < width; ++i) {
            std::int32_t sum = 0; // of the even and the odd values that meet in this lane
            for (std::int64_t j = 0; j < block / width; ++j) sum += values[i * (block / width) + j];
            target.base[at * width + i] = -12 * sum;
            target.scale[at * width + i] = scale / 2;
        }
    }

#else

    static constexpr std::int64_t step = block;
    static constexpr int rows = row_group;
    using X = Bytes::X;
    using Step = Bytes::Step;

    static void ahead(const Row& row, std::int64_t cols, std::int64_t rows, std::int64_t s) {
        Mxfp4::ahead(row, cols, rows, s);
    }

    static Step fetch(const Row& row, std::int64_t s) {
        const std::uint8_t* bytes = row.p + s * (step / 2);
        Step w;
        w.scale = mxfp4_tables.floats[row.scales[s]][2]; // of the code of 1
#if defined(OSSATURE_AVX512) || defined(OSSATURE_ISA_avx2)
        const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(mxfp4_doubled)), low = _mm_set1_epi8(15);
        const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
        const __m256i all = _mm256_set_m128i(_mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(both, 4), low)),
                                             _mm_shuffle_epi8(table, _mm_and_si128(both, low)));
#if defined(OSSATURE_AVX512)
        w.w = _mm512_cvtepi8_epi16(all);
#else
        w.w = all;
#endif
#elif defined(OSSATURE_NEON)
        w.w = mxfp4_twice(bytes);
#else
        for (std::int64_t i = 0; i < block / 2; ++i) {
            w.w.value[i] = mxfp4_doubled[bytes[i] & 15];
            w.w.value[block / 2 + i] = mxfp4_doubled[bytes[i] >> 4];
        }
#endif
        return w;
    }
    static Step fetch_rest(const Row& row, std::int64_t s, std::int64_t) { return fetch(row, s); }

    static vec accumulate(vec sum, const Step& w, const X* x, std::int64_t s) { return Bytes::accumulate(sum, w, x, s); }

    static void put(X* out, std::int64_t b, const std::int8_t* values, float scale) {
        for (std::int64_t i = 0; i < block; ++i) out[b].values[i % 2 * (block / 2) + i / 2] = values[i];
        for (float& of_lane : out[b].scale) of_lane = scale / 2;
    }

#endif

    static std::int64_t x_size(std::int64_t cols) { return (cols + step - 1) / step; }

    static vec accumulate_rest(vec sum, const Step& w, const X* x, std::int64_t s, std::int64_t) {
        return accumulate(sum, w, x, s);
    }
};

} // namespace OSSATURE_ISA
} // namespace ossature
