// Several samples from one reading of mu and logvar, each with log q(z|x) and log p(z). Words moved
// per element of mu and for L samples: forward 2 read for every kTogether samples, and L written;
// backward L + 2 read and 2 written.
#include "../math/sampling.h"
#include "../ops/stack.h"
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
  static constexpr int kHeavy = 1, kHeavyWide = 1 + kSummed;
  static constexpr bool kCostly = false;
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

  bool fits(int width) const {
    return samples_fit(first + kSamples, numel, width) && noise.fits(first + kSamples, width);
  }

  template <class V, ExpRange kRange, class Sums>
  VAE_EXT_DEVICE bool run(int64_t start, Sums& sums) const {
    using T = typename V::T;
    const Bits mu_bits = fetch<V>(mu, start), logvar_bits = fetch<V>(logvar, start);
    T m[V::kWidth], lv[V::kWidth], sigma[V::kWidth];
    values<V>(logvar, logvar_bits, start, lv);
    if (kRange == ExpRange::kBounded && !bounded(lv)) return false;
    values<V>(mu, mu_bits, start, m);
    T height = T(0);
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) {
      sigma[j] = mul_exp<kRange>(T(1), T(0.5) * lv[j]);  // of many samples, where it is finite
      height += lv[j] + kLog2Pi<T>;
    }
    const int64_t place = noise.place_of<V>(start);
#pragma unroll
    for (int s = 0; s < kSamples; ++s) {
      T eps[V::kWidth] = {}, out[V::kWidth], q[V::kWidth], p[V::kWidth];
      noise_of_sample<V>(noise, start, place, first + s, noise_shift, eps);
      T noise_square = T(0), square = T(0);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        if constexpr (kUsesFused<kRange, T>) {
          out[j] = multiply_add(eps[j], sigma[j], m[j]);
        } else {
          out[j] = reparameterize(ScaleForm::kLogvar, m[j], lv[j], eps[j]);
        }
        noise_square += eps[j] * eps[j];
        square += out[j] * out[j];
        q[j] = log_q(lv[j], eps[j]);
        p[j] = log_p(out[j]);
      }
      store<V>(z, start, out, (first + s) * numel);
      if constexpr (kSums == 0) {
        store<V>(density[0], start, q, (first + s) * numel);
        store<V>(density[1], start, p, (first + s) * numel);
      } else {  // the densities of a group, log_q and log_p added up
        const T of_q[] = {T(-0.5) * (noise_square + height)};
        const T of_p[] = {T(-0.5) * (square + T(V::kWidth) * kLog2Pi<T>)};
        sums.add(2 * s, of_q);
        sums.add(2 * s + 1, of_p);
      }
    }
    return true;
  }
};

// Samples first ... first + kSamples - 1.
template <int kSamples>
void some_samples(const Launcher& launcher, const DrawArguments& a,
                  const std::array<Tensor, 4>& out, int64_t first) {
  const ReductionPlan& plan = a.plan;
  const Tensor &z = out[0], density[] = {out[1], out[2]};
  const auto fill = [&](auto& body, int width) {
    int64_t shift = 0;  // of contiguous tensors: plan.numel
    body.mu = Operand(a.mu, plan.shape, width);
    body.logvar = Operand(a.logvar, plan.shape, width);
    body.z = first_sample(z, plan.shape, a.samples(), width, &shift);
    body.first = first;
    body.numel = plan.numel;
    set_noise(body, a.noise, plan.shape, width);
  };
  if (plan.event_size == 1) {
    launch_elementwise(launcher, plan.numel, a.mu.scalar_type(), a.is_double(), [&](int width) {
      Densities<kSamples, false> body;
      fill(body, width);
      // Their trailing dimensions of one element may be missing.
      const Shape sizes{plan.numel};
      for (int i = 0; i < 2; ++i) {
        const Operand flat(density[i], sizes, sizes, {1}, width);
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
    for (int i = 0; i < 2; ++i) sum[2 * s + i] = torch::stable::select(density[i], 0, first + s);
  }
  launch_sums<true>(launcher, plan.n_events, plan.event_size, a.mu.scalar_type(), a.is_double(),
                    sum, scale, [&](int width) {
                      Densities<kSamples, true> body;
                      fill(body, width);
                      return body;
                    });
}

void sample_with_log_densities_op(Stack& stack) {
  const DrawArguments a = stack.take_draw();
  const auto out = a.allocate();
  const Launcher launcher(a.mu);
  int64_t done = 0;
  for (; done + kTogether <= a.samples(); done += kTogether)
    some_samples<kTogether>(launcher, a, out, done);
  for (; done < a.samples(); ++done) some_samples<1>(launcher, a, out, done);
  for (int i = 0; i < 4; ++i) stack.give(i, out[i]);
}

// ---- Backward ----------------------------------------------------------------------------------

// Where the gradient of an event lies whose elements are in whole groups: of all samples the same.
VAE_EXT_DEVICE int64_t repeat_offset(const Operand& o, int64_t start) {
  return o.access == Access::kRepeat ? o.inner.quotient(start) * o.outer_stride : 0;
}

// The values of a group, `shift` elements on in memory.
template <class V>
VAE_EXT_DEVICE void values_of_event(const Operand& o, int64_t start, int64_t offset, int64_t shift,
                                    typename V::T (&out)[V::kWidth]) {
  using T = typename V::T;
  if (o.access != Access::kRepeat) {
    return values<V>(o, fetch<V>(o, start, shift), start, out, shift);
  }
  const T value = read_element<T>(o.data, o.storage, offset + shift);
#pragma unroll
  for (int j = 0; j < V::kWidth; ++j) out[j] = value;
}

template <DrawGradient kGradient>
struct DensitiesBackward {
  static constexpr int kSums = 0;
  static constexpr int kHeavy = 1;
  static constexpr int kHeavyWide = 1 + (kGradient != DrawGradient::kScore);
  static constexpr bool kCostly = false;
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

  bool fits(int width) const {
    return samples_fit(samples, numel, width) && noise.fits(samples, width);
  }

  template <class V, ExpRange kRange, class Sums>
  VAE_EXT_DEVICE bool run(int64_t start, Sums&) const {
    using T = typename V::T;
    const Bits mu_bits = fetch<V>(mu, start), logvar_bits = fetch<V>(logvar, start);
    T m[V::kWidth], lv[V::kWidth], dmu[V::kWidth] = {}, dlogvar[V::kWidth] = {};
    values<V>(logvar, logvar_bits, start, lv);
    if (kRange == ExpRange::kBounded && !bounded(lv)) return false;
    values<V>(mu, mu_bits, start, m);
    T sigma[V::kWidth], inverse[V::kWidth];
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) {
      sigma[j] = mul_exp<kRange>(T(1), T(0.5) * lv[j]);
      inverse[j] = mul_exp<kRange>(T(1), T(-0.5) * lv[j]);
    }
    const int64_t place = noise.place_of<V>(start);
    const int64_t event_q = repeat_offset(grad_q, start), event_p = repeat_offset(grad_p, start);
#pragma unroll 1
    for (int64_t s = 0; s < samples; ++s) {
      T gz[V::kWidth], gq[V::kWidth], gp[V::kWidth], eps[V::kWidth] = {};
      values<V>(grad_z, fetch<V>(grad_z, start, s * shift[0]), start, gz, s * shift[0]);
      values_of_event<V>(grad_q, start, event_q, s * shift[1], gq);
      values_of_event<V>(grad_p, start, event_p, s * shift[2], gp);
      noise_of_sample<V>(noise, start, place, s, noise_shift, eps);
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        SampleGradients<T> g;
        if constexpr (kRange == ExpRange::kBounded) {
          const T score = gq[j] * eps[j] * inverse[j], step = eps[j] * sigma[j];
          g = sample_gradients_of<kGradient>(gz[j], gq[j], gp[j], m[j], eps[j], score, step);
        } else {
          g = sample_gradients<kGradient>(gz[j], gq[j], gp[j], m[j], lv[j], eps[j]);
        }
        dmu[j] += g.mu;
        dlogvar[j] += g.logvar;
      }
    }
    if (wanted[0]) store<V>(out[0], start, dmu);
    if (wanted[1]) store<V>(out[1], start, dlogvar);
    return true;
  }
};

template <DrawGradient kGradient>
std::array<MaybeTensor, 2> backward(const DrawArguments& a,
                                    const std::array<MaybeTensor, 3>& incoming, OutputMask mask) {
  const ReductionPlan& plan = a.plan;
  const auto fill = [&](DensitiesBackward<kGradient>& body, int width) {
    const auto of_event = [&](const MaybeTensor& grad, int64_t* shift) {
      if (!grad) return Operand::constant(0);
      *shift = grad->strides()[0];
      const Tensor first = torch::stable::select(*grad, 0, 0);
      return shifted(Operand::gradient(first, plan, plan.shape, width), *shift, width);
    };
    body.samples = a.samples();
    body.numel = plan.numel;
    body.grad_z = incoming[0]
                      ? first_sample(*incoming[0], plan.shape, a.samples(), width, &body.shift[0])
                      : Operand::constant(0);
    body.grad_q = of_event(incoming[1], &body.shift[1]);
    body.grad_p = of_event(incoming[2], &body.shift[2]);
    body.mu = Operand(a.mu, plan.shape, width);
    body.logvar = Operand(a.logvar, plan.shape, width);
    set_noise(body, a.noise, plan.shape, width);
  };
  return input_gradients<DensitiesBackward<kGradient>, 2>(
      Launcher(a.mu), plan, plan.shape, a.is_double(), a.mu,
      {InputGradient(a.mu, mask[0]), InputGradient(a.logvar, mask[1])}, fill);
}

void sample_with_log_densities_backward_op(Stack& stack) {
  const std::array<MaybeTensor, 3> incoming{stack.take<MaybeTensor>(), stack.take<MaybeTensor>(),
                                            stack.take<MaybeTensor>()};
  const DrawArguments a = stack.take_draw();
  const OutputMask mask(stack.take_int());
  const auto run = a.gradient == DrawGradient::kScore ? backward<DrawGradient::kScore>
                   : a.gradient == DrawGradient::kStickingTheLanding
                       ? backward<DrawGradient::kStickingTheLanding>
                       : backward<DrawGradient::kReparameterized>;
  stack.give_pair(run(a, incoming, mask));
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) { VAE_EXT_REGISTER_DRAW(m) }
