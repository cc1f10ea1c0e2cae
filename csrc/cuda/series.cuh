// Tensors whose first dimension is a series of entries for each element.
#pragma once

#include "groups.cuh"

namespace vae_ext {

// A tensor [count, *elements] as its first entry of each element, and how far it is to the next.
struct Series {
  Operand first;
  int64_t between = 0;

  Series() = default;
  Series(const Tensor& t, const Shape& elements, bool lead)
      : first(t, elements, tail(t.sizes(), lead), tail(t.strides(), lead), 1),
        between(lead ? t.strides()[0] : 0) {}

 private:
  template <class Sizes>
  static Shape tail(const Sizes& of, bool lead) {
    return Shape(of.begin() + lead, of.end());
  }
};

// The entries of an element.
template <class T>
class Entries {
 public:
  template <class V>
  VAE_EXT_DEVICE static Entries of(const Series& s, int64_t element) {
    return {s.first.data, s.first.storage, offset_of<V>(s.first, element), s.between};
  }

  VAE_EXT_DEVICE T operator[](int64_t k) const {
    return read_element<T>(data_, storage_, offset_ + k * between_);
  }
  VAE_EXT_DEVICE void set(int64_t k, T value) const {
    write_element(data_, storage_, offset_ + k * between_, value);
  }

 private:
  VAE_EXT_DEVICE Entries(char* data, Storage storage, int64_t offset, int64_t between)
      : data_(data), storage_(storage), offset_(offset), between_(between) {}

  char* data_;
  Storage storage_;
  int64_t offset_, between_;
};

}  // namespace vae_ext
