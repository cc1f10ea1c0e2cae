// Bounds on logvar, a group at a time, and the form of the scale.
#pragma once

#include "../math/sampling.h"
#include "../ops/arguments.h"
#include "launch.cuh"

namespace vae_ext {

// The bounds as kernels take them: what the host can work out they need not.
struct KernelBounds {
  bool any = false, soft = false;
  Range<float> of_float;
  Range<double> of_double;

  KernelBounds() = default;
  KernelBounds(const Bounds& from)  // NOLINT: the same bounds
      : any(static_cast<bool>(from)),
        soft(from.soft()),
        of_float(static_cast<float>(from.low), static_cast<float>(from.high)),
        of_double(from.low, from.high) {}

  template <class T>
  VAE_EXT_DEVICE const Range<T>& range() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return of_float;
    } else {
      return of_double;
    }
  }
};

// In place.
template <class T, int kWidth>
VAE_EXT_DEVICE void bound(const KernelBounds& bounds, T (&x)[kWidth]) {
  if (!bounds.any) return;
  const Range<T>& in = bounds.range<T>();
  if (bounds.soft) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = soft_bound(x[j], in);
  } else {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[j] = hard_bound(x[j], in);
  }
}

template <class T, int kWidth>
VAE_EXT_DEVICE void bound_gradient(const KernelBounds& bounds, const T (&x)[kWidth],
                                   T (&g)[kWidth]) {
  if (!bounds.any) return;
  const Range<T>& in = bounds.range<T>();
  if (bounds.soft) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) g[j] = soft_bound_dx(g[j], x[j], in);
  } else {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) g[j] = hard_bound_dx(g[j], x[j], in);
  }
}

// run(form), of which the compiler knows where it is logvar: the others cost the usual one nothing.
struct LogvarForm {
  VAE_EXT_INLINE constexpr operator int() const { return ScaleForm::kLogvar; }
};
template <class Run>
VAE_EXT_DEVICE void with_form(int form, Run run) {
  if (form == ScaleForm::kLogvar) {
    run(LogvarForm());
  } else {
    run(form);
  }
}

}  // namespace vae_ext
