// The mixture of experts over packed MXFP4 matrices. Tokens are grouped by expert, so that a matrix is read once for
// all of its tokens; between the two products lies the clamped SwiGLU. Source: openai/gpt-oss torch/model.py `MLPBlock`.
#include "int8.h"
#include "product.h"
#include "threads.h"
#include "tiles.h"

namespace ossature {
namespace OSSATURE_ISA {
namespace {

// Rows of one expert that a thread takes at a time: for tiles as many as expand into a part of its second-level cache;
// else long enough to be one stream of memory, half a megabyte, since a stream is slow where it begins.
constexpr std::int64_t rows_by_tiles = 64, most_rows = 512, stream_bytes = std::int64_t{1} << 19;
constexpr std::int64_t raw_sums = 1 << 16; // of those rows, that fit beside an expanded panel: 256 KB
constexpr std::int64_t most_tokens = raw_sums / rows_by_tiles;

// Slots (token * chosen + j) sorted by expert, and for every expert where its slots begin.
struct Groups {
    std::int64_t* begin; // (experts + 1)
    std::int64_t* slot;  // (tokens * chosen)
    std::int64_t* hit;   // experts that were chosen, `hits` of them
    std::int64_t hits;
};

std::size_t round_up(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

std::size_t groups_bytes(const Experts& c) {
    return round_up(static_cast<std::size_t>(2 * c.experts + 2 + c.tokens * c.chosen) * sizeof(std::int64_t));
}

Groups group(const Experts& c) {
    Groups g{};
    g.begin = static_cast<std::int64_t*>(c.workspace);
    g.hit = g.begin + c.experts + 1;
    g.slot = g.hit + c.experts + 1;
    const std::int64_t slots = c.tokens * c.chosen;
    for (std::int64_t e = 0; e <= c.experts; ++e) g.begin[e] = 0;
    for (std::int64_t s = 0; s < slots; ++s) ++g.begin[c.index[s] + 1];
    for (std::int64_t e = 0; e < c.experts; ++e) {
        if (g.begin[e + 1]) g.hit[g.hits++] = e;
        g.begin[e + 1] += g.begin[e];
    }
    for (std::int64_t s = 0; s < slots; ++s) g.slot[g.begin[c.index[s]]++] = s;
    for (std::int64_t e = c.experts; e > 0; --e) g.begin[e] = g.begin[e - 1];
    g.begin[0] = 0;
    return g;
}

Matrix of_expert(const Matrix& m, std::int64_t e) {
    Matrix one = m;
    one.values = static_cast<const std::uint8_t*>(m.values) + e * m.rows * m.cols / 2;
    one.scales = static_cast<const std::uint8_t*>(m.scales) + e * m.rows * m.cols / block;
    return one;
}

const void* of_row(const void* p, Type type, std::int64_t i) {
    return static_cast<const char*>(p) + i * (type == Type::float32 ? 4 : 2);
}

// The even and the odd ones of the 2 * lanes values in a and b.
void deinterleave(vec a, vec b, vec& even, vec& odd) {
#if defined(OSSATURE_AVX512)
    const __m512i of_even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    even = _mm512_permutex2var_ps(a, of_even, b);
    odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(of_even, _mm512_set1_epi32(1)), b);
#else
    float both[2 * lanes], evens[lanes], odds[lanes];
    store(both, a);
    store(both + lanes, b);
    for (std::int64_t i = 0; i < lanes; ++i) {
        evens[i] = both[2 * i];
        odds[i] = both[2 * i + 1];
    }
    even = load(evens);
    odd = load(odds);
#endif
}

// gate * sigmoid(alpha * gate) * (up + 1), both clamped first; the number comes second, so that NaN stays NaN.
vec swiglu(vec gate, vec up, float alpha, float limit) {
    gate = minimum(broadcast(limit), gate);
    up = maximum(broadcast(-limit), minimum(broadcast(limit), up));
    const vec one = broadcast(1);
    const vec sigmoid = divide(one, add(one, exponential(multiply(gate, broadcast(-alpha)))));
    return multiply(multiply(gate, sigmoid), add(up, one));
}

template <class T>
void activate(T* neurons, const float* raw, std::int64_t rows, float alpha, float limit) {
    vec gate, up;
    std::int64_t r = 0;
    for (; r + 2 * lanes <= rows; r += 2 * lanes) {
        deinterleave(load(raw + r), load(raw + r + lanes), gate, up);
        store(neurons + r / 2, swiglu(gate, up, alpha, limit));
    }
    if (r < rows) {
        float padded[2 * lanes] = {};
        memcpy(padded, raw + r, static_cast<size_t>(rows - r) * sizeof(float));
        deinterleave(load(padded), load(padded + lanes), gate, up);
        store(neurons + r / 2, swiglu(gate, up, alpha, limit), (rows - r) / 2);
    }
}

// A row of x as the arithmetic over MXFP4 wants it: float32 in the order of weights.h, bf16 as it is, or int8.
template <class T>
void convert(float* out, const T* x, std::int64_t cols) {
    for (std::int64_t b = 0; b < cols; b += block)
        for (std::int64_t i = 0; i < block / 2; i += lanes) {
            vec even, odd;
            deinterleave(load(x + b + 2 * i), load(x + b + 2 * i + lanes), even, odd);
#if defined(OSSATURE_AVX512)
            const __m512i turned = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
            even = _mm512_permutexvar_ps(turned, even);
            odd = _mm512_permutexvar_ps(turned, odd);
#endif
            store(out + b + i, even);
            store(out + b + block / 2 + i, odd);
        }
}
template <class T>
void convert(bf16*, const T*, std::int64_t) {}
template <class T>
void convert(BytesOfMxfp4::X* out, const T* x, std::int64_t cols) {
    round_row<BytesOfMxfp4>(out, x, cols);
}

// One of the two products, of all experts that were chosen.
template <class A, class T>
struct Product {
    static constexpr bool converts = sizeof(typename A::X) != sizeof(bf16);

    const Experts& c;
    const Groups& groups;
    const Matrix& matrix;
    const void* bias;
    const T* x;                // row of a slot: x + (slot / divisor) * cols
    std::int64_t divisor;      // `chosen` where the slots of a token share a row, else 1
    typename A::X* prepared;   // as `x`, converted
    bf16* packed;              // or packed in tiles, a group of slots behind the other
    bool tiles;
    bool is_gate_up;
    std::int64_t item_rows;

    std::int64_t x_rows() const { return c.tokens * c.chosen / divisor; }
    std::int64_t tokens_at_once() const {
        const std::int64_t fit = raw_sums / item_rows;
        return fit < most_tokens ? fit : most_tokens;
    }

    std::int64_t rows_of_item() const {
        for (std::int64_t h = 0; h < groups.hits; ++h)
            if (by_tiles(groups.hit[h])) return rows_by_tiles;
        const std::int64_t stream = stream_bytes * block / (matrix.cols * 17);
        const std::int64_t even = groups.hits * matrix.rows / (8 * threads());
        const std::int64_t rows = (stream < even ? stream : even) / 16 * 16;
        return rows < 16 ? 16 : rows > most_rows ? most_rows : rows;
    }

    std::int64_t items_of_expert() const { return (matrix.rows + item_rows - 1) / item_rows; }

    const typename A::X* row_of(std::int64_t slot) const {
        const std::int64_t r = slot / divisor;
        if (converts) return prepared + r * A::x_size(matrix.cols);
        return reinterpret_cast<const typename A::X*>(x + r * matrix.cols);
    }

    bool by_tiles(std::int64_t expert) const {
#if defined(OSSATURE_TILES)
        const std::int64_t enough = c.int8 ? tiles::enough_of_expert_int8 : tiles::enough_of_expert;
        return tiles && groups.begin[expert + 1] - groups.begin[expert] >= enough;
#else
        (void)expert;
        return false;
#endif
    }

    static void prepare(void* context, std::int64_t r, int) {
        const Product& p = *static_cast<Product*>(context);
        bool wanted = false; // a row that only tiles will take is packed instead
        for (std::int64_t slot = r * p.divisor; slot < (r + 1) * p.divisor; ++slot) wanted |= !p.by_tiles(p.c.index[slot]);
        if (wanted) convert(p.prepared + r * A::x_size(p.matrix.cols), p.x + r * p.matrix.cols, p.matrix.cols);
    }

    // raw holds `rows` sums of each of the slots: what follows is the same for every way they were made.
    void finish(const float* raw, std::int64_t expert, std::int64_t begin, std::int64_t rows, const std::int64_t* slot,
                std::int64_t slots) const {
        float with_bias[most_rows];
        const void* own = of_row(bias, c.bias_type, expert * matrix.rows + begin);
        for (std::int64_t i = 0; i < slots; ++i, raw += item_rows) {
            for (std::int64_t r = 0; r < rows; ++r) with_bias[r] = raw[r] + value(own, c.bias_type, r);
            if (is_gate_up)
                activate(static_cast<T*>(c.neurons) + (slot[i] * matrix.rows + begin) / 2, with_bias, rows, c.alpha, c.limit);
            else memcpy(c.expert_out + slot[i] * matrix.rows + begin, with_bias, static_cast<size_t>(rows) * sizeof(float));
        }
    }

    static void multiply(void* context, std::int64_t item, int thread) {
        const Product& p = *static_cast<Product*>(context);
        const std::int64_t expert = p.groups.hit[item / p.items_of_expert()];
        const std::int64_t begin = item % p.items_of_expert() * p.item_rows;
        const std::int64_t end = begin + p.item_rows < p.matrix.rows ? begin + p.item_rows : p.matrix.rows;
        const std::int64_t first = p.groups.begin[expert], slots = p.groups.begin[expert + 1] - first;
        const Matrix matrix = of_expert(p.matrix, expert);
        char* memory = static_cast<char*>(scratch(thread));
#if defined(OSSATURE_TILES)
        if (p.by_tiles(expert)) return p.multiply_tiles(matrix, expert, begin, end - begin, first, slots, memory);
#endif
        float* raw = reinterpret_cast<float*>(memory);
        const typename A::X* rows[most_tokens];
        for (std::int64_t t = 0; t < slots; t += p.tokens_at_once()) {
            const std::int64_t n = slots - t < p.tokens_at_once() ? slots - t : p.tokens_at_once();
            const std::int64_t* slot = p.groups.slot + first + t;
            for (std::int64_t i = 0; i < n; ++i) rows[i] = p.row_of(slot[i]);
            rows_times_tokens<A>(matrix, begin, end, rows, n, [&](std::int64_t row, std::int64_t i, float sum) {
                raw[i * p.item_rows + row - begin] = sum;
            });
            p.finish(raw, expert, begin, end - begin, slot, n);
        }
    }

#if defined(OSSATURE_TILES)

    // Where the packed rows of an expert's slots begin: every group is filled up to whole pairs of tiles.
    bf16* packed_of(std::int64_t first, std::int64_t expert) const {
        return packed + (first + expert * 2 * tiles::side) * matrix.cols;
    }

    static void pack(void* context, std::int64_t h, int) {
        const Product& p = *static_cast<Product*>(context);
        const std::int64_t expert = p.groups.hit[h], first = p.groups.begin[expert];
        const std::int64_t slots = p.groups.begin[expert + 1] - first;
        if (!p.by_tiles(expert)) return;
        for (std::int64_t t = 0; t < slots; t += tiles::side) {
            const bf16* x[tiles::side];
            std::int64_t n = 0;
            for (; n < tiles::side && t + n < slots; ++n)
                x[n] = reinterpret_cast<const bf16*>(p.x) + p.groups.slot[first + t + n] / p.divisor * p.matrix.cols;
            tiles::pack(p.packed_of(first, expert) + t * p.matrix.cols, x, n, p.matrix.cols);
        }
    }

    void multiply_tiles(const Matrix& m, std::int64_t expert, std::int64_t begin, std::int64_t rows, std::int64_t first,
                        std::int64_t slots, char* memory) const {
        bf16* expanded = reinterpret_cast<bf16*>(memory);
        float* raw = reinterpret_cast<float*>(memory + tiles::panel_bytes);
        const auto keep = [&](std::int64_t row, std::int64_t i, vec sums) { store(raw + i * item_rows + row, sums); };
        tiles::expand(expanded, m, begin, rows);
        const tiles::Use use;
        for (std::int64_t t = 0; t < slots; t += tokens_at_once()) {
            const std::int64_t n = slots - t < tokens_at_once() ? slots - t : tokens_at_once();
            tiles::panel(expanded, m.cols, rows, packed_of(first, expert) + t * m.cols, n, m.cols, keep);
            finish(raw, expert, begin, rows, groups.slot + first + t, n);
        }
    }

#endif

    void run() {
        item_rows = rows_of_item();
        if (converts) parallel(x_rows(), x_rows() * matrix.cols * 4, prepare, this);
#if defined(OSSATURE_TILES)
        const std::int64_t slots = c.tokens * c.chosen;
        if (tiles) parallel(groups.hits, slots * matrix.cols * 2, pack, this);
#endif
        parallel(groups.hits * items_of_expert(), c.tokens * c.chosen * matrix.rows * matrix.cols, multiply, this);
    }
};

std::int64_t widest(const Experts& c) { return c.gate_up.cols > c.down.cols ? c.gate_up.cols : c.down.cols; }

std::size_t converted_bytes(const Experts& c) {
    constexpr std::int64_t step = BytesOfMxfp4::step;
    static_assert(sizeof(BytesOfMxfp4::X) <= sizeof(float) * step, "x in int8 takes no more than x in float32");
    const std::int64_t cols = (widest(c) + step - 1) / step * step;
    return round_up(static_cast<std::size_t>(c.tokens * c.chosen * cols) * sizeof(float));
}

template <class T>
void combine(void* context, std::int64_t token, int) {
    const Experts& c = *static_cast<const Experts*>(context);
    const std::int64_t cols = c.down.rows;
    const float* from = c.expert_out + token * c.chosen * cols;
    T* out = static_cast<T*>(c.out) + token * cols;
    for (std::int64_t i = 0; i < cols; i += lanes) {
        const std::int64_t n = cols - i < lanes ? cols - i : lanes;
        vec sum = broadcast(0);
        for (std::int64_t j = 0; j < c.chosen; ++j) {
            const float* row = from + j * cols + i;
            sum = multiply_add(broadcast(c.share[token * c.chosen + j]), n == lanes ? load(row) : load(row, n), sum);
        }
        if (n == lanes) store(out + i, sum);
        else store(out + i, sum, n);
    }
}

template <class A, class T>
void run(const Experts& c) {
    const Groups groups = group(c);
    char* memory = static_cast<char*>(c.workspace) + groups_bytes(c);
    auto* prepared = reinterpret_cast<typename A::X*>(memory);
    auto* packed = reinterpret_cast<bf16*>(memory + converted_bytes(c));
    bool tiles = false;
#if defined(OSSATURE_TILES)
    tiles = !c.one_order && sizeof(T) == sizeof(bf16) && c.gate_up.rows % tiles::side == 0 &&
            c.down.rows % tiles::side == 0 && tiles::fit(c.gate_up.cols, rows_by_tiles) &&
            tiles::fit(c.down.cols, rows_by_tiles);
#endif
    Product<A, T> first{c, groups, c.gate_up, c.gate_up_bias, static_cast<const T*>(c.x), c.chosen, prepared, packed,
                        tiles, true, 0};
    first.run();
    Product<A, T> second{c, groups, c.down, c.down_bias, static_cast<const T*>(c.neurons), 1, prepared, packed,
                         tiles, false, 0};
    second.run();
    parallel(c.tokens, c.tokens * c.chosen * c.down.rows * 4, combine<T>, const_cast<Experts*>(&c));
}

} // namespace

void experts(const Experts& c) {
    if (c.int8 && c.type == Type::float32) return run<BytesOfMxfp4, float>(c);
    if (c.int8) return run<BytesOfMxfp4, bf16>(c);
    if (c.type == Type::float32) return run<Mxfp4, float>(c);
#if defined(OSSATURE_BF16_ROWS)
    run<HalvesOfMxfp4, bf16>(c);
#else
    run<Mxfp4, bf16>(c);
#endif
}

// The groups, and a row of x for every slot, once converted and once packed in tiles.
std::size_t experts_workspace(const Experts& c) {
    const std::int64_t packed = (c.tokens * c.chosen + 32 * c.experts) * widest(c);
    return groups_bytes(c) + converted_bytes(c) + static_cast<std::size_t>(packed) * sizeof(bf16);
}

} // namespace OSSATURE_ISA
} // namespace ossature
