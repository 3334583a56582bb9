#include "dispatch.h"

#include <stdexcept>

namespace ossature {
namespace {

struct Isa {
    const char* name;
    bool (*runs_here)();
    Kernels kernels;
};

// The compiler's builtin asks the processor (cpuid) and the operating system (xgetbv): the wide registers need both.
const Isa isas[] = {
#ifdef OSSATURE_BUILT_avx512
    {"avx512",
     [] {
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("fma");
     },
     {avx512::rmsnorm}},
#endif
#ifdef OSSATURE_BUILT_avx2
    {"avx2", [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }, {avx2::rmsnorm}},
#endif
#ifdef OSSATURE_BUILT_neon
    {"neon", [] { return true; }, {neon::rmsnorm}}, // part of every 64-bit Arm processor
#endif
    {"scalar", [] { return true; }, {scalar::rmsnorm}},
};

} // namespace

std::vector<std::string> built() {
    std::vector<std::string> names;
    for (const Isa& isa : isas) names.emplace_back(isa.name);
    return names;
}

std::vector<std::string> usable() {
    std::vector<std::string> names;
    for (const Isa& isa : isas)
        if (isa.runs_here()) names.emplace_back(isa.name);
    return names;
}

const Kernels& kernels(const std::string& name) {
    for (const Isa& isa : isas) {
        if (name != isa.name) continue;
        if (!isa.runs_here()) throw std::invalid_argument(name + " was built, but this processor cannot run it");
        return isa.kernels;
    }
    throw std::invalid_argument(name + " was not built");
}

} // namespace ossature
