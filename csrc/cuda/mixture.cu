// The log-density of a mixture of diagonal Gaussians and its gradients: threads have events or
// components, and go through a slice of those on the other side. Nothing of the size events x
// components is in memory: what a component weighs is computed again for each gradient, a chunk at
// a time in shared memory.
#include "deal.cuh"
#include "mixture.cuh"

namespace vae_ext {
namespace {

// Which unit of a group a thread has, and of a part of its partners which slice.
struct Place {
  int64_t unit, group, part;
  bool inside;

  VAE_EXT_DEVICE Place(const Deal& deal, int64_t units, int64_t groups) {
    const int64_t across = (units + deal.units() - 1) / deal.units(), rest = blockIdx.x / across;
    unit = (blockIdx.x - rest * across) * deal.units() + deal.unit();
    inside = unit < units;
    group = rest % groups;
    part = rest / groups;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    density_kernel(VAE_EXT_PARAMETER Mixture<T> m, Deal deal, T* value, double* wide) {
  __shared__ double largest_of[kThreads], sum_of[kThreads];
  const Place place(deal, m.rows, m.groups);
  const int slices = deal.slices();
  // So low that nothing is below it but -inf, from which it can be subtracted.
  double most = -0x1.fffffffffffffp+1023;
  T others = T(0);
  for (int64_t k = deal.slice(); place.inside && k < m.components; k += slices) {
    const double term = m.term(place.unit, k, place.group);
    const T e = exp_beside_one(static_cast<T>(-fabs(term - most)));
    others = term > most ? multiply_add(others, e, T(1)) : others + e;
    most = term > most ? term : most;
  }
  const double largest = deal.all(most, largest_of, Larger());
  const double own = static_cast<double>(others * exp_beside_one(static_cast<T>(most - largest)));
  const double sum = deal.all(own, sum_of, Plus());
  if (deal.slice() != 0 || !place.inside) return;
  const double found = largest + log(sum);
  const int64_t at = place.unit * m.groups + place.group;
  wide[at] = found;
  value[at] = static_cast<T>(found);
}

// What came in for an event of a group.
struct Incoming {
  char* grad;
  Storage storage;
  int64_t by_row, by_group;
  const double* log_sum;
};

// The incoming gradient times what a component weighs.
template <class T>
VAE_EXT_DEVICE T share(const Mixture<T>& m, const Incoming& in, int64_t row, int64_t component,
                       int64_t group) {
  const T g = read_element<T>(in.grad, in.storage, row * in.by_row + group * in.by_group);
  return g * share_of<T>(m.term(row, component, group), in.log_sum[row * m.groups + group]);
}

// A thread to an event and a component: the gradient by the log-weights that each event has of its
// own, which all of its groups share.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    by_row_weights_kernel(VAE_EXT_PARAMETER Mixture<T> m, VAE_EXT_PARAMETER Incoming in, Cube to) {
  const int64_t i = place_of_thread();
  if (i >= m.rows * m.components) return;
  const int64_t row = i / m.components, component = i - row * m.components;
  double sum = 0;
  for (int64_t g = 0; g < m.groups; ++g) {
    sum += static_cast<double>(share(m, in, row, component, g));
  }
  to.write({0, row, component}, sum);
}

// What the gradients of units are added up in, by parts of their partners.
struct Parts {
  double *first, *second;  // [parts][groups][dims][units]: by z; or by mean, and by logvar
  double* by_weight;       // [parts][groups][units], of components
  int64_t size;            // partners of each
};

// Of a thread, in shared memory.
template <class T>
constexpr int kSharesOf = 128 / sizeof(T);

// kOfEvents: by z, the partners being components; else by the components' parameters, the partners
// being events. A thread adds up its own slice, a dimension at a time, and the first of a unit what
// all its slices have.
template <class T, bool kOfEvents>
__global__ void __launch_bounds__(kThreads, 2)
    gradients_kernel(VAE_EXT_PARAMETER Mixture<T> m, VAE_EXT_PARAMETER Incoming in, Deal deal,
                     VAE_EXT_PARAMETER Parts parts) {
  constexpr int kShares = kSharesOf<T>, kSums = kOfEvents ? 1 : 2;
  __shared__ T shares[kShares * kThreads];
  __shared__ double memory[2][kSums][kThreads];
  T* const own = shares + threadIdx.x;
  const int64_t units = kOfEvents ? m.rows : m.components;
  const Place place(deal, units, m.groups);
  const int slice = deal.slice(), slices = deal.slices();
  const bool leads = place.inside && slice == 0;
  const int64_t begin = place.part * parts.size;
  const int64_t end = smaller(begin + parts.size, kOfEvents ? m.components : m.rows);
  const int64_t of_part = (place.part * m.groups + place.group) * units;
  double weight = 0;
  int turn = 0;  // of the memory, so that one barrier a dimension is enough
  int64_t first = begin;
  do {  // once, even if there are no partners: the sums are written
    int n = 0;
    for (int64_t k = first + slice; place.inside && n < kShares && k < end; k += slices) {
      const int64_t row = kOfEvents ? place.unit : k, component = kOfEvents ? k : place.unit;
      const T s = share(m, in, row, component, place.group);
      own[n++ * kThreads] = s;
      if (!kOfEvents) weight += static_cast<double>(s);
    }
    for (int64_t d = 0; d < m.dims; ++d) {
      const int64_t of_group = place.group * m.dims + d;
      const T* const z = m.z + of_group * m.rows;
      const T* const means = m.means + of_group * m.components;
      const T* const inverse = m.inverse + of_group * m.components;
      double sums[kSums];
      double scale = 1;
      if constexpr (kOfEvents) {
        const T x = place.inside ? z[place.unit] : T(0);
        T sum = T(0);
#pragma unroll 4
        for (int i = 0; i < n; ++i) {
          const int64_t k = first + slice + int64_t{i} * slices;
          const T s = inverse[k];
          sum = multiply_add(own[i * kThreads] * s, (means[k] - x) * s, sum);
        }
        sums[0] = static_cast<double>(sum);
      } else {
        const T mean = place.inside ? means[place.unit] : T(0);
        const T s = place.inside ? inverse[place.unit] : T(0);
        T by_mean = T(0), by_logvar = T(0);
#pragma unroll 4
        for (int i = 0; i < n; ++i) {
          const T t = (z[first + slice + int64_t{i} * slices] - mean) * s, w = own[i * kThreads];
          by_mean = multiply_add(w, t, by_mean);
          by_logvar = multiply_add(w, multiply_add(t, t, T(-1)), by_logvar);
        }
        sums[0] = static_cast<double>(by_mean);
        sums[1] = static_cast<double>(by_logvar);
        scale = static_cast<double>(s);
      }
#pragma unroll
      for (int i = 0; i < kSums; ++i) sums[i] = deal.all(sums[i], memory[turn][i], Plus());
      turn ^= 1;
      if (!leads) continue;
      const int64_t to = of_part * m.dims + d * units + place.unit;
      const bool again = first != begin;
      parts.first[to] = (again ? parts.first[to] : 0) + sums[0] * scale;
      if constexpr (!kOfEvents) {
        parts.second[to] = (again ? parts.second[to] : 0) + 0.5 * sums[1];
      }
    }
    first += int64_t{kShares} * slices;
  } while (first < end);
  if constexpr (!kOfEvents) {
    __syncthreads();
    weight = deal.all(weight, memory[0][0], Plus());
    if (leads) parts.by_weight[of_part + place.unit] = weight;
  }
}

// The sum of parts [parts][groups][dims][n] where it belongs. (Of weights, [1, 1, components], the
// order is the same.)
template <class = void>
__global__ void __launch_bounds__(kThreads, 1)
    finish_kernel(const double* parts, int64_t count, int64_t numel, Cube to) {
  const int64_t i = place_of_thread();
  if (i >= numel) return;
  double sum = 0;
  for (int64_t p = 0; p < count; ++p) sum += parts[p * numel + i];
  to.write(to.turned(i), sum);
}

// ---- Ops --------------------------------------------------------------------------------------

template <class T>
void forward(const MixtureArguments& a, const std::array<Tensor, 2>& out) {
  const Launcher launcher(a.z);
  const Turned<T> turned(launcher, a);
  const Deal deal(a.rows, a.groups, a.components);
  launcher(density_kernel<T>, deal.blocks(a.rows, a.groups), turned.mixture(), deal,
           data_of<T>(out[0]), data_of<double>(out[1]));
}

// What gradients_kernel() makes, and in how many parts.
struct Sums {
  Tensor first, second, by_weight;
  int64_t count;
};

template <class T, bool kOfEvents>
Sums gradients(const Launcher& launcher, const MixtureArguments& a, const Mixture<T>& m,
               const Incoming& in) {
  const int64_t units = kOfEvents ? a.rows : a.components;
  const int64_t partners = std::max<int64_t>(kOfEvents ? a.components : a.rows, 1);
  const Deal deal(units, a.groups, partners);
  const int64_t blocks = deal.blocks(units, a.groups);
  const int64_t chunks = ceil_div(partners, int64_t{deal.slices()} * kSharesOf<T>);
  const int64_t wanted = ceil_div(SumPlan::kFewBlocks, std::max<int64_t>(blocks, 1));
  const int64_t of_part = ceil_div(partners, std::min(wanted, chunks));
  const int64_t count = ceil_div(partners, of_part), size = count * a.groups * units;
  const auto sums = [&](int64_t numel) { return workspace(numel, ScalarType::Double, a.z); };
  Sums found{sums(size * a.dims), sums(kOfEvents ? 0 : size * a.dims), sums(kOfEvents ? 0 : size),
             count};
  const Parts parts{data_of<double>(found.first), data_of<double>(found.second),
                    data_of<double>(found.by_weight), of_part};
  launcher(gradients_kernel<T, kOfEvents>, count * blocks, m, in, deal, parts);
  return found;
}

template <class T>
void backward(const MixtureIncoming& from, const MixtureArguments& a, OutputMask mask,
              const std::array<Tensor, 4>& out) {
  const Launcher launcher(a.z);
  const Turned<T> turned(launcher, a);
  const Mixture<T> m = turned.mixture();
  const Incoming in{static_cast<char*>(const_cast<void*>(from.grad.const_data_ptr())),
                    storage_of(from.grad.scalar_type()), from.grad.strides()[0],
                    from.grad.strides()[1], data_of<double>(from.log_sum)};
  const auto finish = [&](const Tensor& parts, int64_t count, const Cube& to) {
    launcher(finish_kernel<>, ceil_div(to.numel(), kThreads), data_of<const double>(parts), count,
             to.numel(), to);
  };
  if (mask[0]) {
    const Sums sums = gradients<T, true>(launcher, a, m, in);
    finish(sums.first, sums.count, Cube(out[0]));
  }
  const bool by_row = a.weights_by_row();
  if (mask[3] && by_row) {
    launcher(by_row_weights_kernel<T>, ceil_div(a.rows * a.components, kThreads), m, in,
             Cube(torch::stable::unsqueeze(out[3], 0)));
  }
  if (!mask[1] && !mask[2] && (!mask[3] || by_row)) return;
  const Sums sums = gradients<T, false>(launcher, a, m, in);
  if (mask[1]) finish(sums.first, sums.count, Cube(out[1]));
  if (mask[2]) finish(sums.second, sums.count, Cube(out[2]));
  // [1, components], of all groups.
  if (mask[3] && !by_row) {
    finish(sums.by_weight, sums.count * a.groups, Cube(torch::stable::unsqueeze(out[3], 0)));
  }
}

#include "../ops/mixture_ops.inl"

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) { VAE_EXT_REGISTER_MIXTURE(m) }
