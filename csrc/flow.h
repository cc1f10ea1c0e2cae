// What flows back through a sample and its log-densities.
#pragma once

#include <stdint.h>

namespace vae_ext {

// log q has mu and logvar both as its parameters and in z. The derivatives are sample_gradients' of
// formulas.h.
enum class Flow : int64_t {
  kAll,    // d log q / dmu = 0,          d log q / dlogvar = -1/2: eps stands still
  kScore,  // d log q / dmu = eps/sigma,  d log q / dlogvar = (eps^2 - 1) / 2: z stands still
  kPath,   // d log q / dmu = -eps/sigma, d log q / dlogvar = -eps^2 / 2: through z alone
};

}  // namespace vae_ext
