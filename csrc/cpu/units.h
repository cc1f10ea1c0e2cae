// How work is cut: into units at places that depend on the shape alone, whatever the number of
// threads, and units into tiles.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "operand.h"

namespace vae_ext {

constexpr int64_t kUnit = 16 * kTile;  // elements that one thread takes at a time
constexpr int64_t kGrain = 4 * kUnit;  // elements below which a second thread does not pay

// A unit of elements that are each computed `repeats` times, as for so many samples.
inline int64_t unit_of(int64_t repeats) { return std::max<int64_t>(1, 16 / repeats) * kTile; }
inline int64_t grain_of(int64_t unit_size, int64_t repeats) {
  return std::max<int64_t>(1, kGrain / (unit_size * repeats));
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
  const int64_t size = unit_of(repeats);
  const int64_t units = (numel + size - 1) / size;
  torch::stable::parallel_for(0, units, grain_of(size, repeats), [&](int64_t first, int64_t last) {
    for_each_tile(first * size, std::min(last * size, numel), body);
  });
}

// Events as units: runs of whole events, or pieces of a large one. A sum belongs to an event or to
// a piece of it; the pieces' are added in order.
class EventUnits {
 public:
  EventUnits(int64_t n_events, int64_t event_size, int64_t repeats = 1)
      : n_events_(n_events),
        event_size_(event_size),
        repeats_(repeats),
        unit_(unit_of(repeats)),
        pieces_(std::max<int64_t>(1, (event_size + unit_ - 1) / unit_)),
        events_(std::max<int64_t>(1, unit_ / std::max<int64_t>(1, event_size))) {}

  int64_t pieces() const { return pieces_; }  // of each event
  int64_t sums() const { return n_events_ * pieces_; }
  int64_t sums_per_unit() const { return events_; }
  int64_t count() const { return (sums() + events_ - 1) / events_; }

  // body(unit) on all threads.
  template <class Body>
  void parallel(Body body) const {
    const int64_t units = count();
    if (units == 0) return;
    const int64_t size = n_events_ * event_size_ / units + 1;
    torch::stable::parallel_for(0, units, grain_of(size, repeats_),
                                [&](int64_t first, int64_t last) {
                                  for (int64_t unit = first; unit < last; ++unit) body(unit);
                                });
  }

  // tile(start, n) for the tiles of a unit.
  template <class Tile>
  void for_each_tile_of(int64_t unit, Tile tile) const {
    if (pieces_ > 1) {
      const int64_t event_begin = unit / pieces_ * event_size_;
      const int64_t begin = event_begin + unit % pieces_ * unit_;
      return for_each_tile(begin, std::min(begin + unit_, event_begin + event_size_), tile);
    }
    const int64_t first = unit * events_;
    const int64_t last = std::min(first + events_, n_events_);
    for_each_tile(first * event_size_, last * event_size_, tile);
  }

  // stretch(sum, at, count) for each part of a unit's tile that belongs to one sum, numbered within
  // the unit.
  template <class Stretch>
  void for_each_stretch(int64_t unit, int64_t start, int n, Stretch stretch) const {
    if (pieces_ > 1) return stretch(0, 0, n);
    int64_t event = start / event_size_;
    for (int at = 0; at < n; ++event) {  // cut the tile where events end
      const int64_t left = (event + 1) * event_size_ - (start + at);
      const int count = static_cast<int>(std::min<int64_t>(n - at, left));
      stretch(event - unit * events_, at, count);
      at += count;
    }
  }

 private:
  int64_t n_events_, event_size_, repeats_, unit_;
  int64_t pieces_;  // of an event that is larger than a unit
  int64_t events_;  // of a unit that holds several
};

}  // namespace vae_ext
