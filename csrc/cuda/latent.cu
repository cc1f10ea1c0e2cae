// Reparameterized sampling, alone and with the KL divergence to N(0, I) in the same pass. The
// noise is drawn again in the backward pass: it is never in memory. Words moved per element:
// forward 2 read and 1 written, with or without the KL; backward 2 read (3 with the KL) and 1
// written (2 with the KL).
#include "../math/sampling.h"
#include "../ops/stack.h"
#include "bounded_kl.cuh"
#include "gradients.cuh"
#include "samples.cuh"

namespace vae_ext {
namespace {

// ---- Forward -----------------------------------------------------------------------------------

// z, and the KL's terms where they are summed.
template <int kSums_>
struct Sampling {
  static constexpr int kSums = kSums_;
  static constexpr int kHeavy = 0, kHeavyWide = 0;
  static constexpr bool kCostly = false;
  Operand mu, scale, z;
  int form;
  KernelBounds bounds;
  NoiseSource noise;

  template <class F>
  void each_operand(F f) const {
    f(mu), f(scale), f(z);
    if (noise.is_given) f(noise.given);
  }

  bool fits(int width) const { return noise.fits(1, width); }

  template <class V, ExpRange kRange, class Sums>
  VAE_EXT_DEVICE bool run(int64_t start, Sums& sums) const {
    using T = typename V::T;
    const Bits mu_bits = fetch<V>(mu, start), scale_bits = fetch<V>(scale, start);
    T m[V::kWidth], s[V::kWidth], eps[V::kWidth], out[V::kWidth], kl[V::kWidth];
    values<V>(scale, scale_bits, start, s);
    bound(bounds, s);
    if (kRange == ExpRange::kBounded && !bounded(s)) return false;
    if (noise.is_given) {
      values<V>(noise.given, fetch<V>(noise.given, start), start, eps);
    } else {
      noise.draw<V>(noise.place_of<V>(start), eps);
    }
    values<V>(mu, mu_bits, start, m);
    with_form(form, [&](auto f) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        if constexpr (kSums > 0) {
          const auto both = reparameterize_with_kl<kRange>(f, m[j], s[j], eps[j]);
          out[j] = both.z;
          kl[j] = both.kl;
        } else {
          out[j] = reparameterize<kRange>(f, m[j], s[j], eps[j]);
        }
      }
    });
    if constexpr (kSums > 0) sums.add(0, kl);
    store<V>(z, start, out);
    return true;
  }
};

template <int kSums>
Sampling<kSums> sampling(const LatentArguments& a, const Tensor& z, int width) {
  Sampling<kSums> body;
  body.mu = Operand(a.mu, a.z_shape, width);
  body.scale = Operand(a.scale, a.z_shape, width);
  body.form = static_cast<int>(a.form);
  body.z = Operand(z, a.z_shape, width);
  body.bounds = a.bounds;
  body.noise = noise_source(a.noise, a.z_shape, false, width);
  if (a.noise.noise) body.noise.given = Operand(*a.noise.noise, a.z_shape, width);
  return body;
}

Tensor sample(const LatentArguments& a) {
  const Tensor z = a.allocate_z();
  launch_elementwise(Launcher(a.mu), z.numel(), a.mu.scalar_type(), a.is_double(),
                     [&](int width) { return sampling<0>(a, z, width); });
  return z;
}

std::pair<Tensor, Tensor> sample_and_kl(const LatentArguments& a) {
  const ReductionPlan& plan = a.kl.plan;
  const bool summed = plan.scalar() || (plan.reduction == Reduction::kEvent && plan.event_size > 1);
  if (a.noise.n_samples > 0 || !summed) {  // two passes: their elements differ, or both are stored
    return {sample(a), kl_to_standard(a)};
  }
  const Tensor z = a.allocate_z(), kl = a.allocate_kl();
  const bool all = plan.scalar();
  launch_sums<true, 1>(Launcher(a.mu), all ? 1 : plan.n_events, all ? plan.numel : plan.event_size,
                       a.mu.scalar_type(), a.is_double(), {kl}, {plan.scale()},
                       [&](int width) { return sampling<1>(a, z, width); });
  return {z, kl};
}

// ---- Backward ----------------------------------------------------------------------------------

// The gradients of mu and the scale: sums over the samples, plus the KL's part. One sample has a
// kernel of its own, which needs half the registers.
template <bool kMany>
struct SamplingBackward {
  static constexpr int kSums = 0;
  static constexpr int kHeavy = kMany, kHeavyWide = kMany;
  static constexpr bool kCostly = false;
  Operand grad_z, grad_kl, mu, scale;  // all in the shape of mu; grad_z of the first sample
  Operand out[2];                      // of mu and of the scale
  int form = 0;
  KernelBounds bounds;
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
    for (const Operand* o : {&grad_z, &grad_kl, &mu, &scale}) f(*o);
    if (noise.is_given) f(noise.given);
    for (int i = 0; i < 2; ++i) {
      if (wanted[i]) f(out[i]);
    }
  }

  bool fits(int width) const {
    return samples_fit(samples, numel, width) && noise.fits(samples, width);
  }

  template <class V, ExpRange kRange, class Sums>
  VAE_EXT_DEVICE bool run(int64_t start, Sums&) const {
    using T = typename V::T;
    const Bits z_bits = fetch<V>(grad_z, start), kl_bits = fetch<V>(grad_kl, start);
    const Bits mu_bits = fetch<V>(mu, start), scale_bits = fetch<V>(scale, start);
    T raw[V::kWidth], x[V::kWidth], dmu[V::kWidth] = {}, dscale[V::kWidth] = {};
    values<V>(scale, scale_bits, start, raw);
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) x[j] = raw[j];
    bound(bounds, x);
    if (kRange == ExpRange::kBounded && !bounded(x)) return false;
    const auto add_sample = [&](const Bits& bits, int64_t s) {
      T gz[V::kWidth], e[V::kWidth] = {};
      if (wanted[1]) {
        noise_of_sample<V>(noise, start, noise.place_of<V>(start), s, noise_shift, e);
      }
      values<V>(grad_z, bits, start, gz, s * grad_z_shift);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        dmu[j] += gz[j];
        // Where sigma is finite it can wait: it multiplies the sum over the samples.
        dscale[j] += kRange == ExpRange::kBounded ? gz[j] * e[j]
                                                  : reparameterize_dscale(form, gz[j], x[j], e[j]);
      }
    };
    if (has_z) {
      add_sample(z_bits, 0);
      if constexpr (kMany) {
#pragma unroll 1
        for (int64_t s = 1; s < samples; ++s) {
          add_sample(fetch<V>(grad_z, start, s * grad_z_shift), s);
        }
      }
    }
    T gk[V::kWidth] = {};
    if (has_kl) {
      T m[V::kWidth];
      values<V>(grad_kl, kl_bits, start, gk);
      values<V>(mu, mu_bits, start, m);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) dmu[j] = reparameterize_with_kl_dmu(dmu[j], gk[j], m[j]);
    }
    finish<kRange>(gk, x, dscale);
    bound_gradient(bounds, raw, dscale);
    if (wanted[0]) store<V>(out[0], start, dmu);
    if (wanted[1]) store<V>(out[1], start, dscale);
    return true;
  }

 private:
  // What the samples' sum still lacks, and the KL's part.
  template <ExpRange kRange, class T, int kWidth>
  VAE_EXT_DEVICE void finish(const T (&gk)[kWidth], const T (&x)[kWidth],
                             T (&dscale)[kWidth]) const {
    const auto each = [](auto element) {  // one choice for the group, not one for each element
#pragma unroll
      for (int j = 0; j < kWidth; ++j) element(j);
    };
    with_form(form, [&](auto f) {
      if (kRange == ExpRange::kFull || !has_z) {
        if (!has_kl) return;
        each([&](int j) {
          dscale[j] += StandardGaussianKL::gradients<kRange>(f, gk[j], T(0), x[j]).by[1];
        });
      } else if (has_kl) {
        each([&](int j) {
          dscale[j] = reparameterize_with_kl_dscale<kRange>(f, T(1), gk[j], x[j], dscale[j]);
        });
      } else {
        each([&](int j) { dscale[j] = reparameterize_dscale<kRange>(f, T(1), x[j], dscale[j]); });
      }
    });
  }
};

using Found = std::array<MaybeTensor, 2>;

// At least one of grad_z and grad_kl is given. Without a KL the values of mu are not read. `outs`:
// where the gradients go, if not to new tensors.
Found gradients(const LatentArguments& a, const MaybeTensor& grad_z, const MaybeTensor& grad_kl,
                OutputMask mask, const Tensor* outs = nullptr) {
  const ReductionPlan& plan = a.kl.plan;
  const int64_t n_samples = a.noise.n_samples;
  const auto run = [&]<bool kMany>() {
    return input_gradients<SamplingBackward<kMany>, 2>(
        Launcher(a.mu), plan, plan.shape, a.is_double(), a.mu,
        {InputGradient(a.mu, mask[0], outs),
         InputGradient(a.scale, mask[1], outs == nullptr ? nullptr : outs + 1)},
        [&](SamplingBackward<kMany>& body, int width) {
          body.samples = std::max<int64_t>(1, n_samples);
          body.numel = plan.numel;
          body.has_z = grad_z.has_value();
          body.has_kl = grad_kl.has_value();
          if (grad_z) {
            body.grad_z = first_sample(*grad_z, plan.shape, n_samples, width, &body.grad_z_shift);
          }
          if (grad_kl) {
            body.grad_kl = Operand::gradient(*grad_kl, plan, plan.shape, width);
            body.mu = Operand(a.mu, plan.shape, width);
          }
          body.scale = Operand(a.scale, plan.shape, width);
          body.form = static_cast<int>(a.form);
          body.bounds = a.bounds;
          set_noise(body, a.noise, plan.shape, width);
        });
  };
  return n_samples > 1 ? run.template operator()<true>() : run.template operator()<false>();
}

struct NoiseDerivative {  // incoming, logvar
  static constexpr int kInputs = 2, kOutputs = 1;
  static constexpr bool kCostly = false;
  static constexpr unsigned kExponents = 0b10;
  static constexpr int kTarget = -1;
  static constexpr float kLargestTarget = 0;
  template <ExpRange kRange, class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[2], T (&out)[1]) {
    out[0] = reparameterize_dnoise<kRange>(ScaleForm::kLogvar, in[0], in[1]);
  }
};

// The gradient of a noise tensor, in its shape: that of z.
Tensor noise_gradient(const Tensor& grad_z, const Tensor& logvar, const Tensor& noise) {
  const ReductionPlan plan(shape_of(noise), {});
  const bool is_double = sample_type(grad_z, logvar) == ScalarType::Double;
  const auto out = input_gradients<Map<NoiseDerivative>, 1>(
      Launcher(grad_z), plan, plan.shape, is_double, noise, {InputGradient(noise, true)},
      [&](auto& body, int width) {
        body.in[0] = Operand(grad_z, plan.shape, width);
        body.in[1] = Operand(logvar, plan.shape, width);
      });
  return *out[0];
}

#include "../ops/latent_ops.inl"

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) { VAE_EXT_REGISTER_LATENT(m) }
