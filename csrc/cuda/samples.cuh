// Tensors and noise of several samples, [n_samples, *shape], by a kernel that runs over [*shape].
#pragma once

#include "noise.cuh"

namespace vae_ext {

// `o` for reading it at multiples of `shift` elements from where it is, too: groups there are
// aligned only if that distance is.
inline Operand shifted(Operand o, int64_t shift, int width) {
  if (shift % width != 0 && o.vectors()) {
    o.size[0] = Divider(static_cast<int64_t>(o.inner.size));
    o.size[1] = Divider();
    o.stride[0] = 1;
    o.stride[1] = o.outer_stride;
    o.ndim = o.access == Access::kRows ? 2 : 1;
    o.access = Access::kStrided;
  }
  return o;
}

// An operand for the first of the samples in `t` [n_samples, *shape], and how far the next one is.
inline Operand first_sample(const Tensor& t, const Shape& shape, int64_t n_samples, int width,
                            int64_t* shift) {
  Shape sizes = shape_of(t), strides = strides_of(t);
  if (n_samples > 0) {
    *shift = strides[0];
    sizes.erase(sizes.begin());
    strides.erase(strides.begin());
  }
  const Operand first(t, shape, sizes, strides, width);
  return n_samples > 1 ? shifted(first, *shift, width) : first;
}

// The noise of a body that runs over one sample's shape.
template <class Body>
void set_noise(Body& body, const NoiseArguments& from, const Shape& shape, int width) {
  body.noise = noise_source(from, shape, from.n_samples > 0, width);
  if (from.noise) {
    body.noise.given = first_sample(*from.noise, shape, from.n_samples, width, &body.noise_shift);
  }
}

// The noise of a sample, whose first has element `place` of the stream for element `start`.
template <class V>
VAE_EXT_DEVICE void noise_of_sample(const NoiseSource& noise, int64_t start, int64_t place,
                                    int64_t sample, int64_t given_shift,
                                    typename V::T (&eps)[V::kWidth]) {
  if (noise.is_given) {
    const int64_t shift = sample * given_shift;
    values<V>(noise.given, fetch<V>(noise.given, start, shift), start, eps, shift);
  } else {
    noise.draw<V>(place + sample * noise.between_samples, eps);
  }
}

// Whether groups of several samples start where the stream's blocks do.
inline bool samples_fit(int64_t n_samples, int64_t numel, int width) {
  return width == 1 || n_samples <= 1 || numel % width == 0;
}

}  // namespace vae_ext
