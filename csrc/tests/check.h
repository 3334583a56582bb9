// What the kernel tests are written with: tensors that end where memory ends, and errors counted in roundings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../dispatch.h"

namespace ossature::test {

// Bytes that end at a page nobody may touch: one byte read or written too far ends the process, whoever compiled the
// access. AddressSanitizer also watches the bytes in front. Every byte is 0xff at first: a NaN in either float type.
class Memory {
  public:
    explicit Memory(std::size_t bytes);
    Memory(Memory&& other) noexcept;
    Memory& operator=(Memory&&) = delete;
    ~Memory();

    unsigned char* data() const { return data_; }
    std::size_t size() const { return size_; }

  private:
    unsigned char *pages_, *data_;
    std::size_t mapped_, size_;
};

// Numbers of a type that the kernels have, float32 or bfloat16.
class Tensor {
  public:
    Tensor(Type type, std::int64_t count) : type_(type), memory_(static_cast<std::size_t>(count) * width(type)) {}

    static std::size_t width(Type type) { return type == Type::float32 ? 4 : 2; }

    Type type() const { return type_; }
    std::int64_t count() const { return static_cast<std::int64_t>(memory_.size() / width(type_)); }
    void* at(std::int64_t i) const { return memory_.data() + static_cast<std::size_t>(i) * width(type_); }
    void* data() const { return memory_.data(); }
    const float* floats() const { return static_cast<const float*>(data()); }
    float get(std::int64_t i) const;
    void set(std::int64_t i, float value) const; // rounded to nearest even
    std::vector<double> doubles() const;

  private:
    Type type_;
    Memory memory_;
};

float widened(bf16 value);
bf16 narrowed(float value);

// The same numbers on every machine and with every library.
class Random {
  public:
    explicit Random(std::uint32_t seed) : bits_(seed) {}
    std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(bits_() % static_cast<std::uint32_t>(n)); }
    float number(); // of variance 1
    Tensor tensor(Type type, std::int64_t count, float scale = 1);
    // (tokens, cols). The first of three tokens is NaN: it has to stay one, and to stay alone.
    Tensor tokens(Type type, std::int64_t tokens, std::int64_t cols);

  private:
    std::mt19937 bits_;
};

// A result in double precision, and how far float32 arithmetic may lead away from it before the last rounding.
struct Exact {
    double value, slack;
};

constexpr double unit = 1.0 / (1 << 24); // what one rounding to float32 may change, relative to the number
// A sum of products in float32 comes out within four roundings of the sum of their magnitudes: partial sums of
// numbers of either sign are far smaller than that.
constexpr double sum_slack = 4 * unit;

// x as the kernels round it to int8, in the same float32 operations: the largest magnitude of a block becomes 127. A block
// with a number that is not finite is NaN.
std::vector<double> rounded_to_int8(const Tensor& x, std::int64_t block);

// out[t, r] = sum over c of x[t, c] * w[r, c] + bias[r]; bias may be empty.
std::vector<Exact> product(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& bias,
                           std::int64_t tokens, std::int64_t cols, std::int64_t rows);

struct Set {
    std::string name;
    const Kernels* kernels;
};

// The worst error of every kernel in every set, as a share of what is allowed: half a unit in the last place of the
// type, plus the slack. Above 1 is a failure.
class Report {
  public:
    // NaN is equal to NaN.
    void compare(const std::string& kernel, const Set& set, const std::string& shape, const Tensor& got,
                 const std::vector<Exact>& exact);
    void claim(const std::string& what, const Set& set, const std::string& shape, bool holds);
    bool print() const; // whether all is well

  private:
    struct Worst {
        double share = 0;
        std::string shape;
    };
    void see(const std::string& kernel, const Set& set, const std::string& shape, double share);

    std::vector<std::pair<std::string, std::string>> order_;
    std::map<std::pair<std::string, std::string>, Worst> worst_;
};

// Named by the signal that ends the process, where one does.
void now_running(const std::string& kernel, const Set& set, const std::string& shape);
void name_what_crashed();

std::string name_of(Type type);

} // namespace ossature::test
