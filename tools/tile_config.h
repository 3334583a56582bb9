// For building llama.cpp with gcc 12 on a processor with AMX (make peers): that compiler's _tile_loadconfig tells it
// that 8 bytes are read where the instruction reads 64, so it drops the writes to the rest, and llama.cpp stops with a
// general protection fault at its first product.
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%0" ::"m"(*(const char(*)[64])(config)))
#endif
