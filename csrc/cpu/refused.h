// A target that is refused, seen by any of the threads and told of after them.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <atomic>

namespace vae_ext {

template <class T>
class Refused {
 public:
  void saw(T target) {
    one_.store(target, std::memory_order_relaxed);
    any_.store(true, std::memory_order_relaxed);
  }

  template <class Words>
  void check(const Words& expected) const {
    STD_TORCH_CHECK(!any_.load(), "target had the value ", one_.load(), ", expected ", expected);
  }

 private:
  std::atomic<T> one_ = T(0);  // the last of them
  std::atomic<bool> any_ = false;
};

}  // namespace vae_ext
