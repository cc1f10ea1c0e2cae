// What each instruction does to a warp; table.cpp says which names which.
#pragma once

#include "warp.h"

namespace sass {

using Run = void(Warp& w, const Instruction& i, Lanes on);

// integers.cpp
Run iadd3, imad, isetp, lea, shf, iabs, viadd, vimnmx, viaddmnmx, nop;
// logic.cpp
Run lop3, plop3, sel, prmt, p2r, r2p, mov, popc;
// floats.cpp
Run fadd, fmul, ffma, fsel, fmnmx, fset, fsetp, fchk, mufu, hfma2, frnd, dadd, dmul, dfma, dmnmx,
    dsetp;
// conversions.cpp
Run f2f, f2fp, hadd2, f2i, i2f;
// memory.cpp
Run ldc, ldg, stg, lds, sts, shfl, s2r, cs2r, flo;

// Results of the special-function unit moved by one unit in the last place, up or down: what a card
// may give instead.
void disturb_special_functions(bool on);

}  // namespace sass
