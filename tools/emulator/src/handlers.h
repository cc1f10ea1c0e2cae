// What each instruction does to a warp; table.cpp says which names which.
#pragma once

#include "warp.h"

namespace sass {

#define SASS_HANDLERS(X)                                                                           \
  X(iadd3)                                                                                         \
  X(imad)                                                                                          \
  X(isetp) X(lea) X(lop3) X(plop3) X(sel) X(shf) X(iabs) X(viadd) X(vimnmx) X(viaddmnmx) X(prmt)   \
      X(p2r) X(r2p) X(mov) X(popc) X(flo) X(nop) X(fadd) X(fmul) X(ffma) X(fsel) X(fmnmx) X(fsetp) \
          X(fchk) X(mufu) X(hfma2) X(frnd) X(dadd) X(dmul) X(dfma) X(dmnmx) X(dsetp) X(f2f)        \
              X(f2fp) X(hadd2) X(f2i) X(i2f) X(ldc) X(ldg) X(stg) X(lds) X(sts) X(shfl) X(s2r)     \
                  X(cs2r) X(vote)

#define SASS_DECLARE(name) void name(Warp& w, const Instruction& i, Lanes on);
SASS_HANDLERS(SASS_DECLARE)
#undef SASS_DECLARE

// Results of the special-function unit moved by one unit in the last place, up or down: what a card
// may give instead.
void disturb_special_functions(bool on);

}  // namespace sass
