// Reparameterized sampling, alone and with the KL divergence to N(0, I) in the same pass. The
// noise is drawn again in the backward pass: it is never in memory.
#include <torch/csrc/stable/library.h>

#include "gaussian_kl.h"
#include "noise.h"

namespace vae_ext {
namespace {

// ---- Forward -----------------------------------------------------------------------------------

// z = mu + exp(logvar / 2) eps for elements [start, start + n) of z.
template <class T>
struct Sampler {
  Input<T> mu, logvar;
  Noise<T> noise;
  Output<T> z;

  Sampler(const Tensor& mu_, const Tensor& logvar_, const Bounds& bounds, const NoiseSpec& spec,
          const Tensor& z_)
      : mu(mu_, shape_of(z_)),
        logvar(Input<T>(logvar_, shape_of(z_)).within(bounds)),
        noise(spec, shape_of(z_)),
        z(z_) {}

  // compute(values, eps)
  template <class Compute>
  void write(int64_t start, int n, Compute compute) const {
    alignas(64) T eps[Noise<T>::kBuffer], buffer[kTile];
    T* values = z.begin(start, n, buffer);
    compute(values, noise.tile(start, n, eps));
    z.finish(start, n, values, buffer);
  }
};

template <class T>
void sample(const Tensor& z, const Tensor& mu, const Tensor& logvar, const Bounds& bounds,
            const NoiseSpec& spec) {
  const Sampler<T> sampler(mu, logvar, bounds, spec, z);
  parallel_tiles(z.numel(), [&](int64_t start, int n) {
    alignas(64) T m[kTile], lv[kTile];
    const T* mu_tile = sampler.mu.tile(start, n, m);
    const T* logvar_tile = sampler.logvar.tile(start, n, lv);
    sampler.write(start, n, [&](T* values, const T* eps) {
      kernels<T>().reparameterize(n, values, mu_tile, logvar_tile, eps);
    });
  });
}

template <class T>
void sample_kl(const Tensor& z, const Tensor& kl, const EventPlan& plan, const Tensor& mu,
               const Tensor& logvar, const Bounds& bounds, const NoiseSpec& spec, bool one_pass) {
  if (!one_pass) {  // their elements differ
    sample<T>(z, mu, logvar, bounds, spec);
    return kl_to_standard<T>(kl, plan, mu, logvar, bounds);
  }
  const Sampler<T> sampler(mu, logvar, bounds, spec, z);
  reduce_terms<T>(plan, kl, [&](int64_t start, int n, T* terms) {
    alignas(64) T b[2][kTile];
    const T* mu_tile = sampler.mu.tile(start, n, b[0]);
    const T* logvar_tile = sampler.logvar.tile(start, n, b[1]);
    sampler.write(start, n, [&](T* values, const T* eps) {
      kernels<T>().reparameterize_with_kl(n, values, terms, mu_tile, logvar_tile, eps);
    });
  });
}

Tensor allocate_z(const Tensor& mu, const Tensor& logvar, int64_t n_samples) {
  return empty_result(sample_shape(shape_of(mu), n_samples), sample_type(mu, logvar), mu);
}

Tensor reparameterize(const Tensor& mu, const Tensor& logvar, const MaybeTensor& noise,
                      const MaybeTensor& seed, int64_t seed_value, int64_t stream,
                      int64_t n_samples) {
  Tensor z = allocate_z(mu, logvar, n_samples);
  const auto run = z.scalar_type() == ScalarType::Double ? sample<double> : sample<float>;
  run(z, mu, logvar, {}, NoiseSpec{noise, seed, seed_value, stream});
  return z;
}

std::tuple<Tensor, Tensor> reparameterize_with_kl(const Tensor& mu, const Tensor& logvar,
                                                  const MaybeTensor& noise, const MaybeTensor& seed,
                                                  int64_t seed_value, int64_t stream,
                                                  int64_t n_samples, int64_t event_dims,
                                                  int64_t reduction) {
  const EventPlan plan(shape_of(mu), event_dims, reduction);
  Tensor z = allocate_z(mu, logvar, n_samples);
  Tensor kl = plan.allocate(promote(mu.scalar_type(), logvar.scalar_type()), mu);
  const auto run = z.scalar_type() == ScalarType::Double ? sample_kl<double> : sample_kl<float>;
  run(z, kl, plan, mu, logvar, {}, NoiseSpec{noise, seed, seed_value, stream}, n_samples == 0);
  return {z, kl};
}

// ---- Backward ----------------------------------------------------------------------------------

using Gradients = std::tuple<Tensor, Tensor>;

// Elementwise gradients of mu and logvar: the sum over samples, plus the KL's part. At least one of
// grad_z and grad_kl is given. `mu` is the tensor that the gradient of mu is shaped like; without a
// KL its values are not read. `outs`: where the gradients go, if not to new tensors.
template <class T>
Gradients backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl, const EventPlan& plan,
                   const Tensor& mu, const Tensor& logvar, const Bounds& bounds,
                   const NoiseSpec& spec, int64_t n_samples, Wanted wanted,
                   const Tensor* outs = nullptr) {
  const auto& k = kernels<T>();
  const Shape z_shape = sample_shape(plan.shape, n_samples);
  const int64_t samples = std::max<int64_t>(1, n_samples);
  const Input<T> gz(grad_z, T(0), z_shape), raw_lv(logvar, plan.shape);
  const Input<T> lv = raw_lv.within(bounds);
  const Input<T> m = grad_kl ? Input<T>(mu, plan.shape) : Input<T>(T(0));
  const Input<T> gk = grad_kl ? Input<T>::gradient(*grad_kl, plan) : Input<T>(T(0));
  const Noise<T> noise(spec, z_shape);

  // The first sample's part and the KL's in one loop, then the other samples'.
  const auto by_logvar = [&](int64_t start, int n, const auto& in, T* out) {
    if (!grad_z) return k.kl_standard_dlogvar(n, out, in[1], in[3]);
    alignas(64) T buffer[kTile], eps_buffer[Noise<T>::kBuffer];
    const T* eps = noise.tile(start, n, eps_buffer);
    if (grad_kl) {
      k.reparameterize_with_kl_dlogvar(n, out, in[0], in[1], in[3], eps);
    } else {
      k.reparameterize_dlogvar(n, out, in[0], in[3], eps);
    }
    for (int64_t s = 1; s < samples; ++s) {
      const int64_t at = s * plan.numel + start;
      k.add_reparameterize_dlogvar(n, out, gz.tile(at, n, buffer), in[3],
                                   noise.tile(at, n, eps_buffer));
    }
  };
  return input_gradients<T, 4>(
      plan, {&gz, &gk, &m, &lv},
      Gradient{mu, wanted[0],
               [&](int64_t start, int n, const auto& in, T* out) {
                 if (!grad_kl) {
                   std::copy_n(in[0], n, out);
                 } else if (!grad_z) {
                   k.kl_standard_dmu(n, out, in[1], in[2]);
                 } else {
                   k.reparameterize_with_kl_dmu(n, out, in[0], in[1], in[2]);
                 }
                 alignas(64) T buffer[kTile];
                 for (int64_t s = 1; grad_z && s < samples; ++s) {
                   k.add(n, out, gz.tile(s * plan.numel + start, n, buffer));
                 }
               },
               outs},
      Gradient{logvar, wanted[1],
               [&](int64_t start, int n, const auto& in, T* out) {
                 by_logvar(start, n, in, out);
                 if (!bounds) return;
                 alignas(64) T buffer[kTile];
                 k.bound_gradient(n, bounds.soft(), out, raw_lv.tile(start, n, buffer),
                                  static_cast<T>(bounds.low), static_cast<T>(bounds.high));
               },
               outs == nullptr ? nullptr : outs + 1});
}
Gradients reparameterize_backward(const Tensor& grad_z, const Tensor& logvar,
                                  const MaybeTensor& noise, const MaybeTensor& seed,
                                  int64_t seed_value, int64_t stream, int64_t n_samples,
                                  int64_t wanted) {
  // mu itself is not needed, nor kept: its gradient has the shape and dtype of one sample.
  const Tensor mu = n_samples > 0 ? torch::stable::select(grad_z, 0, 0) : grad_z;
  const EventPlan plan(shape_of(mu), 0, static_cast<int64_t>(Reduction::kNone));
  const ScalarType dtype = sample_type(grad_z, logvar);
  const auto run = dtype == ScalarType::Double ? backward<double> : backward<float>;
  return run(grad_z, std::nullopt, plan, mu, logvar, {}, NoiseSpec{noise, seed, seed_value, stream},
             n_samples, Wanted(wanted), nullptr);
}

Gradients reparameterize_with_kl_backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl,
                                          const Tensor& mu, const Tensor& logvar,
                                          const MaybeTensor& noise, const MaybeTensor& seed,
                                          int64_t seed_value, int64_t stream, int64_t n_samples,
                                          int64_t event_dims, int64_t reduction, int64_t wanted) {
  const EventPlan plan(shape_of(mu), event_dims, reduction);
  const ScalarType dtype = sample_type(mu, logvar);
  const auto run = dtype == ScalarType::Double ? backward<double> : backward<float>;
  return run(grad_z, grad_kl, plan, mu, logvar, {}, NoiseSpec{noise, seed, seed_value, stream},
             n_samples, Wanted(wanted), nullptr);
}

// The gradient of a noise tensor, in its shape: that of z.
Tensor reparameterize_dnoise(const Tensor& grad_z, const Tensor& logvar, const Tensor& noise) {
  const auto run = [&]<class T>(T) {
    const EventPlan plan(shape_of(noise), 0, static_cast<int64_t>(Reduction::kNone));
    const Input<T> g(grad_z, plan.shape), lv(logvar, plan.shape);
    return std::get<0>(input_gradients<T, 2>(
        plan, {&g, &lv}, Gradient{noise, true, [](int64_t, int n, const auto& in, T* out) {
                                    kernels<T>().reparameterize_dnoise(n, out, in[0], in[1]);
                                  }}));
  };
  const bool wide = sample_type(grad_z, logvar) == ScalarType::Double;
  return wide ? run(double{}) : run(float{});
}

// ---- With bounds on logvar, and gradients side by side ------------------------------------------

// outputs: bit 0 for z, bit 1 for the KL; the other is empty.
std::tuple<Tensor, Tensor> latent(const Tensor& mu_or_both, const MaybeTensor& maybe_logvar,
                                  const MaybeTensor& noise, const MaybeTensor& seed,
                                  int64_t seed_value, int64_t stream, int64_t n_samples,
                                  int64_t bounds_kind, double low, double high, int64_t event_dims,
                                  int64_t reduction, int64_t dim, int64_t outputs) {
  const auto [mu, logvar] = parameters(mu_or_both, maybe_logvar, dim);
  const EventPlan plan(shape_of(mu), event_dims, reduction);
  const Bounds bounds{bounds_kind, low, high};
  const NoiseSpec spec{noise, seed, seed_value, stream};
  const Wanted wanted(outputs);
  const ScalarType dtype = sample_type(mu, logvar);
  Tensor z = wanted[0] ? allocate_z(mu, logvar, n_samples) : empty({0}, dtype, mu);
  Tensor kl = wanted[1] ? plan.allocate(dtype, mu) : empty({0}, arithmetic_type(dtype), mu);
  const auto run = [&]<class T>(T) {
    if (wanted[0] && wanted[1]) {
      sample_kl<T>(z, kl, plan, mu, logvar, bounds, spec, n_samples == 0);
    } else if (wanted[0]) {
      sample<T>(z, mu, logvar, bounds, spec);
    } else {
      kl_to_standard<T>(kl, plan, mu, logvar, bounds);
    }
  };
  dtype == ScalarType::Double ? run(double{}) : run(float{});
  return {z, kl};
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
  const auto run =
      sample_type(mu, logvar) == ScalarType::Double ? backward<double> : backward<float>;
  const auto to = [&](Wanted which, const Tensor* outs) {
    return run(grad_z, grad_kl, plan, mu, logvar, Bounds{bounds_kind, low, high},
               NoiseSpec{noise, seed, seed_value, stream}, n_samples, which, outs);
  };
  if (maybe_logvar) return to(Wanted(wanted), nullptr);
  return {side_by_side(mu, dim, [&](const Tensor* pair) { to(Wanted(3), pair); }),
          empty({0}, mu.scalar_type(), mu)};
}

// ---- The raw stream ----------------------------------------------------------------------------

// out [n] int64 holds the words of elements 0 ... n - 1.
void philox_words(const Tensor& out, int64_t seed, int64_t stream) {
  STD_TORCH_CHECK(out.scalar_type() == ScalarType::Long && out.is_contiguous(),
                  "vae_ext: the words go to a contiguous int64 tensor");
  auto* words = static_cast<int64_t*>(out.mutable_data_ptr());
  parallel_tiles(out.numel(), [&](int64_t start, int n) {
    kernels<float>().words(n, static_cast<uint64_t>(seed), static_cast<uint64_t>(stream),
                           static_cast<uint64_t>(start), words + start);
  });
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("reparameterize", TORCH_BOX(&vae_ext::reparameterize));
  m.impl("reparameterize_backward", TORCH_BOX(&vae_ext::reparameterize_backward));
  m.impl("reparameterize_with_kl", TORCH_BOX(&vae_ext::reparameterize_with_kl));
  m.impl("reparameterize_with_kl_backward", TORCH_BOX(&vae_ext::reparameterize_with_kl_backward));
  m.impl("latent", TORCH_BOX(&vae_ext::latent));
  m.impl("latent_backward", TORCH_BOX(&vae_ext::latent_backward));
  m.impl("reparameterize_dnoise", TORCH_BOX(&vae_ext::reparameterize_dnoise));
  m.impl("philox_words", TORCH_BOX(&vae_ext::philox_words));
}
