// The arguments of the mixture ops, the same on every device.
#pragma once

#include <array>

#include "stack.h"

namespace vae_ext {

struct MixtureArguments {
  Tensor z, means, logvars;  // [rows, groups, dims], [components, groups, dims]
  Tensor log_weights;        // [1 or rows, components]
  int64_t rows, components, groups, dims;

  explicit MixtureArguments(Stack& stack)
      : z(stack.take<Tensor>()),
        means(stack.take<Tensor>()),
        logvars(stack.take<Tensor>()),
        log_weights(stack.take<Tensor>()) {
    STD_TORCH_CHECK(z.dim() == 3 && means.dim() == 3, "vae_ext: expected three dimensions");
    rows = z.sizes()[0], groups = z.sizes()[1], dims = z.sizes()[2];
    components = means.sizes()[0];
    const Shape expected{components, groups, dims};
    STD_TORCH_CHECK(has_shape(means, expected) && has_shape(logvars, expected),
                    "vae_ext: means and logvars do not fit z");
    STD_TORCH_CHECK(components > 0, "vae_ext: a mixture has components");
    STD_TORCH_CHECK(log_weights.dim() == 2 && log_weights.sizes()[1] == components &&
                        (log_weights.sizes()[0] == 1 || log_weights.sizes()[0] == rows),
                    "vae_ext: log_weights do not fit");
  }

  // Of each row its own.
  bool weights_by_row() const { return log_weights.sizes()[0] != 1; }

  ScalarType dtype() const {
    const ScalarType parameters = promote(means.scalar_type(), logvars.scalar_type());
    return promote(promote(z.scalar_type(), parameters), log_weights.scalar_type());
  }
  bool is_double() const { return dtype() == ScalarType::Double; }

  std::array<Tensor, 2> allocate() const {
    const Shape shape{rows, groups};
    return {empty(shape, arithmetic_type(dtype()), z), empty(shape, ScalarType::Double, z)};
  }

  // Of z, means, logvars and log_weights, empty where it is not wanted.
  std::array<Tensor, 4> allocate_gradients(OutputMask mask) const {
    const auto one = [&](int i, const Tensor& of) {
      return mask[i] ? empty_like(of, of.scalar_type()) : empty({0}, of.scalar_type(), of);
    };
    return {one(0, z), one(1, means), one(2, logvars), one(3, log_weights)};
  }
};

// What came in, and the log-density in double, [rows, groups] each.
struct MixtureIncoming {
  Tensor grad, log_sum;

  explicit MixtureIncoming(Stack& stack)
      : grad(stack.take<Tensor>()), log_sum(stack.take<Tensor>()) {}
};

}  // namespace vae_ext
