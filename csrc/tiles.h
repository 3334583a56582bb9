// Products of many rows of x by the processor's tiles (AMX): 16 rows of weights, 16 of x and 32 columns a step.
//
// Weights are the left tile, row-major as they are stored or as they are expanded for this product; x is the right
// one, packed once: for each 16 rows of x, pair of columns by pair of columns, the 16 pairs beside each other. A tile
// of sums has a row of weights in each row, so it is transposed on its way out.
#pragma once

#include "weights.h"

#if defined(OSSATURE_ISA_amx)
#define OSSATURE_TILES

#include "threads.h"

namespace ossature {
namespace OSSATURE_ISA {
namespace tiles {

constexpr std::int64_t side = 16;
// From so many rows of x on, tiles are faster than rows: a matrix, or an expert's, which has to be expanded by either; by
// rows that are rounded to int8 an expert is not expanded.
constexpr std::int64_t enough = 6, enough_of_expert = 5, enough_of_expert_int8 = 8;

// Rows of weights that are expanded at a time: as many as fit two thirds of the scratch memory.
constexpr std::int64_t panel_bytes = std::int64_t{1} << 20;
inline std::int64_t panel_rows(std::int64_t cols, std::int64_t most) {
    const std::int64_t fit = panel_bytes / (cols * 2) / side * side;
    return fit < most ? fit : most;
}

inline bool fit(std::int64_t cols, std::int64_t rows) { return cols % block == 0 && panel_rows(cols, rows) >= rows; }

// A square of 16 rows of 16 numbers of 32 bits, turned over.
inline void transpose(__m512i (&row)[side]) {
    __m512i t[side];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        row[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        row[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        row[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        row[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(row[i], row[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(row[8 + i], row[12 + i], 0x88);
        t[8 + i] = _mm512_shuffle_i32x4(row[i], row[4 + i], 0xdd);
        t[12 + i] = _mm512_shuffle_i32x4(row[8 + i], row[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        row[i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88);
        row[8 + i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd);
        row[4 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88);
        row[12 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);
    }
}

// Eight whole tiles. In memory for good: GCC 12 believes that the instruction reads 8 of these 64 bytes, and drops what
// only it would have read.
struct Shape {
    std::uint8_t palette = 1, start = 0, reserved[14] = {};
    std::uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(Shape) == 64, "the layout that LDTILECFG reads");
alignas(64) static const volatile Shape shape;

// The tiles belong to the thread; while this lives it may use them.
struct Use {
    Use() { _tile_loadconfig(const_cast<const Shape*>(&shape)); }
    ~Use() { _tile_release(); }
};

// x packed for one tile of tokens: cols / 2 rows of 16 pairs. Missing tokens are zero.
inline void pack(bf16* out, const bf16* const* x, std::int64_t tokens, std::int64_t cols) {
    for (std::int64_t c = 0; c < cols; c += block) {
        __m512i row[side];
        for (std::int64_t t = 0; t < side; ++t)
            row[t] = t < tokens ? _mm512_loadu_si512(x[t] + c) : _mm512_setzero_si512();
        transpose(row);
        for (std::int64_t pair = 0; pair < side; ++pair) _mm512_storeu_si512(out + (c / 2 + pair) * 2 * side, row[pair]);
    }
}

// sums[n tile][t tile] of N tiles of weight rows with T tiles of tokens; `stride` values from a weight row to the next.
template <int N, int T>
inline void multiply(float (*sums)[side * side], const bf16* w, std::int64_t stride, const bf16* x, std::int64_t cols) {
    const std::int64_t bytes = stride * 2, tile_of_tokens = cols * side;
    _tile_zero(0);
    if (T > 1) _tile_zero(1);
    if (N > 1) _tile_zero(2);
    if (N > 1 && T > 1) _tile_zero(3);
    for (std::int64_t c = 0; c < cols; c += block) {
        _tile_loadd(4, w + c, bytes);
        _tile_loadd(6, x + c * side, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (T > 1) {
            _tile_loadd(7, x + tile_of_tokens + c * side, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (N > 1) {
            _tile_loadd(5, w + side * stride + c, bytes);
            _tile_dpbf16ps(2, 5, 6);
        }
        if (N > 1 && T > 1) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums[0], 64);
    if (T > 1) _tile_stored(1, sums[1], 64);
    if (N > 1) _tile_stored(2, sums[T], 64);
    if (N > 1 && T > 1) _tile_stored(3, sums[T + 1], 64);
}

template <int N, int T, class Store>
inline void multiply_and_store(const bf16* w, std::int64_t stride, std::int64_t row, const bf16* x, std::int64_t token,
                               std::int64_t tokens, std::int64_t cols, const Store& store) {
    alignas(64) float sums[N * T][side * side];
    multiply<N, T>(sums, w, stride, x, cols);
    for (int n = 0; n < N; ++n)
        for (int t = 0; t < T; ++t) {
            __m512i of_row[side];
            for (std::int64_t i = 0; i < side; ++i) of_row[i] = _mm512_load_si512(sums[n * T + t] + i * side);
            transpose(of_row);
            const std::int64_t first = token + t * side;
            for (std::int64_t i = 0; i < side && first + i < tokens; ++i)
                store(row + n * side, first + i, _mm512_castsi512_ps(of_row[i]));
        }
}

// store(row, token, sums of rows [row, row + 16)) for `rows` rows of weights, a multiple of 16, and every token. x is
// packed in tiles of 16 tokens.
template <class Store>
inline void panel(const bf16* w, std::int64_t stride, std::int64_t rows, const bf16* x, std::int64_t tokens,
                  std::int64_t cols, const Store& store) {
    const std::int64_t whole = rows / (2 * side) * (2 * side);
    for (std::int64_t token = 0; token < tokens; token += 2 * side) {
        const bf16* packed = x + token * cols;
        const bool two = tokens - token > side;
        for (std::int64_t row = 0; row < whole; row += 2 * side) {
            if (two) multiply_and_store<2, 2>(w + row * stride, stride, row, packed, token, tokens, cols, store);
            else multiply_and_store<2, 1>(w + row * stride, stride, row, packed, token, tokens, cols, store);
        }
        if (whole < rows) {
            if (two) multiply_and_store<1, 2>(w + whole * stride, stride, whole, packed, token, tokens, cols, store);
            else multiply_and_store<1, 1>(w + whole * stride, stride, whole, packed, token, tokens, cols, store);
        }
    }
}

// Rows [begin, begin + rows) of a packed or int8 matrix as bf16: exact for MXFP4 but for subnormal numbers, rounded
// once more for int8.
inline void expand(bf16* out, const Matrix& m, std::int64_t begin, std::int64_t rows) {
    for (std::int64_t r = 0; r < rows; ++r, out += m.cols) {
        if (m.type == Type::mxfp4) {
            const HalvesOfMxfp4::Row row = HalvesOfMxfp4::row(m, begin + r);
            for (std::int64_t s = 0; s < m.cols / block; ++s) {
                HalvesOfMxfp4::ahead(row, m.cols, 8, s);
                _mm512_storeu_si512(out + s * block, HalvesOfMxfp4::fetch(row, s));
            }
            continue;
        }
        const std::int8_t* values = static_cast<const std::int8_t*>(m.values) + (begin + r) * m.cols;
        const bf16* scales = static_cast<const bf16*>(m.scales) + (begin + r) * m.cols / block;
        for (std::int64_t s = 0; s < m.cols / block; ++s) {
            const __m512 scale = _mm512_set1_ps(value(scales, Type::bfloat16, s));
            prefetch(values + 8 * m.cols + s * block);
            const auto sixteen = [&](std::int64_t i) {
                const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + s * block + i));
                return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), scale);
            };
            const __m512bh both = _mm512_cvtne2ps_pbh(sixteen(16), sixteen(0));
            _mm512_storeu_si512(out + s * block, reinterpret_cast<const __m512i&>(both));
        }
    }
}

} // namespace tiles
} // namespace OSSATURE_ISA
} // namespace ossature

#endif
