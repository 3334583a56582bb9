// What the machine itself can do: how fast memory is read, and how fast products are summed. Nothing here is a kernel:
// these are the limits that the speed of kernels is reported against.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ossature {

// Seconds in which `threads` threads together read `bytes` bytes once, each thread its own contiguous part from front
// to back. Whole pages of 4096 bytes are read; data needs no alignment, and should not fit a cache. threads >= 1.
double read_seconds(const void* data, std::int64_t bytes, int threads);

// The dot products that this machine can run, fastest first, each "set_type": avx512_int8, amx_bf16, neon_float32, …
std::vector<std::string> dot_products();

// Operations a second (a multiplication and an addition are two) that `threads` threads reach together, each summing
// products in its own registers for `seconds`. Throws std::invalid_argument for a name that dot_products() lacks.
double dot_rate(const std::string& name, int threads, double seconds);

} // namespace ossature
