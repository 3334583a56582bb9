// The parts of kernel_test, a file each.
#pragma once

#include <functional>

#include "check.h"

namespace ossature::test {

using Sets = std::vector<Set>;

// Every kernel against a plain loop in double precision.
void rows_are_exact(Report& report, const Sets& sets); // rmsnorm, rope, embed
void linear_is_exact(Report& report, const Sets& sets);
void experts_are_exact(Report& report, const Sets& sets);
void attention_is_exact(Report& report, const Sets& sets);

// A kernel in its one order of summation: run(kernels, begin, count) computes tokens [begin, begin + count) alone.
struct Batch {
    std::string name;
    std::int64_t tokens;
    std::function<Tensor(const Kernels&, std::int64_t begin, std::int64_t count)> run;
};
Batch linear_batch(Type weight, Type type);
Batch experts_batch(Type type, bool int8);
Batch attention_batch(Type type);

// The bits of a token depend neither on the other tokens nor on the threads, nor on being a forked child, which starts
// `threads_of_child` of its own.
void bits_are_the_same(Report& report, const Sets& sets, int threads_of_child);

} // namespace ossature::test
