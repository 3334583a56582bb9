#include "check.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(begin, bytes) ((void)(begin), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(begin, bytes) ((void)(begin), (void)(bytes))
#endif

namespace ossature::test {

Memory::Memory(std::size_t bytes) : size_(bytes) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t usable = (bytes + page - 1) / page * page;
    mapped_ = usable + page;
    void* pages = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    pages_ = static_cast<unsigned char*>(pages);
    data_ = pages_ + (usable - bytes);
    if (mprotect(pages_ + usable, page, PROT_NONE) != 0) throw std::bad_alloc();
    std::memset(data_, 0xff, bytes);
    ASAN_POISON_MEMORY_REGION(pages_, usable - bytes);
}

Memory::Memory(Memory&& other) noexcept
    : pages_(std::exchange(other.pages_, nullptr)), data_(other.data_), mapped_(other.mapped_), size_(other.size_) {}

Memory::~Memory() {
    if (!pages_) return;
    ASAN_UNPOISON_MEMORY_REGION(pages_, mapped_);
    munmap(pages_, mapped_);
}

float widened(bf16 value) {
    const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

bf16 narrowed(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

float Tensor::get(std::int64_t i) const {
    return type_ == Type::float32 ? *static_cast<const float*>(at(i)) : widened(*static_cast<const bf16*>(at(i)));
}

void Tensor::set(std::int64_t i, float value) const {
    if (type_ == Type::float32) *static_cast<float*>(at(i)) = value;
    else *static_cast<bf16*>(at(i)) = narrowed(value);
}

std::vector<double> Tensor::doubles() const {
    std::vector<double> wide;
    for (std::int64_t i = 0; i < count(); ++i) wide.push_back(get(i));
    return wide;
}

float Random::number() {
    constexpr double whole = 4294967296.0;
    double sum = 0; // of twelve uniform numbers: a variance of 1, and no library's own idea of a normal distribution
    for (int i = 0; i < 12; ++i) sum += bits_() / whole;
    return static_cast<float>(sum - 6);
}

Tensor Random::tensor(Type type, std::int64_t count, float scale) {
    Tensor made(type, count);
    for (std::int64_t i = 0; i < count; ++i) made.set(i, number() * scale);
    return made;
}

Tensor Random::tokens(Type type, std::int64_t tokens, std::int64_t cols) {
    Tensor made = tensor(type, tokens * cols);
    for (std::int64_t i = 0; tokens == 3 && i < cols; ++i) made.set(i, std::numeric_limits<float>::quiet_NaN());
    return made;
}

std::vector<double> rounded_to_int8(const Tensor& x, std::int64_t block) {
    std::vector<double> out;
    for (std::int64_t b = 0; b < x.count(); b += block) {
        float top = 0, none = 0;
        for (std::int64_t i = 0; i < block; ++i) {
            top = std::fmax(top, std::fabs(x.get(b + i)));
            none += 0 * x.get(b + i);
        }
        const float scale = top / 127 + none, inverse = scale > 0 ? 1 / scale : 0;
        for (std::int64_t i = 0; i < block; ++i)
            out.push_back(static_cast<double>(std::nearbyint(x.get(b + i) * inverse)) * scale);
    }
    return out;
}

std::vector<Exact> product(const std::vector<double>& x, const std::vector<double>& w, const std::vector<double>& bias,
                           std::int64_t tokens, std::int64_t cols, std::int64_t rows) {
    std::vector<Exact> out;
    for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t r = 0; r < rows; ++r) {
            double sum = bias.empty() ? 0 : bias[static_cast<std::size_t>(r)], magnitude = std::fabs(sum);
            const double *a = x.data() + t * cols, *b = w.data() + r * cols;
            for (std::int64_t c = 0; c < cols; ++c) {
                sum += a[c] * b[c];
                magnitude += std::fabs(a[c] * b[c]);
            }
            out.push_back({sum, sum_slack * magnitude});
        }
    return out;
}

namespace {

double half_unit_in_the_last_place(Type type, double value) {
    int exponent = 0;
    std::frexp(value, &exponent);
    return std::ldexp(1, exponent - 1 - (type == Type::float32 ? 24 : 8));
}

} // namespace

void Report::see(const std::string& kernel, const Set& set, const std::string& shape, double share) {
    const auto key = std::make_pair(kernel, set.name);
    if (worst_.find(key) == worst_.end()) order_.push_back(key);
    Worst& worst = worst_[key];
    if (share > worst.share || worst.shape.empty()) worst = {share, shape};
}

void Report::compare(const std::string& kernel, const Set& set, const std::string& shape, const Tensor& got,
                     const std::vector<Exact>& exact) {
    double worst = got.count() == static_cast<std::int64_t>(exact.size()) ? 0 : std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < exact.size(); ++i) {
        const float number = got.get(static_cast<std::int64_t>(i));
        if (std::isnan(number) && std::isnan(exact[i].value)) continue;
        const double error = std::fabs(number - exact[i].value);
        const double share = error / (half_unit_in_the_last_place(got.type(), exact[i].value) + exact[i].slack);
        worst = share <= worst ? worst : std::isnan(share) ? std::numeric_limits<double>::infinity() : share;
    }
    see(kernel, set, shape, worst);
}

void Report::claim(const std::string& what, const Set& set, const std::string& shape, bool holds) {
    see(what, set, shape, holds ? 0 : std::numeric_limits<double>::infinity());
}

bool Report::print() const {
    int failed = 0;
    for (const auto& key : order_) {
        const Worst& worst = worst_.at(key);
        const bool fails = !(worst.share <= 1);
        failed += fails;
        std::printf("%-40s %-12s %6.3f of the error allowed%s%s\n", key.first.c_str(), key.second.c_str(), worst.share,
                    fails ? "  FAILED: " : "", fails ? worst.shape.c_str() : "");
    }
    std::printf("%d passed, %d failed\n", static_cast<int>(order_.size()) - failed, failed);
    return failed == 0 && !order_.empty();
}

namespace {

char running[256] = "nothing yet\n";

void crashed(int number) {
    const ssize_t written = write(STDERR_FILENO, running, std::strlen(running));
    (void)written;
    signal(number, SIG_DFL);
    raise(number);
}

} // namespace

void now_running(const std::string& kernel, const Set& set, const std::string& shape) {
    std::snprintf(running, sizeof running, "crashed in %s, %s, %s\n", kernel.c_str(), set.name.c_str(), shape.c_str());
}

void name_what_crashed() {
#if !defined(__SANITIZE_ADDRESS__) // which says more
    for (const int number : {SIGILL, SIGSEGV, SIGBUS, SIGFPE}) signal(number, crashed);
#else
    (void)crashed;
#endif
}

std::string name_of(Type type) {
    switch (type) {
    case Type::float32: return "float32";
    case Type::bfloat16: return "bfloat16";
    case Type::mxfp4: return "mxfp4";
    case Type::int8: return "int8";
    }
    return "?";
}

} // namespace ossature::test
