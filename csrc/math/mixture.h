// A component of a mixture of diagonal Gaussians.
#pragma once

#include "formula.h"
#include "log_sum.h"

VAE_EXT_NAMESPACE_BEGIN

// exp(-logvar / 2), finite: at a logvar below -177 in float.
template <class T>
VAE_EXT_INLINE T inverse_scale(T logvar) {
  constexpr T kMost = sizeof(T) == sizeof(float) ? T(0x1.fffffep+127) : T(0x1.fffffffffffffp+1023);
  const T e = mul_exp<ExpRange::kFull>(T(1), T(-0.5) * logvar);
  return e > kMost ? kMost : e;
}

// What a component has of the whole, by their logarithms. Rounding may have made it the larger.
template <class T>
VAE_EXT_INLINE T share_of(double term, double log_sum) {
  const T gap = static_cast<T>(term - log_sum);
  return exp_beside_one(gap > T(0) ? T(0) : gap);
}

VAE_EXT_NAMESPACE_END
