// Log-likelihoods of counts that are mixtures: each the logarithm of a sum of two probabilities,
// which counts.h has as logarithms. See formula.h.
#pragma once

#include "counts.h"

VAE_EXT_NAMESPACE_BEGIN

// log(sigmoid(l) exp(a) + sigmoid(-l) exp(b)) of two log-probabilities.
template <class T>
VAE_EXT_INLINE T log_mixture(T l, T a, T b) {
  const Sigmoids<T> weight(l);
  // Near 0 by what is missing to 1, a sum of terms of one sign; elsewhere from the larger term.
  const T missing = weight.of * expm1_nonpositive(a) + weight.of_minus * expm1_nonpositive(b);
  // NaN is neither.
  const T first = a + (l > T(0) ? T(0) : l), second = b - (l < T(0) ? T(0) : l);
  const T most = first > second ? first : second, least = first > second ? second : first;
  const T other = (exp_nonpositive(least - most) - weight.e) * weight.most;
  const bool near = a > T(-1) && b > T(-1);
  const T sum = (near ? T(0) : most) + log1p_of(near ? missing : other);
  return most == T(-INFINITY) ? most + least : sum;
}

// Its derivatives: how likely each part was, and by l.
template <class T>
struct MixtureGradients {
  T by_a, by_b, by_l;

  VAE_EXT_INLINE MixtureGradients(T l, T a, T b) {
    const Sigmoids<T> part((a - b) + l), weight(l);
    by_a = part.of;
    by_b = part.of_minus;
    const bool first = a > b;
    const T difference = expm1_nonpositive(-fabs(a - b));
    by_l = first ? -by_a * weight.of_minus * difference : by_b * weight.of * difference;
  }
};

// 0 with probability sigmoid(zero_logits), and a negative binomial otherwise.
struct ZeroInflatedNegativeBinomial : OfCounts {  // the same inputs and zero_logits
  static constexpr int kInputs = 4, kRequired = 2, kNumbers = 2, kForms = 3;

  template <class T>
  VAE_EXT_INLINE static T value_at_zero(int form, T mean, T, T dispersion, T zero_logits) {
    return log_mixture(zero_logits, T(0), CountLaw<T>(form, mean, dispersion).at_zero().value);
  }
  template <class T>
  VAE_EXT_INLINE static T value_above_zero(int form, bool whole, T mean, T x, T dispersion,
                                           T zero_logits) {
    const T positive = zero_logits > T(0) ? zero_logits : T(0);
    const T not_inflated = positive + log1p_unit(exp_nonpositive(-fabs(zero_logits)));
    return NegativeBinomial::value_above_zero(form, whole, mean, x, dispersion) - not_inflated;
  }

  template <class T>
  VAE_EXT_INLINE static Gradients<T, 4> gradients_at_zero(int form, T g, T mean, T, T dispersion,
                                                          T zero_logits) {
    const CountLaw<T> law(form, mean, dispersion);
    const auto by = law.at_zero();
    const MixtureGradients<T> part(zero_logits, T(0), by.value);
    return {{g * (part.by_b * by.by_mean), T(0), g * law.by_second(part.by_b * by.by_theta),
             g * part.by_l}};
  }
  template <class T>
  VAE_EXT_INLINE static Gradients<T, 4> gradients_above_zero(int form, bool whole, T g, T mean, T x,
                                                             T dispersion, T zero_logits) {
    const auto by = NegativeBinomial::gradients_above_zero(form, whole, g, mean, x, dispersion);
    return {{by.by[0], T(0), by.by[2], -g * Sigmoids<T>(zero_logits).of}};
  }
};

// Two negative binomials of one dispersion: the first with probability sigmoid(mixture_logits).
struct NegativeBinomialMixture : OfCounts {  // mean1, count, mean2, dispersion | its log, logits
  static constexpr int kInputs = 5, kRequired = 2, kNumbers = 3, kForms = 2;

  template <class T>
  VAE_EXT_INLINE static T value_at_zero(int form, T mean1, T, T mean2, T dispersion, T logits) {
    return log_mixture(logits, CountLaw<T>(form, mean1, dispersion).at_zero().value,
                       CountLaw<T>(form, mean2, dispersion).at_zero().value);
  }
  template <class T>
  VAE_EXT_INLINE static T value_above_zero(int form, bool whole, T mean1, T x, T mean2,
                                           T dispersion, T logits) {
    const CountLaw<T> first(form, mean1, dispersion), second(form, mean2, dispersion);
    const T height = first.height(whole, x);
    return log_mixture(logits, first.deviance(x) + height, second.deviance(x) + height);
  }

  template <class T>
  VAE_EXT_INLINE static Gradients<T, 5> gradients_at_zero(int form, T g, T mean1, T, T mean2,
                                                          T dispersion, T logits) {
    const CountLaw<T> first(form, mean1, dispersion), second(form, mean2, dispersion);
    const auto a = first.at_zero(), b = second.at_zero();
    const MixtureGradients<T> part(logits, a.value, b.value);
    const T by_theta = part.by_a * a.by_theta + part.by_b * b.by_theta;
    return {{g * (part.by_a * a.by_mean), T(0), g * (part.by_b * b.by_mean),
             g * first.by_second(by_theta), g * part.by_l}};
  }
  template <class T>
  VAE_EXT_INLINE static Gradients<T, 5> gradients_above_zero(int form, bool whole, T g, T mean1,
                                                             T x, T mean2, T dispersion, T logits) {
    const CountLaw<T> first(form, mean1, dispersion), second(form, mean2, dispersion);
    const auto a = first.slopes(whole, x), b = second.slopes(whole, x);
    const MixtureGradients<T> part(logits, first.deviance(x), second.deviance(x));
    const T by_theta = part.by_a * a.by_theta + part.by_b * b.by_theta;
    return {{g * (part.by_a * a.by_mean), T(0), g * (part.by_b * b.by_mean),
             g * first.by_second(by_theta), g * part.by_l}};
  }
};

VAE_EXT_NAMESPACE_END
