// Sums over events or over everything. Each chunk is summed in double in one fixed order, and the
// chunks of an event are added in order: the same bits at every thread count.
#pragma once

#include <vector>

#include "chunks.h"

namespace vae_ext {

// terms(start, n, out) computes n elementwise terms; they are stored, or summed over events or
// over everything, as the plan says. `repeats`: of how many terms' work each is.
template <class T, class Terms>
void reduce_terms(const ReductionPlan& plan, const Tensor& out, Terms terms, int64_t repeats = 1) {
  const Output<T> result(out);
  const bool everything = plan.scalar();
  const int64_t n_events = everything ? 1 : plan.n_events;
  const int64_t event_size = everything ? plan.numel : plan.event_size;

  if (plan.reduction == Reduction::kNone || (!everything && event_size == 1)) {
    const auto tile = [&](int64_t start, int n) {
      alignas(64) T buffer[kTile];
      T* values = result.begin(start, n, buffer);
      terms(start, n, values);
      result.finish(start, n, values, buffer);
    };
    parallel_tiles(plan.numel, tile, repeats);
    return;
  }

  const EventChunks chunks(n_events, event_size, repeats);
  std::vector<double> sums(static_cast<size_t>(chunks.sums()), 0.0);
  chunks.parallel([&](int64_t chunk) {
    const auto& k = kernels<T>();
    alignas(64) T values[kTile];
    double* of_chunk = sums.data() + chunk * chunks.sums_per_chunk();
    chunks.for_each_tile_of(chunk, [&](int64_t start, int n) {
      terms(start, n, values);
      chunks.for_each_sum(chunk, start, n, [&](int64_t i, int at, int count) {
        of_chunk[i] += k.sum(count, values + at);
      });
    });
  });

  const double scale = plan.scale();
  parallel_tiles(n_events, [&](int64_t start, int n) {
    alignas(64) T buffer[kTile];
    T* values = result.begin(start, n, buffer);
    for (int i = 0; i < n; ++i) {
      const double* of_event = sums.data() + (start + i) * chunks.per_event();
      double total = 0;
      for (int64_t c = 0; c < chunks.per_event(); ++c) total += of_event[c];
      values[i] = static_cast<T>(total * scale);
    }
    result.finish(start, n, values, buffer);
  });
}

// Sums over all elements of the terms that body(start, n, terms) computes, kSums of each element:
// the first times the plan's factor, the others as they are. A sum without a tensor is left out.
template <class T, size_t kSums, class Body>
void sum_everything(const ReductionPlan& plan, const std::array<const Tensor*, kSums>& outs,
                    Body body) {
  const int64_t chunks = (plan.numel + kChunk - 1) / kChunk;
  std::vector<std::array<double, kSums>> sums(static_cast<size_t>(chunks));
  if (chunks > 0) {
    torch::stable::parallel_for(0, chunks, kGrain / kChunk, [&](int64_t first, int64_t last) {
      const auto& k = kernels<T>();
      alignas(64) T terms[kSums][kTile];
      for (int64_t chunk = first; chunk < last; ++chunk) {
        auto& sum = sums[static_cast<size_t>(chunk)];
        for_each_tile(chunk * kChunk, std::min((chunk + 1) * kChunk, plan.numel),
                      [&](int64_t start, int n) {
                        body(start, n, terms);
                        for (size_t i = 0; i < kSums; ++i) {
                          if (outs[i]) sum[i] += k.sum(n, terms[i]);
                        }
                      });
      }
    });
  }
  for (size_t i = 0; i < kSums; ++i) {
    if (!outs[i]) continue;
    double total = 0;
    for (const auto& sum : sums) total += sum[i];
    total *= i == 0 ? plan.scale() : 1.0;
    kernels<double>().store(1, storage_of(outs[i]->scalar_type()), &total,
                            outs[i]->mutable_data_ptr(), 1);
  }
}

}  // namespace vae_ext
