// Which instruction sets were built, which of them this machine can run, and their kernels.
// Everything that depends on the processor or the compiler, and is not a kernel, is in dispatch.cpp.
#pragma once

#include <string>
#include <vector>

#include "ops.h"

namespace ossature {

// Names, best first.
std::vector<std::string> built();
std::vector<std::string> usable();

// Throws std::invalid_argument when `isa` was not built or this machine cannot run it: an illegal instruction would
// end the process without a word.
const Kernels& kernels(const std::string& isa);

} // namespace ossature
