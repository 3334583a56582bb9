// One pool of threads for all kernels. It sleeps between calls and shares nothing with torch's.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ossature {

// Run task(context, item, thread) for every item of [0, items), and return when all are done. Items are claimed in
// ascending order; `thread` is in [0, threads()) and says whose scratch memory the task may use. Calls from several
// threads take turns. A task must not call `parallel`.
//
// work: bytes read or products made, in all. Where it is small the caller does it alone: to wake a thread takes longer.
using Task = void (*)(void* context, std::int64_t item, int thread);
void parallel(std::int64_t items, std::int64_t work, Task task, void* context);

int threads();

// From the next call of `parallel` on. Throws std::invalid_argument outside 1 to 1024.
void set_threads(int count);

// Memory of its own for each thread of a running task, aligned to 64 bytes, its content undefined between items.
constexpr std::size_t scratch_bytes = std::size_t{3} << 19;
void* scratch(int thread);

} // namespace ossature
