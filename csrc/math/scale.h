// The scale of a Gaussian, in each of the forms that it is given in.
#pragma once

#include "special.h"

VAE_EXT_NAMESPACE_BEGIN

struct ScaleForm {
  static constexpr int kLogvar = 0, kLogStd = 1, kStd = 2, kCount = 3;
};

template <class T>
constexpr T kSmallestNormal = T(0x1p-1022);
template <>
inline constexpr float kSmallestNormal<float> = 0x1p-126f;

// sigma and 1 / sigma times a, finite wherever the product is. 0 over a sigma of 0 is 0.
template <ExpRange kRange, class T>
VAE_EXT_INLINE T times_sigma(int form, T a, T scale) {
  if (form == ScaleForm::kStd) return a * scale;
  return mul_exp<kRange>(a, form == ScaleForm::kLogStd ? scale : T(0.5) * scale);
}
template <ExpRange kRange, class T>
VAE_EXT_INLINE T over_sigma(int form, T a, T scale) {
  if (form == ScaleForm::kStd) {
    return a / (scale < kSmallestNormal<T> ? kSmallestNormal<T> : scale);
  }
  return mul_exp<kRange>(a, form == ScaleForm::kLogStd ? -scale : T(-0.5) * scale);
}

// The logarithm of the variance.
template <class T>
VAE_EXT_INLINE T logvar_of(int form, T scale) {
  if (form == ScaleForm::kStd) return T(2) * log_far(scale);
  return form == ScaleForm::kLogStd ? T(2) * scale : scale;
}

// A derivative by logvar, as one by the scale: times 1, 2, or 2 / sigma.
template <class T>
VAE_EXT_INLINE T by_scale(int form, T by_logvar, T scale) {
  if (form == ScaleForm::kStd) return T(2) * by_logvar / scale;
  return form == ScaleForm::kLogStd ? T(2) * by_logvar : by_logvar;
}

VAE_EXT_NAMESPACE_END
