// The kernels for any processor of the target: SSE2 on x86-64, NEON on Arm.
#define VAE_EXT_LEVEL baseline
#include "kernels.inl"
