// Rounding: of arithmetic, to integers, and to 16 bits.
#pragma once

#include <cfenv>

#include "warp.h"

namespace sass {

// .RM, .RP, .RZ
class Rounding {
 public:
  explicit Rounding(const Instruction& i) : changed_(i.has(kDown | kUp | kToZero)) {
    if (changed_) {
      std::fesetround(i.has(kDown) ? FE_DOWNWARD : i.has(kUp) ? FE_UPWARD : FE_TOWARDZERO);
    }
  }
  ~Rounding() {
    if (changed_) std::fesetround(FE_TONEAREST);
  }
  Rounding(const Rounding&) = delete;
  Rounding& operator=(const Rounding&) = delete;

 private:
  bool changed_;
};

// Keeps the compiler from moving arithmetic over a change of the rounding.
template <class T>
void opaque(T& x) {
  asm volatile("" : "+m"(x) : : "memory");
}

template <class T>
T rounded_to_integer(const Instruction& i, T x) {
  return i.has(kTrunc)   ? std::trunc(x)
         : i.has(kFloor) ? std::floor(x)
         : i.has(kCeil)  ? std::ceil(x)
                         : std::nearbyint(x);
}

// Of a float, rounded to nearest even.
uint32_t float16_bits(float x);

}  // namespace sass
