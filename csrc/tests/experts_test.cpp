// The mixture of experts. Each of its three stages is held against the one before as the kernel itself wrote it, so that
// no stage's error hides another's.
#include <cmath>
#include <limits>
#include <memory>

#include "kernel_tests.h"

namespace ossature::test {
namespace {

constexpr std::int64_t block = 32;
constexpr float alpha = 1.702f, limit = 7;

// MXFP4 matrices of every expert, and the numbers they stand for.
struct Bank {
    Matrix matrix;
    Memory values, scales;
    std::vector<std::vector<double>> exact; // (experts)(rows * cols)
};

Bank bank(Random& random, std::int64_t experts, std::int64_t rows, std::int64_t cols) {
    constexpr double magnitudes[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    const std::int64_t count = experts * rows * cols;
    Bank made{{Type::mxfp4, nullptr, nullptr, rows, cols},
              Memory(static_cast<std::size_t>(count / 2)),
              Memory(static_cast<std::size_t>(count / block)),
              {}};
    for (std::int64_t i = 0; i < count / block; ++i)
        made.scales.data()[i] = static_cast<unsigned char>(119 + random.below(5));
    for (std::int64_t i = 0; i < count / 2; ++i) made.values.data()[i] = static_cast<unsigned char>(random.below(256));
    for (std::int64_t e = 0; e < experts; ++e) {
        std::vector<double> numbers;
        for (std::int64_t i = e * rows * cols; i < (e + 1) * rows * cols; ++i) {
            const int code = made.values.data()[i / 2] >> (i % 2 * 4) & 15;
            numbers.push_back(std::ldexp(code < 8 ? magnitudes[code] : -magnitudes[code - 8],
                                         made.scales.data()[i / block] - 127));
        }
        made.exact.push_back(std::move(numbers));
    }
    made.matrix.values = made.values.data();
    made.matrix.scales = made.scales.data();
    return made;
}

enum class Choice { random, all_on_one, the_same_by_all, none_on_the_last };

struct Shape {
    std::int64_t tokens, hidden, inner, outer, experts, chosen;
    Choice choice;
};

struct Inputs {
    Shape shape;
    Bank gate_up, down;
    Tensor gate_up_bias, down_bias, x, share;
    Memory index;

    const std::int64_t* chosen() const { return reinterpret_cast<const std::int64_t*>(index.data()); }
};

std::int64_t choose(Random& random, const Shape& s, std::int64_t token, std::int64_t j) {
    switch (s.choice) {
    case Choice::random: return (random.below(s.experts) / s.chosen * s.chosen + j) % s.experts;
    case Choice::all_on_one: return s.experts - 1;
    case Choice::the_same_by_all: return j;
    case Choice::none_on_the_last: return (token + j) % (s.experts - 1);
    }
    return 0;
}

Inputs inputs(const Shape& s, Type type, Type bias_type) {
    Random random(static_cast<std::uint32_t>(s.tokens * 31 + s.hidden + s.inner));
    Inputs made{s,
                bank(random, s.experts, 2 * s.inner, s.hidden),
                bank(random, s.experts, s.outer, s.inner),
                random.tensor(bias_type, s.experts * 2 * s.inner),
                random.tensor(bias_type, s.experts * s.outer),
                random.tokens(type, s.tokens, s.hidden),
                random.tensor(Type::float32, s.tokens * s.chosen),
                Memory(static_cast<std::size_t>(s.tokens * s.chosen) * sizeof(std::int64_t))};
    for (std::int64_t i = 0; i < s.tokens * s.chosen; ++i)
        reinterpret_cast<std::int64_t*>(made.index.data())[i] = choose(random, s, i / s.chosen, i % s.chosen);
    return made;
}

struct Outputs {
    Tensor out, neurons, expert_out;
};

Outputs run(const Kernels& kernels, const Inputs& in, std::int64_t begin, std::int64_t tokens, bool one_order, bool int8) {
    const Shape& s = in.shape;
    Outputs made{Tensor(in.x.type(), tokens * s.outer), Tensor(in.x.type(), tokens * s.chosen * s.inner),
                 Tensor(Type::float32, tokens * s.chosen * s.outer)};
    Experts call{};
    call.out = made.out.data();
    call.neurons = made.neurons.data();
    call.expert_out = static_cast<float*>(made.expert_out.data());
    call.x = in.x.at(begin * s.hidden);
    call.index = in.chosen() + begin * s.chosen;
    call.share = in.share.floats() + begin * s.chosen;
    call.gate_up = in.gate_up.matrix;
    call.down = in.down.matrix;
    call.gate_up_bias = in.gate_up_bias.data();
    call.down_bias = in.down_bias.data();
    call.tokens = tokens;
    call.chosen = s.chosen;
    call.experts = s.experts;
    call.alpha = alpha;
    call.limit = limit;
    call.type = in.x.type();
    call.bias_type = in.gate_up_bias.type();
    call.one_order = one_order;
    call.int8 = int8;
    const Memory workspace((kernels.experts_workspace(call) + 63) / 64 * 64);
    call.workspace = workspace.data();
    kernels.experts(call);
    return made;
}

std::vector<double> part(const std::vector<double>& all, std::int64_t begin, std::int64_t count) {
    return {all.begin() + begin, all.begin() + begin + count};
}

// gate * sigmoid(alpha * gate) * (up + 1): the slack of the sums, times the steepest slopes there are.
Exact swiglu(const Exact& gate_sum, const Exact& up_sum) {
    const double gate = gate_sum.value > limit ? limit : gate_sum.value;
    const double up = up_sum.value > limit ? limit : up_sum.value < -limit ? -limit : up_sum.value;
    const double through_gate = gate / (1 + std::exp(-alpha * gate)), value = through_gate * (up + 1);
    const double slack = 1.1 * std::fabs(up + 1) * gate_sum.slack + std::fabs(through_gate) * (up_sum.slack + unit);
    // alpha * gate is rounded before the exponential, which takes the error for a relative one.
    return {value, slack + (8 + 2 * std::fabs(alpha * gate)) * unit * std::fabs(value)};
}

std::vector<Exact> exact_neurons(const Inputs& in, const std::vector<double>& x) {
    const Shape& s = in.shape;
    const std::vector<double> bias = in.gate_up_bias.doubles();
    std::vector<Exact> out;
    for (std::int64_t slot = 0; slot < s.tokens * s.chosen; ++slot) {
        const std::int64_t expert = in.chosen()[slot];
        const std::vector<Exact> sums =
            product(part(x, slot / s.chosen * s.hidden, s.hidden), in.gate_up.exact[static_cast<std::size_t>(expert)],
                    part(bias, expert * 2 * s.inner, 2 * s.inner), 1, s.hidden, 2 * s.inner);
        for (std::size_t i = 0; i < sums.size(); i += 2) out.push_back(swiglu(sums[i], sums[i + 1]));
    }
    return out;
}

std::vector<Exact> exact_expert_out(const Inputs& in, const std::vector<double>& neurons) {
    const Shape& s = in.shape;
    const std::vector<double> bias = in.down_bias.doubles();
    std::vector<Exact> out;
    for (std::int64_t slot = 0; slot < s.tokens * s.chosen; ++slot) {
        const std::int64_t expert = in.chosen()[slot];
        for (const Exact& sum :
             product(part(neurons, slot * s.inner, s.inner), in.down.exact[static_cast<std::size_t>(expert)],
                     part(bias, expert * s.outer, s.outer), 1, s.inner, s.outer))
            out.push_back(sum);
    }
    return out;
}

std::vector<Exact> exact_out(const Inputs& in, const Tensor& expert_out) {
    const Shape& s = in.shape;
    std::vector<Exact> out;
    for (std::int64_t t = 0; t < s.tokens; ++t)
        for (std::int64_t c = 0; c < s.outer; ++c) {
            Exact sum{0, 0};
            for (std::int64_t slot = t * s.chosen; slot < (t + 1) * s.chosen; ++slot) {
                const double term = static_cast<double>(in.share.get(slot)) * expert_out.get(slot * s.outer + c);
                sum.value += term;
                sum.slack += sum_slack * std::fabs(term);
            }
            out.push_back(sum);
        }
    return out;
}

void compare(Report& report, const Sets& sets, Type type, const Shape& s) {
    const Inputs in = inputs(s, type, s.tokens % 2 ? Type::bfloat16 : Type::float32);
    const std::vector<Exact> neurons = exact_neurons(in, in.x.doubles());
    const std::vector<Exact> of_int8 = exact_neurons(in, rounded_to_int8(in.x, block));
    const std::string at = std::to_string(s.tokens) + " tokens, " + std::to_string(s.hidden) + " to " +
                           std::to_string(s.inner) + " to " + std::to_string(s.outer) + ", " +
                           std::to_string(s.chosen) + " of " + std::to_string(s.experts) + " experts";
    struct Mode {
        const char* name;
        bool one_order, int8;
    };
    for (const Set& set : sets) // int8 in any order is some experts by the one way and some by the other
        for (const Mode mode : {Mode{"", false, false}, {", one order", true, false}, {", int8, one order", true, true}}) {
            const std::string name = "experts, " + name_of(type) + mode.name;
            now_running(name, set, at);
            const Outputs got = run(*set.kernels, in, 0, s.tokens, mode.one_order, mode.int8);
            const std::vector<double> down = mode.int8 ? rounded_to_int8(got.neurons, block) : got.neurons.doubles();
            report.compare(name + ": neurons", set, at, got.neurons, mode.int8 ? of_int8 : neurons);
            report.compare(name + ": outputs", set, at, got.expert_out, exact_expert_out(in, down));
            report.compare(name + ": their sum", set, at, got.out, exact_out(in, got.expert_out));
        }
}

} // namespace

void experts_are_exact(Report& report, const Sets& sets) {
    std::vector<Shape> shapes = {{1, 2880, 32, 19, 3, 2, Choice::random},
                                 {1, 32, 2880, 16, 2, 2, Choice::the_same_by_all},
                                 {3, 2880, 32, 16, 2, 1, Choice::all_on_one},
                                 {17, 96, 64, 80, 5, 3, Choice::random},
                                 {33, 96, 32, 70, 4, 1, Choice::all_on_one},
                                 {17, 64, 96, 48, 4, 2, Choice::the_same_by_all},
                                 {33, 64, 32, 64, 5, 2, Choice::none_on_the_last},
                                 {1030, 32, 32, 16, 2, 1, Choice::all_on_one}};  // more than are summed at a time
    for (std::int64_t tokens = 1; tokens <= 9; ++tokens)
        shapes.push_back({tokens, 64, 32, tokens % 2 ? 32 : 37, 4, 2,
                          tokens % 3 ? Choice::random : Choice::none_on_the_last});
    for (const Type type : {Type::float32, Type::bfloat16})
        for (const Shape& shape : shapes) compare(report, sets, type, shape);
}

Batch experts_batch(Type type, bool int8) {
    const auto in = std::make_shared<Inputs>(inputs({37, 96, 64, 80, 5, 3, Choice::random}, type, Type::float32));
    return {"experts, " + name_of(type) + (int8 ? ", int8" : ""), in->shape.tokens,
            [in, int8](const Kernels& kernels, std::int64_t begin, std::int64_t count) {
                return std::move(run(kernels, *in, begin, count, true, int8).out);
            }};
}

} // namespace ossature::test
