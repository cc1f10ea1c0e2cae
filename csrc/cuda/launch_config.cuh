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
// groups.cuh; Body::kHeavy and kHeavyWide: how many blocks fewer a body takes that needs more
// registers, in groups of 4 and of 8. Groups of any dtypes take more, too.
template <class V, class Body>
constexpr int kMinBlocks =
    sizeof(typename V::T) == 8
        ? 1
        : 4 - (V::kWidth == 8 ? Body::kHeavyWide : Body::kHeavy) - (V::kWidth > 1 && !V::kPlain);

// The same of kernels that hold a sum for each of their columns.
template <class V>
constexpr int kMinColumnBlocks = sizeof(typename V::T) == 8 ? 1 : 2;

// Blocks with a group of V::kWidth elements for each thread.
template <class V>
int64_t blocks_for(int64_t numel) {
  return ceil_div(numel, int64_t{V::kWidth} * kThreads);
}

// ---- Sums -------------------------------------------------------------------------------------

constexpr int kTileSums = 4096;  // doubles of a block's shared memory

// How the elements are cut up. A unit is what a thread does at once: a group, or an element.
struct SumPlan {
  static constexpr int64_t kFewBlocks = 528;       // four for every multiprocessor of a large card
  static constexpr int64_t kMostUnits = 2048;      // of a block that has small events
  static constexpr int64_t kSmallEvent = 512;      // units
  static constexpr int64_t kChunk = 8 * kThreads;  // units

  int64_t n_events;
  int64_t event_size;
  // Small events: those of one block, their units, and how many lanes add one of them.
  int events_per_block = 0;
  int units = 0;       // of an event
  int pitch = 0;       // from event to event in shared memory: odd, so that banks do not conflict
  uint64_t magic = 0;  // 2^32 / units, rounded up: a unit's event is unit * magic >> 32
  int lanes = 1;
  // Large ones: chunks of an event, and their size.
  int chunks = 1;
  int64_t chunk_size = 0;

  SumPlan(int64_t events, int64_t size, int width, int sums, bool share)
      : n_events(events), event_size(size) {
    const int64_t most = std::min<int64_t>(kMostUnits, kTileSums / std::max(sums, 1));
    const int64_t of_event = size / width;
    if (share && 0 < size && size % width == 0 && of_event <= std::min(kSmallEvent, most)) {
      units = static_cast<int>(of_event);
      pitch = units | 1;
      magic = static_cast<uint64_t>(ceil_div(int64_t{1} << 32, units));
      events_per_block = best_events_per_block(most / pitch);
      while (lanes < 32 && lanes * 16 < units) lanes *= 2;
      return;
    }
    // Few enough units to keep the chip busy, and a multiple of what a block does at once.
    const int64_t round = int64_t{kThreads} * width;
    const int64_t fair = ceil_div(ceil_div(events * size, kManyBlocks), round) * round;
    chunk_size = std::clamp(fair, round, kChunk * width);
    chunks = static_cast<int>(std::max<int64_t>(1, ceil_div(size, chunk_size)));
  }

  bool shares_blocks() const { return events_per_block > 0; }
  int64_t blocks() const {
    return shares_blocks() ? ceil_div(n_events, events_per_block) : n_events * chunks;
  }

 private:
  // Those that leave the fewest threads idle in the last round, while there are blocks enough.
  int best_events_per_block(int64_t most) const {
    most = std::clamp<int64_t>(n_events / kFewBlocks, 1, std::max<int64_t>(most, 1));
    int best = 1;
    double least = 1e30;
    for (int64_t n = 1; n <= most; ++n) {
      const auto rounds = static_cast<double>(ceil_div(n * units, kThreads));
      // A block costs about as much as a quarter of a round.
      const double cost = (rounds + 0.25) / static_cast<double>(n);
      if (cost < least) {
        least = cost;
        best = static_cast<int>(n);
      }
    }
    return best;
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
