// What an op is asked for, the same on every device: the shape that its tensors broadcast to, how
// the elements fall into events, and the dtype of elementwise results.
#pragma once

#include <array>
#include <tuple>

#include "../math/draw_gradient.h"
#include "../math/scale.h"
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

// Shape, events and dtype of an op's results.
struct ResultSpec {
  ReductionPlan plan;
  ScalarType dtype;

  bool is_double() const { return dtype == ScalarType::Double; }
};

// An input of an op and whether its gradient is wanted; where that goes, if not to a new tensor.
struct InputGradient {
  const Tensor* input;  // absent: nullptr
  bool wanted;
  const Tensor* out = nullptr;  // of the full shape

  InputGradient() : input(nullptr), wanted(false) {}
  InputGradient(const Tensor& t, bool w, const Tensor* o = nullptr)
      : input(&t), wanted(w), out(o) {}
  InputGradient(const MaybeTensor& t, bool w) : input(t ? &*t : nullptr), wanted(w && t) {}

  explicit operator bool() const { return wanted; }
  bool is_full(const ReductionPlan& plan) const { return has_shape(*input, plan.shape); }
  // Wanted of one element that stands for all.
  bool is_one_element(const ReductionPlan& plan) const {
    return wanted && input->numel() == 1 && !is_full(plan);
  }
  // Wanted of one row, of the last dimensions, that stands for several.
  bool is_one_row(const ReductionPlan& plan) const {
    const Shape own = shape_of(*input);
    const auto first = std::find_if(own.begin(), own.end(), [](int64_t n) { return n != 1; });
    const auto dims = own.end() - first;
    return wanted && 0 < input->numel() && input->numel() < plan.numel &&
           std::equal(first, own.end(), plan.shape.end() - dims);
  }
};

// Where the elements of an input's gradient are written: in the input's layout and dtype, or in the
// full shape if it was broadcast, which fit_gradient() sums. Empty if it is not wanted.
inline Tensor allocate_gradient(const ReductionPlan& plan, const InputGradient& of) {
  if (of.out != nullptr) return *of.out;
  const ScalarType dtype = of.input->scalar_type();
  if (!of) return empty({0}, dtype, *of.input);
  if (of.is_full(plan)) return empty_like(*of.input, dtype);
  return empty(plan.shape, arithmetic_type(dtype), *of.input);
}

inline Tensor fit_gradient(const ReductionPlan& plan, const InputGradient& of,
                           const Tensor& written) {
  return !of || of.is_full(plan) ? written : sum_to(written, *of.input);
}

// ---- Formulas ---------------------------------------------------------------------------------

// The inputs of an op of formulas.def: tensors, or numbers where there is none, and the weights of
// the elements, if they have any. An element of weight 0 is left out, whatever it holds.
constexpr int kMaxInputs = 5;

struct FormulaInputs {
  int count;
  std::array<MaybeTensor, kMaxInputs> tensor;
  std::array<double, kMaxInputs> number{};
  MaybeTensor weights{};
  int64_t form = 0;  // of kForms

  const Tensor& lead() const { return *tensor[0]; }
  bool has(int i) const { return tensor[i].has_value(); }

  // The inputs broadcast with each other. Bool and integer targets follow the others' dtype.
  ResultSpec result_spec(const ReductionArguments& asked) const {
    Shape shape = shape_of(lead());
    ScalarType dtype = lead().scalar_type();
    for (int i = 1; i < count; ++i) {
      if (!has(i)) continue;
      shape = broadcast(shape, shape_of(*tensor[i]));
      if (!is_floating(storage_of(tensor[i]->scalar_type()))) continue;
      dtype = promote(dtype, tensor[i]->scalar_type());
    }
    STD_TORCH_CHECK(broadcast(shape, weights) == shape, "vae_ext: weights do not broadcast");
    return {ReductionPlan(std::move(shape), asked), dtype};
  }
};

// ---- Samples ----------------------------------------------------------------------------------

// Which elements of the stream a tensor's noise is, of a box in a larger tensor: for the element at
// (i, j, ...) the one at offset + i stride + j stride + ... The list is [offset, size, stride,
// size, stride, ...], outermost first, which are the samples where there are some.
using PlaceList = std::vector<int64_t>;

// The same for z, or for one sample of it.
struct Places {
  int64_t offset;
  int64_t between_samples;  // from an element to that of the next sample
  Layout layout;

  Places(const PlaceList& list, const Shape& shape, bool of_sample) {
    const size_t n = shape.size(), lead = of_sample ? 1 : 0;  // dimensions that shape lacks
    Shape strides(n);
    bool fits = list.size() == 1 + 2 * (lead + n);
    for (size_t d = 0; fits && d < n; ++d) {
      fits = list[1 + 2 * (lead + d)] == shape[d];
      strides[d] = list[2 + 2 * (lead + d)];
    }
    STD_TORCH_CHECK(fits, "vae_ext: places are of another shape");
    offset = list[0];
    between_samples = of_sample ? list[2] : 0;
    layout = Layout(shape, shape.data(), strides.data(), n);
  }

  // Whether they lie side by side.
  bool adjacent() const {
    return layout.ndim() == 0 || (layout.ndim() == 1 && layout.stride(0) == 1);
  }
};

// The arguments by which an op names its noise. `noise` goes first, then the 0-dimensional int64
// tensor `seed`, then `seed_value`. n_samples = 0: no dimension of samples.
struct NoiseArguments {
  MaybeTensor noise, seed;
  int64_t seed_value = 0, stream = 0;
  std::optional<PlaceList> places = std::nullopt;
  int64_t n_samples = 0;

  void check() const {
    if (noise || !seed) return;
    STD_TORCH_CHECK(seed->scalar_type() == ScalarType::Long && seed->numel() == 1,
                    "vae_ext: seed must be a 0-dimensional int64 tensor");
  }

  // z [n_samples, *shape], or [*shape].
  Shape sample_shape(const Shape& shape) const {
    Shape out = shape;
    if (n_samples > 0) out.insert(out.begin(), n_samples);
    return out;
  }
};

inline ScalarType sample_type(const Tensor& mu, const Tensor& logvar) {
  return promote(mu.scalar_type(), logvar.scalar_type());
}

// What the ops of a latent take: mu, the scale in one of its forms (ScaleForm; bounds are a
// logvar's), and what else is asked of them.
struct LatentArguments {
  Tensor mu, scale;
  NoiseArguments noise;
  int64_t form;
  Bounds bounds;
  ResultSpec kl;
  Shape z_shape;

  LatentArguments(Tensor mu_, Tensor scale_, NoiseArguments noise_, int64_t form_ = 0,
                  const Bounds& bounds_ = {}, const ReductionArguments& of_kl = {})
      : mu(std::move(mu_)),
        scale(std::move(scale_)),
        noise(std::move(noise_)),
        form(form_),
        bounds(bounds_),
        kl{ReductionPlan(shape_of(mu), of_kl), sample_type(mu, scale)},
        z_shape(noise.sample_shape(kl.plan.shape)) {
    STD_TORCH_CHECK(0 <= form && form < ScaleForm::kCount, "vae_ext: unknown form");
    STD_TORCH_CHECK(!bounds || form == ScaleForm::kLogvar, "vae_ext: bounds are a logvar's");
  }

  bool is_double() const { return kl.is_double(); }
  Tensor allocate_z() const { return empty_result(z_shape, kl.dtype, mu); }
  Tensor allocate_kl() const { return kl.plan.allocate(kl.dtype, mu); }
  // The output that is not asked for.
  Tensor no_z() const { return empty({0}, kl.dtype, mu); }
  Tensor no_kl() const { return empty({0}, arithmetic_type(kl.dtype), mu); }
};

// Several samples of mu's shape with a log-density of each event.
struct DrawArguments {
  Tensor mu, logvar;
  NoiseArguments noise;
  DrawGradient gradient;
  ReductionPlan plan;    // of mu
  ReductionPlan z_plan;  // of all the samples
  ScalarType dtype;

  DrawArguments(Tensor mu_, Tensor logvar_, NoiseArguments noise_, int64_t event_dims,
                int64_t gradient_)
      : mu(std::move(mu_)),
        logvar(std::move(logvar_)),
        noise(std::move(noise_)),
        gradient(static_cast<DrawGradient>(gradient_)),
        plan(shape_of(mu), {event_dims, static_cast<int64_t>(Reduction::kEvent)}),
        z_plan(noise.sample_shape(plan.shape),
               {event_dims, static_cast<int64_t>(Reduction::kEvent)}),
        dtype(sample_type(mu, logvar)) {
    STD_TORCH_CHECK(samples() >= 1, "vae_ext: n_samples must be at least 1");
    STD_TORCH_CHECK(0 <= gradient_ && gradient_ <= 2, "vae_ext: unknown gradient");
  }

  int64_t samples() const { return noise.n_samples; }
  bool is_double() const { return dtype == ScalarType::Double; }

  // z, log q, log p and, where the samples can be weighted, zeros.
  std::array<Tensor, 4> allocate() const {
    const bool weighted = gradient == DrawGradient::kStickingTheLanding;
    Tensor weights = weighted ? z_plan.allocate(dtype, mu) : empty({0}, arithmetic_type(dtype), mu);
    return {empty_result(z_plan.shape, dtype, mu), z_plan.allocate(dtype, mu),
            z_plan.allocate(dtype, mu), torch::stable::fill_(weights, 0.0)};
  }
};

}  // namespace vae_ext
