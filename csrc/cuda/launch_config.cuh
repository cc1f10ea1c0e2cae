// How kernels are launched: threads of a block, blocks of a grid, and the registers that a kernel
// may take. All of it is here.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vae_ext {

constexpr int kThreads = 256;          // of every block
constexpr int64_t kManyBlocks = 2048;  // more than any chip runs at once

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks that one multiprocessor must have room for, which bounds the registers of a kernel: enough
// loads under way to hide memory's latency, where that takes no spilling. V: a Variant of
// groups.cuh; Body::kHeavy: a body that needs more registers than that leaves.
template <class V, class Body>
constexpr int kMinBlocks = !Body::kHeavy && V::kUniform && sizeof(typename V::T) == 4 ? 3 : 1;

// Blocks with a group of V::kWidth elements for each thread.
template <class V>
int64_t blocks_for(int64_t numel) {
  return ceil_div(numel, int64_t{V::kWidth} * kThreads);
}

// ---- Sums -------------------------------------------------------------------------------------

constexpr int64_t kSmallEvent = 512;     // elements, up to which events share a block
constexpr int64_t kTileElements = 4096;  // of a block's shared memory

// How the elements are cut up.
struct SumPlan {
  int64_t n_events;
  int64_t event_size;
  // Small events: those of one block, and how many lanes add one of them.
  int64_t events_per_block = 0;
  int lanes = 1;
  // Large ones: chunks of an event, and their size.
  int64_t chunks = 1;
  int64_t chunk_size = 0;

  SumPlan(int64_t events, int64_t size, bool share_blocks) : n_events(events), event_size(size) {
    if (share_blocks && 0 < size && size <= kSmallEvent) {
      events_per_block =
          std::clamp<int64_t>(ceil_div(events, kManyBlocks), 1, kTileElements / size);
      while (lanes < 32 && lanes * 8 < size) lanes *= 2;
      return;
    }
    // Multiples of what a block reads at once, few enough per thread to keep the chip busy.
    constexpr int64_t kUnit = 2 * 8 * kThreads;
    const int64_t fair = ceil_div(events * size, kManyBlocks);
    chunk_size = std::clamp<int64_t>(ceil_div(fair, kUnit) * kUnit, kUnit, 4 * kUnit);
    chunks = std::max<int64_t>(1, ceil_div(size, chunk_size));
  }

  bool shares_blocks() const { return events_per_block > 0; }
  int64_t blocks() const {
    return shares_blocks() ? ceil_div(n_events, events_per_block) : n_events * chunks;
  }
};

// ---- Sums by columns ----------------------------------------------------------------------------

// [rows, columns] in blocks of some rows each, a group of columns to a thread.
struct ColumnPlan {
  static constexpr int64_t kFewest = 256;  // columns; fewer would leave most of a block idle

  int64_t rows, columns;
  int64_t blocks_across;
  int64_t height;  // rows of a block
  int64_t down;    // blocks one below the other

  ColumnPlan(int64_t rows_, int64_t columns_, int width)
      : rows(rows_),
        columns(columns_),
        blocks_across(ceil_div(columns, int64_t{width} * kThreads)),
        height(std::max<int64_t>(8, ceil_div(rows * blocks_across, kManyBlocks))),
        down(ceil_div(rows, height)) {}

  int64_t blocks() const { return down * blocks_across; }
};

}  // namespace vae_ext
