// KL divergences. See formula.h.
#pragma once

#include "formula.h"
#include "scale.h"

VAE_EXT_NAMESPACE_BEGIN

// (r^2 - 1 - log r^2) / 2 >= 0 and its derivative by log r^2, (r^2 - 1) / 2, of a ratio of standard
// deviations r: what that adds to a Gaussian KL. From u = r - 1, which near 1 is exact: nothing
// cancels.
template <class T>
VAE_EXT_INLINE T kl_of_ratio(T r, T u) {
  const T log_r = log_far(r);
  // Of an infinite ratio the rest must not be infinite, too.
  const T rest = log1p_minus_x(u, log_r > T(1000) ? T(1000) : log_r);
  return (T(0.5) * u) * u - rest;
}
template <class T>
VAE_EXT_INLINE T kl_of_ratio_dlog(T r, T u) {
  return (T(0.5) * u) * (T(1) + r);
}

// KL(N(mu, sigma^2) || N(0, 1)), (4.5): (mu^2 + exp(logvar) - 1 - logvar) / 2
struct StandardGaussianKL {  // mu, scale
  static constexpr int kInputs = 2, kRequired = 2, kNumbers = 0, kTarget = -1;
  static constexpr int kForms = ScaleForm::kCount;
  static constexpr int kExponents[] = {1};

  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static T value(int form, T mu, T scale) {
    // Both halves are >= 0, so nothing cancels and the sum cannot be negative.
    const T square = (T(0.5) * mu) * mu;
    if (form == ScaleForm::kStd) return square + kl_of_ratio(scale, scale - T(1));
    return square + half_expm1_minus_x<kRange>(logvar_of(form, scale));
  }

  // d/dmu = mu, d/dlogvar = (exp(logvar) - 1) / 2
  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static Gradients<T, 2> gradients(int form, T g, T mu, T scale) {
    const T growth = form == ScaleForm::kStd ? kl_of_ratio_dlog(scale, scale - T(1))
                                             : half_expm1<kRange>(logvar_of(form, scale));
    return {{g * mu, g * by_scale(form, growth, scale)}};
  }
};

// KL(N(mu, sigma^2) || N(prior_mu, prior_sigma^2)), the general form of (4.0):
// (s^2 + exp(d) - 1 - d) / 2, d = logvar - prior_logvar, s = (mu - prior_mu) / prior_sigma
struct GaussianKL {  // mu, scale, prior_mu, prior_scale
  static constexpr int kInputs = 4, kRequired = 2, kNumbers = 0, kTarget = -1;
  static constexpr int kForms = ScaleForm::kCount;
  static constexpr int kExponents[] = {1, 3};
  using Standard = StandardGaussianKL;

  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static T value(int form, T mu, T scale, T prior_mu, T prior_scale) {
    const T s = over_sigma<kRange>(form, mu - prior_mu, prior_scale);
    const T square = (T(0.5) * s) * s;
    if (form == ScaleForm::kStd) {
      return square + kl_of_ratio(scale / prior_scale, (scale - prior_scale) / prior_scale);
    }
    const T d = logvar_of(form, scale - prior_scale);
    // Twice the difference of two bounded logarithms has no bound.
    return square +
           (form == ScaleForm::kLogStd ? half_expm1_minus_x(d) : half_expm1_minus_x<kRange>(d));
  }

  // d/dmu = (mu - prior_mu) / prior_sigma^2 = -d/dprior_mu, d/dlogvar = (exp(d) - 1) / 2,
  // d/dprior_logvar = -(exp(d) - 1 + s^2) / 2
  template <ExpRange kRange, class T>
  VAE_EXT_INLINE static Gradients<T, 4> gradients(int form, T g, T mu, T scale, T prior_mu,
                                                  T prior_scale) {
    const T s = over_sigma<kRange>(form, mu - prior_mu, prior_scale);
    const T by_mu = g * over_sigma<kRange>(form, s, prior_scale);
    const T d = logvar_of(form == ScaleForm::kStd ? ScaleForm::kLogvar : form, scale - prior_scale);
    const T growth = form == ScaleForm::kStd
                         ? kl_of_ratio_dlog(scale / prior_scale, d / prior_scale)
                     : form == ScaleForm::kLogStd ? half_expm1(d)
                                                  : half_expm1<kRange>(d);
    return {{by_mu, g * by_scale(form, growth, scale), -by_mu,
             -g * by_scale(form, (T(0.5) * s) * s + growth, prior_scale)}};
  }
};

VAE_EXT_NAMESPACE_END
