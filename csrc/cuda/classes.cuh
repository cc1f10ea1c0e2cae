// Classes: several threads to an element, which read its logits once where they are no more than
// the registers hold. Words moved per logit: one, and with gradients one more.
#pragma once

#include "../ops/groups.h"
#include "deal.cuh"
#include "reduce.cuh"
#include "series.cuh"

namespace vae_ext {

struct Classes {
  static constexpr int kHeld = 32;  // logits of a thread in registers
  static constexpr int kAtOnce = 8;

  Series logits, targets, gradient;
  Operand incoming, weights, out;
  int64_t numel;
  int count;
  bool weighted, wanted;  // the value
  Deal deal;

  // Classes that lie side by side are for neighbouring threads.
  static Deal deal_of(const GroupArguments& a) {
    const bool rows = a.parameters.strides()[0] == 1;
    const int64_t least = ceil_div(a.count, int64_t{kHeld});
    return Deal(a.result.plan.numel, 1, a.count, rows ? std::max<int64_t>(least, 32) : least, rows);
  }

  Classes(const GroupArguments& a, const Tensor* gradients, const Operand& given, const Tensor* to)
      : logits(a.parameters, a.elements(), true),
        targets(a.target, a.elements(), false),
        incoming(given),
        numel(a.result.plan.numel),
        count(static_cast<int>(a.count)),
        weighted(a.weights.has_value()),
        wanted(to != nullptr),
        deal(deal_of(a)) {
    if (gradients) gradient = Series(*gradients, a.elements(), true);
    if (weighted) weights = Operand(*a.weights, a.elements(), 1);
    if (wanted) out = Operand(*to, a.elements(), 1);
  }
};

// A class's logit as exp(logit - most): 1 where it is the largest, even if that is infinite.
template <class T>
VAE_EXT_DEVICE T beside_most(T logit, T most) {
  return logit == most ? T(1) : exp_beside_one(logit - most);
}

// kStorage: of the logits and their gradients, in float arithmetic.
template <class T, Storage kStorage, bool kGradient>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 1 : 2)
    classes_kernel(VAE_EXT_PARAMETER Classes c) {
  using V = Variant<T, 1, Tensors::kAny>;
  constexpr int kHeld = Classes::kHeld, kAtOnce = Classes::kAtOnce;
  __shared__ T largest[kThreads];
  __shared__ double sums[2][kThreads];
  const int64_t element = static_cast<int64_t>(blockIdx.x) * c.deal.units() + c.deal.unit();
  const int slice = c.deal.slice(), slices = c.deal.slices();
  const bool inside = element < c.numel;
  const int64_t at = inside ? element : 0;
  const int count = inside ? c.count : 0;
  const Operand &of_logits = c.logits.first, &of_gradient = c.gradient.first;
  const Storage storage = sizeof(T) == 8 ? of_logits.storage : kStorage;
  const int64_t first = offset_of<V>(of_logits, at);
  const auto logit = [&](int64_t offset) {
    return read_element<T>(of_logits.data, storage, first + offset);
  };
  // Class by class of the thread, and where it is in a tensor: f(the register for its logit, class,
  // offset); then f(class, offset of the logit) of those that have none.
  T held[kHeld];
  const auto each_held = [&](int64_t between, auto f) {
    const int64_t step = slices * between;
    int64_t offset = slice * between;
#pragma unroll
    for (int j = 0; j < kHeld; j += kAtOnce) {
      if (j * slices >= c.count) break;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i, offset += step) {
        f(held[j + i], slice + (j + i) * slices, offset);
      }
    }
  };
  const auto each_other = [&](auto f) {
#pragma unroll 4
    for (int k = slice + kHeld * slices; k < count; k += slices) f(k, k * c.logits.between);
  };

  T most = T(-INFINITY);
  const auto see = [&](T x) { most = x > most ? x : most; };
  each_held(c.logits.between,
            [&](T& x, int k, int64_t offset) { x = k < count ? logit(offset) : T(-INFINITY); });
  each_held(0, [&](T x, int, int64_t) { see(x); });
  each_other([&](int, int64_t offset) { see(logit(offset)); });
  most = c.deal.all(most, largest, Larger());

  // What is added up is not the largest, so that nothing of it is lost beside that; of several as
  // large all but one.
  T others = T(0), as_large = T(0);
  const auto add = [&](T x) {
    const T e = beside_most(x, most);
    others += x == most ? T(0) : e;
    as_large += x == most ? T(1) : T(0);
    return e;
  };
  each_held(0, [&](T& x, int k, int64_t) { x = k < count ? add(x) : T(0); });
  each_other([&](int, int64_t offset) { add(logit(offset)); });
  const double together = c.deal.all(static_cast<double>(others), sums[0], Plus());
  const double times = c.deal.all(static_cast<double>(as_large), sums[1], Plus());
  const LogSum<T> sum{most, static_cast<T>(together + (times - 1.))};

  if (!inside) return;
  const T target = read_element<T>(c.targets.first.data, c.targets.first.storage,
                                   offset_of<V>(c.targets.first, at));
  const bool known = Categorical::is_class(target, static_cast<T>(c.count));
  const int chosen = known ? static_cast<int>(target) : 0;
  T weight[1] = {T(1)};
  if (c.weighted) values<V>(c.weights, Bits(), at, weight);
  if (slice == 0 && c.wanted) {
    const T value = sum.log_share(known ? logit(chosen * c.logits.between) : T(NAN));
    const T weighed[1] = {weight[0] == T(0) ? T(0) : weight[0] * value};
    store<V>(c.out, at, weighed);
  }
  if constexpr (kGradient) {
    T g[1];
    values<V>(c.incoming, Bits(), at, g);
    const bool nothing = weight[0] == T(0);
    const T factor = sum.factor(), by = known ? g[0] * weight[0] : T(NAN);
    const int64_t to = offset_of<V>(of_gradient, at);
    const auto give = [&](T e, int k, int64_t offset) {
      const T share = e * factor, rest = e == T(1) ? sum.others * factor : T(1) - share;
      const T found = k == chosen ? by * rest : -(by * share);
      write_element(of_gradient.data, storage, to + offset, nothing ? T(0) : found);
    };
    each_held(c.gradient.between, [&](T e, int k, int64_t offset) {
      if (k < count) give(e, k, offset);
    });
    each_other([&](int k, int64_t offset) {
      give(beside_most(logit(offset), most), k, k * c.gradient.between);
    });
  }
}

template <class T, Storage kStorage>
void launch_classes(const Launcher& launcher, const Classes& c, bool gradient) {
  const int64_t blocks = c.deal.blocks(c.numel, 1);
  if (gradient) {
    launcher(classes_kernel<T, kStorage, true>, blocks, c);
  } else {
    launcher(classes_kernel<T, kStorage, false>, blocks, c);
  }
}

inline void launch_classes(const Launcher& launcher, const GroupArguments& a, const Classes& c,
                           bool gradient) {
  if (a.is_double()) return launch_classes<double, Storage::kDouble>(launcher, c, gradient);
  switch (c.logits.first.storage) {
    case Storage::kHalf:
      return launch_classes<float, Storage::kHalf>(launcher, c, gradient);
    case Storage::kBFloat16:
      return launch_classes<float, Storage::kBFloat16>(launcher, c, gradient);
    default:
      return launch_classes<float, Storage::kFloat>(launcher, c, gradient);
  }
}

// The sum of what elements have in memory.
struct Same {
  static constexpr int kInputs = 1, kOutputs = 1, kExponents = 0;
  static constexpr int kTarget = -1;
  static constexpr float kLargestTarget = 0;
  static constexpr bool kCostly = false;

  template <ExpRange, class T>
  VAE_EXT_DEVICE static void apply(const T (&in)[1], T (&out)[1]) {
    out[0] = in[0];
  }
};
template <int kSums>
using SumOfSame = Map<Same, kSums>;

// The value, reduced, and where there is a tensor for them the gradients.
inline Tensor classes_of(const GroupArguments& a, const Tensor* gradient, const Operand& incoming) {
  const Launcher launcher(a.parameters);
  const ReductionPlan& plan = a.result.plan;
  const bool none = plan.reduction == Reduction::kNone;
  const ScalarType wide = a.is_double() ? ScalarType::Double : ScalarType::Float;
  const Tensor values =
      none ? plan.allocate(a.result.dtype, a.parameters) : empty(plan.shape, wide, a.parameters);
  launch_classes(launcher, a, Classes(a, gradient, incoming, &values), gradient != nullptr);
  if (none) return values;
  return reduced<SumOfSame>(launcher, plan, a.result.dtype, values, [&](auto& body, int width) {
    body.in[0] = Operand(values, plan.shape, width);
  });
}

}  // namespace vae_ext
