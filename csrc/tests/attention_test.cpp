// Attention over paged rows. A row that no query may see is NaN, as is every row of a block that no sequence has: one
// look at it shows in the output.
#include <algorithm>
#include <cmath>
#include <memory>

#include "kernel_tests.h"

namespace ossature::test {
namespace {

struct Shape {
    std::int64_t tokens, start, window, heads, kv_heads, dim, block, width, sequences;
};

struct Inputs {
    Shape shape;
    Tensor q, k, v, sinks;
    Memory position, sequence, table;

    std::int64_t* positions() const { return reinterpret_cast<std::int64_t*>(position.data()); }
    std::int64_t* sequences() const { return reinterpret_cast<std::int64_t*>(sequence.data()); }
    std::int32_t* tables() const { return reinterpret_cast<std::int32_t*>(table.data()); }

    std::int64_t first_key(std::int64_t token) const {
        return shape.window ? std::max<std::int64_t>(0, positions()[token] - shape.window + 1) : 0;
    }
    std::int64_t row(std::int64_t token, std::int64_t p) const {
        return tables()[sequences()[token] * shape.width + p / shape.block % shape.width] * shape.block + p % shape.block;
    }
};

Inputs inputs(const Shape& s, Type type) {
    Random random(static_cast<std::uint32_t>(s.tokens * 31 + s.start + s.dim));
    const std::int64_t blocks = s.sequences * s.width, row = s.kv_heads * s.dim;
    Inputs made{s,
                random.tokens(type, s.tokens, s.heads * s.dim),
                Tensor(type, (blocks + 1) * s.block * row),
                Tensor(type, (blocks + 1) * s.block * row),
                random.tensor(s.tokens % 2 ? Type::float32 : Type::bfloat16, s.heads),
                Memory(static_cast<std::size_t>(s.tokens) * sizeof(std::int64_t)),
                Memory(static_cast<std::size_t>(s.tokens) * sizeof(std::int64_t)),
                Memory(static_cast<std::size_t>(blocks) * sizeof(std::int32_t))};
    for (std::int64_t i = 0; i < blocks; ++i) made.tables()[i] = static_cast<std::int32_t>(blocks - i);
    for (std::int64_t t = 0; t < s.tokens; ++t) {
        made.positions()[t] = s.start + t;
        made.sequences()[t] = t % s.sequences;
    }
    for (std::int64_t t = 0; t < s.tokens; ++t)
        for (std::int64_t p = made.first_key(t); p <= made.positions()[t]; ++p)
            for (std::int64_t i = made.row(t, p) * row; i < (made.row(t, p) + 1) * row; ++i)
                if (std::isnan(made.k.get(i))) {
                    made.k.set(i, random.number());
                    made.v.set(i, random.number());
                }
    return made;
}

Tensor run(const Kernels& kernels, const Inputs& in, std::int64_t begin, std::int64_t tokens) {
    const Shape& s = in.shape;
    Tensor out(in.q.type(), tokens * s.heads * s.dim);
    Attention call{};
    call.out = out.data();
    call.q = in.q.at(begin * s.heads * s.dim);
    call.k = in.k.data();
    call.v = in.v.data();
    call.sinks = in.sinks.data();
    call.position = in.positions() + begin;
    call.sequence = in.sequences() + begin;
    call.table = in.tables();
    call.tokens = tokens;
    call.heads = s.heads;
    call.kv_heads = s.kv_heads;
    call.dim = s.dim;
    call.width = s.width;
    call.block = s.block;
    call.window = s.window;
    call.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.dim)));
    call.type = in.q.type();
    call.sinks_type = in.sinks.type();
    const Memory workspace((kernels.attention_workspace(call) + 63) / 64 * 64);
    call.workspace = workspace.data();
    kernels.attention(call);
    return out;
}

std::vector<Exact> exact_head(const Inputs& in, std::int64_t token, std::int64_t head, float scale) {
    const Shape& s = in.shape;
    const std::int64_t kv_head = head / (s.heads / s.kv_heads), q = (token * s.heads + head) * s.dim;
    std::vector<double> scores;
    double top = in.sinks.get(head), off = std::fabs(top) * unit;
    for (std::int64_t p = in.first_key(token); p <= in.positions()[token]; ++p) {
        const std::int64_t k = (in.row(token, p) * s.kv_heads + kv_head) * s.dim;
        double sum = 0, magnitude = 0;
        for (std::int64_t i = 0; i < s.dim; ++i) {
            const double term = static_cast<double>(in.q.get(q + i)) * in.k.get(k + i);
            sum += term;
            magnitude += std::fabs(term);
        }
        scores.push_back(sum * scale);
        top = std::max(top, sum * scale);
        off = std::max(off, magnitude * scale * sum_slack);
    }
    double total = std::exp(in.sinks.get(head) - top);
    std::vector<double> values(static_cast<std::size_t>(s.dim)), magnitudes = values;
    for (std::size_t n = 0; n < scores.size(); ++n) {
        const double weight = std::exp(scores[n] - top);
        total += weight;
        const std::int64_t row = in.row(token, in.first_key(token) + static_cast<std::int64_t>(n));
        for (std::int64_t i = 0; i < s.dim; ++i) {
            const double term = weight * in.v.get((row * s.kv_heads + kv_head) * s.dim + i);
            values[static_cast<std::size_t>(i)] += term;
            magnitudes[static_cast<std::size_t>(i)] += std::fabs(term);
        }
    }
    // A score that is off by d changes its weight, and the sum of the weights, by the factor e^d.
    std::vector<Exact> out;
    for (std::size_t i = 0; i < values.size(); ++i)
        out.push_back({values[i] / total, (2 * off + 16 * unit) * magnitudes[i] / total});
    return out;
}

void compare(Report& report, const Sets& sets, Type type, const Shape& s) {
    const Inputs in = inputs(s, type);
    std::vector<Exact> exact;
    for (std::int64_t t = 0; t < s.tokens; ++t)
        for (std::int64_t h = 0; h < s.heads; ++h)
            for (const Exact& one : exact_head(in, t, h, static_cast<float>(1 / std::sqrt(static_cast<double>(s.dim)))))
                exact.push_back(one);
    const std::string name = "attention, " + name_of(type);
    const std::string at = std::to_string(s.tokens) + " tokens from " + std::to_string(s.start) + ", window " +
                           std::to_string(s.window) + ", " + std::to_string(s.heads) + "/" +
                           std::to_string(s.kv_heads) + " heads of " + std::to_string(s.dim);
    for (const Set& set : sets) {
        now_running(name, set, at);
        report.compare(name, set, at, run(*set.kernels, in, 0, s.tokens), exact);
    }
}

} // namespace

void attention_is_exact(Report& report, const Sets& sets) {
    const Shape shapes[] = {
        {1, 0, 0, 16, 2, 64, 16, 1, 1},      // nothing but itself and the sink
        {3, 126, 128, 16, 2, 64, 16, 9, 1},  // window - 1, window, window + 1 keys
        {3, 3, 5, 6, 2, 24, 16, 1, 1},       // the same around a window of 5
        {9, 40, 20, 16, 2, 64, 8, 5, 1},     // a ring: positions come round to blocks that older ones left
        {7, 0, 0, 6, 2, 24, 4, 2, 1},        // a prompt of its own
        {5, 30, 0, 4, 4, 24, 16, 3, 2},      // a query head for each key head; two sequences
        {9, 19, 0, 16, 2, 64, 7, 4, 3},      // a block of odd size; three sequences
        {4, 9, 0, 3, 1, 5, 16, 1, 1},        // a head smaller than any register
        {1, 511, 0, 8, 1, 64, 16, 32, 1},    // the last key of a split,
        {1, 512, 0, 8, 1, 64, 16, 33, 1},    // the first of the next,
        {1, 1300, 0, 16, 2, 64, 16, 82, 1},  // and three of them
        {3, 1022, 0, 8, 1, 40, 16, 65, 1},   // three that end in different splits
        {2, 600, 128, 8, 1, 64, 16, 38, 1},  // a window within, and
        {1, 1050, 600, 6, 2, 24, 16, 66, 1}, // over the edge of splits
        {33, 480, 0, 8, 1, 64, 16, 33, 1},   // so many that queries are shared among the threads, not splits
        {17, 500, 128, 16, 2, 64, 16, 33, 1},
    };
    for (const Type type : {Type::float32, Type::bfloat16})
        for (const Shape& shape : shapes) compare(report, sets, type, shape);
}

Batch attention_batch(Type type) {
    const auto in = std::make_shared<Inputs>(inputs({37, 500, 0, 8, 1, 64, 16, 34, 1}, type));
    return {"attention, " + name_of(type), in->shape.tokens,
            [in](const Kernels& kernels, std::int64_t begin, std::int64_t count) {
                return run(kernels, *in, begin, count);
            }};
}

} // namespace ossature::test
