// Log-likelihoods of an element that has several parameters: the logits of its classes, or those of
// a mixture. The kernels hand them over one by one, since there may be thousands.
//
//   kInputs      parameters and target; kNumbers: numbers that the op takes besides
//   kClasses     whether the target is the number of a parameter; else it has channels, values in
//                [-1, 1], and each of them parameters of its own
//   refused      whether a target is outside of what is taken; NaN is not: it shows in the result
#pragma once

#include "logistic_bin.h"

VAE_EXT_NAMESPACE_BEGIN

// log softmax(logits)[target]
struct Categorical {
  static constexpr int kInputs = 2, kRequired = 2, kNumbers = 0;
  static constexpr bool kClasses = true;  // the target is the number of a parameter

  // Of NaN neither is true.
  template <class T>
  VAE_EXT_INLINE static bool is_class(T target, T classes) {
    return target >= T(0) && target < classes;
  }
  template <class T>
  VAE_EXT_INLINE static bool refused(T target, T classes) {
    return target < T(0) || target >= classes;
  }
};

// log of sum softmax(logits)[m] prod p(target[c]; mean[m, c], log_scale[m, c]): logistic densities
// over the bins of a pixel. With three channels the mean of each is moved by those before it.
struct DiscretizedLogisticMixture {
  static constexpr int kInputs = 2, kRequired = 2, kNumbers = 2;
  static constexpr bool kClasses = false;
  static constexpr int kMaxChannels = 3;

  // Where parameter `which` (mean, log_scale, coefficient) of a mixture's channel is.
  VAE_EXT_INLINE static int slot(int channels, int mixtures, int mixture, int channel, int which) {
    const int kinds = channels == 1 ? 2 : 3;
    return mixtures * (1 + kinds * channel + which) + mixture;
  }
  VAE_EXT_INLINE static int mixtures(int channels, int64_t parameters) {
    return static_cast<int>(parameters / (channels == 1 ? 3 : 10));
  }

  template <class T>
  VAE_EXT_INLINE static bool refused(T target) {
    return fabs(target) > T(1);
  }

  // The middle of the bin that a byte is the number of. It is within [-1, 1] however that is
  // rounded: a product less 1, fused, would be beyond 1 for the last of 256.
  template <class T>
  VAE_EXT_INLINE static T middle_of(T byte, const Bins<T>& bins) {
    return (byte - bins.middle) * (T(2) * bins.half);
  }

  // Of one mixture: mean, log_scale and coefficient of each channel, in that order.
  template <class T, int kChannels>
  struct Component {
    static constexpr int kKinds = kChannels == 1 ? 2 : 3;
    static constexpr int kParameters = kKinds * kChannels;

    // The coefficients: channel 0 has that of 0 in 1, channel 1 that of 0 in 2, and channel 2 that
    // of 1 in 2.
    VAE_EXT_INLINE static void means(const T (&p)[kParameters], const T (&x)[kChannels],
                                     T (&mean)[kChannels], T (&slope)[kChannels]) {
      mean[0] = p[0];
      if constexpr (kChannels == 3) {
        const Tanh<T> of_0_in_1(p[2]), of_0_in_2(p[5]), of_1_in_2(p[8]);
        mean[1] = multiply_add(of_0_in_1.value, x[0], p[3]);
        mean[2] = multiply_add(of_1_in_2.value, x[1], multiply_add(of_0_in_2.value, x[0], p[6]));
        slope[0] = x[0] * of_0_in_1.slope;
        slope[1] = x[0] * of_0_in_2.slope;
        slope[2] = x[1] * of_1_in_2.slope;
      }
    }

    // The compiler leaves out the gradients.
    VAE_EXT_INLINE static T log_probability(const T (&p)[kParameters], const T (&x)[kChannels],
                                            const Bins<T>& bins) {
      T d[kParameters];
      return gradients(p, x, bins, d);
    }

    // The same, and its gradients.
    VAE_EXT_INLINE static T gradients(const T (&p)[kParameters], const T (&x)[kChannels],
                                      const Bins<T>& bins, T (&d)[kParameters]) {
      T mean[kChannels], slope[kChannels], by_mean[kChannels];
      means(p, x, mean, slope);
      LogProduct<T> product{T(0), T(0), T(1)};
      VAE_EXT_UNROLL
      for (int c = 0; c < kChannels; ++c) {
        const LogisticBin<T> bin(x[c], mean[c], p[kKinds * c + 1], bins);
        product = product.with(bin, bins);
        by_mean[c] = bin.by_mean();
        d[kKinds * c] = by_mean[c];
        d[kKinds * c + 1] = bin.by_log_scale();
      }
      if constexpr (kChannels == 3) {
        d[2] = by_mean[1] * slope[0];
        d[5] = by_mean[2] * slope[1];
        d[8] = by_mean[2] * slope[2];
      }
      return product.log();
    }
  };
};

VAE_EXT_NAMESPACE_END
