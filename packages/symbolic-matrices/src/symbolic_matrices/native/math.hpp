// Owns the mathematical functions of the printed formulas, for one register (Vec), packs of registers and one number.
//
// The functions of a register stand in the files included here, at most 2 ulp off over the whole domain: see
// docs/accuracy.md. Nothing in them may be re-associated by the compiler: no -ffast-math.
#ifndef SYMBOLIC_MATRICES_MATH_HPP
#define SYMBOLIC_MATRICES_MATH_HPP

#include "angles.hpp"
#include "error_functions.hpp"
#include "exponentials.hpp"

namespace symbolic_matrices {

// ---------------------------------------------------------------------------------------------------------------------
// The origin that sums of exponentials are relative to, in natural units: exponents are subtracted before anything else
// rounds them, so that the difference of large ones is exact with and without fused multiply-adds.

SM_INLINE Vec origin_of(Vec exponent) { return exponent; }
SM_INLINE Vec exponent_of(Vec origin) { return origin; }
SM_INLINE Vec exp_from(Vec origin, Vec exponent) { return exp2((exponent - origin) * log2_e); }
SM_INLINE Vec origin_ratio(Vec before, Vec after) { return exp2((before - after) * log2_e); }

// ---------------------------------------------------------------------------------------------------------------------
// The same functions for packs of registers and for single numbers

#define SM_EVERYWHERE(name)                                                                     \
    SM_LIFT(name)                                                                               \
    SM_INLINE REAL name(REAL x) { return name(splat(x))[0]; }
#define SM_EVERYWHERE_2(name)                                                                   \
    SM_LIFT_2(name)                                                                             \
    SM_INLINE REAL name(REAL a, REAL b) { return name(splat(a), splat(b))[0]; }

SM_EVERYWHERE(exp)
SM_EVERYWHERE(exp2)
SM_EVERYWHERE(expm1)
SM_EVERYWHERE(log)
SM_EVERYWHERE(log1p)
SM_EVERYWHERE(sqrt)
SM_EVERYWHERE(rsqrt)
SM_EVERYWHERE(cbrt)
SM_EVERYWHERE(abs)
SM_EVERYWHERE(sign)
SM_EVERYWHERE(step)
SM_EVERYWHERE(floor)
SM_EVERYWHERE(ceil)
SM_EVERYWHERE(round)
SM_EVERYWHERE(sin)
SM_EVERYWHERE(cos)
SM_EVERYWHERE(tan)
SM_EVERYWHERE(asin)
SM_EVERYWHERE(acos)
SM_EVERYWHERE(atan)
SM_EVERYWHERE(sinh)
SM_EVERYWHERE(cosh)
SM_EVERYWHERE(tanh)
SM_EVERYWHERE(erf)
SM_EVERYWHERE(erfc)
SM_EVERYWHERE(lgamma)
SM_EVERYWHERE(sigmoid)
SM_EVERYWHERE(softplus)
SM_EVERYWHERE(gelu)
SM_EVERYWHERE(sinc)
SM_EVERYWHERE_2(pow)
SM_EVERYWHERE_2(atan2)
SM_EVERYWHERE_2(minimum)
SM_EVERYWHERE_2(maximum)
#undef SM_EVERYWHERE
#undef SM_EVERYWHERE_2

}  // namespace symbolic_matrices
#endif
