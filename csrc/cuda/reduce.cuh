// Sums over events, in double and in an order that depends on the shape alone: no atomics. Small
// events share a block, which keeps their terms in shared memory; a large one is cut into chunks,
// a block each, whose sums a second kernel adds.
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

VAE_EXT_DEVICE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

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

// A block per chunk of an event: blocks [event * chunks + chunk].
template <class V, class Body>
__global__ void __launch_bounds__(kThreads, kMinBlocks<V, Body>)
    sum_chunks_kernel(VAE_EXT_PARAMETER Body body, VAE_EXT_PARAMETER SumPlan plan,
                      VAE_EXT_PARAMETER SumOuts<Body::kSums> outs) {
  const int64_t event = blockIdx.x / plan.chunks;
  const int64_t begin = event * plan.event_size + blockIdx.x % plan.chunks * plan.chunk_size;
  const int64_t end = smaller(begin + plan.chunk_size, (event + 1) * plan.event_size);
  double sums[Body::kSums] = {};
  // Groups are aligned, so that the first may begin before the piece does.
  for (int64_t start = begin - begin % V::kWidth + int64_t{V::kWidth} * threadIdx.x; start < end;
       start += int64_t{V::kWidth} * kThreads) {
    const Span span = span_at<V>(start, begin, end);
    typename V::T terms[Body::kSums][V::kWidth];
    body.template run<V>(span, terms);
#pragma unroll
    for (int k = 0; k < Body::kSums; ++k) {
#pragma unroll
      for (int j = 0; j < V::kWidth; ++j) {
        if (span.lo <= j && j < span.hi) sums[k] += static_cast<double>(terms[k][j]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < Body::kSums; ++k) {
    const double total = block_sum(sums[k]);
    if (threadIdx.x == 0) outs.sum[k].write(blockIdx.x, total);
  }
}

// A block per event: the sum of its chunks.
template <class = void>
__global__ void __launch_bounds__(kThreads, 1)
    add_chunks_kernel(const double* partial, int64_t chunks, SumOut out) {
  double sum = 0;
  for (int64_t c = threadIdx.x; c < chunks; c += kThreads) {
    sum += partial[blockIdx.x * chunks + c];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) out.write(blockIdx.x, sum);
}

// A block for several small events.
template <class V, class Body>
__global__ void __launch_bounds__(kThreads, kMinBlocks<V, Body>)
    sum_events_kernel(VAE_EXT_PARAMETER Body body, VAE_EXT_PARAMETER SumPlan plan,
                      VAE_EXT_PARAMETER SumOuts<Body::kSums> outs) {
  static_assert(Body::kSums == 1);
  using T = typename V::T;
  __shared__ T tile[kTileElements];
  const int64_t first = blockIdx.x * plan.events_per_block;
  const int64_t last = smaller(first + plan.events_per_block, plan.n_events);
  const int64_t begin = first * plan.event_size;
  const int64_t end = last * plan.event_size;
  for (int64_t start = begin - begin % V::kWidth + int64_t{V::kWidth} * threadIdx.x; start < end;
       start += int64_t{V::kWidth} * kThreads) {
    const Span span = span_at<V>(start, begin, end);
    T terms[1][V::kWidth];
    body.template run<V>(span, terms);
#pragma unroll
    for (int j = 0; j < V::kWidth; ++j) {
      if (span.lo <= j && j < span.hi) tile[start - begin + j] = terms[0][j];
    }
  }
  __syncthreads();
  const int lanes = plan.lanes;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  // All threads take part in every round, as shuffles want it.
  for (int64_t round = first; round < last; round += kThreads / lanes) {
    const int64_t event = round + static_cast<int>(threadIdx.x) / lanes;
    double sum = 0;
    if (event < last) {
      const T* terms = tile + (event - first) * plan.event_size;
      for (int64_t i = lane; i < plan.event_size; i += lanes) sum += static_cast<double>(terms[i]);
    }
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, mask);
    }
    if (event < last && lane == 0) outs.sum[0].write(event, sum);
  }
}

// Runs a body whose first outputs are summed over `n_events` runs of `event_size` elements, each
// into a contiguous tensor [n_events] and multiplied by its scale. kShared says whether small
// events may share a block: only one sum can, and one event need not.
template <bool kShared, size_t kSums, class Make>
void launch_sums(const Launcher& launcher, int64_t n_events, int64_t event_size, ScalarType lead,
                 bool is_double, const std::array<Tensor, kSums>& outs,
                 const std::array<double, kSums>& scales, Make make) {
  const SumPlan plan(n_events, event_size, kShared);
  const bool two_steps = plan.chunks > 1;
  Tensor workspace =
      empty({two_steps ? int64_t{kSums} * plan.blocks() : 0}, ScalarType::Double, outs[0]);
  auto* partial = static_cast<double*>(workspace.data_ptr());
  SumOuts<kSums> final{}, first{};
  for (size_t k = 0; k < kSums; ++k) {
    final.sum[k] = {static_cast<char*>(outs[k].data_ptr()), storage_of(outs[k].scalar_type()),
                    scales[k]};
    char* of_chunks = reinterpret_cast<char*>(partial + static_cast<int64_t>(k) * plan.blocks());
    first.sum[k] = two_steps ? SumOut{of_chunks, Storage::kDouble, 1.0} : final.sum[k];
  }
  with_variant(lead, is_double, make, [&](auto variant, const auto& body) {
    using V = decltype(variant);
    using Body = std::decay_t<decltype(body)>;
    if constexpr (kShared) {
      if (plan.shares_blocks())
        return launcher(sum_events_kernel<V, Body>, plan.blocks(), body, plan, first);
    }
    launcher(sum_chunks_kernel<V, Body>, plan.blocks(), body, plan, first);
  });
  if (!two_steps) return;
  for (size_t k = 0; k < kSums; ++k) {
    const auto* of_chunks = reinterpret_cast<const double*>(first.sum[k].data);
    launcher(add_chunks_kernel<>, n_events, of_chunks, plan.chunks, final.sum[k]);
  }
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
