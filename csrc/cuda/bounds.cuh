// Bounds on logvar, a group at a time, and the form of the scale.
#pragma once

#include "../math/sampling.h"
#include "../ops/arguments.h"
#include "launch.cuh"

namespace vae_ext {

// In place.
template <class T, int kWidth>
VAE_EXT_DEVICE void bound(const Bounds& bounds, T (&x)[kWidth]) {
  if (bounds.kind == Bounds::kNone) return;
  const T low = static_cast<T>(bounds.low), high = static_cast<T>(bounds.high);
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    x[j] = bounds.kind == Bounds::kSoft ? soft_bound(x[j], low, high) : hard_bound(x[j], low, high);
  }
}

template <class T, int kWidth>
VAE_EXT_DEVICE void bound_gradient(const Bounds& bounds, const T (&x)[kWidth], T (&g)[kWidth]) {
  if (bounds.kind == Bounds::kNone) return;
  const T low = static_cast<T>(bounds.low), high = static_cast<T>(bounds.high);
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    g[j] = bounds.kind == Bounds::kSoft ? soft_bound_dx(g[j], x[j], low, high)
                                        : hard_bound_dx(g[j], x[j], low, high);
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
