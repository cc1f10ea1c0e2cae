// Instruction sets beyond the one that the build is for. Each kernels_<level>.cpp turns its own on
// for all that it includes: with the processor's features named in the file itself, one command
// builds all files, by g++ and by clang++.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)  // clang defines it, too
#define VAE_EXT_X86_LEVELS
#endif
