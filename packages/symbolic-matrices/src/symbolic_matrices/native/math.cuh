// Owns the mathematical functions of the printed formulas for CUDA: those of CUDA's own library, spelled as in math.hpp.
//
// In float32, exp is the processor's instruction for 2^x after a multiplication, whose rounding costs |x| / 2 units in the
// last place; the square root and the division are its approximations too (2 units in the last place, see OPTIONS of
// cuda_printing.py). All the others are as exact as CUDA's library: 1 to 4 units in the last place.
#ifndef SYMBOLIC_MATRICES_MATH_CUH
#define SYMBOLIC_MATRICES_MATH_CUH

#include "vector.cuh"

#include "pack.hpp"

namespace symbolic_matrices {

SM_INLINE REAL infinity() { return __int_as_float(0x7f800000); }
SM_INLINE REAL not_a_number() { return __int_as_float(0x7fc00000); }
constexpr REAL largest_number = REAL_BITS == 32 ? 3.40282346638528859e38 : 1.7976931348623157e308;
constexpr REAL log2_e = 1.4426950408889634;
constexpr REAL ln_2 = 0.6931471805599453;

#define SM_FUNCTION(name, expression)                                                           \
    SM_INLINE REAL name(REAL x) { return expression; }                                          \
    SM_LIFT(name)
#define SM_FUNCTION_2(name, expression)                                                         \
    SM_INLINE REAL name(REAL a, REAL b) { return expression; }                                  \
    SM_LIFT_2(name)

SM_FUNCTION(exp2, SM_LIBM(exp2)(x))
SM_FUNCTION(exp, REAL_BITS == 32 ? REAL(::exp2f(x * log2_e)) : REAL(::exp(double(x))))
SM_FUNCTION(expm1, SM_LIBM(expm1)(x))
SM_FUNCTION(log, SM_LIBM(log)(x))
SM_FUNCTION(log1p, SM_LIBM(log1p)(x))
SM_FUNCTION(sqrt, SM_LIBM(sqrt)(x))
SM_FUNCTION(cbrt, SM_LIBM(cbrt)(x))
SM_FUNCTION(rsqrt, x == REAL(0) ? REAL(0) : REAL(1) / SM_LIBM(sqrt)(x))  // 0 at 0: so is the gradient of a norm
SM_FUNCTION(abs, SM_LIBM(fabs)(x))
SM_FUNCTION(sign, x != REAL(0) ? (x == x ? (x < REAL(0) ? REAL(-1) : REAL(1)) : x) : REAL(0))
SM_FUNCTION(step, x >= REAL(0) ? REAL(1) : REAL(0))
SM_FUNCTION(floor, SM_LIBM(floor)(x))
SM_FUNCTION(ceil, SM_LIBM(ceil)(x))
SM_FUNCTION(round, SM_LIBM(rint)(x))  // half to even, as NumPy does
SM_FUNCTION(sin, SM_LIBM(sin)(x))
SM_FUNCTION(cos, SM_LIBM(cos)(x))
SM_FUNCTION(tan, SM_LIBM(tan)(x))
SM_FUNCTION(asin, SM_LIBM(asin)(x))
SM_FUNCTION(acos, SM_LIBM(acos)(x))
SM_FUNCTION(atan, SM_LIBM(atan)(x))
SM_FUNCTION(sinh, SM_LIBM(sinh)(x))
SM_FUNCTION(cosh, SM_LIBM(cosh)(x))
SM_FUNCTION(tanh, SM_LIBM(tanh)(x))
SM_FUNCTION(erf, SM_LIBM(erf)(x))
SM_FUNCTION(erfc, SM_LIBM(erfc)(x))
SM_FUNCTION(lgamma, SM_LIBM(lgamma)(x))
SM_FUNCTION(sigmoid, REAL(1) / (REAL(1) + exp(-x)))
SM_FUNCTION(softplus, (x > REAL(0) ? x : REAL(0)) + SM_LIBM(log1p)(exp(-SM_LIBM(fabs)(x))))
SM_FUNCTION(gelu, x < REAL(-40) ? REAL(0) : REAL(0.5) * x * SM_LIBM(erfc)(REAL(-0.7071067811865476) * x))
SM_FUNCTION(sinc, x == REAL(0) ? REAL(1) : SM_LIBM(sin)(REAL(3.141592653589793) * x) / (REAL(3.141592653589793) * x))
SM_FUNCTION_2(pow, SM_LIBM(pow)(a, b))
SM_FUNCTION_2(atan2, SM_LIBM(atan2)(a, b))
SM_FUNCTION_2(minimum, a == a ? (a < b ? a : b) : a)  // NaN if either is
SM_FUNCTION_2(maximum, a == a ? (a > b ? a : b) : a)

#undef SM_FUNCTION
#undef SM_FUNCTION_2

// The origin that sums of exponentials are relative to, in units of log 2: a fused multiply-add subtracts it from an
// exponent without rounding in between.
SM_INLINE REAL origin_of(REAL exponent) { return exponent * log2_e; }
SM_INLINE REAL exponent_of(REAL origin) { return origin * ln_2; }
SM_INLINE REAL exp_from(REAL origin, REAL exponent) { return exp2(SM_LIBM(fma)(exponent, log2_e, -origin)); }
SM_INLINE REAL origin_ratio(REAL before, REAL after) { return exp2(before - after); }

}  // namespace symbolic_matrices
#endif
