// What flows back through a sample and its log-densities.
#pragma once

#include <stdint.h>

namespace vae_ext {

// log q has mu and logvar both as its parameters and in z. By mu and by logvar its derivatives are,
// with the names that Python has for them:
enum class DrawGradient : int64_t {
  kReparameterized,     // 0 and -1/2: eps stands still
  kScore,               // eps / sigma and (eps^2 - 1) / 2: z stands still
  kStickingTheLanding,  // -eps / sigma and -eps^2 / 2: through z alone
};

}  // namespace vae_ext
