// Rotary positions on the halves of a head, and the rows of an embedding: small, and called often.
#include "threads.h"
#include "weights.h"

namespace ossature {
namespace OSSATURE_ISA {
namespace {

template <class T>
void rotate(T* out, const T* x, const float* cos, const float* sin, std::int64_t half) {
    for (std::int64_t i = 0; i < half; i += lanes) {
        const std::int64_t n = half - i < lanes ? half - i : lanes;
        const bool whole = n == lanes;
        const vec c = whole ? load(cos + i) : load(cos + i, n), s = whole ? load(sin + i) : load(sin + i, n);
        const vec first = whole ? load(x + i) : load(x + i, n);
        const vec second = whole ? load(x + half + i) : load(x + half + i, n);
        const vec low = subtract(multiply(first, c), multiply(second, s));
        const vec high = add(multiply(second, c), multiply(first, s));
        if (whole) {
            store(out + i, low);
            store(out + half + i, high);
        } else {
            store(out + i, low, n);
            store(out + half + i, high, n);
        }
    }
}

template <class T>
void rotate_token(void* context, std::int64_t token, int) {
    const Rope& c = *static_cast<const Rope*>(context);
    const std::int64_t half = c.dim / 2;
    for (std::int64_t head = 0; head < c.heads; ++head) {
        const std::int64_t at = (token * c.heads + head) * c.dim;
        rotate(static_cast<T*>(c.out) + at, static_cast<const T*>(c.x) + at, c.cos + token * half, c.sin + token * half, half);
    }
}

template <class T, class Weight>
void copy_row(void* context, std::int64_t token, int) {
    const Embed& c = *static_cast<const Embed*>(context);
    T* out = static_cast<T*>(c.out) + token * c.cols;
    const Weight* row = static_cast<const Weight*>(c.weight) + c.ids[token] * c.cols;
    std::int64_t i = 0;
    for (; i + lanes <= c.cols; i += lanes) store(out + i, load(row + i));
    if (i < c.cols) store(out + i, load(row + i, c.cols - i), c.cols - i);
}

} // namespace

void rope(const Rope& c) {
    const Task task = c.type == Type::float32 ? rotate_token<float> : rotate_token<bf16>;
    parallel(c.tokens, c.tokens * c.heads * c.dim * 4, task, const_cast<Rope*>(&c));
}

void embed(const Embed& c) {
    const bool wide = c.weight_type == Type::float32;
    const Task task = c.type == Type::float32 ? (wide ? copy_row<float, float> : copy_row<float, bf16>)
                                              : (wide ? copy_row<bf16, float> : copy_row<bf16, bf16>);
    parallel(c.tokens, c.tokens * c.cols * 4, task, const_cast<Embed*>(&c));
}

} // namespace OSSATURE_ISA
} // namespace ossature
