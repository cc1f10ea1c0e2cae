// Reparameterized sampling, alone and with the KL divergence to N(0, I) in the same pass. The
// noise is drawn again in the backward pass: it is never in memory. Words moved per element:
// forward 2 read and 1 written, with or without the KL; backward 2 read (3 with the KL) and 1
// written (2 with the KL).
#include <torch/csrc/stable/library.h>

#include "../formulas.h"
#include "bounds.cuh"
#include "gaussian_kl.cuh"
#include "gradients.cuh"
#include "samples.cuh"

namespace vae_ext {
namespace {

// ---- Forward -----------------------------------------------------------------------------------

// z, and the KL's terms where they are summed.
template <int kSums_>
struct Sampling {
  static constexpr int kSums = kSums_;
  static constexpr bool kHeavy = false;
  Operand mu, logvar, z;
  Bounds bounds;
  NoiseSource noise;

  template <class F>
  void each_operand(F f) const {
    f(mu), f(logvar), f(z);
    if (noise.is_given) f(noise.given);
  }

  template <class V, class Terms>
  VAE_EXT_DEVICE void run(const Span& span, Terms& terms) const {
    using T = typename V::T;
    const Bits mu_bits = fetch<V>(mu, span), logvar_bits = fetch<V>(logvar, span);
    T m[V::kWidth], lv[V::kWidth], eps[V::kWidth], out[V::kWidth];
    if (noise.is_given) {
      values<V>(noise.given, fetch<V>(noise.given, span), span, eps);
    } else {
      noise.draw<V>(span.start, eps);
    }
    values<V>(mu, mu_bits, span, m);
    values<V>(logvar, logvar_bits, span, lv);
    bound(bounds, lv);
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) {
      const auto both = reparameterize_with_kl(m[j], lv[j], eps[j]);
      out[j] = both.z;
      if constexpr (kSums > 0) terms[0][j] = both.kl;
    }
    store<V>(z, span, out);
  }
};

template <int kSums>
Sampling<kSums> sampling(const Tensor& z, const Tensor& mu, const Tensor& logvar,
                         const Bounds& bounds, const MaybeTensor& noise, NoiseSource source,
                         int width) {
  const Shape shape = shape_of(z);
  Sampling<kSums> body;
  body.mu = Operand(mu, shape, width);
  body.logvar = Operand(logvar, shape, width);
  body.z = Operand(z, shape, width);
  body.bounds = bounds;
  body.noise = source;
  if (noise) body.noise.given = Operand(*noise, shape, width);
  return body;
}

Tensor sample(const Tensor& mu, const Tensor& logvar, const Bounds& bounds,
              const MaybeTensor& noise, const MaybeTensor& seed, int64_t seed_value, int64_t stream,
              int64_t n_samples) {
  const ScalarType dtype = sample_type(mu, logvar);
  Tensor z = empty_result(sample_shape(shape_of(mu), n_samples), dtype, mu);
  const NoiseSource source = noise_source(noise, seed, seed_value, stream);
  const Launcher launcher(mu);
  each(launcher, z.numel(), mu.scalar_type(), dtype == ScalarType::Double,
       [&](int width) { return sampling<0>(z, mu, logvar, bounds, noise, source, width); });
  return z;
}

std::tuple<Tensor, Tensor> sample_kl(const Tensor& mu, const Tensor& logvar, const Bounds& bounds,
                                     const MaybeTensor& noise, const MaybeTensor& seed,
                                     int64_t seed_value, int64_t stream, int64_t n_samples,
                                     const EventPlan& plan) {
  const ScalarType dtype = sample_type(mu, logvar);
  const Launcher launcher(mu);
  const bool summed = plan.scalar() || (plan.reduction == Reduction::kEvent && plan.event_size > 1);
  if (n_samples > 0 || !summed) {  // two passes: their elements differ, or both are stored
    return {sample(mu, logvar, bounds, noise, seed, seed_value, stream, n_samples),
            kl_to_standard(launcher, plan, dtype, mu, logvar, bounds)};
  }
  Tensor z = empty_result(plan.shape, dtype, mu);
  Tensor kl = plan.allocate(dtype, mu);
  const NoiseSource source = noise_source(noise, seed, seed_value, stream);
  const bool all = plan.scalar();
  sums<true, 1>(
      launcher, all ? 1 : plan.n_events, all ? plan.numel : plan.event_size, mu.scalar_type(),
      dtype == ScalarType::Double, {kl}, {plan.scale()},
      [&](int width) { return sampling<1>(z, mu, logvar, bounds, noise, source, width); });
  return {z, kl};
}

Tensor reparameterize_op(const Tensor& mu, const Tensor& logvar, const MaybeTensor& noise,
                         const MaybeTensor& seed, int64_t seed_value, int64_t stream,
                         int64_t n_samples) {
  return sample(mu, logvar, {}, noise, seed, seed_value, stream, n_samples);
}

std::tuple<Tensor, Tensor> reparameterize_with_kl_op(const Tensor& mu, const Tensor& logvar,
                                                     const MaybeTensor& noise,
                                                     const MaybeTensor& seed, int64_t seed_value,
                                                     int64_t stream, int64_t n_samples,
                                                     int64_t event_dims, int64_t reduction) {
  return sample_kl(mu, logvar, {}, noise, seed, seed_value, stream, n_samples,
                   EventPlan(shape_of(mu), event_dims, reduction));
}

// outputs: bit 0 for z, bit 1 for the KL; the other is empty.
std::tuple<Tensor, Tensor> latent(const Tensor& mu_or_both, const MaybeTensor& maybe_logvar,
                                  const MaybeTensor& noise, const MaybeTensor& seed,
                                  int64_t seed_value, int64_t stream, int64_t n_samples,
                                  int64_t bounds_kind, double low, double high, int64_t event_dims,
                                  int64_t reduction, int64_t dim, int64_t outputs) {
  const auto [mu, logvar] = parameters(mu_or_both, maybe_logvar, dim);
  const EventPlan plan(shape_of(mu), event_dims, reduction);
  const Bounds bounds{bounds_kind, low, high};
  const Wanted wanted(outputs);
  const ScalarType dtype = sample_type(mu, logvar);
  if (wanted[0] && wanted[1]) {
    return sample_kl(mu, logvar, bounds, noise, seed, seed_value, stream, n_samples, plan);
  }
  if (wanted[0]) {
    return {sample(mu, logvar, bounds, noise, seed, seed_value, stream, n_samples),
            empty({0}, arithmetic_type(dtype), mu)};
  }
  return {empty({0}, dtype, mu), kl_to_standard(Launcher(mu), plan, dtype, mu, logvar, bounds)};
}

// ---- Backward ----------------------------------------------------------------------------------

// The gradients of mu and logvar: sums over the samples, plus the KL's part. One sample has a
// kernel of its own, which needs half the registers.
template <bool kMany>
struct SamplingBackward {
  static constexpr int kSums = 0;
  static constexpr bool kHeavy = kMany;
  Operand grad_z, grad_kl, mu, logvar;  // all in the shape of mu; grad_z of the first sample
  Operand out[2];                       // of mu and of logvar
  Bounds bounds;
  NoiseSource noise;
  bool has_z = false, has_kl = false;
  bool wanted[2] = {};
  int64_t samples = 1;
  int64_t numel = 0;         // of a sample, in the stream
  int64_t grad_z_shift = 0;  // from sample to sample, in elements
  int64_t noise_shift = 0;

  void set(int i, const Operand& to) {
    out[i] = to;
    wanted[i] = true;
  }

  template <class F>
  void each_operand(F f) const {
    for (const Operand* o : {&grad_z, &grad_kl, &mu, &logvar}) f(*o);
    if (noise.is_given) f(noise.given);
    for (int i = 0; i < 2; ++i) {
      if (wanted[i]) f(out[i]);
    }
  }

  template <class V, class Terms>
  VAE_EXT_DEVICE void run(const Span& span, Terms&) const {
    using T = typename V::T;
    const Bits z_bits = fetch<V>(grad_z, span), kl_bits = fetch<V>(grad_kl, span);
    const Bits mu_bits = fetch<V>(mu, span), logvar_bits = fetch<V>(logvar, span);
    T raw[V::kWidth], lv[V::kWidth], dmu[V::kWidth] = {}, dlogvar[V::kWidth] = {};
    values<V>(logvar, logvar_bits, span, raw);
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) lv[j] = raw[j];
    bound(bounds, lv);
    const auto add_sample = [&](const Bits& bits, int64_t s) {
      T gz[V::kWidth], e[V::kWidth] = {};
      if (wanted[1]) noise_of_sample<V, kMany>(noise, span, s, numel, noise_shift, e);
      values<V>(grad_z, bits, span, gz, s * grad_z_shift);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        dmu[j] += gz[j];
        dlogvar[j] += reparameterize_dlogvar(gz[j], lv[j], e[j]);
      }
    };
    if (has_z) {
      add_sample(z_bits, 0);
      if constexpr (kMany) {
#pragma unroll 1
        for (int64_t s = 1; s < samples; ++s) {
          add_sample(fetch<V>(grad_z, span, s * grad_z_shift), s);
        }
      }
    }
    if (has_kl) {
      T gk[V::kWidth], m[V::kWidth];
      values<V>(grad_kl, kl_bits, span, gk);
      values<V>(mu, mu_bits, span, m);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        dmu[j] += kl_standard_dmu(gk[j], m[j]);
        dlogvar[j] += kl_standard_dlogvar(gk[j], lv[j]);
      }
    }
    bound_gradient(bounds, raw, dlogvar);
    if (wanted[0]) store<V>(out[0], span, dmu);
    if (wanted[1]) store<V>(out[1], span, dlogvar);
  }
};

using Gradients = std::tuple<Tensor, Tensor>;

// At least one of grad_z and grad_kl is given. `mu` is the tensor that the gradient of mu is shaped
// like; without a KL its values are not read. `outs`: where the gradients go, if not to new
// tensors.
Gradients backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl, const EventPlan& plan,
                   const Tensor& mu, const Tensor& logvar, const Bounds& bounds,
                   const MaybeTensor& noise, const NoiseSource& source, int64_t n_samples,
                   Wanted wanted, const Tensor* outs = nullptr) {
  const Launcher launcher(mu);
  const bool wide = sample_type(mu, logvar) == ScalarType::Double;
  const auto run = [&]<bool kMany>() -> Gradients {
    const auto out = gradients<SamplingBackward<kMany>, 2>(
        launcher, plan, wide, mu,
        {WantedGradient(mu, wanted[0], outs),
         WantedGradient(logvar, wanted[1], outs == nullptr ? nullptr : outs + 1)},
        [&](SamplingBackward<kMany>& body, int width) {
          body.samples = std::max<int64_t>(1, n_samples);
          body.numel = plan.numel;
          body.has_z = grad_z.has_value();
          body.has_kl = grad_kl.has_value();
          if (grad_z) {
            body.grad_z = first_sample(*grad_z, plan.shape, n_samples, width, &body.grad_z_shift);
          }
          if (grad_kl) {
            body.grad_kl = Operand::gradient(*grad_kl, plan, width);
            body.mu = Operand(mu, plan.shape, width);
          }
          body.logvar = Operand(logvar, plan.shape, width);
          body.bounds = bounds;
          set_noise(body, source, noise, plan.shape, n_samples, width);
        });
    return {out[0], out[1]};
  };
  return n_samples > 1 ? run.template operator()<true>() : run.template operator()<false>();
}

Gradients reparameterize_backward(const Tensor& grad_z, const Tensor& logvar,
                                  const MaybeTensor& noise, const MaybeTensor& seed,
                                  int64_t seed_value, int64_t stream, int64_t n_samples,
                                  int64_t wanted) {
  // mu itself is not needed, nor kept: its gradient has the shape and dtype of one sample.
  const Tensor mu = n_samples > 0 ? torch::stable::select(grad_z, 0, 0) : grad_z;
  const EventPlan plan(shape_of(mu), 0, static_cast<int64_t>(Reduction::kNone));
  return backward(grad_z, std::nullopt, plan, mu, logvar, {}, noise,
                  noise_source(noise, seed, seed_value, stream), n_samples, Wanted(wanted));
}

Gradients reparameterize_with_kl_backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl,
                                          const Tensor& mu, const Tensor& logvar,
                                          const MaybeTensor& noise, const MaybeTensor& seed,
                                          int64_t seed_value, int64_t stream, int64_t n_samples,
                                          int64_t event_dims, int64_t reduction, int64_t wanted) {
  const EventPlan plan(shape_of(mu), event_dims, reduction);
  return backward(grad_z, grad_kl, plan, mu, logvar, {}, noise,
                  noise_source(noise, seed, seed_value, stream), n_samples, Wanted(wanted));
}

// Of a tensor that holds both parameters the gradient is one tensor too.
Gradients latent_backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl,
                          const Tensor& mu_or_both, const MaybeTensor& maybe_logvar,
                          const MaybeTensor& noise, const MaybeTensor& seed, int64_t seed_value,
                          int64_t stream, int64_t n_samples, int64_t bounds_kind, double low,
                          double high, int64_t event_dims, int64_t reduction, int64_t dim,
                          int64_t wanted) {
  const auto [mu, logvar] = parameters(mu_or_both, maybe_logvar, dim);
  const EventPlan plan(shape_of(mu), event_dims, reduction);
  const auto to = [&](Wanted which, const Tensor* outs) {
    return backward(grad_z, grad_kl, plan, mu, logvar, Bounds{bounds_kind, low, high}, noise,
                    noise_source(noise, seed, seed_value, stream), n_samples, which, outs);
  };
  if (maybe_logvar) return to(Wanted(wanted), nullptr);
  return {side_by_side(mu, dim, [&](const Tensor* pair) { to(Wanted(3), pair); }),
          empty({0}, mu.scalar_type(), mu)};
}

struct NoiseDerivative {  // incoming, logvar
  static constexpr int kInputs = 2, kOutputs = 1;
  template <class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[2], T (&out)[1]) {
    out[0] = reparameterize_dnoise(in[0], in[1]);
  }
};

// The gradient of a noise tensor, in its shape: that of z.
Tensor reparameterize_dnoise_op(const Tensor& grad_z, const Tensor& logvar, const Tensor& noise) {
  const EventPlan plan(shape_of(noise), 0, static_cast<int64_t>(Reduction::kNone));
  const Launcher launcher(grad_z);
  const bool wide = sample_type(grad_z, logvar) == ScalarType::Double;
  const auto out = gradients<Map<NoiseDerivative>, 1>(
      launcher, plan, wide, noise, {WantedGradient(noise, true)}, [&](auto& body, int width) {
        body.in[0] = Operand(grad_z, plan.shape, width);
        body.in[1] = Operand(logvar, plan.shape, width);
      });
  return out[0];
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) {
  m.impl("reparameterize", TORCH_BOX(&vae_ext::reparameterize_op));
  m.impl("reparameterize_backward", TORCH_BOX(&vae_ext::reparameterize_backward));
  m.impl("reparameterize_with_kl", TORCH_BOX(&vae_ext::reparameterize_with_kl_op));
  m.impl("reparameterize_with_kl_backward", TORCH_BOX(&vae_ext::reparameterize_with_kl_backward));
  m.impl("latent", TORCH_BOX(&vae_ext::latent));
  m.impl("latent_backward", TORCH_BOX(&vae_ext::latent_backward));
  m.impl("reparameterize_dnoise", TORCH_BOX(&vae_ext::reparameterize_dnoise_op));
}
