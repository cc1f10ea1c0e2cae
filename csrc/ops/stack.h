// The dispatcher's stack: an op's arguments are taken from it in the order of its schema, and its
// results given back. What several ops have in common is read in one place.
#pragma once

#include <torch/csrc/stable/library.h>

#include "arguments.h"

namespace vae_ext {

// The arguments of `latent`: those of a latent, and whether both its parameters came in one tensor,
// as halves along `dim`.
struct LatentOp {
  LatentArguments arguments;
  bool packed;
  int64_t dim;

  // compute(mask[, outs]) gives the gradients of mu and logvar. Those of a packed tensor are one
  // tensor, too, and the second is empty.
  template <class Compute>
  std::array<MaybeTensor, 2> gradients(OutputMask mask, Compute compute) const {
    if (!packed) return compute(mask);
    const Tensor& mu = arguments.mu;
    const auto both =
        side_by_side(mu, dim, [&](const Tensor* pair) { compute(OutputMask(3), pair); });
    return {both, empty({0}, mu.scalar_type(), mu)};
  }
};

class Stack {
 public:
  explicit Stack(StableIValue* values) : values_(values) {}

  template <class T>
  T take() {
    return torch::stable::detail::to<T>(values_[next_++]);
  }

  int64_t take_int() { return take<int64_t>(); }

  // Tensors, the weights, then the numbers that stand for absent ones, and the form of them all.
  template <class Formula>
  FormulaInputs take_inputs() {
    static_assert(Formula::kInputs <= kMaxInputs);
    FormulaInputs in{Formula::kInputs, {}};
    for (int i = 0; i < Formula::kRequired; ++i) in.tensor[i] = take<Tensor>();
    for (int i = Formula::kRequired; i < in.count; ++i) in.tensor[i] = take<MaybeTensor>();
    in.weights = take<MaybeTensor>();
    for (int i = 0; i < Formula::kNumbers; ++i) in.number[Formula::kRequired + i] = take<double>();
    if constexpr (requires { Formula::kForms; }) {
      in.form = take_int();
      STD_TORCH_CHECK(0 <= in.form && in.form < Formula::kForms, "vae_ext: unknown form");
    }
    if constexpr (requires { typename Formula::Standard; }) {
      bool standard = true;
      for (int i = Formula::kRequired; i < in.count; ++i) standard = standard && !in.has(i);
      if (standard) in.count = Formula::Standard::kInputs;
    }
    return in;
  }

  ResultSpec take_result_spec(const FormulaInputs& in) { return in.result_spec(take_reduction()); }

  ReductionArguments take_reduction() {
    const auto count = take<std::optional<int64_t>>();
    const int64_t event_dims = take_int(), reduction = take_int();
    return {event_dims, reduction, count};
  }

  NoiseArguments take_noise() {
    NoiseArguments noise{take<MaybeTensor>(), take<MaybeTensor>()};
    noise.seed_value = take_int();
    noise.stream = take_int();
    noise.places = take<std::optional<PlaceList>>();
    noise.n_samples = take_int();
    noise.check();
    return noise;
  }

  Bounds take_bounds() {
    Bounds bounds{take_int()};
    bounds.low = take<double>();
    bounds.high = take<double>();
    return bounds;
  }

  LatentArguments take_latent_with_kl() {
    auto mu = take<Tensor>(), logvar = take<Tensor>();
    NoiseArguments noise = take_noise();
    return LatentArguments(std::move(mu), std::move(logvar), std::move(noise), 0, {},
                           take_reduction());
  }

  LatentOp take_latent() {
    const auto first = take<Tensor>();
    const auto second = take<MaybeTensor>();
    NoiseArguments noise = take_noise();
    const int64_t form = take_int();
    const Bounds bounds = take_bounds();
    const ReductionArguments of_kl = take_reduction();
    const int64_t dim = take_int();
    auto [mu, scale] = parameters(first, second, dim);
    return {LatentArguments(std::move(mu), std::move(scale), std::move(noise), form, bounds, of_kl),
            !second, dim};
  }

  DrawArguments take_draw() {
    auto mu = take<Tensor>(), logvar = take<Tensor>();
    NoiseArguments noise = take_noise();
    const int64_t event_dims = take_int(), gradient = take_int();
    return DrawArguments(std::move(mu), std::move(logvar), std::move(noise), event_dims, gradient);
  }

  void give(int i, const Tensor& result) { values_[i] = torch::stable::detail::from(result); }

  // Gradients of a formula's inputs, from result `first` on; those of absent ones are empty.
  template <class Found>
  void give_gradients(int first, const Found& found, const FormulaInputs& in, int count) {
    for (int i = 0; i < count; ++i) {
      give(first + i, found[i] ? *found[i] : empty({0}, in.lead().scalar_type(), in.lead()));
    }
  }

  // The gradients of mu and logvar.
  void give_pair(const std::array<MaybeTensor, 2>& found) {
    give(0, *found[0]);
    give(1, *found[1]);
  }

 private:
  StableIValue* values_;
  int next_ = 0;
};

// What the dispatcher calls.
template <void (*kKernel)(Stack&)>
void boxed(StableIValue* values, uint64_t, uint64_t) {
  Stack stack(values);
  kKernel(stack);
}

}  // namespace vae_ext

// An op whose kernel each device's file has under its name with _op.
#define VAE_EXT_IMPL(m, name) m.impl(#name, &vae_ext::boxed<vae_ext::name##_op>);
// The three ops of a formula, by what each device's file has for it: forward<T>, backward<T> and
// with_gradients<T>.
#define VAE_EXT_REGISTER_FORMULA(m, name, ...)                                         \
  m.impl(#name, &vae_ext::boxed<vae_ext::forward<vae_ext::__VA_ARGS__>>);              \
  m.impl(#name "_backward", &vae_ext::boxed<vae_ext::backward<vae_ext::__VA_ARGS__>>); \
  m.impl(#name "_with_gradients", &vae_ext::boxed<vae_ext::with_gradients<vae_ext::__VA_ARGS__>>);
#define VAE_EXT_REGISTER_LATENT(m)                 \
  VAE_EXT_IMPL(m, reparameterize)                  \
  VAE_EXT_IMPL(m, reparameterize_backward)         \
  VAE_EXT_IMPL(m, reparameterize_with_kl)          \
  VAE_EXT_IMPL(m, reparameterize_with_kl_backward) \
  VAE_EXT_IMPL(m, latent)                          \
  VAE_EXT_IMPL(m, latent_backward)                 \
  VAE_EXT_IMPL(m, reparameterize_dnoise)
#define VAE_EXT_REGISTER_DRAW(m)             \
  VAE_EXT_IMPL(m, sample_with_log_densities) \
  VAE_EXT_IMPL(m, sample_with_log_densities_backward)
#define VAE_EXT_REGISTER_MIXTURE(m)    \
  VAE_EXT_IMPL(m, mixture_log_density) \
  VAE_EXT_IMPL(m, mixture_log_density_backward)
