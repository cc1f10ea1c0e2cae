// The log-density of a mixture of diagonal Gaussians and its gradients: a block to an event, whose
// threads take the components, or to a component, whose threads take the events. Nothing of the
// size events x components is in memory: what a component weighs is computed again for each
// gradient, a chunk at a time in shared memory.
#include "mixture.cuh"

namespace vae_ext {
namespace {

constexpr int kShares = 1024;  // of a block, in shared memory

// The largest of a block, in every thread; NaN counts as small.
VAE_EXT_DEVICE double block_largest(double x) {
  __shared__ double warps[kThreads / 32];
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    const double other = __shfl_xor_sync(0xffffffffu, x, mask);
    x = other > x ? other : x;
  }
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kThreads / 32; ++w) x = warps[w] > x ? warps[w] : x;
  __syncthreads();  // before the next call writes there
  return x;
}

// A block to an event of a group.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    density_kernel(VAE_EXT_PARAMETER Mixture<T> m, T* value, double* wide) {
  const int64_t row = blockIdx.x / m.groups, group = blockIdx.x % m.groups;
  // So low that nothing is below it but -inf, from which it can be subtracted.
  double most = -0x1.fffffffffffffp+1023;
  T others = T(0);
  for (int64_t k = threadIdx.x; k < m.components; k += kThreads) {
    const double term = m.term(row, k, group);
    const T e = exp_beside_one(static_cast<T>(-fabs(term - most)));
    others = term > most ? multiply_add(others, e, T(1)) : others + e;
    most = term > most ? term : most;
  }
  const double largest = block_largest(most);
  const double sum =
      block_sum(static_cast<double>(others * exp_beside_one(static_cast<T>(most - largest))));
  if (threadIdx.x != 0) return;
  const double found = largest + log(sum);
  wide[blockIdx.x] = found;
  value[blockIdx.x] = static_cast<T>(found);
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

VAE_EXT_DEVICE double warp_sum(double x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) x += __shfl_xor_sync(0xffffffffu, x, mask);
  return x;
}

// A block to an event of a group, a warp to a dimension: out [events][groups][dims].
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    by_z_kernel(VAE_EXT_PARAMETER Mixture<T> m, VAE_EXT_PARAMETER Incoming in, double* out) {
  __shared__ T shares[kShares];
  const int64_t row = blockIdx.x / m.groups, group = blockIdx.x % m.groups;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  double* const sums = out + static_cast<int64_t>(blockIdx.x) * m.dims;
  for (int64_t first = 0; first < m.components; first += kShares) {
    const int n = static_cast<int>(smaller(kShares, m.components - first));
    for (int k = static_cast<int>(threadIdx.x); k < n; k += kThreads) {
      shares[k] = share(m, in, row, first + k, group);
    }
    __syncthreads();
    for (int64_t d = warp; d < m.dims; d += kThreads / 32) {
      const int64_t at = (group * m.dims + d) * m.components + first;
      const T x = m.z[(group * m.dims + d) * m.rows + row];
      T sum = T(0);
      for (int k = lane; k < n; k += 32) {
        const T s = m.inverse[at + k];
        sum = multiply_add(shares[k] * s, (m.means[at + k] - x) * s, sum);
      }
      const double total = warp_sum(static_cast<double>(sum));
      if (lane == 0) sums[d] = first == 0 ? total : sums[d] + total;
    }
    __syncthreads();
  }
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

// What the parameters' gradients are added up in: by parts of the events.
struct Parts {
  double *by_mean, *by_logvar;  // [parts][groups][dims][components]
  double* by_weight;            // [parts][groups][components]
  int64_t size;                 // events of each
};

// A block to a component of a group and a part of the events, a warp to a dimension.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    by_parameters_kernel(VAE_EXT_PARAMETER Mixture<T> m, VAE_EXT_PARAMETER Incoming in,
                         VAE_EXT_PARAMETER Parts parts) {
  __shared__ T shares[kShares];
  const int64_t component = blockIdx.x % m.components, rest = blockIdx.x / m.components;
  const int64_t group = rest % m.groups, part = rest / m.groups;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int64_t begin = part * parts.size, end = smaller(begin + parts.size, m.rows);
  double weight = 0;
  for (int64_t first = begin; first < end; first += kShares) {
    const int n = static_cast<int>(smaller(kShares, end - first));
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
      shares[i] = share(m, in, first + i, component, group);
      weight += static_cast<double>(shares[i]);
    }
    __syncthreads();
    for (int64_t d = warp; d < m.dims; d += kThreads / 32) {
      const int64_t of_group = group * m.dims + d, at = of_group * m.components + component;
      const T mean = m.means[at], s = m.inverse[at];
      T by_mean = T(0), by_logvar = T(0);
      for (int i = lane; i < n; i += 32) {
        const T t = (m.z[of_group * m.rows + first + i] - mean) * s;
        by_mean = multiply_add(shares[i], t, by_mean);
        by_logvar = multiply_add(shares[i], multiply_add(t, t, T(-1)), by_logvar);
      }
      const double of_mean = warp_sum(static_cast<double>(by_mean));
      const double of_logvar = warp_sum(static_cast<double>(by_logvar));
      if (lane != 0) continue;
      const int64_t to = part * m.groups * m.dims * m.components + at;
      const double before[] = {first == begin ? 0 : parts.by_mean[to],
                               first == begin ? 0 : parts.by_logvar[to]};
      parts.by_mean[to] = before[0] + of_mean * static_cast<double>(s);
      parts.by_logvar[to] = before[1] + 0.5 * of_logvar;
    }
    __syncthreads();
  }
  weight = block_sum(weight);
  if (threadIdx.x == 0) parts.by_weight[blockIdx.x] = weight;
  if (begin < end) return;
  for (int64_t d = threadIdx.x; d < m.dims; d += kThreads) {
    const int64_t to = ((part * m.groups + group) * m.dims + d) * m.components + component;
    parts.by_mean[to] = parts.by_logvar[to] = 0;
  }
}

// The sum of parts [parts][numel], where it belongs in `to`: as [groups][dims][n], or in the order
// of to itself.
template <bool kTurned>
__global__ void __launch_bounds__(kThreads, 1)
    finish_kernel(const double* parts, int64_t count, int64_t numel, Cube to) {
  const int64_t i = place_of_thread();
  if (i >= numel) return;
  double sum = 0;
  for (int64_t p = 0; p < count; ++p) sum += parts[p * numel + i];
  if (kTurned) {
    to.write(to.turned(i), sum);
  } else {
    const int64_t row = i / to.dims;
    to.write({row / to.groups, row % to.groups, i - row * to.dims}, sum);
  }
}

// ---- Ops --------------------------------------------------------------------------------------

template <class T>
void forward(const MixtureArguments& a, const std::array<Tensor, 2>& out) {
  const Launcher launcher(a.z);
  const Turned<T> turned(launcher, a);
  launcher(density_kernel<T>, a.rows * a.groups, turned.mixture(), data_of<T>(out[0]),
           data_of<double>(out[1]));
}

template <class T>
void backward(const MixtureIncoming& from, const MixtureArguments& a, OutputMask mask,
              const std::array<Tensor, 4>& out) {
  const Launcher launcher(a.z);
  const Turned<T> turned(launcher, a);
  const Incoming in{static_cast<char*>(const_cast<void*>(from.grad.const_data_ptr())),
                    storage_of(from.grad.scalar_type()), from.grad.strides()[0],
                    from.grad.strides()[1], data_of<double>(from.log_sum)};
  const auto finish = [&](auto kernel, const Tensor& parts, int64_t count, const Cube& to) {
    launcher(kernel, ceil_div(to.numel(), kThreads), data_of<const double>(parts), count,
             to.numel(), to);
  };
  if (mask[0]) {
    const Tensor sums = workspace(a.rows * a.groups * a.dims, ScalarType::Double, a.z);
    launcher(by_z_kernel<T>, a.rows * a.groups, turned.mixture(), in, data_of<double>(sums));
    finish(finish_kernel<false>, sums, 1, Cube(out[0]));
  }
  const bool by_row = a.weights_by_row();
  if (mask[3] && by_row) {
    launcher(by_row_weights_kernel<T>, ceil_div(a.rows * a.components, kThreads), turned.mixture(),
             in, Cube(torch::stable::unsqueeze(out[3], 0)));
  }
  if (!mask[1] && !mask[2] && (!mask[3] || by_row)) return;
  const int64_t units = a.groups * a.components, size = units * a.dims;
  const int64_t wanted = std::min(ceil_div(SumPlan::kFewBlocks, std::max<int64_t>(units, 1)),
                                  std::max<int64_t>(1, ceil_div(a.rows, kShares)));
  const int64_t of_part = ceil_div(std::max<int64_t>(a.rows, 1), wanted);
  const int64_t count = ceil_div(std::max<int64_t>(a.rows, 1), of_part);
  const Tensor by_mean = workspace(count * size, ScalarType::Double, a.z);
  const Tensor by_logvar = workspace(count * size, ScalarType::Double, a.z);
  const Tensor by_weight = workspace(count * units, ScalarType::Double, a.z);
  const Parts parts{data_of<double>(by_mean), data_of<double>(by_logvar),
                    data_of<double>(by_weight), of_part};
  launcher(by_parameters_kernel<T>, count * units, turned.mixture(), in, parts);
  if (mask[1]) finish(finish_kernel<true>, by_mean, count, Cube(out[1]));
  if (mask[2]) finish(finish_kernel<true>, by_logvar, count, Cube(out[2]));
  if (mask[3] && !by_row) {  // [1, components], of all groups
    const Tensor cube = torch::stable::unsqueeze(out[3], 0);
    finish(finish_kernel<false>, by_weight, count * a.groups, Cube(cube));
  }
}

#include "../ops/mixture_ops.inl"

}  // namespace
}  // namespace vae_ext

STABLE_TORCH_LIBRARY_IMPL(vae_ext, VAE_EXT_DISPATCH_KEY, m) { VAE_EXT_REGISTER_MIXTURE(m) }
