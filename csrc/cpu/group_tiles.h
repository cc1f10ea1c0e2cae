// Tensors [count, *elements] as tiles, one of each of their first entries.
#pragma once

#include <memory>

#include "chunks.h"

namespace vae_ext {

// A tensor [count, *elements], whose first dimension is of tiles.
struct GroupTensor {
  char* data;
  Storage storage;
  Layout layout;  // of the elements
  int count;
  int64_t between;  // from one tile to the next

  // lead: whether the first dimension is the tiles'; else there is one.
  GroupTensor(const Tensor& t, const Shape& elements, bool lead)
      : data(static_cast<char*>(const_cast<void*>(t.const_data_ptr()))),
        storage(storage_of(t.scalar_type())),
        layout(elements, t.sizes().data() + lead, t.strides().data() + lead, elements.size()),
        count(lead ? static_cast<int>(t.sizes()[0]) : 1),
        between(lead ? t.strides()[0] : 0) {}

  bool in_rows() const { return between == 1 && count > 1; }

  char* at(int64_t offset) const { return data + offset * size_of(storage); }

  // Whether a tile of T lies in place, from the returned offset on.
  template <class T>
  bool in_place(int64_t start, int n, int64_t* offset) const {
    return storage == kStorageOf<T> && layout.adjacent(start, n, offset);
  }
};

// A tile of every entry, and the pointers to them: in place, or in buffers. Where the entries of an
// element lie side by side, they are turned round on the way.
template <class T>
class Tiles {
 public:
  explicit Tiles(int count) : tiles_(new T*[count]), count_(count) {}

  const T* const* inputs() const { return const_cast<const T* const*>(tiles_.get()); }
  T* const* outputs() const { return tiles_.get(); }

  void read(const GroupTensor& from, int64_t start, int n) {
    if (place(from, start, n)) return;
    const auto& k = kernels<T>();
    from.layout.for_each_run(start, n, [&](int64_t offset, int64_t stride, int at, int count) {
      if (!from.in_rows()) {
        for (int j = 0; j < count_; ++j) {
          k.load(count, from.storage, from.at(offset + j * from.between), stride, tiles_[j] + at);
        }
        return;
      }
      for (int i = 0; i < count; ++i) {
        k.load(count_, from.storage, from.at(offset + i * stride), 1, row());
        for (int j = 0; j < count_; ++j) tiles_[j][at + i] = row()[j];
      }
    });
  }

  // Where to write, in place or in the buffers, which finish() stores.
  void begin(const GroupTensor& to, int64_t start, int n) { in_place_ = place(to, start, n); }
  void finish(const GroupTensor& to, int64_t start, int n) {
    if (in_place_) return;
    const auto& k = kernels<T>();
    to.layout.for_each_run(start, n, [&](int64_t offset, int64_t stride, int at, int count) {
      if (!to.in_rows()) {
        for (int j = 0; j < count_; ++j) {
          k.store(count, to.storage, tiles_[j] + at, to.at(offset + j * to.between), stride);
        }
        return;
      }
      for (int i = 0; i < count; ++i) {
        for (int j = 0; j < count_; ++j) row()[j] = tiles_[j][at + i];
        k.store(count_, to.storage, row(), to.at(offset + i * stride), 1);
      }
    });
  }

 private:
  bool place(const GroupTensor& t, int64_t start, int n) {
    int64_t offset = 0;
    if (t.template in_place<T>(start, n, &offset)) {
      for (int j = 0; j < count_; ++j) {
        tiles_[j] = reinterpret_cast<T*>(t.at(offset + j * t.between));
      }
      return true;
    }
    if (!buffer_) buffer_.reset(new T[static_cast<size_t>(count_) * (kGroupTile + 1)]);
    for (int j = 0; j < count_; ++j) tiles_[j] = buffer_.get() + j * kGroupTile;
    return false;
  }
  T* row() { return buffer_.get() + static_cast<int64_t>(count_) * kGroupTile; }

  std::unique_ptr<T*[]> tiles_;
  std::unique_ptr<T[]> buffer_;
  int count_;
  bool in_place_ = false;
};

}  // namespace vae_ext
