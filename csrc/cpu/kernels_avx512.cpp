#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#define VAE_EXT_LEVEL avx512
#define VAE_EXT_AVX512  // g++ does not define __AVX512F__ after the pragma
#define VAE_EXT_FMA
#include "kernels.inl"
#endif
