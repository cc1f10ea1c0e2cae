// Several samples from one reading of mu and logvar, each with log q(z|x) and log p(z). Words moved
// per element of mu and for L samples: forward 2 read for every kTogether samples, and L written;
// backward L + 2 read and 2 written.
#include <torch/csrc/stable/library.h>

#include "../formulas.h"
#include "gradients.cuh"
#include "samples.cuh"

namespace vae_ext {
namespace {

constexpr int kTogether = 4;  // samples of one pass: their sums are in registers

// ---- Forward -----------------------------------------------------------------------------------

// z of kSamples samples, and for each the terms of log q and of log p: to be summed, or stored
// where an event is one element.
template <int kSamples, bool kSummed>
struct Densities {
  static constexpr int kSums = kSummed ? 2 * kSamples : 0;
  static constexpr bool kHeavy = true;
  Operand mu, logvar, z;  // z of the first sample of all
  Operand density[2];     // of the first sample, where they are stored: of q, of p
  NoiseSource noise;
  int64_t first = 0;  // sample of this pass
  int64_t numel = 0;  // of a sample
  int64_t noise_shift = 0;

  template <class F>
  void each_operand(F f) const {
    f(mu), f(logvar), f(z);
    if (noise.is_given) f(noise.given);
    if constexpr (kSums == 0) f(density[0]), f(density[1]);
  }

  template <class V, class Terms>
  VAE_EXT_DEVICE void run(const Span& span, Terms& terms) const {
    using T = typename V::T;
    const Bits mu_bits = fetch<V>(mu, span), logvar_bits = fetch<V>(logvar, span);
    T m[V::kWidth], lv[V::kWidth];
    values<V>(mu, mu_bits, span, m);
    values<V>(logvar, logvar_bits, span, lv);
#pragma unroll
    for (int s = 0; s < kSamples; ++s) {
      T eps[V::kWidth] = {}, out[V::kWidth], q[V::kWidth], p[V::kWidth];
      noise_of_sample<V, true>(noise, span, first + s, numel, noise_shift, eps);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        out[j] = reparameterize(m[j], lv[j], eps[j]);
        q[j] = log_q(lv[j], eps[j]);
        p[j] = log_p(out[j]);
        if constexpr (kSums > 0) terms[2 * s][j] = q[j], terms[2 * s + 1][j] = p[j];
      }
      store<V>(z, span, out, (first + s) * numel);
      if constexpr (kSums == 0) {
        store<V>(density[0], span, q, (first + s) * numel);
        store<V>(density[1], span, p, (first + s) * numel);
      }
    }
  }
};

// Samples first ... first + kSamples - 1.
template <int kSamples>
void some_samples(const Launcher& launcher, const EventPlan& plan, const Tensor& z,
                  const Tensor& log_q, const Tensor& log_p, const Tensor& mu, const Tensor& logvar,
                  const MaybeTensor& noise, const NoiseSource& source, int64_t first) {
  const int64_t samples = shape_of(z)[0];
  const bool wide = z.scalar_type() == ScalarType::Double;
  const auto fill = [&](auto& body, int width) {
    int64_t shift = 0;  // of contiguous tensors: plan.numel
    body.mu = Operand(mu, plan.shape, width);
    body.logvar = Operand(logvar, plan.shape, width);
    body.z = first_sample(z, plan.shape, samples, width, &shift);
    body.first = first;
    body.numel = plan.numel;
    set_noise(body, source, noise, plan.shape, samples, width);
  };
  if (plan.event_size == 1) {
    each(launcher, plan.numel, mu.scalar_type(), wide, [&](int width) {
      Densities<kSamples, false> body;
      fill(body, width);
      // Their trailing dimensions of one element may be missing.
      const Tensor* density[] = {&log_q, &log_p};
      for (int i = 0; i < 2; ++i) {
        const Operand flat(*density[i], {plan.numel}, {plan.numel}, {1}, width);
        body.density[i] = shifted(flat, plan.numel, width);
      }
      return body;
    });
    return;
  }
  std::array<Tensor, 2 * kSamples> sum;
  std::array<double, 2 * kSamples> scale;
  scale.fill(1.0);
  for (int s = 0; s < kSamples; ++s) {
    sum[2 * s] = torch::stable::select(log_q, 0, first + s);
    sum[2 * s + 1] = torch::stable::select(log_p, 0, first + s);
  }
  sums<false>(launcher, plan.n_events, plan.event_size, mu.scalar_type(), wide, sum, scale,
              [&](int width) {
                Densities<kSamples, true> body;
                fill(body, width);
                return body;
              });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sample_with_log_densities(
    const Tensor& mu, const Tensor& logvar, const MaybeTensor& noise, const MaybeTensor& seed,
    int64_t seed_value, int64_t stream, int64_t n_samples, int64_t event_dims, int64_t flow) {
  const DrawProblem d(mu, logvar, n_samples, event_dims);
  const auto [z, log_q, log_p, weights] = d.allocate(mu, flow);
  const NoiseSource source = noise_source(noise, seed, seed_value, stream);
  const Launcher launcher(mu);
  int64_t done = 0;
  for (; done + kTogether <= n_samples; done += kTogether) {
    some_samples<kTogether>(launcher, d.plan, z, log_q, log_p, mu, logvar, noise, source, done);
  }
  for (; done < n_samples; ++done) {
    some_samples<1>(launcher, d.plan, z, log_q, log_p, mu, logvar, noise, source, done);
  }
  return {z, log_q, log_p, weights};
}

// ---- Backward ----------------------------------------------------------------------------------

template <Flow kFlow>
struct DensitiesBackward {
  static constexpr int kSums = 0;
  static constexpr bool kHeavy = true;
  Operand grad_z, grad_q, grad_p;  // of the first sample, in the shape of mu
  Operand mu, logvar;
  Operand out[2];
  NoiseSource noise;
  bool wanted[2] = {};
  int64_t samples = 1;
  int64_t numel = 0;
  int64_t shift[3] = {};  // from sample to sample: grad_z, grad_q, grad_p
  int64_t noise_shift = 0;

  void set(int i, const Operand& to) {
    out[i] = to;
    wanted[i] = true;
  }

  template <class F>
  void each_operand(F f) const {
    for (const Operand* o : {&grad_z, &grad_q, &grad_p, &mu, &logvar}) f(*o);
    if (noise.is_given) f(noise.given);
    for (int i = 0; i < 2; ++i) {
      if (wanted[i]) f(out[i]);
    }
  }

  template <class V, class Terms>
  VAE_EXT_DEVICE void run(const Span& span, Terms&) const {
    using T = typename V::T;
    const Bits mu_bits = fetch<V>(mu, span), logvar_bits = fetch<V>(logvar, span);
    T m[V::kWidth], lv[V::kWidth], dmu[V::kWidth] = {}, dlogvar[V::kWidth] = {};
    values<V>(mu, mu_bits, span, m);
    values<V>(logvar, logvar_bits, span, lv);
#pragma unroll 1
    for (int64_t s = 0; s < samples; ++s) {
      T gz[V::kWidth], gq[V::kWidth], gp[V::kWidth], eps[V::kWidth] = {};
      const auto incoming = [&](const Operand& o, int64_t shift_, T(&to)[V::kWidth]) {
        values<V>(o, fetch<V>(o, span, s * shift_), span, to, s * shift_);
      };
      incoming(grad_z, shift[0], gz);
      incoming(grad_q, shift[1], gq);
      incoming(grad_p, shift[2], gp);
      noise_of_sample<V, true>(noise, span, s, numel, noise_shift, eps);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        const auto g = sample_gradients<kFlow>(gz[j], gq[j], gp[j], m[j], lv[j], eps[j]);
        dmu[j] += g.mu;
        dlogvar[j] += g.logvar;
      }
    }
    if (wanted[0]) store<V>(out[0], span, dmu);
    if (wanted[1]) store<V>(out[1], span, dlogvar);
  }
};

std::tuple<Tensor, Tensor> sample_with_log_densities_backward(
    const MaybeTensor& grad_z, const MaybeTensor& grad_q, const MaybeTensor& grad_p,
    const Tensor& mu, const Tensor& logvar, const MaybeTensor& noise, const MaybeTensor& seed,
    int64_t seed_value, int64_t stream, int64_t n_samples, int64_t event_dims, int64_t flow,
    int64_t wanted_bits) {
  STD_TORCH_CHECK(0 <= flow && flow <= 2, "vae_ext: unknown flow");
  const DrawProblem d(mu, logvar, n_samples, event_dims);
  const EventPlan& plan = d.plan;
  const NoiseSource source = noise_source(noise, seed, seed_value, stream);
  const Wanted wanted(wanted_bits);
  const Launcher launcher(mu);

  const auto run = [&]<Flow kFlow>() -> std::tuple<Tensor, Tensor> {
    using Body = DensitiesBackward<kFlow>;
    const auto fill = [&](Body& body, int width) {
      const auto of_event = [&](const MaybeTensor& grad, int64_t* shift) {
        if (!grad) return Operand::constant(0);
        *shift = grad->strides()[0];
        const Tensor first = torch::stable::select(*grad, 0, 0);
        return shifted(Operand::gradient(first, plan, width), *shift, width);
      };
      body.samples = n_samples;
      body.numel = plan.numel;
      body.grad_z = grad_z ? first_sample(*grad_z, plan.shape, n_samples, width, &body.shift[0])
                           : Operand::constant(0);
      body.grad_q = of_event(grad_q, &body.shift[1]);
      body.grad_p = of_event(grad_p, &body.shift[2]);
      body.mu = Operand(mu, plan.shape, width);
      body.logvar = Operand(logvar, plan.shape, width);
      set_noise(body, source, noise, plan.shape, n_samples, width);
    };
    const auto out = gradients<Body, 2>(
        launcher, plan, d.wide(), mu,
        {WantedGradient(mu, wanted[0]), WantedGradient(logvar, wanted[1])}, fill);
    return {out[0], out[1]};
  };
  switch (static_cast<Flow>(flow)) {
    case Flow::kScore:
      return run.template operator()<Flow::kScore>();
    case Flow::kPath:
      return run.template operator()<Flow::kPath>();
    default:
      return run.template operator()<Flow::kAll>();
  }
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) {
  m.impl("sample_with_log_densities", TORCH_BOX(&vae_ext::sample_with_log_densities));
  m.impl("sample_with_log_densities_backward",
         TORCH_BOX(&vae_ext::sample_with_log_densities_backward));
}
