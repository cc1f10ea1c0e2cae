// The probability that a logistic density gives to one of the bins that [-1, 1] is cut into, the
// first and the last of which are open to the outside: a product of sigmoids. With c = target -
// mean, a and b = (c +- half a bin) / scale and delta = a - b it is sigmoid(a) sigmoid(-b)
// (1 - exp(-delta)).
#pragma once

#include "log_sum.h"

VAE_EXT_NAMESPACE_BEGIN

template <class T>
struct Bins {
  T middle;     // number of the bin around 0, or between the two beside it
  T half;       // of a bin's width
  T log_width;  // and the rest of that, which T does not hold
  T log_width_rest;
  T edge;   // what is beyond it lies in the first bin or the last
  T least;  // of log_scale

  Bins(double levels, double min_log_scale) {
    const double h = 1. / (levels - 1.), log_of_width = ::log(2. * h);
    middle = static_cast<T>(0.5 * (levels - 1.));
    half = static_cast<T>(h);
    log_width = static_cast<T>(log_of_width);
    log_width_rest = static_cast<T>(log_of_width - static_cast<double>(log_width));
    edge = static_cast<T>(1. - 0.25 * h);
    least = static_cast<T>(min_log_scale);
  }
};

// tanh(x), relative to the value, and its derivative 1 - tanh^2, of one exponential.
template <class T>
struct Tanh {
  T value, slope;

  VAE_EXT_INLINE explicit Tanh(T x) {
    const T e = expm1_nonpositive(T(-2) * fabs(x)), inverse = T(1) / (T(2) + e);
    value = (x < T(0) ? e : -e) * inverse;
    slope = T(4) * (T(1) + e) * (inverse * inverse);
  }
};

// 1 - (1 - exp(-x)) / x for 0 <= x < log 2, by its series.
VAE_EXT_INLINE float mean_decay_deficit(float x) {
  const float c[] = {1.f / 2,   -1.f / 6,    1.f / 24,    -1.f / 120,
                     1.f / 720, -1.f / 5040, 1.f / 40320, -1.f / 362880};
  return x * polynomial(c, x);
}
VAE_EXT_INLINE double mean_decay_deficit(double x) {
  double sum = 0;
  VAE_EXT_UNROLL
  for (int k = 18; k >= 2; --k) sum = (1. - x * sum) / k;
  return x * sum;
}

// What a bin is to one target. The first and the last have one side at infinity. Where delta is
// small its factor is delta (1 - exp(-delta)) / delta, the first of which is a logarithm already.
template <class T>
struct LogisticBin {
  T inverse, a, b, delta;
  T below, above;  // sigmoid(-|a|) and sigmoid(-|b|)
  T inside;        // 1 less the factor: exp(-delta), or 1 - (1 - exp(-delta)) / delta
  T log_scale;
  bool thin, cut;

  VAE_EXT_INLINE LogisticBin(T target, T mean, T scale, const Bins<T>& bins) {
    const T infinite = T(1000);  // in whose sigmoid nothing is left
    cut = scale < bins.least;
    log_scale = cut ? bins.least : scale;
    // A scale beyond is as good as infinite.
    const T most = T(kBoundedExponent);
    inverse = mul_exp<ExpRange::kBounded>(T(1), -(log_scale > most ? most : log_scale));
    const T c = target - mean, half = bins.half * inverse;
    a = target > bins.edge ? infinite : multiply_add(c, inverse, half);
    b = target < -bins.edge ? -infinite : multiply_add(c, inverse, -half);
    delta = fabs(target) > bins.edge ? infinite : T(2) * half;
    thin = delta < T(0.6875);
    const T ea = exp_beside_one(-fabs(a)), eb = exp_beside_one(-fabs(b));
    const T far = exp_beside_one(-delta);
    below = ea / (T(1) + ea);
    above = eb / (T(1) + eb);
    inside = thin ? mean_decay_deficit(thin ? delta : T(0)) : far;
  }

  VAE_EXT_INLINE T sigmoid_minus_a() const { return a > T(0) ? below : T(1) - below; }
  VAE_EXT_INLINE T sigmoid_b() const { return b > T(0) ? T(1) - above : above; }

  VAE_EXT_INLINE T by_mean() const { return inverse * (sigmoid_b() - sigmoid_minus_a()); }

  // -a sigmoid(-a) + b sigmoid(b) - delta / (exp(delta) - 1)
  VAE_EXT_INLINE T by_log_scale() const {
    const T factor = T(1) - inside;
    const T width = (thin ? T(1) - delta * factor : delta * inside) / factor;
    return cut ? T(0) : (b * sigmoid_b() - a * sigmoid_minus_a()) - width;
  }
};

// The logarithm of a product of them: what is linear in the parameters, and the factors, all
// between 0.2 and 1, as 1 - deficit and as they are. The deficit is exact where the product is
// nearly 1, and the product where it is not.
template <class T>
struct LogProduct {
  T linear, deficit, product;

  VAE_EXT_INLINE LogProduct times(T factor_deficit) const {
    const T factor = T(1) - factor_deficit;
    return {linear, multiply_add(factor_deficit, T(1) - deficit, deficit), product * factor};
  }

  VAE_EXT_INLINE LogProduct with(const LogisticBin<T>& bin, const Bins<T>& bins) const {
    const T minus_a = bin.a > T(0) ? T(0) : bin.a, minus_b = bin.b < T(0) ? T(0) : -bin.b;
    const T width = (bins.log_width - bin.log_scale) + bins.log_width_rest;
    LogProduct all = times(bin.below).times(bin.above).times(bin.inside);
    all.linear += (minus_a + minus_b) + (bin.thin ? width : T(0));
    return all;
  }

  VAE_EXT_INLINE T log() const {
    const bool near = deficit < T(0.5);
    const T whole = near ? T(1) - deficit : product;
    const T lost = near ? (T(1) - whole) - deficit : T(0);
    return linear + (log_of_normal(whole) + lost / whole);
  }
};

VAE_EXT_NAMESPACE_END
