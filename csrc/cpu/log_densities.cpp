// Several samples from one reading of mu and logvar, each with log q(z|x) and log p(z). Nothing of
// the size of the samples is in memory but z, and its gradient in the backward pass.
#include <torch/csrc/stable/library.h>

#include "noise.h"
#include "reduce.h"

namespace vae_ext {
namespace {

// Sums of log q and of log p, a row of each for every sample.
struct Sums {
  int64_t per_row;
  std::vector<double> q, p;

  Sums(int64_t samples, int64_t row)
      : per_row(row),
        q(static_cast<size_t>(samples * row)),
        p(static_cast<size_t>(samples * row)) {}

  size_t at(int64_t sample, int64_t i) const { return static_cast<size_t>(sample * per_row + i); }
};

template <class T>
void forward(const Tensor& z, const Tensor& log_q, const Tensor& log_p, const EventPlan& plan,
             const Tensor& mu, const Tensor& logvar, const NoiseSpec& spec, int64_t samples) {
  const Input<T> m(mu, plan.shape), lv(logvar, plan.shape);
  const Noise<T> noise(spec, shape_of(z));
  const Output<T> values(z);
  auto* const q = static_cast<T*>(log_q.mutable_data_ptr());
  auto* const p = static_cast<T*>(log_p.mutable_data_ptr());
  const EventUnits units(plan.n_events, plan.event_size, samples);
  const bool whole = units.pieces() == 1;
  Sums of_pieces(samples, whole ? 0 : units.sums());

  units.parallel([&](int64_t unit) {
    const auto& k = kernels<T>();
    const int64_t first = unit * units.sums_per_unit();
    const int64_t count = std::min(units.sums_per_unit(), units.sums() - first);
    Sums sums(samples, count);
    units.for_each_tile_of(unit, [&](int64_t start, int n) {
      alignas(64) T mu_buffer[kTile], logvar_buffer[kTile], z_buffer[kTile], terms[kTile];
      alignas(64) T eps_buffer[Noise<T>::kBuffer];
      const T* mu_tile = m.tile(start, n, mu_buffer);
      const T* logvar_tile = lv.tile(start, n, logvar_buffer);
      for (int64_t s = 0; s < samples; ++s) {
        const auto add_to = [&](std::vector<double>& sum) {
          units.for_each_stretch(unit, start, n, [&](int64_t i, int at, int length) {
            sum[sums.at(s, i)] += k.sum(length, terms + at);
          });
        };
        const int64_t of_sample = s * plan.numel + start;
        const T* eps = noise.tile(of_sample, n, eps_buffer);
        T* z_tile = values.begin(of_sample, n, z_buffer);
        k.reparameterize(n, z_tile, mu_tile, logvar_tile, eps);
        k.log_q(n, terms, logvar_tile, eps);
        add_to(sums.q);
        k.log_p(n, terms, z_tile);
        add_to(sums.p);
        values.finish(of_sample, n, z_tile, z_buffer);
      }
    });
    for (int64_t s = 0; s < samples; ++s) {
      for (int64_t i = 0; i < count; ++i) {
        if (whole) {
          q[s * plan.n_events + first + i] = static_cast<T>(sums.q[sums.at(s, i)]);
          p[s * plan.n_events + first + i] = static_cast<T>(sums.p[sums.at(s, i)]);
        } else {
          of_pieces.q[of_pieces.at(s, first + i)] = sums.q[sums.at(s, i)];
          of_pieces.p[of_pieces.at(s, first + i)] = sums.p[sums.at(s, i)];
        }
      }
    }
  });
  if (whole) return;
  for (int64_t row = 0; row < samples * plan.n_events; ++row) {
    const auto total = [&](const std::vector<double>& pieces) {
      double sum = 0;
      for (int64_t i = 0; i < units.pieces(); ++i) {
        sum += pieces[static_cast<size_t>(row * units.pieces() + i)];
      }
      return static_cast<T>(sum);
    };
    q[row] = total(of_pieces.q);
    p[row] = total(of_pieces.p);
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sample_with_log_densities(
    const Tensor& mu, const Tensor& logvar, const MaybeTensor& noise, const MaybeTensor& seed,
    int64_t seed_value, int64_t stream, int64_t n_samples, int64_t event_dims, int64_t flow) {
  const DrawProblem d(mu, logvar, n_samples, event_dims);
  const auto [z, log_q, log_p, weights] = d.allocate(mu, flow);
  const auto run = d.wide() ? forward<double> : forward<float>;
  run(z, log_q, log_p, d.plan, mu, logvar, NoiseSpec{noise, seed, seed_value, stream}, n_samples);
  return {z, log_q, log_p, weights};
}

template <class T>
std::tuple<Tensor, Tensor> backward(const MaybeTensor& grad_z, const MaybeTensor& grad_q,
                                    const MaybeTensor& grad_p, const DrawProblem& d,
                                    const Tensor& mu, const Tensor& logvar, const NoiseSpec& spec,
                                    int64_t samples, int64_t flow, Wanted wanted) {
  const EventPlan &plan = d.plan, &z_plan = d.z_plan;
  const auto of_event = [&](const MaybeTensor& grad) {
    return grad ? Input<T>::gradient(*grad, z_plan) : Input<T>(T(0));
  };
  const Input<T> gz(grad_z, T(0), z_plan.shape), gq = of_event(grad_q), gp = of_event(grad_p);
  const Input<T> m(mu, plan.shape), lv(logvar, plan.shape);
  const Noise<T> noise(spec, z_plan.shape);
  const std::array<Tensor, 2> out{allocate_gradient(plan, mu, wanted[0]),
                                  allocate_gradient(plan, logvar, wanted[1])};
  const std::array<Output<T>, 2> results{Output<T>(out[0]), Output<T>(out[1])};

  const auto tile = [&](int64_t start, int n) {
    const auto& k = kernels<T>();
    alignas(64) T buffer[7][kTile], eps_buffer[Noise<T>::kBuffer];
    const T* mu_tile = m.tile(start, n, buffer[0]);
    const T* logvar_tile = lv.tile(start, n, buffer[1]);
    T* sums[2];
    for (int i = 0; i < 2; ++i) {
      sums[i] = wanted[i] ? results[i].begin(start, n, buffer[2 + i]) : buffer[2 + i];
      k.fill(n, T(0), sums[i]);
    }
    for (int64_t s = 0; s < samples; ++s) {
      const int64_t at = s * plan.numel + start;
      k.add_sample_gradients(n, flow, sums[0], sums[1], gz.tile(at, n, buffer[4]),
                             gq.tile(at, n, buffer[5]), gp.tile(at, n, buffer[6]), mu_tile,
                             logvar_tile, noise.tile(at, n, eps_buffer));
    }
    for (int i = 0; i < 2; ++i) {
      if (wanted[i]) results[i].finish(start, n, sums[i], buffer[2 + i]);
    }
  };
  parallel_tiles(plan.numel, tile, samples);
  return {wanted[0] ? fit_gradient(plan, mu, out[0]) : out[0],
          wanted[1] ? fit_gradient(plan, logvar, out[1]) : out[1]};
}

std::tuple<Tensor, Tensor> sample_with_log_densities_backward(
    const MaybeTensor& grad_z, const MaybeTensor& grad_q, const MaybeTensor& grad_p,
    const Tensor& mu, const Tensor& logvar, const MaybeTensor& noise, const MaybeTensor& seed,
    int64_t seed_value, int64_t stream, int64_t n_samples, int64_t event_dims, int64_t flow,
    int64_t wanted) {
  STD_TORCH_CHECK(0 <= flow && flow <= 2, "vae_ext: unknown flow");
  const DrawProblem d(mu, logvar, n_samples, event_dims);
  const auto run = d.wide() ? backward<double> : backward<float>;
  return run(grad_z, grad_q, grad_p, d, mu, logvar, NoiseSpec{noise, seed, seed_value, stream},
             n_samples, flow, Wanted(wanted));
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
  m.impl("sample_with_log_densities", TORCH_BOX(&vae_ext::sample_with_log_densities));
  m.impl("sample_with_log_densities_backward",
         TORCH_BOX(&vae_ext::sample_with_log_densities_backward));
}
