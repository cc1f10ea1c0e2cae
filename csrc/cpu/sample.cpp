// Reparameterized sampling, alone and with the KL divergence to N(0, I) in the same pass. The
// noise is drawn again in the backward pass: it is never in memory.
#include <torch/csrc/stable/library.h>

#include "noise.h"
#include "reduce.h"

namespace vae_ext {
namespace {

// ---- Forward -----------------------------------------------------------------------------------

// z = mu + exp(logvar / 2) eps for elements [start, start + n) of z.
template <class T>
struct Sampler {
  Input<T> mu, logvar;
  Noise<T> noise;
  Output<T> z;

  Sampler(const Tensor& mu_, const Tensor& logvar_, const NoiseSpec& spec, const Tensor& z_)
      : mu(mu_, shape_of(z_)), logvar(logvar_, shape_of(z_)), noise(spec, shape_of(z_)), z(z_) {}

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
void sample(const Tensor& z, const Tensor& mu, const Tensor& logvar, const NoiseSpec& spec) {
  const Sampler<T> sampler(mu, logvar, spec, z);
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
               const Tensor& logvar, const NoiseSpec& spec, bool one_pass) {
  if (!one_pass) sample<T>(z, mu, logvar, spec);
  const Sampler<T> sampler(mu, logvar, spec, z);
  const Input<T> m(mu, plan.shape), lv(logvar, plan.shape);
  reduce_terms<T>(plan, kl, [&](int64_t start, int n, T* terms) {
    alignas(64) T b[2][kTile];
    const T* mu_tile = m.tile(start, n, b[0]);
    const T* logvar_tile = lv.tile(start, n, b[1]);
    if (!one_pass) return kernels<T>().kl_standard(n, terms, mu_tile, logvar_tile);
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
  run(z, mu, logvar, NoiseSpec{noise, seed, seed_value, stream});
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
  run(z, kl, plan, mu, logvar, NoiseSpec{noise, seed, seed_value, stream}, n_samples == 0);
  return {z, kl};
}

// ---- Backward ----------------------------------------------------------------------------------

using Gradients = std::tuple<Tensor, Tensor>;

// Elementwise gradients of mu and logvar: the sum over samples, plus the KL's part. At least one of
// grad_z and grad_kl is given. `mu` is the tensor that the gradient of mu is shaped like; without a
// KL its values are not read.
template <class T>
Gradients backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl, const EventPlan& plan,
                   const Tensor& mu, const Tensor& logvar, const NoiseSpec& spec, int64_t n_samples,
                   Wanted wanted) {
  const auto& k = kernels<T>();
  const Shape z_shape = sample_shape(plan.shape, n_samples);
  const int64_t samples = std::max<int64_t>(1, n_samples);
  const Input<T> gz(grad_z, T(0), z_shape), lv(logvar, plan.shape);
  const Input<T> m = grad_kl ? Input<T>(mu, plan.shape) : Input<T>(T(0));
  const Input<T> gk = grad_kl ? Input<T>::gradient(*grad_kl, plan) : Input<T>(T(0));
  const Noise<T> noise(spec, z_shape);

  // The first sample's part and the KL's in one loop, then the other samples'.
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
               }},
      Gradient{logvar, wanted[1], [&](int64_t start, int n, const auto& in, T* out) {
                 if (!grad_z) {
                   k.kl_standard_dlogvar(n, out, in[1], in[3]);
                   return;
                 }
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
               }});
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
  return run(grad_z, std::nullopt, plan, mu, logvar, NoiseSpec{noise, seed, seed_value, stream},
             n_samples, Wanted(wanted));
}

Gradients reparameterize_with_kl_backward(const MaybeTensor& grad_z, const MaybeTensor& grad_kl,
                                          const Tensor& mu, const Tensor& logvar,
                                          const MaybeTensor& noise, const MaybeTensor& seed,
                                          int64_t seed_value, int64_t stream, int64_t n_samples,
                                          int64_t event_dims, int64_t reduction, int64_t wanted) {
  const EventPlan plan(shape_of(mu), event_dims, reduction);
  const ScalarType dtype = sample_type(mu, logvar);
  const auto run = dtype == ScalarType::Double ? backward<double> : backward<float>;
  return run(grad_z, grad_kl, plan, mu, logvar, NoiseSpec{noise, seed, seed_value, stream},
             n_samples, Wanted(wanted));
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
  m.impl("reparameterize_dnoise", TORCH_BOX(&vae_ext::reparameterize_dnoise));
  m.impl("philox_words", TORCH_BOX(&vae_ext::philox_words));
}
