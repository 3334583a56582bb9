// Rows of weights times rows of x, in groups that fit the registers.
#pragma once

#include "weights.h"

namespace ossature {
namespace OSSATURE_ISA {

// sums[r][t] = products of R rows of weights, from `first` on, with T rows of x.
template <class A, int R, int T>
inline void dot(const Matrix& w, std::int64_t first, const typename A::X* const* x, float (*sums)[token_group]) {
    typename A::Row rows[R];
    for (int r = 0; r < R; ++r) rows[r] = A::row(w, first + r);
    vec sum[R][T];
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < T; ++t) sum[r][t] = broadcast(0);
    const std::int64_t steps = w.cols / A::step, rest = w.cols % A::step;
    for (std::int64_t s = 0; s < steps; ++s) {
        typename A::Step step[R];
        for (int r = 0; r < R; ++r) {
            A::ahead(rows[r], w.cols, R, s);
            step[r] = A::fetch(rows[r], s);
        }
        for (int t = 0; t < T; ++t)
            for (int r = 0; r < R; ++r) sum[r][t] = A::accumulate(sum[r][t], step[r], x[t], s);
    }
    if (rest) {
        for (int r = 0; r < R; ++r) {
            const typename A::Step step = A::fetch_rest(rows[r], steps, rest);
            for (int t = 0; t < T; ++t) sum[r][t] = A::accumulate_rest(sum[r][t], step, x[t], steps, rest);
        }
    }
    for (int r = 0; r < R; ++r)
        for (int t = 0; t < T; ++t) sums[r][t] = ossature::OSSATURE_ISA::sum(sum[r][t]);
}

template <class A, int R, class Store>
inline void row_times_tokens(const Matrix& w, std::int64_t row, const typename A::X* const* x, std::int64_t tokens,
                             const Store& store) {
    float sums[R][token_group];
    for (std::int64_t t = 0; t < tokens; t += token_group) {
        const std::int64_t n = tokens - t < token_group ? tokens - t : token_group;
        if (n == 1) dot<A, R, 1>(w, row, x + t, sums);
        else if (n == 2) dot<A, R, 2>(w, row, x + t, sums);
#if defined(OSSATURE_ISA_avx2)
#else
        else if (n == 3) dot<A, R, 3>(w, row, x + t, sums);
        else dot<A, R, 4>(w, row, x + t, sums);
#endif
        for (int r = 0; r < R; ++r)
            for (std::int64_t i = 0; i < n; ++i) store(row + r, t + i, sums[r][i]);
    }
}

// store(row, token, sum) for rows [begin, end) of w and every row of x.
template <class A, class Store>
inline void rows_times_tokens(const Matrix& w, std::int64_t begin, std::int64_t end, const typename A::X* const* x,
                              std::int64_t tokens, const Store& store) {
    std::int64_t row = begin;
    for (; row + A::rows <= end; row += A::rows) row_times_tokens<A, A::rows>(w, row, x, tokens, store);
    for (; row < end; ++row) row_times_tokens<A, 1>(w, row, x, tokens, store);
}

} // namespace OSSATURE_ISA
} // namespace ossature
