// How a row of weights is read and multiplied, one step of 32 or 64 values at a time.
//
// An arithmetic says what a step of x is and how it meets a step of weights:
//   X                       what x is an array of; one row of x takes x_size(cols) of them
//   Row                     where one row of weights lies; row(matrix, r) finds it, ahead(row, ...) prefetches
//   rows                    how many rows of weights are taken side by side
//   fetch(row, s)           the weights of step s, ready to be multiplied
//   accumulate(sum, w, x, s)    sum += products of step s, lane by lane
//   fetch_rest, accumulate_rest the same for the last n values of a row that is no multiple of the step
//
// The products of a row are added in one order, whatever is computed beside them: lane by lane over the steps, then
// over the lanes. That is what makes a sequence's numbers independent of its batch.
#pragma once

#include "simd.h"

#if defined(OSSATURE_ISA_avx512_bf16) || defined(OSSATURE_ISA_amx)
#define OSSATURE_BF16_PRODUCTS
#endif
// Processors with tiles make products of bf16 pairs at half the rate of two float32 ones (docs/log.md):
// there the pairs are left to the tiles.
#if defined(OSSATURE_ISA_avx512_bf16)
#define OSSATURE_BF16_ROWS
#endif
#if defined(OSSATURE_ISA_avx512_vnni) || defined(OSSATURE_BF16_PRODUCTS)
#define OSSATURE_VNNI
#endif

namespace ossature {
namespace OSSATURE_ISA {

constexpr std::int64_t block = 32;
constexpr std::int64_t parts = block / lanes;

inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
// Into the second-level cache, for a place so far ahead that the first level would have dropped it again.
inline void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }

// One number of a tensor of either type, and one number to be stored in it.
inline float value(const void* p, Type type, std::int64_t i) {
    if (type == Type::float32) return static_cast<const float*>(p)[i];
    const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<const bf16*>(p)[i].bits) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

inline vec values(const void* p, Type type, std::int64_t i) {
    return type == Type::float32 ? load(static_cast<const float*>(p) + i) : load(static_cast<const bf16*>(p) + i);
}

template <class T>
inline T rounded(float value);
template <>
inline float rounded<float>(float value) {
    return value;
}
template <>
inline bf16 rounded<bf16>(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    return {static_cast<std::uint16_t>(is_nan ? (bits >> 16) | quiet : (bits + half_below + ((bits >> 16) & 1)) >> 16)};
}

// Rows of weights and of x that fill the registers.
#if defined(OSSATURE_AVX512)
constexpr int row_group = 4, token_group = 4;
#elif defined(OSSATURE_ISA_avx2)
constexpr int row_group = 2, token_group = 2;
#else
constexpr int row_group = 2, token_group = 4;
#endif

// --- float32 products, for every type of weight but int8 ---

struct Wide {
    using X = float;
    static constexpr std::int64_t step = block;
    static constexpr int rows = row_group;
    struct Step {
        vec part[parts];
    };

    static std::int64_t x_size(std::int64_t cols) { return cols; }

    static vec accumulate(vec sum, const Step& w, const float* x, std::int64_t s) {
        for (std::int64_t i = 0; i < parts; ++i) sum = multiply_add(w.part[i], load(x + s * step + i * lanes), sum);
        return sum;
    }

    static vec accumulate_rest(vec sum, const Step& w, const float* x, std::int64_t s, std::int64_t n) {
        float padded[block] = {};
        memcpy(padded, x + s * step, static_cast<size_t>(n) * sizeof(float));
        return accumulate(sum, w, padded, 0);
    }
};

template <class T>
struct Floats : Wide {
    struct Row {
        const T* p;
    };

    static Row row(const Matrix& m, std::int64_t r) { return {static_cast<const T*>(m.values) + r * m.cols}; }
    static void ahead(const Row& row, std::int64_t cols, std::int64_t rows, std::int64_t s) {
        prefetch(row.p + rows * cols + s * step);
    }

    static Step fetch(const Row& row, std::int64_t s) {
        Step w;
        for (std::int64_t i = 0; i < parts; ++i) w.part[i] = load(row.p + s * step + i * lanes);
        return w;
    }

    static Step fetch_rest(const Row& row, std::int64_t s, std::int64_t n) {
        T padded[block] = {};
        memcpy(padded, row.p + s * step, static_cast<size_t>(n) * sizeof(T));
        return fetch({padded}, 0);
    }
};

struct Mxfp4Row {
    const std::uint8_t* p;
    const std::uint8_t* scales;
};

inline Mxfp4Row mxfp4_row(const Matrix& m, std::int64_t r) {
    return {static_cast<const std::uint8_t*>(m.values) + r * m.cols / 2,
            static_cast<const std::uint8_t*>(m.scales) + r * m.cols / block};
}

// Twice the value of each code: a whole number.
alignas(16) constexpr std::int8_t mxfp4_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

#if defined(OSSATURE_NEON)

// Of the 32 values of a block the even ones, then the odd ones, doubled.
inline int8x16x2_t mxfp4_twice(const std::uint8_t* bytes) {
    const int8x16_t table = vld1q_s8(mxfp4_doubled);
    const uint8x16_t both = vld1q_u8(bytes);
    return {{vqtbl1q_s8(table, vandq_u8(both, vdupq_n_u8(15))), vqtbl1q_s8(table, vshrq_n_u8(both, 4))}};
}

#endif

// x of a block has its even values first, then the odd ones: so do the nibbles of a byte come apart. With AVX-512 the 16 of
// each half are turned as a square of 4 by 4, because shifts and look-ups are made in different parts of the processor,
// and spreading bytes over lanes would be made where the look-ups are.
struct Mxfp4 : Wide {
    using Row = Mxfp4Row;

    static Row row(const Matrix& m, std::int64_t r) { return mxfp4_row(m, r); }
    static void ahead(const Row& row, std::int64_t cols, std::int64_t rows, std::int64_t s) {
        if (s % 4 == 0) prefetch_far(row.p + rows * cols + s * (step / 2)); // two groups on: about 12 KB
    }

    static Step fetch(const Row& row, std::int64_t s) {
        const std::uint8_t* bytes = row.p + s * (step / 2);
        const float* values = mxfp4_tables.floats[row.scales[s]];
        Step w;
#if defined(OSSATURE_AVX512)
        // Lane 4 q + j has bytes 4 j to 4 j + 3 and is shifted to the nibble of byte 4 j + q; the look-up sees four bits.
        const __m512i low = _mm512_set_epi32(24, 24, 24, 24, 16, 16, 16, 16, 8, 8, 8, 8, 0, 0, 0, 0);
        const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(4));
        const __m512i four = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
        const __m512 table = _mm512_load_ps(values);
        w.part[0] = _mm512_permutexvar_ps(_mm512_srlv_epi32(four, low), table);
        w.part[1] = _mm512_permutexvar_ps(_mm512_srlv_epi32(four, high), table);
#elif defined(OSSATURE_ISA_avx2)
        const __m256 table = _mm256_load_ps(values); // the positive half; bit 3 of a nibble is the sign
        const __m256i sign = _mm256_set1_epi32(static_cast<int>(0x80000000u));
        for (int half = 0; half < 2; ++half) {
            const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + 8 * half));
            const __m256i low = _mm256_cvtepu8_epi32(eight), high = _mm256_srli_epi32(low, 4);
            const auto value = [&](__m256i nibble) {
                const __m256i negative = _mm256_and_si256(_mm256_slli_epi32(nibble, 28), sign);
                return _mm256_xor_ps(_mm256_permutevar8x32_ps(table, nibble), _mm256_castsi256_ps(negative));
            };
            w.part[half] = value(low);
            w.part[2 + half] = value(high);
        }
#elif defined(OSSATURE_NEON)
        const float32x4_t unit = vdupq_n_f32(values[1]); // half a unit: the table holds twice the values
        const int8x16x2_t nibbles = mxfp4_twice(bytes);
        for (int odd = 0; odd < 2; ++odd)
            for (int half = 0; half < 2; ++half) {
                const int16x8_t eight = vmovl_s8(half ? vget_high_s8(nibbles.val[odd]) : vget_low_s8(nibbles.val[odd]));
                const int32x4_t first = vmovl_s16(vget_low_s16(eight)), second = vmovl_s16(vget_high_s16(eight));
                w.part[odd * 4 + half * 2] = vmulq_f32(vcvtq_f32_s32(first), unit);
                w.part[odd * 4 + half * 2 + 1] = vmulq_f32(vcvtq_f32_s32(second), unit);
            }
#else
        float even[block / 2], odd[block / 2];
        for (std::int64_t i = 0; i < block / 2; ++i) {
            even[i] = values[bytes[i] & 15];
            odd[i] = values[bytes[i] >> 4];
        }
        for (std::int64_t i = 0; i < parts / 2; ++i) {
            w.part[i] = load(even + i * lanes);
            w.part[parts / 2 + i] = load(odd + i * lanes);
        }
#endif
        return w;
    }

    // A row of MXFP4 is whole blocks.
    static Step fetch_rest(const Row& row, std::int64_t s, std::int64_t) { return fetch(row, s); }
};

// --- products of bf16 pairs, summed in float32 ---

#if defined(OSSATURE_BF16_PRODUCTS)

// VDPBF16PS takes subnormal numbers for zero and rounds to nearest even.
struct Halves {
    using X = bf16;
    static constexpr std::int64_t step = block;
    static constexpr int rows = row_group;
    using Step = __m512i;

    static std::int64_t x_size(std::int64_t cols) { return cols; }

    static vec accumulate(vec sum, Step w, const bf16* x, std::int64_t s) {
        const __m512i values = _mm512_loadu_si512(x + s * step);
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(values));
    }

    static vec accumulate_rest(vec sum, Step w, const bf16* x, std::int64_t s, std::int64_t n) {
        const __m512i values = _mm512_maskz_loadu_epi16((1u << n) - 1, x + s * step);
        return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(values));
    }
};

struct HalvesOfFloats : Halves {
    struct Row {
        const bf16* p;
    };

    static Row row(const Matrix& m, std::int64_t r) { return {static_cast<const bf16*>(m.values) + r * m.cols}; }
    static void ahead(const Row& row, std::int64_t cols, std::int64_t rows, std::int64_t s) {
        prefetch(row.p + rows * cols + s * step);
    }
    static Step fetch(const Row& row, std::int64_t s) { return _mm512_loadu_si512(row.p + s * step); }
    static Step fetch_rest(const Row& row, std::int64_t s, std::int64_t n) {
        return _mm512_maskz_loadu_epi16((1u << n) - 1, row.p + s * step);
    }
};

struct HalvesOfMxfp4 : Halves {
    using Row = Mxfp4Row;

    static Row row(const Matrix& m, std::int64_t r) { return mxfp4_row(m, r); }
    static void ahead(const Row& row, std::int64_t cols, std::int64_t rows, std::int64_t s) {
        if (s % 4 == 0) prefetch_far(row.p + rows * cols + s * (step / 2)); // two groups on: about 12 KB
    }

    // Each byte goes to both words of its 32-bit lane; the upper word is shifted to its high nibble. The look-up sees
    // five bits of a word, and its table has every value twice.
    static Step fetch(const Row& row, std::int64_t s) {
        const __m512i spread = _mm512_set_epi32(0x0f0f0f0f, 0x0e0e0e0e, 0x0d0d0d0d, 0x0c0c0c0c, 0x0b0b0b0b, 0x0a0a0a0a,
                                                0x09090909, 0x08080808, 0x07070707, 0x06060606, 0x05050505, 0x04040404,
                                                0x03030303, 0x02020202, 0x01010101, 0x00000000);
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row.p + s * (step / 2)));
        const __m512i pairs = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), spread);
        const __m512i nibbles = _mm512_srlv_epi16(pairs, _mm512_set1_epi32(0x00040000));
        return _mm512_permutexvar_epi16(nibbles, _mm512_load_si512(mxfp4_tables.halves[row.scales[s]]));
    }
    static Step fetch_rest(const Row& row, std::int64_t s, std::int64_t) { return fetch(row, s); }
};

#endif

} // namespace OSSATURE_ISA
} // namespace ossature
