// How work is cut: into chunks at places that depend on the shape alone, whatever the number of
// threads, and chunks into tiles.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "operand.h"

namespace vae_ext {

constexpr int64_t kChunk = 16 * kTile;  // elements that one thread takes at a time
constexpr int64_t kGrain = 4 * kChunk;  // elements below which a second thread does not pay

// A chunk of elements that are each computed `repeats` times, as for so many samples or parameters:
// whole tiles, unless a few elements are work enough for a thread.
constexpr int64_t kMany = 256;
inline int64_t chunk_of(int64_t repeats) {
  if (repeats > kMany) return std::max<int64_t>(16, kChunk / repeats);
  return std::max<int64_t>(1, 16 / repeats) * kTile;
}
inline int64_t grain_of(int64_t chunk_size, int64_t repeats) {
  return std::max<int64_t>(1, kGrain / (chunk_size * repeats));
}

// body(start, n) for tiles that cover [begin, end).
template <class Body>
void for_each_tile(int64_t begin, int64_t end, Body body) {
  for (int64_t start = begin; start < end; start += kTile) {
    body(start, static_cast<int>(std::min<int64_t>(kTile, end - start)));
  }
}

// body(start, n) for tiles that cover [0, numel), on all threads.
template <class Body>
void parallel_tiles(int64_t numel, Body body, int64_t repeats = 1) {
  if (numel == 0) return;
  const int64_t size = chunk_of(repeats);
  const int64_t chunks = (numel + size - 1) / size;
  torch::stable::parallel_for(0, chunks, grain_of(size, repeats), [&](int64_t first, int64_t last) {
    for_each_tile(first * size, std::min(last * size, numel), body);
  });
}

// Events in chunks: runs of whole events, or several chunks of a large one. A sum belongs to an
// event or to a chunk of it; those of an event are added in order.
class EventChunks {
 public:
  EventChunks(int64_t n_events, int64_t event_size, int64_t repeats = 1)
      : n_events_(n_events),
        event_size_(event_size),
        repeats_(repeats),
        chunk_(chunk_of(repeats)),
        per_event_(std::max<int64_t>(1, (event_size + chunk_ - 1) / chunk_)),
        events_(std::max<int64_t>(1, chunk_ / std::max<int64_t>(1, event_size))) {}

  int64_t per_event() const { return per_event_; }
  int64_t sums() const { return n_events_ * per_event_; }
  int64_t sums_per_chunk() const { return events_; }
  int64_t count() const { return (sums() + events_ - 1) / events_; }

  // body(chunk) on all threads.
  template <class Body>
  void parallel(Body body) const {
    const int64_t chunks = count();
    if (chunks == 0) return;
    const int64_t size = n_events_ * event_size_ / chunks + 1;
    torch::stable::parallel_for(0, chunks, grain_of(size, repeats_),
                                [&](int64_t first, int64_t last) {
                                  for (int64_t chunk = first; chunk < last; ++chunk) body(chunk);
                                });
  }

  // tile(start, n) for the tiles of a chunk.
  template <class Tile>
  void for_each_tile_of(int64_t chunk, Tile tile) const {
    if (per_event_ > 1) {
      const int64_t event_begin = chunk / per_event_ * event_size_;
      const int64_t begin = event_begin + chunk % per_event_ * chunk_;
      return for_each_tile(begin, std::min(begin + chunk_, event_begin + event_size_), tile);
    }
    const int64_t first = chunk * events_;
    const int64_t last = std::min(first + events_, n_events_);
    for_each_tile(first * event_size_, last * event_size_, tile);
  }

  // body(sum, at, count) for each part of a chunk's tile that belongs to one sum, numbered within
  // the chunk.
  template <class Body>
  void for_each_sum(int64_t chunk, int64_t start, int n, Body body) const {
    if (per_event_ > 1) return body(0, 0, n);
    int64_t event = start / event_size_;
    for (int at = 0; at < n; ++event) {  // cut the tile where events end
      const int64_t left = (event + 1) * event_size_ - (start + at);
      const int count = static_cast<int>(std::min<int64_t>(n - at, left));
      body(event - chunk * events_, at, count);
      at += count;
    }
  }

 private:
  int64_t n_events_, event_size_, repeats_, chunk_;
  int64_t per_event_;  // chunks of an event that is larger than one
  int64_t events_;     // of a chunk that holds several
};

}  // namespace vae_ext
