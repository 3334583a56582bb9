// Root mean square normalisation. Source: Zhang and Sennrich, arXiv:1910.07467; the order of operations is that of
// openai/gpt-oss: everything in float32, one rounding at the end.
#include <math.h>

#include "simd.h"

namespace ossature {
namespace OSSATURE_ISA {
namespace {

template <class X>
float sum_of_squares(const X* __restrict row, std::int64_t cols) {
    // Four chains hide the latency of the addition, and shorter chains lose less to rounding.
    vec a = broadcast(0), b = a, c = a, d = a;
    std::int64_t i = 0;
    for (; i + 4 * lanes <= cols; i += 4 * lanes) {
        const vec xa = load(row + i), xb = load(row + i + lanes);
        const vec xc = load(row + i + 2 * lanes), xd = load(row + i + 3 * lanes);
        a = multiply_add(xa, xa, a);
        b = multiply_add(xb, xb, b);
        c = multiply_add(xc, xc, c);
        d = multiply_add(xd, xd, d);
    }
    for (; i + lanes <= cols; i += lanes) {
        const vec x = load(row + i);
        a = multiply_add(x, x, a);
    }
    if (i < cols) {
        const vec x = load(row + i, cols - i);
        b = multiply_add(x, x, b);
    }
    return sum(add(add(a, b), add(c, d)));
}

template <class X, class Weight>
void normalise(X* __restrict out, const X* __restrict x, const Weight* __restrict weight, std::int64_t rows,
               std::int64_t cols, float eps) {
    for (std::int64_t r = 0; r < rows; ++r, x += cols, out += cols) {
        const float mean = sum_of_squares(x, cols) / static_cast<float>(cols);
        const vec scale = broadcast(1 / sqrtf(mean + eps));
        std::int64_t i = 0;
        for (; i + lanes <= cols; i += lanes)
            store(out + i, multiply(multiply(load(x + i), scale), load(weight + i)));
        if (i < cols) {
            const std::int64_t n = cols - i;
            store(out + i, multiply(multiply(load(x + i, n), scale), load(weight + i, n)), n);
        }
    }
}

} // namespace

const RmsNorms rmsnorm = {normalise<float, float>, normalise<float, bf16>, normalise<bf16, float>,
                          normalise<bf16, bf16>};

} // namespace OSSATURE_ISA
} // namespace ossature
