#include "dispatch.h"

#include <stdexcept>

#include "platform.h"

namespace ossature {
namespace {

struct Isa {
    const char* name;
    bool (*runs_here)();
    Kernels kernels;
};

#define OSSATURE_KERNELS(isa)                                                                                          \
    {                                                                                                                  \
        &isa::rmsnorm, isa::linear, isa::linear_workspace, isa::experts, isa::experts_workspace, isa::attention,       \
            isa::attention_workspace, isa::rope, isa::embed                                                            \
    }

bool always() { return true; }

const Isa isas[] = {
#ifdef OSSATURE_BUILT_amx
    {"amx", has_amx, OSSATURE_KERNELS(amx)},
#endif
#ifdef OSSATURE_BUILT_avx512_bf16
    {"avx512_bf16", has_avx512_bf16, OSSATURE_KERNELS(avx512_bf16)},
#endif
#ifdef OSSATURE_BUILT_avx512_vnni
    {"avx512_vnni", has_avx512_vnni, OSSATURE_KERNELS(avx512_vnni)},
#endif
#ifdef OSSATURE_BUILT_avx512
    {"avx512", has_avx512, OSSATURE_KERNELS(avx512)},
#endif
#ifdef OSSATURE_BUILT_avx2
    {"avx2", has_avx2, OSSATURE_KERNELS(avx2)},
#endif
#ifdef OSSATURE_BUILT_neon_dot
    {"neon_dot", has_neon_dot, OSSATURE_KERNELS(neon_dot)},
#endif
#ifdef OSSATURE_BUILT_neon
    {"neon", always, OSSATURE_KERNELS(neon)}, // part of every 64-bit Arm processor
#endif
    {"scalar", always, OSSATURE_KERNELS(scalar)},
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
