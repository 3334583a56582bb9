#include "platform.h"

#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace ossature {

#if defined(__x86_64__)

// The compiler's builtin asks the processor (cpuid) and the operating system (xgetbv): the wide registers need both.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

bool has_avx512_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }

bool has_avx512_bf16() { return has_avx512_vnni() && __builtin_cpu_supports("avx512bf16"); }

void relax() { _mm_pause(); }

#else

bool has_avx2() { return false; }
bool has_avx512() { return false; }
bool has_avx512_vnni() { return false; }
bool has_avx512_bf16() { return false; }

void relax() {
#if defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif

#if defined(__x86_64__) && defined(__linux__)

bool has_amx() {
    constexpr unsigned tiles = 1u << 24, bf16_products = 1u << 22; // cpuid leaf 7, edx
    constexpr long ask_permission = 0x1023, tile_data = 18;        // arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!has_avx512_bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if ((d & tiles) == 0 || (d & bf16_products) == 0) return false;
    return syscall(SYS_arch_prctl, ask_permission, tile_data) == 0;
}

#else

bool has_amx() { return false; }

#endif

bool has_neon_dot() {
#if defined(__linux__) && defined(__aarch64__)
    return (getauxval(AT_HWCAP) & (1ul << 20)) != 0; // HWCAP_ASIMDDP
#elif defined(__APPLE__) && defined(__aarch64__)
    int found = 0;
    std::size_t size = sizeof found;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &size, nullptr, 0) == 0 && found != 0;
#else
    return false;
#endif
}

namespace {

// The whole pages that a range touches: advice is given for pages.
struct Pages {
    void* address;
    std::size_t bytes;
};

Pages pages_of(const void* address, std::size_t bytes) {
    const std::uintptr_t page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(address) / page * page;
    return {reinterpret_cast<void*>(begin), reinterpret_cast<std::uintptr_t>(address) + bytes - begin};
}

} // namespace

void read_ahead(const void* address, std::size_t bytes) {
    const Pages pages = pages_of(address, bytes);
    posix_madvise(pages.address, pages.bytes, POSIX_MADV_WILLNEED); // a hint: a refusal changes nothing but the speed
}

} // namespace ossature
