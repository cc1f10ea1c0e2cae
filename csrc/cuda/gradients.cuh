// The gradients of an op's inputs, in one pass over the elements, alone or with sums.
#pragma once

#include "reduce.cuh"

namespace vae_ext {

// An input of an op and whether its gradient is wanted; where it goes, if not to a new tensor.
struct WantedGradient {
  const Tensor* input;  // absent: nullptr
  bool wanted;
  const Tensor* out = nullptr;  // of the full shape

  WantedGradient(const Tensor& t, bool w, const Tensor* o = nullptr)
      : input(&t), wanted(w), out(o) {}
  WantedGradient(const std::optional<Tensor>& t, bool w) : input(t ? &*t : nullptr), wanted(w) {}

  explicit operator bool() const { return input != nullptr && wanted; }
};

// Where a body's sums over all elements go, and what each is multiplied by.
template <size_t kSums>
struct Totals {
  std::array<Tensor, kSums> out;
  std::array<double, kSums> scale;
};

// fill(body, width) gives a Body its inputs. Its outputs are sums, which go to `totals`, and then
// the gradients, each in its input's shape, layout and dtype. The gradient of an input that was
// broadcast is summed after the pass. What is not wanted is empty.
template <class Body, size_t N, class Fill>
std::array<Tensor, N> gradients(const Launcher& launcher, const EventPlan& plan, bool wide,
                                const Tensor& lead, const std::array<WantedGradient, N>& of,
                                Fill fill, const Totals<Body::kSums>& totals = {}) {
  constexpr int kSums = Body::kSums;
  const auto allocate = [&](const WantedGradient& g) {
    if (g.out != nullptr) return *g.out;
    const Tensor& like = g.input ? *g.input : lead;
    const ScalarType dtype = like.scalar_type();
    if (!g) return empty({0}, dtype, like);
    const bool broadcast = shape_of(like) != plan.shape;
    return broadcast ? empty(plan.shape, arithmetic_type(dtype), like) : empty_like(like, dtype);
  };
  std::array<Tensor, N> out;
  bool any = false;
  for (size_t i = 0; i < N; ++i) {
    out[i] = allocate(of[i]);
    any = any || of[i];
  }
  const auto make = [&](int width) {
    Body body;
    fill(body, width);
    for (size_t i = 0; i < N; ++i) {
      if (of[i]) body.set(kSums + static_cast<int>(i), Operand(out[i], plan.shape, width));
    }
    return body;
  };
  if constexpr (kSums > 0) {
    sums<false>(launcher, 1, plan.numel, lead.scalar_type(), wide, totals.out, totals.scale, make);
  } else if (any) {
    each(launcher, plan.numel, lead.scalar_type(), wide, make);
  }
  for (size_t i = 0; i < N; ++i) {
    if (of[i] && shape_of(*of[i].input) != plan.shape) out[i] = sum_to(out[i], *of[i].input);
  }
  return out;
}

}  // namespace vae_ext
