// KL divergences. See formula.h.
#pragma once

#include "formula.h"

VAE_EXT_NAMESPACE_BEGIN

// KL(N(mu, exp(logvar)) || N(0, 1)), (4.5): (mu^2 + exp(logvar) - 1 - logvar) / 2
struct StandardGaussianKL {  // mu, logvar
  static constexpr int kInputs = 2, kRequired = 2, kNumbers = 0, kTarget = -1;
  static constexpr int kExponents[] = {1};

  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static T value(T mu, T logvar) {
    // Both halves are >= 0, so nothing cancels and the sum cannot be negative.
    return (T(0.5) * mu) * mu + half_expm1_minus_x<kRange>(logvar);
  }

  // d/dmu = mu, d/dlogvar = (exp(logvar) - 1) / 2
  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static Gradients<T, 2> gradients(T g, T mu, T logvar) {
    return {{g * mu, g * half_expm1<kRange>(logvar)}};
  }
};

// KL(N(mu, exp(logvar)) || N(prior_mu, exp(prior_logvar))), the general form of (4.0):
// (s^2 + exp(d) - 1 - d) / 2, d = logvar - prior_logvar, s = (mu - prior_mu) / sigma_prior
struct GaussianKL {  // mu, logvar, prior_mu, prior_logvar
  static constexpr int kInputs = 4, kRequired = 2, kNumbers = 0, kTarget = -1;
  static constexpr int kExponents[] = {1, 3};
  using Standard = StandardGaussianKL;

  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static T value(T mu, T logvar, T prior_mu, T prior_logvar) {
    const T s = mul_exp<kRange>(mu - prior_mu, T(-0.5) * prior_logvar);
    return (T(0.5) * s) * s + half_expm1_minus_x<kRange>(logvar - prior_logvar);
  }

  // d/dmu = (mu - prior_mu) exp(-prior_logvar) = -d/dprior_mu, d/dlogvar = (exp(d) - 1) / 2,
  // d/dprior_logvar = -(exp(d) - 1 + s^2) / 2
  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static Gradients<T, 4> gradients(T g, T mu, T logvar, T prior_mu, T prior_logvar) {
    const T half = T(-0.5) * prior_logvar;
    const T s = mul_exp<kRange>(mu - prior_mu, half);
    const T by_mu = g * mul_exp<kRange>(s, half),
            growth = half_expm1<kRange>(logvar - prior_logvar);
    return {{by_mu, g * growth, -by_mu, -g * ((T(0.5) * s) * s + growth)}};
  }
};

VAE_EXT_NAMESPACE_END
