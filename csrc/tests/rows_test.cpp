// The kernels that see one row at a time: normalisation, rotary positions, and the rows of an embedding.
#include <cmath>

#include "kernel_tests.h"

namespace ossature::test {
namespace {

constexpr Type types[] = {Type::float32, Type::bfloat16};

template <class X, class Weight>
void call(RmsNorm<X, Weight>* rmsnorm, const Tensor& out, const Tensor& x, const Tensor& weight, std::int64_t rows,
          std::int64_t cols) {
    rmsnorm(static_cast<X*>(out.data()), static_cast<const X*>(x.data()), static_cast<const Weight*>(weight.data()),
            rows, cols, 1e-5f);
}

void compare_rmsnorm(Report& report, const Sets& sets, Type type, Type weight_type, std::int64_t rows, std::int64_t cols) {
    Random random(static_cast<std::uint32_t>(rows * 31 + cols));
    const Tensor x = random.tokens(type, rows, cols), weight = random.tensor(weight_type, cols);
    std::vector<Exact> exact;
    for (std::int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (std::int64_t c = 0; c < cols; ++c) squares += std::pow(x.get(r * cols + c), 2);
        const double scale = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
        for (std::int64_t c = 0; c < cols; ++c) {
            const double value = x.get(r * cols + c) * scale * weight.get(c);
            exact.push_back({value, 6 * unit * std::fabs(value)});
        }
    }
    const std::string name = "rmsnorm, x " + name_of(type) + ", weight " + name_of(weight_type);
    const std::string at = std::to_string(rows) + " rows, " + std::to_string(cols) + " columns";
    for (const Set& set : sets) {
        now_running(name, set, at);
        const Tensor out(type, rows * cols);
        const RmsNorms& norms = *set.kernels->rmsnorm;
        const bool wide_x = type == Type::float32, wide_weight = weight_type == Type::float32;
        if (wide_x && wide_weight) call(norms.f32_f32, out, x, weight, rows, cols);
        else if (wide_x) call(norms.f32_bf16, out, x, weight, rows, cols);
        else if (wide_weight) call(norms.bf16_f32, out, x, weight, rows, cols);
        else call(norms.bf16_bf16, out, x, weight, rows, cols);
        report.compare(name, set, at, out, exact);
    }
}

void compare_rope(Report& report, const Sets& sets, Type type, std::int64_t tokens, std::int64_t heads, std::int64_t dim) {
    Random random(static_cast<std::uint32_t>(tokens * 31 + dim));
    const std::int64_t half = dim / 2;
    const Tensor x = random.tensor(type, tokens * heads * dim);
    const Tensor cosines(Type::float32, tokens * half), sines(Type::float32, tokens * half);
    for (std::int64_t i = 0; i < tokens * half; ++i) {
        const float angle = 3 * random.number();
        cosines.set(i, std::cos(angle));
        sines.set(i, std::sin(angle));
    }
    std::vector<Exact> exact;
    for (std::int64_t i = 0; i < tokens * heads * dim; ++i) {
        const std::int64_t token = i / (heads * dim), of_head = i % dim, angle = token * half + of_head % half;
        const bool upper = of_head >= half;
        const double by_cosine = static_cast<double>(x.get(i)) * cosines.get(angle);
        const double by_sine = static_cast<double>(x.get(upper ? i - half : i + half)) * sines.get(angle);
        exact.push_back({upper ? by_cosine + by_sine : by_cosine - by_sine,
                         unit * (std::fabs(by_cosine) + std::fabs(by_sine))});
    }
    const std::string name = "rope, " + name_of(type);
    const std::string at = std::to_string(tokens) + " tokens, heads of " + std::to_string(dim);
    for (const Set& set : sets) {
        now_running(name, set, at);
        const Tensor out(type, tokens * heads * dim);
        set.kernels->rope({out.data(), x.data(), cosines.floats(), sines.floats(), tokens, heads, dim, type});
        report.compare(name, set, at, out, exact);
    }
}

void compare_embed(Report& report, const Sets& sets, Type type, Type weight_type, std::int64_t tokens, std::int64_t cols) {
    constexpr std::int64_t vocabulary = 23;
    Random random(static_cast<std::uint32_t>(tokens * 31 + cols));
    const Tensor weight = random.tensor(weight_type, vocabulary * cols);
    const Memory ids(static_cast<std::size_t>(tokens) * sizeof(std::int64_t));
    auto* id = reinterpret_cast<std::int64_t*>(ids.data());
    std::vector<Exact> exact;
    for (std::int64_t t = 0; t < tokens; ++t) {
        id[t] = t == 0 ? vocabulary - 1 : random.below(vocabulary);
        for (std::int64_t c = 0; c < cols; ++c) exact.push_back({weight.get(id[t] * cols + c), 0});
    }
    const std::string name = "embed, " + name_of(weight_type) + " to " + name_of(type);
    const std::string at = std::to_string(tokens) + " tokens, " + std::to_string(cols) + " columns";
    for (const Set& set : sets) {
        now_running(name, set, at);
        const Tensor out(type, tokens * cols);
        set.kernels->embed({out.data(), id, weight.data(), tokens, cols, type, weight_type});
        report.compare(name, set, at, out, exact);
    }
}

} // namespace

void rows_are_exact(Report& report, const Sets& sets) {
    for (const Type type : types) {
        for (const Type weight : types) {
            for (const std::int64_t cols : {1, 7, 33, 64, 127, 2880}) {
                compare_rmsnorm(report, sets, type, weight, 1, cols);
                compare_rmsnorm(report, sets, type, weight, 3, cols);
                compare_embed(report, sets, type, weight, 1, cols);
                compare_embed(report, sets, type, weight, 17, cols);
            }
            compare_rmsnorm(report, sets, type, weight, 0, 64);
        }
        for (const std::int64_t dim : {2, 6, 24, 64})
            for (const std::int64_t tokens : {1, 2, 15, 16, 33}) compare_rope(report, sets, type, tokens, 3, dim);
    }
}

} // namespace ossature::test
