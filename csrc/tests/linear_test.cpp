// Products with stored weights: columns and rows that fill no step and no group, tokens around every group and tile.
#include <cmath>
#include <cstring>
#include <memory>

#include "kernel_tests.h"

namespace ossature::test {
namespace {

constexpr std::int64_t block = 32;

// Weights as stored, and the numbers they stand for.
struct Weights {
    Matrix matrix;
    Memory values, scales;
    std::vector<double> exact;
};

Weights floats(Random& random, Type type, std::int64_t rows, std::int64_t cols) {
    const Tensor made = random.tensor(type, rows * cols);
    Weights w{{type, nullptr, nullptr, rows, cols}, Memory(Tensor::width(type) * made.count()), Memory(0), made.doubles()};
    std::memcpy(w.values.data(), made.data(), w.values.size());
    w.matrix.values = w.values.data();
    return w;
}

Weights int8(Random& random, std::int64_t rows, std::int64_t cols) {
    const std::int64_t blocks = rows * cols / block;
    Weights w{{Type::int8, nullptr, nullptr, rows, cols}, Memory(rows * cols), Memory(blocks * sizeof(bf16)), {}};
    auto* scales = reinterpret_cast<bf16*>(w.scales.data());
    for (std::int64_t i = 0; i < blocks; ++i) scales[i] = narrowed((1 + std::fabs(random.number())) / 127);
    for (std::int64_t i = 0; i < rows * cols; ++i) {
        const auto value = static_cast<std::int8_t>(random.below(255) - 127);
        w.values.data()[i] = static_cast<unsigned char>(value);
        w.exact.push_back(value * static_cast<double>(widened(scales[i / block])));
    }
    w.matrix.values = w.values.data();
    w.matrix.scales = scales;
    return w;
}

Weights weights(Random& random, Type type, std::int64_t rows, std::int64_t cols) {
    return type == Type::int8 ? int8(random, rows, cols) : floats(random, type, rows, cols);
}

// What rounding x to int8, or the weights to bf16 for tiles, may change: either is allowed where the order is free.
void allow_for_rounded_factors(std::vector<Exact>& exact, const std::vector<double>& x, const std::vector<double>& w,
                               std::int64_t tokens, std::int64_t cols, std::int64_t rows) {
    for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t b = 0; b < cols; b += block) {
                double top = 0, of_w = 0, both = 0;
                for (std::int64_t c = b; c < b + block; ++c) {
                    const double a = std::fabs(x[static_cast<std::size_t>(t * cols + c)]);
                    const double v = std::fabs(w[static_cast<std::size_t>(r * cols + c)]);
                    top = std::fmax(top, a);
                    of_w += v;
                    both += a * v;
                }
                exact[static_cast<std::size_t>(t * rows + r)].slack += std::fmax(of_w * top / 253, both / 256);
            }
}

Tensor run(const Kernels& kernels, const Matrix& weight, const void* x, Type type, const Tensor* bias,
           std::int64_t tokens, bool one_order) {
    Tensor out(type, tokens * weight.rows);
    Linear call{out.data(), x, weight, bias ? bias->data() : nullptr, tokens, type,
                bias ? bias->type() : Type::float32, one_order, nullptr};
    const Memory workspace((kernels.linear_workspace(call) + 63) / 64 * 64);
    call.workspace = workspace.data();
    kernels.linear(call);
    return out;
}

struct Shape {
    std::int64_t tokens, cols, rows;
};

void compare(Report& report, const Sets& sets, Type weight_type, Type type, Shape shape) {
    Random random(static_cast<std::uint32_t>(shape.tokens * 131 + shape.cols * 7 + shape.rows));
    const Weights w = weights(random, weight_type, shape.rows, shape.cols);
    const Tensor x = random.tokens(type, shape.tokens, shape.cols);
    const Tensor bias = random.tensor(shape.tokens % 2 ? Type::float32 : Type::bfloat16, shape.rows);
    const bool with_bias = shape.rows % 3 != 0;
    const std::vector<double> b = with_bias ? bias.doubles() : std::vector<double>{};
    const auto of = [&](const std::vector<double>& from) {
        return product(from, w.exact, b, shape.tokens, shape.cols, shape.rows);
    };
    std::vector<Exact> exact = of(x.doubles()), in_one_order = exact;
    if (weight_type == Type::int8) {
        in_one_order = of(rounded_to_int8(x, block));
        allow_for_rounded_factors(exact, x.doubles(), w.exact, shape.tokens, shape.cols, shape.rows);
    }
    const std::string at = std::to_string(shape.tokens) + " tokens, " + std::to_string(shape.cols) + " columns, " +
                           std::to_string(shape.rows) + " rows";
    for (const Set& set : sets)
        for (const bool one_order : {false, true}) {
            const std::string name =
                "linear " + name_of(weight_type) + ", x " + name_of(type) + (one_order ? ", one order" : "");
            now_running(name, set, at);
            const Tensor got =
                run(*set.kernels, w.matrix, x.data(), type, with_bias ? &bias : nullptr, shape.tokens, one_order);
            report.compare(name, set, at, got, one_order ? in_one_order : exact);
        }
}

} // namespace

void linear_is_exact(Report& report, const Sets& sets) {
    std::vector<Shape> shapes = {{1, 2880, 35}, {6, 2880, 32}, {1, 1, 1},  {3, 33, 5},   {2, 31, 4},
                                 {5, 40, 18},   {17, 2880, 16}, {33, 160, 64}, {70, 64, 83}, {33, 96, 48}};
    for (std::int64_t tokens = 1; tokens <= 9; ++tokens) {
        shapes.push_back({tokens, 96, 48});
        shapes.push_back({tokens, 32, 7});
        shapes.push_back({tokens, 65, 6});
    }
    for (const Type weight : {Type::float32, Type::bfloat16, Type::int8})
        for (const Type type : {Type::float32, Type::bfloat16})
            for (const Shape& shape : shapes)
                if (weight != Type::int8 || shape.cols % block == 0) compare(report, sets, weight, type, shape);
}

Batch linear_batch(Type weight, Type type) {
    constexpr std::int64_t tokens = 37, cols = 160, rows = 80;
    Random random(5);
    const auto w = std::make_shared<Weights>(weights(random, weight, rows, cols));
    const auto x = std::make_shared<Tensor>(random.tensor(type, tokens * cols));
    return {"linear " + name_of(weight) + ", x " + name_of(type), tokens,
            [=](const Kernels& kernels, std::int64_t begin, std::int64_t count) {
                return run(kernels, w->matrix, x->at(begin * cols), type, nullptr, count, true);
            }};
}

} // namespace ossature::test
