// Sums over events, of groups in float and of all else in double, in an order that depends on the
// shape and the layout alone: no atomics. Small events share a block, which keeps their terms in
// shared memory; a large one is cut into chunks, a block each, whose sums a second kernel adds.
#pragma once

#include <array>

#include "map.cuh"

namespace vae_ext {

// Where sums go: element e of a contiguous tensor, or of the chunks' workspace, which is double.
struct SumOut {
  char* data;
  Storage storage;
  double scale;

  VAE_EXT_DEVICE void write(int64_t e, double sum) const {
    write_element<double>(data, storage, e, sum * scale);
  }
};
template <int kSums>
struct SumOuts {
  SumOut sum[kSums];
};

// The sum over a block, in its first thread.
VAE_EXT_DEVICE double block_sum(double x) {
  __shared__ double warps[kThreads / 32];
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) x += __shfl_xor_sync(0xffffffffu, x, mask);
  const unsigned thread = threadIdx.x;
  if (thread % 32 == 0) warps[thread / 32] = x;
  __syncthreads();
  double total = 0;
  if (thread == 0) {
#pragma unroll
    for (int w = 0; w < kThreads / 32; ++w) total += warps[w];
  }
  __syncthreads();  // before the next sum writes there
  return total;
}

// What a thread has summed of each of a body's terms.
template <int kSums>
struct ThreadSums {
  double sum[kSums] = {};

  // A group's terms, as floats: in pairs, which costs three roundings at most. What a float does
  // not hold the double may.
  template <class T, int kWidth>
  VAE_EXT_DEVICE void add(int k, const T (&terms)[kWidth]) {
    if constexpr (sizeof(T) == sizeof(float) && kWidth > 1) {
      T pairs[kWidth];
#pragma unroll
      for (int j = 0; j < kWidth; ++j) pairs[j] = terms[j];
#pragma unroll
      for (int half = kWidth / 2; half > 0; half /= 2) {
#pragma unroll
        for (int j = 0; j < half; ++j) pairs[j] += pairs[j + half];
      }
      if (fabs(pairs[0]) < T(INFINITY)) {
        sum[k] += static_cast<double>(pairs[0]);
        return;
      }
    }
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sum[k] += static_cast<double>(terms[j]);
  }
};

// A block per chunk of an event: blocks [event * chunks + chunk].
template <class V, class Body>
__global__ void __launch_bounds__(kThreads, kMinBlocks<V, Body>)
    sum_chunks_kernel(VAE_EXT_PARAMETER Body body, VAE_EXT_PARAMETER SumPlan plan,
                      VAE_EXT_PARAMETER SumOuts<Body::kSums> outs) {
  constexpr int W = V::kWidth;
  const auto chunks = static_cast<unsigned>(plan.chunks), event = blockIdx.x / chunks;
  const int64_t event_start = event * plan.event_size;
  const int64_t begin = event_start + (blockIdx.x - event * chunks) * plan.chunk_size;
  const int64_t end = smaller(begin + plan.chunk_size, event_start + plan.event_size);
  // Groups are aligned: those inside, then the elements at either end, a thread for each.
  const int64_t first = smaller((begin + W - 1) / W * W, end);
  const int64_t last = first + (end - first) / W * W;
  const int groups = static_cast<int>((last - first) / W), head = static_cast<int>(first - begin);
  const int units = groups + head + static_cast<int>(end - last);
  ThreadSums<Body::kSums> sums;
#pragma unroll 1
  for (int u = static_cast<int>(threadIdx.x); u < units; u += kThreads) {
    const int at_end = u - groups;
    const int64_t start = at_end < 0      ? first + int64_t{W} * u
                          : at_end < head ? begin + at_end
                                          : last + (at_end - head);
    run_elements<V>(body, start, at_end < 0 ? W : 1, sums);
  }
#pragma unroll
  for (int k = 0; k < Body::kSums; ++k) {
    const double total = block_sum(sums.sum[k]);
    if (threadIdx.x == 0) outs.sum[k].write(blockIdx.x, total);
  }
}

// A block per event: the sum of its chunks.
template <class = void>
__global__ void __launch_bounds__(kThreads, 1)
    add_chunks_kernel(const double* partial, int chunks, SumOut out) {
  double sum = 0;
  for (int c = static_cast<int>(threadIdx.x); c < chunks; c += kThreads) {
    sum += partial[static_cast<int64_t>(blockIdx.x) * chunks + c];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) out.write(blockIdx.x, sum);
}

// A block for several small events, each of whole units: what the terms of a unit add up to is kept
// until those of its event are added.
template <class V, class Body>
__global__ void __launch_bounds__(kThreads, kMinBlocks<V, Body>)
    sum_events_kernel(VAE_EXT_PARAMETER Body body, VAE_EXT_PARAMETER SumPlan plan,
                      VAE_EXT_PARAMETER SumOuts<Body::kSums> outs) {
  constexpr int W = V::kWidth, kSums = Body::kSums;
  constexpr int kUnits =
      kTileSums / kSums < SumPlan::kMostUnits ? kTileSums / kSums : int{SumPlan::kMostUnits};
  __shared__ double tile[kSums][kUnits];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * plan.events_per_block;
  const int events = static_cast<int>(smaller(plan.events_per_block, plan.n_events - first));
  const int64_t begin = first * plan.event_size;
  const int units = events * plan.units;
#pragma unroll 1
  for (int u = static_cast<int>(threadIdx.x); u < units; u += kThreads) {
    ThreadSums<kSums> sums;
    const int64_t start = begin + int64_t{W} * u;
    run_elements<V>(body, start, W, sums);
    const auto event = static_cast<int>(static_cast<uint64_t>(u) * plan.magic >> 32);
    const int place = u + (plan.pitch - plan.units) * event;
#pragma unroll
    for (int k = 0; k < kSums; ++k) tile[k][place] = sums.sum[k];
  }
  __syncthreads();
  // A sum of an event to so many lanes. Warps without one leave; of the others all lanes take part,
  // as shuffles want it.
  const int lanes = plan.lanes, thread = static_cast<int>(threadIdx.x);
  const int count = events * kSums, step = kThreads / lanes, lane = thread % lanes;
  for (int i = thread / lanes; i - (thread % 32) / lanes < count; i += step) {
    const int event = i / kSums, k = i % kSums;
    double sum = 0;
    if (i < count) {
      const double* terms = tile[k] + event * plan.pitch;
#pragma unroll 2
      for (int u = lane; u < plan.units; u += lanes) sum += terms[u];
    }
#pragma unroll 1
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    }
    if (i < count && lane == 0) outs.sum[k].write(first + event, sum);
  }
}

// Runs a body whose first outputs are summed over `n_events` runs of `event_size` elements, each
// into a contiguous tensor [n_events] and multiplied by its scale. kShared: small events may share
// a block, which takes a kernel more.
template <bool kShared, size_t kSums, class Make>
void launch_sums(const Launcher& launcher, int64_t n_events, int64_t event_size, ScalarType lead,
                 bool is_double, const std::array<Tensor, kSums>& outs,
                 const std::array<double, kSums>& scales, Make make) {
  SumOuts<kSums> final{};
  for (size_t k = 0; k < kSums; ++k) {
    final.sum[k] = {static_cast<char*>(outs[k].data_ptr()), storage_of(outs[k].scalar_type()),
                    scales[k]};
  }
  // Of small events groups must not have elements of two.
  const bool small = kShared && event_size <= SumPlan::kSmallEvent;
  with_variant(lead, is_double, small ? event_size : 8, make, [&](auto variant, const auto& body) {
    using V = decltype(variant);
    using Body = std::decay_t<decltype(body)>;
    const SumPlan plan(n_events, event_size, V::kWidth, kSums, kShared);
    if constexpr (kShared) {
      if (plan.shares_blocks()) {
        return launcher(sum_events_kernel<V, Body>, plan.blocks(), body, plan, final);
      }
    }
    if (plan.chunks == 1) {
      return launcher(sum_chunks_kernel<V, Body>, plan.blocks(), body, plan, final);
    }
    const Tensor workspace =
        empty({static_cast<int64_t>(kSums), plan.blocks()}, ScalarType::Double, outs[0]);
    auto* partial = static_cast<double*>(workspace.data_ptr());
    SumOuts<kSums> of_chunks{};
    for (size_t k = 0; k < kSums; ++k) {
      double* own = partial + static_cast<int64_t>(k) * plan.blocks();
      of_chunks.sum[k] = {reinterpret_cast<char*>(own), Storage::kDouble, 1.0};
    }
    launcher(sum_chunks_kernel<V, Body>, plan.blocks(), body, plan, of_chunks);
    for (size_t k = 0; k < kSums; ++k) {
      launcher(add_chunks_kernel<>, n_events,
               static_cast<const double*>(partial + static_cast<int64_t>(k) * plan.blocks()),
               plan.chunks, final.sum[k]);
    }
  });
}

// An elementwise value, stored or summed as the plan says. fill(body, width) gives a Body<kSums>,
// whose first output is the value, its inputs.
template <template <int> class Body, class Fill>
Tensor reduced(const Launcher& launcher, const ReductionPlan& plan, ScalarType dtype,
               const Tensor& lead, Fill fill) {
  Tensor out = plan.allocate(dtype, lead);
  const bool is_double = dtype == ScalarType::Double;
  const bool none = plan.reduction == Reduction::kNone;
  if (none || (!plan.scalar() && plan.event_size == 1)) {
    launch_elementwise(launcher, plan.numel, lead.scalar_type(), is_double, [&](int width) {
      Body<0> body;
      fill(body, width);
      const Shape flat{plan.numel};
      body.set(0, none ? Operand(out, plan.shape, width) : Operand(out, flat, flat, {1}, width));
      return body;
    });
    return out;
  }
  const bool all = plan.scalar();
  launch_sums<true, 1>(launcher, all ? 1 : plan.n_events, all ? plan.numel : plan.event_size,
                       lead.scalar_type(), is_double, {out}, {plan.scale()}, [&](int width) {
                         Body<1> body;
                         fill(body, width);
                         return body;
                       });
  return out;
}

}  // namespace vae_ext
