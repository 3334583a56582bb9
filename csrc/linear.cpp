// A matrix product with stored weights: read once for up to `token_group` rows of x, in the type they are stored in.
#include "int8.h"
#include "product.h"
#include "threads.h"
#include "tiles.h"

namespace ossature {
namespace OSSATURE_ISA {
namespace {

// A run of rows that one thread takes at a time: long enough to be one stream, short enough to share evenly.
std::int64_t rows_of_item(const Linear& c) {
    const std::int64_t bytes_of_row = c.weight.cols * (c.weight.type == Type::float32 ? 4 : c.weight.type == Type::int8 ? 1 : 2);
    const std::int64_t even = (c.weight.rows + 8 * threads() - 1) / (8 * threads());
    const std::int64_t long_enough = (std::int64_t{1} << 19) / bytes_of_row + 1;
    const std::int64_t rows = even < long_enough ? even : long_enough;
    return (rows + 15) / 16 * 16;
}

std::int64_t products(const Linear& c) { return c.tokens * c.weight.rows * c.weight.cols; }

// Whether x is used as it comes, or first converted into the workspace.
template <class A>
constexpr bool converts(Type type) {
    return sizeof(typename A::X) != (type == Type::float32 ? sizeof(float) : sizeof(bf16));
}

inline void convert(float* out, const bf16* x, std::int64_t cols) {
    std::int64_t i = 0;
    for (; i + lanes <= cols; i += lanes) store(out + i, load(x + i));
    if (i < cols) store(out + i, load(x + i, cols - i), cols - i);
}

inline void convert(bf16*, const float*, std::int64_t) {} // products of bf16 are for x of bf16
inline void convert(float*, const float*, std::int64_t) {}
inline void convert(bf16*, const bf16*, std::int64_t) {}

template <class T>
void convert(Bytes::X* out, const T* x, std::int64_t cols) {
    round_row<Bytes>(out, x, cols);
}

template <class A, class T>
struct Job {
    const Linear& c;
    std::int64_t item_rows;

    typename A::X* prepared(std::int64_t token) const {
        return static_cast<typename A::X*>(c.workspace) + token * A::x_size(c.weight.cols);
    }

    const typename A::X* x(std::int64_t token) const {
        if (converts<A>(c.type)) return prepared(token);
        return reinterpret_cast<const typename A::X*>(static_cast<const T*>(c.x) + token * c.weight.cols);
    }

    static void prepare(void* context, std::int64_t token, int) {
        const Job& job = *static_cast<Job*>(context);
        convert(job.prepared(token), static_cast<const T*>(job.c.x) + token * job.c.weight.cols, job.c.weight.cols);
    }

    static void multiply(void* context, std::int64_t item, int) {
        const Job& job = *static_cast<Job*>(context);
        const Linear& c = job.c;
        const std::int64_t begin = item * job.item_rows;
        const std::int64_t end = begin + job.item_rows < c.weight.rows ? begin + job.item_rows : c.weight.rows;
        T* out = static_cast<T*>(c.out);
        const auto write = [&](std::int64_t row, std::int64_t token, float sum) {
            out[token * c.weight.rows + row] = rounded<T>(c.bias ? sum + value(c.bias, c.bias_type, row) : sum);
        };
        constexpr std::int64_t most = 64;
        const typename A::X* rows[most];
        for (std::int64_t t = 0; t < c.tokens; t += most) {
            const std::int64_t n = c.tokens - t < most ? c.tokens - t : most;
            for (std::int64_t i = 0; i < n; ++i) rows[i] = job.x(t + i);
            rows_times_tokens<A>(c.weight, begin, end, rows, n,
                                 [&](std::int64_t row, std::int64_t i, float sum) { write(row, t + i, sum); });
        }
    }
};

template <class A, class T>
void run(const Linear& c) {
    Job<A, T> job{c, rows_of_item(c)};
    if (converts<A>(c.type)) {
        parallel(c.tokens, c.tokens * c.weight.cols * 4, Job<A, T>::prepare, &job);
    }
    parallel((c.weight.rows + job.item_rows - 1) / job.item_rows, products(c), Job<A, T>::multiply, &job);
}

template <class T>
void by_weight(const Linear& c) {
    if (c.weight.type == Type::int8) return run<Bytes, T>(c);
    if (c.weight.type == Type::float32) return run<Floats<float>, T>(c);
#if defined(OSSATURE_BF16_ROWS)
    if (c.type == Type::bfloat16) return run<HalvesOfFloats, T>(c);
#endif
    run<Floats<bf16>, T>(c);
}

#if defined(OSSATURE_TILES)

struct TileJob {
    const Linear& c;
    std::int64_t item_rows;

    bf16* packed(std::int64_t token) const { return static_cast<bf16*>(c.workspace) + token * c.weight.cols; }

    static void pack(void* context, std::int64_t item, int) {
        const Linear& c = static_cast<TileJob*>(context)->c;
        const std::int64_t token = item * tiles::side;
        const bf16* x[tiles::side];
        std::int64_t n = 0;
        for (; n < tiles::side && token + n < c.tokens; ++n)
            x[n] = static_cast<const bf16*>(c.x) + (token + n) * c.weight.cols;
        tiles::pack(static_cast<TileJob*>(context)->packed(token), x, n, c.weight.cols);
    }

    static void multiply(void* context, std::int64_t item, int thread) {
        const TileJob& job = *static_cast<TileJob*>(context);
        const Linear& c = job.c;
        const std::int64_t begin = item * job.item_rows, whole = c.weight.rows / tiles::side * tiles::side;
        const std::int64_t end = begin + job.item_rows < whole ? begin + job.item_rows : whole;
        const bf16* w = static_cast<const bf16*>(c.weight.values) + begin * c.weight.cols;
        if (c.weight.type == Type::int8) {
            tiles::expand(static_cast<bf16*>(scratch(thread)), c.weight, begin, end - begin);
            w = static_cast<const bf16*>(scratch(thread));
        }
        const tiles::Use use;
        tiles::panel(w, c.weight.cols, end - begin, job.packed(0), c.tokens, c.weight.cols,
                     [&](std::int64_t row, std::int64_t token, vec sums) {
                         if (c.bias) sums = add(sums, values(c.bias, c.bias_type, begin + row));
                         store(static_cast<bf16*>(c.out) + token * c.weight.rows + begin + row, sums);
                     });
    }
};

bool takes_tiles(const Linear& c) {
    return !c.one_order && c.type == Type::bfloat16 && c.weight.type != Type::float32 &&
           c.weight.rows % tiles::side == 0 && c.tokens >= tiles::enough && tiles::fit(c.weight.cols, 2 * tiles::side);
}

void by_tiles(const Linear& c) {
    const std::int64_t even = (c.weight.rows / (2 * tiles::side) + threads() - 1) / threads() * 2 * tiles::side;
    const std::int64_t most = tiles::panel_rows(c.weight.cols, 4 * 2 * tiles::side);
    TileJob job{c, even < most ? even : most};
    if (job.item_rows == 0) job.item_rows = tiles::side;
    parallel((c.tokens + tiles::side - 1) / tiles::side, c.tokens * c.weight.cols * 2, TileJob::pack, &job);
    parallel((c.weight.rows + job.item_rows - 1) / job.item_rows, products(c), TileJob::multiply, &job);
}

#endif

} // namespace

void linear(const Linear& c) {
#if defined(OSSATURE_TILES)
    if (takes_tiles(c)) return by_tiles(c);
#endif
    if (c.type == Type::float32) by_weight<float>(c);
    else by_weight<bf16>(c);
}

// Enough for x in the largest form that any of the paths gives it.
std::size_t linear_workspace(const Linear& c) {
    const std::size_t tokens = static_cast<std::size_t>(c.tokens + 31) / 32 * 32; // tiles take them by 16 or 32
    const std::size_t cols = static_cast<std::size_t>(c.weight.cols + 63) / 64 * 64;
    static_assert(sizeof(Bytes::X) <= sizeof(float) * Bytes::step, "x in int8 takes no more than x in float32");
    return tokens * cols * sizeof(float);
}

} // namespace OSSATURE_ISA
} // namespace ossature
