// The loops that probe.cpp times, for whatever the processor has. Each is compiled for its own instructions, and none
// is called where they are missing.
#pragma once

#include <cstdint>
#include <vector>

namespace ossature {

// Adds up `bytes` bytes, a multiple of `read_step`, as integers; one sequential stream.
using ReadLoop = std::uint64_t(const unsigned char* data, std::int64_t bytes);
constexpr std::int64_t read_step = 512;

// The widest that runs here.
ReadLoop* read_loop();

// Sums products in registers `rounds` times, stores the sums, at most `dot_room` bytes, and returns how many
// operations that took: a multiplication and an addition are two.
using DotLoop = std::int64_t(std::int64_t rounds, unsigned char* sums);
constexpr std::int64_t dot_room = 4096;

struct DotProduct {
    const char* name;
    DotLoop* loop;
};

// Those that run here, fastest first.
std::vector<DotProduct> dot_loops();

} // namespace ossature
