// Several samples from one reading of mu and logvar, each with log q(z|x) and log p(z). Nothing of
// the size of the samples is in memory but z, and its gradient in the backward pass.
#include "../ops/stack.h"
#include "gradients.h"
#include "noise.h"

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
void forward(const DrawArguments& a, const std::array<Tensor, 4>& out) {
  const ReductionPlan& plan = a.plan;
  const int64_t samples = a.samples();
  const Input<T> m(a.mu, plan.shape), lv(a.logvar, plan.shape);
  const Noise<T> noise(a.noise, a.z_plan.shape);
  const Output<T> values(out[0]);
  auto* const q = static_cast<T*>(out[1].mutable_data_ptr());
  auto* const p = static_cast<T*>(out[2].mutable_data_ptr());
  const EventChunks chunks(plan.n_events, plan.event_size, samples);
  const bool whole = chunks.per_event() == 1;
  Sums of_chunks(samples, whole ? 0 : chunks.sums());

  chunks.parallel([&](int64_t chunk) {
    const auto& k = kernels<T>();
    const int64_t first = chunk * chunks.sums_per_chunk();
    const int64_t count = std::min(chunks.sums_per_chunk(), chunks.sums() - first);
    Sums sums(samples, count);
    chunks.for_each_tile_of(chunk, [&](int64_t start, int n) {
      alignas(64) T mu_buffer[kTile], logvar_buffer[kTile], z_buffer[kTile], terms[kTile];
      alignas(64) T eps_buffer[kNoiseBuffer];
      const T* mu_tile = m.tile(start, n, mu_buffer);
      const T* logvar_tile = lv.tile(start, n, logvar_buffer);
      for (int64_t s = 0; s < samples; ++s) {
        const auto add_to = [&](std::vector<double>& sum) {
          chunks.for_each_sum(chunk, start, n, [&](int64_t i, int at, int length) {
            sum[sums.at(s, i)] += k.sum(length, terms + at);
          });
        };
        const int64_t of_sample = s * plan.numel + start;
        const T* eps = noise.tile(of_sample, n, eps_buffer);
        T* z_tile = values.begin(of_sample, n, z_buffer);
        k.reparameterize[ScaleForm::kLogvar](n, z_tile, mu_tile, logvar_tile, eps);
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
          of_chunks.q[of_chunks.at(s, first + i)] = sums.q[sums.at(s, i)];
          of_chunks.p[of_chunks.at(s, first + i)] = sums.p[sums.at(s, i)];
        }
      }
    }
  });
  if (whole) return;
  for (int64_t row = 0; row < samples * plan.n_events; ++row) {
    const auto total = [&](const std::vector<double>& sums_of) {
      double sum = 0;
      for (int64_t i = 0; i < chunks.per_event(); ++i) {
        sum += sums_of[static_cast<size_t>(row * chunks.per_event() + i)];
      }
      return static_cast<T>(sum);
    };
    q[row] = total(of_chunks.q);
    p[row] = total(of_chunks.p);
  }
}

void sample_with_log_densities_op(Stack& stack) {
  const DrawArguments a = stack.take_draw();
  const auto out = a.allocate();
  a.is_double() ? forward<double>(a, out) : forward<float>(a, out);
  for (int i = 0; i < 4; ++i) stack.give(i, out[i]);
}

template <class T>
std::array<MaybeTensor, 2> backward(const DrawArguments& a,
                                    const std::array<MaybeTensor, 3>& incoming, OutputMask mask) {
  const ReductionPlan &plan = a.plan, &z_plan = a.z_plan;
  const auto of_event = [&](const MaybeTensor& grad) {
    return grad ? Input<T>::gradient(*grad, z_plan) : Input<T>(T(0));
  };
  const Input<T> gz(incoming[0], T(0), z_plan.shape);
  const Input<T> gq = of_event(incoming[1]), gp = of_event(incoming[2]);
  const Input<T> m(a.mu, plan.shape), lv(a.logvar, plan.shape);
  const Noise<T> noise(a.noise, z_plan.shape);
  const InputGradient of[] = {{a.mu, mask[0]}, {a.logvar, mask[1]}};
  const std::array<Tensor, 2> out{allocate_gradient(plan, of[0]), allocate_gradient(plan, of[1])};
  const std::array<Output<T>, 2> results{Output<T>(out[0]), Output<T>(out[1])};

  const auto tile = [&](int64_t start, int n) {
    const auto& k = kernels<T>();
    alignas(64) T buffer[7][kTile], eps_buffer[kNoiseBuffer];
    const T* mu_tile = m.tile(start, n, buffer[0]);
    const T* logvar_tile = lv.tile(start, n, buffer[1]);
    T* sums[2];
    for (int i = 0; i < 2; ++i) {
      sums[i] = mask[i] ? results[i].begin(start, n, buffer[2 + i]) : buffer[2 + i];
      k.fill(n, T(0), sums[i]);
    }
    for (int64_t s = 0; s < a.samples(); ++s) {
      const int64_t at = s * plan.numel + start;
      k.add_sample_gradients(n, a.gradient, sums[0], sums[1], gz.tile(at, n, buffer[4]),
                             gq.tile(at, n, buffer[5]), gp.tile(at, n, buffer[6]), mu_tile,
                             logvar_tile, noise.tile(at, n, eps_buffer));
    }
    for (int i = 0; i < 2; ++i) {
      if (mask[i]) results[i].finish(start, n, sums[i], buffer[2 + i]);
    }
  };
  parallel_tiles(plan.numel, tile, a.samples());
  return {fit_gradient(plan, of[0], out[0]), fit_gradient(plan, of[1], out[1])};
}

void sample_with_log_densities_backward_op(Stack& stack) {
  const std::array<MaybeTensor, 3> incoming{stack.take<MaybeTensor>(), stack.take<MaybeTensor>(),
                                            stack.take<MaybeTensor>()};
  const DrawArguments a = stack.take_draw();
  const OutputMask mask(stack.take_int());
  stack.give_pair(a.is_double() ? backward<double>(a, incoming, mask)
                                : backward<float>(a, incoming, mask));
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) { VAE_EXT_REGISTER_DRAW(m) }
