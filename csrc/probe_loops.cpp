// Loops in which nothing but the thing measured takes time. `target` compiles a function for instructions that the
// rest of the file does without; such a function calls nothing but intrinsics, so no code of another set leaks out.
//
// The chains of one loop begin with different values: the compiler would merge chains that are always equal.
#include "probe_loops.h"

#include <stddef.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#define OSSATURE_PROBE_X86
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__GNUC__) && defined(__aarch64__)
#define OSSATURE_PROBE_ARM
#include <arm_neon.h>
#endif

#if defined(__linux__)
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace ossature {
namespace {

// Plain C++: what every machine has. Any compiler turns it into the vectors of its baseline.
std::uint64_t read_plain(const unsigned char* data, std::int64_t bytes) {
    constexpr int words = 16;
    std::uint64_t sums[words] = {};
    for (const unsigned char* end = data + bytes; data < end; data += 8 * words)
        for (int i = 0; i < words; ++i) {
            std::uint64_t word;
            memcpy(&word, data + 8 * i, sizeof word);
            sums[i] += word;
        }
    std::uint64_t sum = 0;
    for (const std::uint64_t part : sums) sum += part;
    return sum;
}

std::int64_t scalar_float32(std::int64_t rounds, unsigned char* out) {
    constexpr int lanes = 32;
    float sums[lanes];
    for (int i = 0; i < lanes; ++i) sums[i] = static_cast<float>(i);
    const float a = 1e-3F + static_cast<float>(rounds) * 1e-9F, b = a + 1e-4F;
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < lanes; ++i) sums[i] = sums[i] * a + b;
    memcpy(out, sums, sizeof sums);
    return rounds * lanes * 2;
}

#if defined(OSSATURE_PROBE_X86)

constexpr int chains = 12; // 2 instructions a cycle, 5 cycles until a sum is there; 16 registers in AVX2

__attribute__((target("avx512f"))) std::uint64_t read_avx512(const unsigned char* data, std::int64_t bytes) {
    constexpr int lines = read_step / 64;
    __m512i sums[lines];
    for (__m512i& sum : sums) sum = _mm512_setzero_si512();
    for (const unsigned char* end = data + bytes; data < end; data += read_step)
        for (int i = 0; i < lines; ++i) sums[i] = _mm512_add_epi64(sums[i], _mm512_loadu_si512(data + 64 * i));
    for (int i = 1; i < lines; ++i) sums[0] = _mm512_add_epi64(sums[0], sums[i]);
    std::uint64_t words[8], sum = 0;
    _mm512_storeu_si512(words, sums[0]);
    for (const std::uint64_t word : words) sum += word;
    return sum;
}

__attribute__((target("avx2"))) std::uint64_t read_avx2(const unsigned char* data, std::int64_t bytes) {
    constexpr int vectors = 8;
    __m256i sums[vectors];
    for (__m256i& sum : sums) sum = _mm256_setzero_si256();
    for (const unsigned char* end = data + bytes; data < end; data += 32 * vectors)
        for (int i = 0; i < vectors; ++i) {
            const __m256i loaded = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + 32 * i));
            sums[i] = _mm256_add_epi64(sums[i], loaded);
        }
    for (int i = 1; i < vectors; ++i) sums[0] = _mm256_add_epi64(sums[0], sums[i]);
    std::uint64_t words[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), sums[0]);
    return words[0] + words[1] + words[2] + words[3];
}

__attribute__((target("avx512f,avx512vnni"))) std::int64_t avx512_int8(std::int64_t rounds, unsigned char* out) {
    __m512i sums[chains];
    for (int i = 0; i < chains; ++i) sums[i] = _mm512_set1_epi32(i);
    const __m512i a = _mm512_set1_epi32(0x03510217), b = _mm512_set1_epi32(0x15FD0B02);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < chains; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
    for (int i = 0; i < chains; ++i) _mm512_storeu_si512(out + 64 * i, sums[i]);
    return rounds * chains * 64 * 2;
}

__attribute__((target("avx512f,avx512bf16"))) std::int64_t avx512_bf16(std::int64_t rounds, unsigned char* out) {
    __m512 sums[chains];
    for (int i = 0; i < chains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
    const __m512bh a = (__m512bh)_mm512_set1_epi32(0x3C233C75), b = (__m512bh)_mm512_set1_epi32(0x3C513C0A);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < chains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
    for (int i = 0; i < chains; ++i) _mm512_storeu_ps(out + 64 * i, sums[i]);
    return rounds * chains * 32 * 2;
}

__attribute__((target("avx512f"))) std::int64_t avx512_float32(std::int64_t rounds, unsigned char* out) {
    __m512 sums[chains];
    for (int i = 0; i < chains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
    const __m512 a = _mm512_set1_ps(1.3e-3F), b = _mm512_set1_ps(1.7e-3F);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < chains; ++i) sums[i] = _mm512_fmadd_ps(a, b, sums[i]);
    for (int i = 0; i < chains; ++i) _mm512_storeu_ps(out + 64 * i, sums[i]);
    return rounds * chains * 16 * 2;
}

__attribute__((target("avx2,fma"))) std::int64_t avx2_float32(std::int64_t rounds, unsigned char* out) {
    __m256 sums[chains];
    for (int i = 0; i < chains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
    const __m256 a = _mm256_set1_ps(1.3e-3F), b = _mm256_set1_ps(1.7e-3F);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < chains; ++i) sums[i] = _mm256_fmadd_ps(a, b, sums[i]);
    for (int i = 0; i < chains; ++i) _mm256_storeu_ps(reinterpret_cast<float*>(out + 32 * i), sums[i]);
    return rounds * chains * 8 * 2;
}

// Without dot product instructions: products of bytes summed in pairs, pairs in fours, fours added.
__attribute__((target("avx2"))) std::int64_t avx2_int8(std::int64_t rounds, unsigned char* out) {
    constexpr int few = 8;
    __m256i sums[few];
    for (int i = 0; i < few; ++i) sums[i] = _mm256_set1_epi32(i);
    __m256i a = _mm256_set1_epi32(0x03510217);
    const __m256i b = _mm256_set1_epi32(0x15FD0B02), ones = _mm256_set1_epi16(1);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < few; ++i) {
            asm volatile("" : "+x"(a)); // may have changed: the products are not computed once for all rounds
            sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
        }
    for (int i = 0; i < few; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * i), sums[i]);
    return rounds * few * 32 * 2;
}

__attribute__((target("avx2,avxvnni"))) std::int64_t avxvnni_int8(std::int64_t rounds, unsigned char* out) {
    __m256i sums[chains];
    for (int i = 0; i < chains; ++i) sums[i] = _mm256_set1_epi32(i);
    const __m256i a = _mm256_set1_epi32(0x03510217), b = _mm256_set1_epi32(0x15FD0B02);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < chains; ++i) sums[i] = _mm256_dpbusd_avx_epi32(sums[i], a, b);
    for (int i = 0; i < chains; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * i), sums[i]);
    return rounds * chains * 32 * 2;
}

// Eight tiles of 16 rows of 64 bytes: four sums, two left and two right operands.
struct alignas(64) TileConfig {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
};

constexpr TileConfig eight_tiles = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

// A macro, because the instruction that multiplies is one of its arguments.
#define OSSATURE_TILES(product, operand, out)               \
    _tile_loadconfig(&eight_tiles);                         \
    _tile_zero(0);                                          \
    _tile_zero(1);                                          \
    _tile_zero(2);                                          \
    _tile_zero(3);                                          \
    _tile_loadd(4, operand, 64);                            \
    _tile_loadd(5, operand, 64);                            \
    _tile_loadd(6, operand, 64);                            \
    _tile_loadd(7, operand, 64);                            \
    for (std::int64_t round = 0; round < rounds; ++round) { \
        product(0, 4, 6);                                   \
        product(1, 4, 7);                                   \
        product(2, 5, 6);                                   \
        product(3, 5, 7);                                   \
    }                                                       \
    _tile_stored(0, out, 64);                               \
    _tile_release()

__attribute__((target("amx-tile,amx-int8"))) std::int64_t amx_int8(std::int64_t rounds, unsigned char* out) {
    alignas(64) std::uint32_t operand[16 * 16];
    for (int i = 0; i < 16 * 16; ++i) operand[i] = 0x03010201u + static_cast<std::uint32_t>(i);
    OSSATURE_TILES(_tile_dpbusd, operand, out);
    return rounds * 4 * 16 * 16 * 64 * 2;
}

__attribute__((target("amx-tile,amx-bf16"))) std::int64_t amx_bf16(std::int64_t rounds, unsigned char* out) {
    alignas(64) std::uint32_t operand[16 * 16];
    for (int i = 0; i < 16 * 16; ++i) operand[i] = 0x3C233C00u + static_cast<std::uint32_t>(i);
    OSSATURE_TILES(_tile_dpbf16ps, operand, out);
    return rounds * 4 * 16 * 16 * 32 * 2;
}

#undef OSSATURE_TILES

// Word `output` (0: eax, 3: edx) of leaf 7, where the newer instructions are listed.
bool listed(unsigned subleaf, int output, int bit) {
    unsigned words[4];
    if (!__get_cpuid_count(7, subleaf, &words[0], &words[1], &words[2], &words[3])) return false;
    return words[output] >> bit & 1;
}

// Linux saves the tiles of a thread only for a process that asked. Asking again is harmless.
bool tiles_granted() {
#if defined(__linux__)
    constexpr long ask_for_state = 0x1023, tile_data = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, ask_for_state, tile_data) == 0;
#else
    return false;
#endif
}

#elif defined(OSSATURE_PROBE_ARM)

constexpr int chains = 24; // 4 instructions a cycle, 4 cycles until a sum is there; 32 registers

std::int64_t neon_float32(std::int64_t rounds, unsigned char* out) {
    float32x4_t sums[chains];
    for (int i = 0; i < chains; ++i) sums[i] = vdupq_n_f32(static_cast<float>(i));
    float32x4_t a = vdupq_n_f32(1.3e-3F), b = vdupq_n_f32(1.7e-3F);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < chains; ++i) {
            asm volatile("" : "+w"(a)); // may have changed: the product stays in the loop
            sums[i] = vfmaq_f32(sums[i], a, b);
        }
    for (int i = 0; i < chains; ++i) vst1q_f32(reinterpret_cast<float*>(out + 16 * i), sums[i]);
    return rounds * chains * 4 * 2;
}

__attribute__((target("arch=armv8.2-a+dotprod"))) std::int64_t neon_int8(std::int64_t rounds, unsigned char* out) {
    int32x4_t sums[chains];
    for (int i = 0; i < chains; ++i) sums[i] = vdupq_n_s32(i);
    int8x16_t a = vdupq_n_s8(23), b = vdupq_n_s8(-3);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < chains; ++i) {
            asm volatile("" : "+w"(a));
            sums[i] = vdotq_s32(sums[i], a, b);
        }
    for (int i = 0; i < chains; ++i) vst1q_s32(reinterpret_cast<std::int32_t*>(out + 16 * i), sums[i]);
    return rounds * chains * 16 * 2;
}

__attribute__((target("arch=armv8.2-a+bf16"))) std::int64_t neon_bf16(std::int64_t rounds, unsigned char* out) {
    float32x4_t sums[chains];
    for (int i = 0; i < chains; ++i) sums[i] = vdupq_n_f32(static_cast<float>(i));
    bfloat16x8_t a = vreinterpretq_bf16_u16(vdupq_n_u16(0x3C23)), b = vreinterpretq_bf16_u16(vdupq_n_u16(0x3C51));
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < chains; ++i) {
            asm volatile("" : "+w"(a));
            sums[i] = vbfdotq_f32(sums[i], a, b);
        }
    for (int i = 0; i < chains; ++i) vst1q_f32(reinterpret_cast<float*>(out + 16 * i), sums[i]);
    return rounds * chains * 8 * 2;
}

#if defined(__linux__)
bool has_dotprod() { return getauxval(AT_HWCAP) >> 20 & 1; } // HWCAP_ASIMDDP
bool has_bf16() { return getauxval(AT_HWCAP2) >> 14 & 1; }   // HWCAP2_BF16
#elif defined(__APPLE__)
bool reported(const char* feature) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() { return reported("hw.optional.arm.FEAT_DotProd"); }
bool has_bf16() { return reported("hw.optional.arm.FEAT_BF16"); }
#else
bool has_dotprod() { return false; }
bool has_bf16() { return false; }
#endif

#endif

} // namespace

ReadLoop* read_loop() {
#if defined(OSSATURE_PROBE_X86)
    if (__builtin_cpu_supports("avx512f")) return read_avx512;
    if (__builtin_cpu_supports("avx2")) return read_avx2;
#endif
    return read_plain;
}

std::vector<DotProduct> dot_loops() {
    std::vector<DotProduct> found;
#if defined(OSSATURE_PROBE_X86)
    if (listed(0, 3, 24) && (listed(0, 3, 25) || listed(0, 3, 22)) && tiles_granted()) {
        if (listed(0, 3, 25)) found.push_back({"amx_int8", amx_int8});
        if (listed(0, 3, 22)) found.push_back({"amx_bf16", amx_bf16});
    }
    if (__builtin_cpu_supports("avx512f")) {
        if (__builtin_cpu_supports("avx512vnni")) found.push_back({"avx512_int8", avx512_int8});
        if (__builtin_cpu_supports("avx512bf16")) found.push_back({"avx512_bf16", avx512_bf16});
        found.push_back({"avx512_float32", avx512_float32});
    }
    if (__builtin_cpu_supports("avx2")) {
        if (listed(1, 0, 4)) found.push_back({"avxvnni_int8", avxvnni_int8});
        found.push_back({"avx2_int8", avx2_int8});
        if (__builtin_cpu_supports("fma")) found.push_back({"avx2_float32", avx2_float32});
    }
#elif defined(OSSATURE_PROBE_ARM)
    if (has_dotprod()) found.push_back({"neon_int8", neon_int8});
    if (has_bf16()) found.push_back({"neon_bf16", neon_bf16});
    found.push_back({"neon_float32", neon_float32});
#endif
    found.push_back({"scalar_float32", scalar_float32});
    return found;
}

} // namespace ossature
