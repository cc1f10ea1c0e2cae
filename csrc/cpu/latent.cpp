// Reparameterized sampling, alone and with the KL divergence to N(0, I) in the same pass. The
// noise is drawn again in the backward pass: it is never in memory.
#include "../ops/stack.h"
#include "gradients.h"
#include "noise.h"

namespace vae_ext {
namespace {

// ---- Forward -----------------------------------------------------------------------------------

// z = mu + sigma eps for elements [start, start + n) of z.
template <class T>
struct Sampler {
  Input<T> mu, scale;
  Noise<T> noise;
  Output<T> z;

  Sampler(const LatentArguments& a, const Tensor& z_)
      : mu(a.mu, a.z_shape),
        scale(Input<T>(a.scale, a.z_shape).within(a.bounds)),
        noise(a.noise, a.z_shape),
        z(z_) {}

  // compute(z, mu, scale, eps) of a tile
  template <class Compute>
  void operator()(int64_t start, int n, Compute compute) const {
    alignas(64) T eps[kNoiseBuffer], buffer[3][kTile];
    T* values = z.begin(start, n, buffer[0]);
    compute(values, mu.tile(start, n, buffer[1]), scale.tile(start, n, buffer[2]),
            noise.tile(start, n, eps));
    z.finish(start, n, values, buffer[0]);
  }
};

template <class T>
void write_samples(const LatentArguments& a, const Tensor& z) {
  const Sampler<T> sampler(a, z);
  parallel_tiles(z.numel(), [&](int64_t start, int n) {
    sampler(start, n, [&](T* values, const T* mu, const T* scale, const T* eps) {
      kernels<T>().reparameterize[a.form](n, values, mu, scale, eps);
    });
  });
}

template <class T>
void write_kl(const LatentArguments& a, const Tensor& kl) {
  const Input<T> mu(a.mu, a.kl.plan.shape);
  const Input<T> scale = Input<T>(a.scale, a.kl.plan.shape).within(a.bounds);
  reduce_terms<T>(a.kl.plan, kl, [&](int64_t start, int n, T* terms) {
    alignas(64) T buffer[2][kTile];
    const T* in[] = {mu.tile(start, n, buffer[0]), scale.tile(start, n, buffer[1])};
    kernels<T>().standard_gaussian_kl[a.form].value(n, terms, in);
  });
}

template <class T>
void write_both(const LatentArguments& a, const Tensor& z, const Tensor& kl) {
  if (a.noise.n_samples > 0) {  // their elements differ
    write_samples<T>(a, z);
    return write_kl<T>(a, kl);
  }
  const Sampler<T> sampler(a, z);
  reduce_terms<T>(a.kl.plan, kl, [&](int64_t start, int n, T* terms) {
    sampler(start, n, [&](T* values, const T* mu, const T* scale, const T* eps) {
      kernels<T>().reparameterize_with_kl[a.form](n, values, terms, mu, scale, eps);
    });
  });
}

Tensor sample(const LatentArguments& a) {
  const Tensor z = a.allocate_z();
  a.is_double() ? write_samples<double>(a, z) : write_samples<float>(a, z);
  return z;
}

Tensor kl_to_standard(const LatentArguments& a) {
  const Tensor kl = a.allocate_kl();
  a.is_double() ? write_kl<double>(a, kl) : write_kl<float>(a, kl);
  return kl;
}

std::pair<Tensor, Tensor> sample_and_kl(const LatentArguments& a) {
  const Tensor z = a.allocate_z(), kl = a.allocate_kl();
  a.is_double() ? write_both<double>(a, z, kl) : write_both<float>(a, z, kl);
  return {z, kl};
}

// ---- Backward ----------------------------------------------------------------------------------

using Found = std::array<MaybeTensor, 2>;

// Elementwise gradients of mu and the scale: the sum over samples, plus the KL's part. At least one
// of grad_z and grad_kl is given. Without a KL the values of mu are not read. `outs`: where the
// gradients go, if not to new tensors.
template <class T>
Found gradients(const LatentArguments& a, const MaybeTensor& grad_z, const MaybeTensor& grad_kl,
                OutputMask mask, const Tensor* outs) {
  const auto& k = kernels<T>();
  const ReductionPlan& plan = a.kl.plan;
  const int64_t samples = std::max<int64_t>(1, a.noise.n_samples);
  const Input<T> gz(grad_z, T(0), a.z_shape), raw_scale(a.scale, plan.shape);
  const Input<T> scales = raw_scale.within(a.bounds);
  const Input<T> m = grad_kl ? Input<T>(a.mu, plan.shape) : Input<T>(T(0));
  const Input<T> gk = grad_kl ? Input<T>::gradient(*grad_kl, plan) : Input<T>(T(0));
  const Noise<T> noise(a.noise, a.z_shape);

  // The first sample's part and the KL's in one loop, then the other samples'.
  const auto by_mu = [&](int64_t start, int n, const T* z, const T* kl, const T* mu, T* out) {
    if (!grad_kl) {
      std::copy_n(z, n, out);
    } else {
      k.reparameterize_with_kl_dmu(n, out, z, kl, mu);
    }
    alignas(64) T buffer[kTile];
    for (int64_t s = 1; grad_z && s < samples; ++s) {
      k.add(n, out, gz.tile(s * plan.numel + start, n, buffer));
    }
  };
  const auto by_scale = [&](int64_t start, int n, const T* z, const T* kl, const T* scale, T* out) {
    alignas(64) T buffer[kTile], eps_buffer[kNoiseBuffer];
    const T* eps = noise.tile(start, n, eps_buffer);
    if (grad_kl) {
      k.reparameterize_with_kl_dscale[a.form](n, out, z, kl, scale, eps);
    } else {
      k.reparameterize_dscale[a.form](n, out, z, scale, eps);
    }
    for (int64_t s = 1; s < samples; ++s) {
      const int64_t at = s * plan.numel + start;
      k.add_reparameterize_dscale[a.form](n, out, gz.tile(at, n, buffer), scale,
                                          noise.tile(at, n, eps_buffer));
    }
  };
  return input_gradients<T, 2>(
      plan,
      {InputGradient(a.mu, mask[0], outs),
       InputGradient(a.scale, mask[1], outs == nullptr ? nullptr : outs + 1)},
      [&](int64_t start, int n, T* const* out) {
        alignas(64) T buffer[4][kTile];
        const T* z = gz.tile(start, n, buffer[0]);
        const T* kl = gk.tile(start, n, buffer[1]);
        const T* in[] = {m.tile(start, n, buffer[2]), scales.tile(start, n, buffer[3])};
        if (!grad_z) {
          k.standard_gaussian_kl[a.form].gradients(n, out, kl, in);
        } else {
          if (out[0]) by_mu(start, n, z, kl, in[0], out[0]);
          if (out[1]) by_scale(start, n, z, kl, in[1], out[1]);
        }
        if (!a.bounds || !out[1]) return;
        k.bound_gradient(n, a.bounds.soft(), out[1], raw_scale.tile(start, n, buffer[0]),
                         static_cast<T>(a.bounds.low), static_cast<T>(a.bounds.high));
      });
}

Found gradients(const LatentArguments& a, const MaybeTensor& grad_z, const MaybeTensor& grad_kl,
                OutputMask mask, const Tensor* outs = nullptr) {
  const auto run = a.is_double() ? gradients<double> : gradients<float>;
  return run(a, grad_z, grad_kl, mask, outs);
}

// The gradient of a noise tensor, in its shape: that of z.
template <class T>
Tensor write_noise_gradient(const Tensor& grad_z, const Tensor& logvar, const Tensor& noise) {
  const ReductionPlan plan(shape_of(noise), {});
  const Input<T> g(grad_z, plan.shape), lv(logvar, plan.shape);
  return *input_gradients<T, 1>(
      plan, {InputGradient(noise, true)}, [&](int64_t start, int n, T* const* out) {
        alignas(64) T buffer[2][kTile];
        kernels<T>().reparameterize_dnoise(n, out[0], g.tile(start, n, buffer[0]),
                                           lv.tile(start, n, buffer[1]));
      })[0];
}

Tensor noise_gradient(const Tensor& grad_z, const Tensor& logvar, const Tensor& noise) {
  const bool is_double = sample_type(grad_z, logvar) == ScalarType::Double;
  const auto run = is_double ? write_noise_gradient<double> : write_noise_gradient<float>;
  return run(grad_z, logvar, noise);
}

#include "../ops/latent_ops.inl"

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
  VAE_EXT_REGISTER_LATENT(m)
  m.impl("philox_words", TORCH_BOX(&vae_ext::philox_words));
}
