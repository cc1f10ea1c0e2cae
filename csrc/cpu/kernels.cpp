// Chooses among the instruction sets compiled in, once, by what the processor can run.
#include "kernels.h"

#include <torch/headeronly/util/Exception.h>

#include "levels.h"

#if defined(VAE_EXT_X86_LEVELS)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

namespace vae_ext {

namespace baseline {
extern const KernelSet kernel_set_of_level;
}
#if defined(VAE_EXT_X86_LEVELS)
namespace avx2 {
extern const KernelSet kernel_set_of_level;
}
namespace avx512 {
extern const KernelSet kernel_set_of_level;
}
#endif

namespace {

struct Level {
  const KernelSet* set;
  bool (*supported)();
};

#if defined(VAE_EXT_X86_LEVELS)
// Not a feature that clang's __builtin_cpu_supports knows.
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

const Level kLevels[] = {
#if defined(VAE_EXT_X86_LEVELS)
    {&avx512::kernel_set_of_level,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              has_f16c();
     }},
    {&avx2::kernel_set_of_level,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }},
#endif
    {&baseline::kernel_set_of_level, [] { return true; }},
};

const KernelSet& find(const char* level) {
  std::string known;
  for (const Level& candidate : kLevels) {
    if (std::strcmp(candidate.set->level, level) == 0) {
      STD_TORCH_CHECK(candidate.supported(), "vae_ext: this processor cannot run the SIMD level '",
                      level, "'");
      return *candidate.set;
    }
    known += std::string(known.empty() ? "" : ", ") + candidate.set->level;
  }
  STD_TORCH_CHECK(false, "vae_ext: unknown SIMD level '", level, "', expected one of: ", known);
}

const KernelSet* default_set() {
  const char* forced = std::getenv("VAE_EXT_SIMD");
  if (forced != nullptr && *forced != '\0') return &find(forced);
  for (const Level& candidate : kLevels) {
    if (candidate.supported()) return candidate.set;
  }
  return kLevels[kernel_set_count() - 1].set;
}

std::atomic<const KernelSet*>& active() {
  static std::atomic<const KernelSet*> set{default_set()};
  return set;
}

}  // namespace

int kernel_set_count() { return static_cast<int>(sizeof kLevels / sizeof kLevels[0]); }
const KernelSet& kernel_set(int i) { return *kLevels[i].set; }
bool kernel_set_supported(int i) { return kLevels[i].supported(); }

const KernelSet& active_kernels() { return *active().load(std::memory_order_relaxed); }
void set_simd_level(const char* level) { active().store(&find(level)); }

}  // namespace vae_ext
