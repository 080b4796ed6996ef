// Owns what all the functions build on: the layout of numbers, polynomials, the C library lane by lane, signs and roots.
#ifndef SYMBOLIC_MATRICES_NUMBERS_HPP
#define SYMBOLIC_MATRICES_NUMBERS_HPP

#include "vector.hpp"

#include "pack.hpp"

// Unlike lgamma, it does not write the sign to a variable that all threads share.
#ifndef _WIN32
extern "C" double lgamma_r(double, int*);
#endif

namespace symbolic_matrices {

#define SM_LIBM_64(name) __builtin_##name
#if REAL_BITS == 32
#define SM_LIBM(name) __builtin_##name##f
constexpr int mantissa_bits = 23;
constexpr Integer exponent_bias = 127;
constexpr REAL rounding_shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
constexpr REAL smallest_normal = 1.17549435e-38f;
#else
#define SM_LIBM(name) __builtin_##name
constexpr int mantissa_bits = 52;
constexpr Integer exponent_bias = 1023;
constexpr REAL rounding_shift = 6755399441055744.0;  // 1.5 * 2^52
constexpr REAL smallest_normal = 2.2250738585072014e-308;
#endif

constexpr REAL infinity() { return __builtin_inf(); }
constexpr REAL not_a_number() { return __builtin_nan(""); }
constexpr REAL largest_number = REAL_BITS == 32 ? 3.40282346638528859e38 : 1.7976931348623157e308;
constexpr REAL two_to_mantissa = REAL(Integer(1) << mantissa_bits);  // from there on, every number is an integer
constexpr REAL log2_e = 1.4426950408889634;
constexpr REAL ln_2 = 0.6931471805599453;
constexpr REAL pi = 3.141592653589793;

// sum of coefficients[k] x^k, by Horner's rule.
template <int count>
SM_INLINE Vec polynomial(const REAL (&coefficients)[count], Vec x) {
    Vec result = splat(coefficients[count - 1]);
    SM_UNROLL for (int k = count - 2; k >= 0; --k) result = result * x + coefficients[k];
    return result;
}

// x limited to [lowest, highest]; NaN stays NaN.
SM_INLINE Vec limit(Vec x, REAL lowest, REAL highest) {
    return smaller(splat(highest), larger(splat(lowest), x));
}

// The integers of a few digits, converted without the instruction that 64-bit numbers lack before AVX-512.
SM_INLINE Vec small_to_vec(Bits n) { return vec_of(n + bits_of(splat(rounding_shift))) - rounding_shift; }

// ---------------------------------------------------------------------------------------------------------------------
// Functions of the C library, lane by lane. Those that are calls stay out of line: a formula inlines its functions once
// per register of a pack.

#define SM_BY_LANE(qualifiers, lane_name, name)                                                 \
    qualifiers Vec lane_name(Vec x) {                                                           \
        Vec y;                                                                                  \
        for (int l = 0; l < lanes; ++l) y[l] = name(x[l]);                                      \
        return y;                                                                               \
    }
SM_BY_LANE(SM_INLINE, sqrt, SM_LIBM(sqrt))  // instructions on most processors
SM_BY_LANE(SM_INLINE, floor, SM_LIBM(floor))
SM_BY_LANE(SM_INLINE, ceil, SM_LIBM(ceil))
SM_BY_LANE(SM_INLINE, round, SM_LIBM(rint))  // half to even, as NumPy does

inline double log_gamma(double x) {
#ifdef _WIN32
    return __builtin_lgamma(x);
#else
    int sign;
    return lgamma_r(x, &sign);
#endif
}
SM_BY_LANE(SM_CALL, lgamma, log_gamma)

// Very long formulas call the polynomials too.
#ifdef SM_LONG_FORMULA
#define SM_FUNCTION SM_CALL
#else
#define SM_FUNCTION SM_INLINE
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Signs and roots

SM_INLINE Vec abs(Vec x) { return vec_of(bits_of(x) & ~bits_of(splat(REAL(-0.0)))); }

// The sign of x on a y that is 0, positive, or of that sign already.
SM_INLINE Vec copy_sign(Vec y, Vec x) { return vec_of(bits_of(y) | (bits_of(x) & bits_of(splat(REAL(-0.0))))); }

SM_INLINE Bits is_integer(Vec x) {
    const Vec size = abs(x);
    return (size >= two_to_mantissa) | ((size + two_to_mantissa) - two_to_mantissa == size);
}

// 1 / sqrt(x), and 0 at 0: the gradient of a norm at 0 is 0.
#ifdef SM_AVX512
// Newton's iteration from 14 digits, as roots and quotients take ten times as long as a multiply-add. It makes NaN of 0
// and of infinity, where the result is 0.
SM_INLINE Vec rsqrt(Vec x) {
    Vec y;
    asm("vrsqrt14" SM_SUFFIX " %1, %0" : "=v"(y) : "v"(x));
    SM_UNROLL for (int digits = 14; digits < mantissa_bits; digits *= 2) {
        const Vec residual = REAL(1) - (x * y) * y;
        y = y + (REAL(0.5) * y) * residual;
    }
    Flags is_extreme;
    asm("vfpclass" SM_SUFFIX " $14, %1, %0" : "=k"(is_extreme) : "v"(x));
    asm("vxor" SM_SUFFIX " %0, %0, %0%{%1%}" : "+v"(y) : "Yk"(is_extreme));
    return y;
}
#else
SM_INLINE Vec rsqrt(Vec x) { return x == REAL(0) ? splat(0) : REAL(1) / sqrt(x); }
#endif

SM_INLINE Vec sign(Vec x) {
    const Vec unit = x < REAL(0) ? splat(-1) : splat(1);
    return x != REAL(0) ? (x == x ? unit : x) : splat(0);
}

SM_INLINE Vec step(Vec x) { return x >= REAL(0) ? splat(1) : splat(0); }

SM_INLINE Vec minimum(Vec a, Vec b) {  // NaN if either is
    const Vec least = a < b ? a : b;
    return a == a ? least : a;
}

SM_INLINE Vec maximum(Vec a, Vec b) {
    const Vec most = a > b ? a : b;
    return a == a ? most : a;
}

}  // namespace symbolic_matrices
#endif
