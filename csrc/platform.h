// Everything that is not POSIX, in one place with a fallback: what the processor has, and hints to the system.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ossature {

// What an instruction set needs of the processor and of the operating system, which has to save its registers.
bool has_avx2();
bool has_avx512();
bool has_avx512_vnni();
bool has_avx512_bf16();
bool has_amx(); // asks the system for the tile registers; they stay granted to this process
bool has_neon_dot();

// A short pause inside a loop that waits for another thread.
void relax();

// Ask the system to read these bytes of a file mapping now, without waiting; does nothing where it cannot be asked.
void read_ahead(const void* address, std::size_t bytes);

} // namespace ossature
