// What an op is asked for, the same on every device: the shape that its tensors broadcast to, how
// the elements fall into events, and the dtype of elementwise results.
#pragma once

#include <tuple>

#include "flow.h"
#include "layout.h"

namespace vae_ext {

using MaybeTensor = std::optional<Tensor>;

// Between which logvar is kept: not at all, by a cut, or by a tanh.
struct Bounds {
  enum Kind : int64_t { kNone, kHard, kSoft };
  int64_t kind = kNone;
  double low = 0, high = 0;

  explicit operator bool() const { return kind != kNone; }
  bool soft() const { return kind == kSoft; }
};

struct Problem {
  EventPlan plan;
  ScalarType dtype;

  bool wide() const { return dtype == ScalarType::Double; }
};

// z [n_samples, *shape], or [*shape] for n_samples = 0 (no sample dimension).
inline Shape sample_shape(const Shape& shape, int64_t n_samples) {
  Shape out = shape;
  if (n_samples > 0) out.insert(out.begin(), n_samples);
  return out;
}

inline ScalarType sample_type(const Tensor& mu, const Tensor& logvar) {
  return promote(mu.scalar_type(), logvar.scalar_type());
}

// Several samples of mu's shape with a log-density of each event.
struct DrawProblem {
  EventPlan plan;    // of mu
  EventPlan z_plan;  // of all the samples
  ScalarType dtype;

  DrawProblem(const Tensor& mu, const Tensor& logvar, int64_t n_samples, int64_t event_dims)
      : plan(shape_of(mu), event_dims, static_cast<int64_t>(Reduction::kEvent)),
        z_plan(sample_shape(plan.shape, n_samples), event_dims,
               static_cast<int64_t>(Reduction::kEvent)),
        dtype(sample_type(mu, logvar)) {
    STD_TORCH_CHECK(n_samples >= 1, "vae_ext: n_samples must be at least 1");
  }

  bool wide() const { return dtype == ScalarType::Double; }

  // z, log q, log p and, where the samples can be weighted, zeros.
  std::tuple<Tensor, Tensor, Tensor, Tensor> allocate(const Tensor& mu, int64_t flow) const {
    const bool weighted = static_cast<Flow>(flow) == Flow::kPath;
    Tensor weights = weighted ? z_plan.allocate(dtype, mu) : empty({0}, arithmetic_type(dtype), mu);
    return {empty_result(z_plan.shape, dtype, mu), z_plan.allocate(dtype, mu),
            z_plan.allocate(dtype, mu), torch::stable::fill_(weights, 0.0)};
  }
};

// mu, logvar [...]; prior_mu, prior_logvar broadcastable, absent together for N(0, I).
inline Problem kl_problem(const Tensor& mu, const Tensor& logvar, const MaybeTensor& prior_mu,
                          const MaybeTensor& prior_logvar, int64_t event_dims, int64_t reduction) {
  Shape shape = broadcast(shape_of(mu), shape_of(logvar));
  shape = broadcast(broadcast(shape, prior_mu), prior_logvar);
  const ScalarType dtype = promote(mu.scalar_type(), logvar.scalar_type());
  return {EventPlan(std::move(shape), event_dims, reduction),
          promote(promote(dtype, prior_mu), prior_logvar)};
}

// logits, target [...], broadcast with each other. A bool or uint8 target follows the logits'
// dtype.
inline Problem bernoulli_problem(const Tensor& logits, const Tensor& target, int64_t event_dims,
                                 int64_t reduction) {
  const bool binary = storage_of(target.scalar_type()) == Storage::kByte;
  const ScalarType dtype = logits.scalar_type();
  return {EventPlan(broadcast(shape_of(logits), shape_of(target)), event_dims, reduction),
          binary ? dtype : promote(dtype, target.scalar_type())};
}

// mean, target [...], broadcast with each other; logvar broadcastable to them, or absent.
inline Problem gaussian_problem(const Tensor& mean, const Tensor& target, const MaybeTensor& logvar,
                                int64_t event_dims, int64_t reduction) {
  Shape shape = broadcast(broadcast(shape_of(mean), shape_of(target)), logvar);
  return {EventPlan(std::move(shape), event_dims, reduction),
          promote(promote(mean.scalar_type(), target.scalar_type()), logvar)};
}

}  // namespace vae_ext
