// The ops of groups.def, forward, backward and both in one pass: the parameters of some elements as
// a tile each, for the loops of group_loops.inl, or row by row where that serves.
#include "../ops/groups.h"

#include "gradients.h"
#include "group_tiles.h"
#include "refused.h"

namespace vae_ext {
namespace {

// Runs a likelihood over tiles of elements.
template <class T>
class GroupRun {
 public:
  GroupRun(const GroupKernels<T>& k, const GroupArguments& a, const Tensor* gradient)
      : k_(k),
        a_(a),
        parameters_(a.parameters, a.elements(), true),
        target_(a.target, a.elements(), a.has_channels),
        bins_(a.has_channels ? a.numbers[0] : 2, a.numbers[1]) {
    if (gradient != nullptr) gradient_.emplace(*gradient, a.elements(), true);
    if (a.weights) weights_.emplace(*a.weights, a.elements());
    rows_ = k.run_row != nullptr && parameters_.in_rows();
  }

  // Values of elements [start, start + n), at most a tile, and the gradients for g.
  void operator()(int64_t start, int n, T* values, const T* g) {
    Tiles<T> parameters(parameters_.count), targets(target_.count);
    std::optional<Tiles<T>> gradients;
    if (gradient_) gradients.emplace(gradient_->count);
    const std::unique_ptr<T[]> scratch(new T[static_cast<size_t>(a_.count) * kGroupTile]);
    for (int at = 0; at < n; at += kGroupTile) {
      const int count = std::min(kGroupTile, n - at);
      const int64_t first = start + at;
      targets.read(target_, first, count);
      alignas(64) T weights_buffer[kGroupTile], masked[3][kGroupTile], weighed[kGroupTile];
      const T* weights =
          weights_ ? weights_->tile(first, count, weights_buffer) : static_cast<const T*>(nullptr);
      const T* of_targets[3];
      for (int c = 0; c < target_.count; ++c) {
        of_targets[c] = scaled(count, targets.inputs()[c], masked[c]);
        if (weights == nullptr) continue;
        kernels<T>().mask(count, masked[c], of_targets[c], weights);
        of_targets[c] = masked[c];
      }
      GroupTiles<T> in{parameters_.count, nullptr,           target_.count,
                       of_targets,        a_.numbers.data(), scratch.get()};
      see(count, in);
      const T* incoming = g == nullptr ? nullptr : g + at;
      if (weights != nullptr && incoming != nullptr) {
        for (int i = 0; i < count; ++i) weighed[i] = incoming[i] * weights[i];
        incoming = weighed;
      }
      if (rows_) {
        run_rows(first, count, in, values + at, incoming, weights);
      } else {
        parameters.read(parameters_, first, count);
        in.parameters = parameters.inputs();
        if (gradients) gradients->begin(*gradient_, first, count);
        k_.run(count, in, values + at, gradients ? gradients->outputs() : nullptr, incoming);
        if (gradients) {
          if (weights != nullptr) leave_out(count, *gradients, weights);
          gradients->finish(*gradient_, first, count);
        }
      }
      if (weights != nullptr) kernels<T>().weigh(count, values + at, weights);
    }
  }

  void check(const std::string& expected) const { refused_.check(expected); }

 private:
  // Bytes of an image as the numbers in [-1, 1] that they stand for.
  const T* scaled(int n, const T* target, T* out) const {
    if (!a_.has_channels || target_.storage != Storage::kByte) return target;
    for (int i = 0; i < n; ++i) out[i] = DiscretizedLogisticMixture::middle_of(target[i], bins_);
    return out;
  }

  void see(int n, const GroupTiles<T>& in) {
    if (!k_.any_refused(n, in)) return;
    for (int i = 0; i < n; ++i) {
      for (int c = 0; c < in.targets_count; ++c) {
        const T* one = in.targets[c] + i;
        const GroupTiles<T> single{in.count, nullptr, 1, &one, in.numbers, nullptr};
        if (k_.any_refused(1, single)) refused_.saw(*one);
      }
    }
  }

  // What has weight 0 has no gradient, even if it would be NaN.
  void leave_out(int n, const Tiles<T>& gradients, const T* weights) const {
    for (int i = 0; i < n; ++i) {
      if (weights[i] != T(0)) continue;
      for (int j = 0; j < gradient_->count; ++j) gradients.outputs()[j][i] = T(0);
    }
  }

  void run_rows(int64_t start, int n, const GroupTiles<T>& in, T* values, const T* g,
                const T* weights) const {
    const int count = parameters_.count;
    const bool in_place = parameters_.storage == kStorageOf<T>;
    const auto& k = kernels<T>();
    std::unique_ptr<T[]> buffer(new T[2 * static_cast<size_t>(count)]);
    std::array<int64_t, kGroupTile> of_gradient;
    if (gradient_) {
      gradient_->layout.for_each_run(start, n,
                                     [&](int64_t offset, int64_t stride, int at, int run) {
                                       for (int i = 0; i < run; ++i) {
                                         of_gradient[at + i] = offset + i * stride;
                                       }
                                     });
    }
    parameters_.layout.for_each_run(start, n, [&](int64_t offset, int64_t stride, int at, int run) {
      for (int i = at; i < at + run; ++i) {
        const char* source = parameters_.at(offset + (i - at) * stride);
        const T* row = reinterpret_cast<const T*>(source);
        if (!in_place) {
          k.load(count, parameters_.storage, source, 1, buffer.get());
          row = buffer.get();
        }
        T* d = nullptr;
        char* to = nullptr;
        if (gradient_) {
          to = gradient_->at(of_gradient[i]);
          const bool direct = gradient_->in_rows() && gradient_->storage == kStorageOf<T>;
          d = direct ? reinterpret_cast<T*>(to) : buffer.get() + count;
        }
        k_.run_row(count, row, in.targets[0][i], values + i, d, g == nullptr ? T(0) : g[i]);
        if (d == nullptr) continue;
        if (weights != nullptr && weights[i] == T(0)) k.fill(count, T(0), d);
        if (d == buffer.get() + count) {
          k.store(count, gradient_->storage, d, to, gradient_->between);
        }
      }
    });
  }

  const GroupKernels<T>& k_;
  const GroupArguments& a_;
  GroupTensor parameters_, target_;
  Bins<T> bins_;  // of a target of bytes
  std::optional<GroupTensor> gradient_;
  std::optional<Input<T>> weights_;
  bool rows_ = false;
  Refused<T> refused_;
};

template <class F>
std::string expected_targets(const GroupArguments& a) {
  if (!F::kClasses) return "values in [-1, 1]";
  return "a class of at least 0 and below " + std::to_string(a.count);
}

template <class F, class T>
void value(const GroupKernels<T>& k, const GroupArguments& a, const Tensor& out) {
  GroupRun<T> run(k, a, nullptr);
  reduce_terms<T>(
      a.result.plan, out, [&](int64_t start, int n, T* values) { run(start, n, values, nullptr); },
      a.count);
  run.check(expected_targets<F>(a));
}

template <class T>
void gradients(const GroupKernels<T>& k, const GroupArguments& a, const Tensor& grad,
               const Tensor& found) {
  GroupRun<T> run(k, a, &found);
  const Input<T> incoming = Input<T>::gradient(grad, a.result.plan);
  parallel_tiles(
      a.result.plan.numel,
      [&](int64_t start, int n) {
        alignas(64) T g[kTile], values[kTile];
        run(start, n, values, incoming.tile(start, n, g));
      },
      a.count);
}

template <class F, class T>
void value_and_gradients(const GroupKernels<T>& k, const GroupArguments& a, double expected,
                         const Tensor& out, const Tensor& found) {
  GroupRun<T> run(k, a, &found);
  alignas(64) T g[kTile];
  kernels<T>().fill(kTile, static_cast<T>(expected * a.result.plan.scale()), g);
  reduce_terms<T>(
      a.result.plan, out, [&](int64_t start, int n, T* values) { run(start, n, values, g); },
      a.count);
  run.check(expected_targets<F>(a));
}

// ---- Ops -------------------------------------------------------------------------------------

#define VAE_EXT_GROUP(name, Formula_, ...)    \
  struct name##_op {                          \
    using Formula = Formula_;                 \
    template <class T>                        \
    static const GroupKernels<T>& kernels() { \
      return vae_ext::kernels<T>().name;      \
    }                                         \
  };
#include "../ops/groups.def"

template <class Op>
void forward(Stack& stack) {
  using F = typename Op::Formula;
  const GroupArguments a = take_group<F>(stack);
  const Tensor out = a.result.plan.allocate(a.result.dtype, a.parameters);
  a.is_double() ? value<F>(Op::template kernels<double>(), a, out)
                : value<F>(Op::template kernels<float>(), a, out);
  stack.give(0, out);
}

template <class Op>
void backward(Stack& stack) {
  const auto grad = stack.take<Tensor>();
  const GroupArguments a = take_group<typename Op::Formula>(stack);
  const OutputMask mask(stack.take_int());
  const Tensor found = a.allocate_gradient(mask);
  if (mask[0]) {
    a.is_double() ? gradients(Op::template kernels<double>(), a, grad, found)
                  : gradients(Op::template kernels<float>(), a, grad, found);
  }
  a.give_gradients(stack, 0, found);
}

template <class Op>
void with_gradients(Stack& stack) {
  using F = typename Op::Formula;
  const GroupArguments a = take_group<F>(stack);
  const auto expected = stack.take<double>();
  const OutputMask mask(stack.take_int());
  const Tensor out = a.result.plan.allocate(a.result.dtype, a.parameters);
  const Tensor found = a.allocate_gradient(mask);
  const auto run = [&]<class T>(const GroupKernels<T>& k) {
    mask[0] ? value_and_gradients<F>(k, a, expected, out, found) : value<F>(k, a, out);
  };
  a.is_double() ? run(Op::template kernels<double>()) : run(Op::template kernels<float>());
  stack.give(0, out);
  a.give_gradients(stack, 1, found);
}

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, CPU, m) {
#define VAE_EXT_GROUP(name, ...) VAE_EXT_REGISTER_FORMULA(m, name##_log_likelihood, name##_op)
#include "../ops/groups.def"
}
