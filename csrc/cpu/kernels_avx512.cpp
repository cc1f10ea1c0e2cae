#include "levels.h"

#if defined(VAE_EXT_X86_LEVELS)
#if defined(__clang__)
#pragma clang attribute push(                                                    \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#endif
#define VAE_EXT_LEVEL avx512
#define VAE_EXT_AVX512  // __AVX512F__ is defined by the command line alone
#define VAE_EXT_FMA
#include "kernels.inl"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
