// What deterministic mode stands on: the bits of a token are its own.
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "../threads.h"
#include "kernel_tests.h"

namespace ossature::test {
namespace {

bool equal(const Tensor& whole, std::int64_t tokens, std::int64_t begin, const Tensor& part) {
    const std::int64_t first = begin * (whole.count() / tokens);
    return std::memcmp(whole.at(first), part.data(), static_cast<std::size_t>(part.count()) * Tensor::width(part.type())) == 0;
}

void in_any_batch(Report& report, const Set& set, const Batch& batch) {
    const Tensor together = batch.run(*set.kernels, 0, batch.tokens);
    for (const auto& [begin, count] : {std::pair{0, 1}, {36, 1}, {3, 2}, {7, 3}, {8, 9}, {20, 17}}) {
        const std::string at = std::to_string(count) + " tokens from " + std::to_string(begin);
        now_running(batch.name, set, at);
        report.claim("in any batch: " + batch.name, set, at,
                     equal(together, batch.tokens, begin, batch.run(*set.kernels, begin, count)));
    }
}

void with_any_threads(Report& report, const Set& set, const Batch& batch) {
    const int before = threads();
    const Tensor expected = batch.run(*set.kernels, 0, batch.tokens);
    for (const int count : {1, 3, 2}) {
        const std::string at = std::to_string(count) + " threads";
        now_running(batch.name, set, at);
        set_threads(count);
        for (const std::int64_t tokens : {batch.tokens, std::int64_t{1}})
            report.claim("with any threads: " + batch.name, set, at,
                         equal(expected, batch.tokens, 0, batch.run(*set.kernels, 0, tokens)));
    }
    set_threads(before);
}

// A child has none of its parent's workers.
void in_a_forked_child(Report& report, const Set& set, const Batch& batch, int threads_of_child) {
    now_running(batch.name, set, "a forked child");
    const Tensor expected = batch.run(*set.kernels, 0, batch.tokens);
    const pid_t child = fork();
    if (child == 0) {
        set_threads(threads_of_child);
        _exit(equal(expected, batch.tokens, 0, batch.run(*set.kernels, 0, batch.tokens)) ? 0 : 1);
    }
    int status = 1;
    const bool waited = child > 0 && waitpid(child, &status, 0) == child;
    report.claim("in a forked child: " + batch.name, set, "status " + std::to_string(status), waited && status == 0);
}

} // namespace

void bits_are_the_same(Report& report, const Sets& sets, int threads_of_child) {
    std::vector<Batch> batches;
    for (const Type type : {Type::float32, Type::bfloat16}) {
        for (const Type weight : {Type::float32, Type::bfloat16, Type::int8}) batches.push_back(linear_batch(weight, type));
        for (const bool int8 : {false, true}) batches.push_back(experts_batch(type, int8));
        batches.push_back(attention_batch(type));
    }
    for (const Batch& batch : batches)
        for (const Set& set : sets) {
            in_any_batch(report, set, batch);
            with_any_threads(report, set, batch);
        }
    for (const Set& set : sets) in_a_forked_child(report, set, batches.back(), threads_of_child);
}

} // namespace ossature::test
