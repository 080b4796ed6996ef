// Owns the mathematical functions of the printed formulas, for one register (Vec), packs of registers and one number.
//
// The frequent ones are polynomials after an argument reduction, at most 2 ulp off over the whole domain; the rare ones
// call the C library lane by lane. Nothing here may be re-associated by the compiler: no -ffast-math.
#ifndef SYMBOLIC_MATRICES_MATH_HPP
#define SYMBOLIC_MATRICES_MATH_HPP

#include "vector.hpp"

#include "pack.hpp"

namespace symbolic_matrices {

#if REAL_BITS == 32
#define SM_LIBM(name) __builtin_##name##f
constexpr int mantissa_bits = 23;
constexpr Integer exponent_bias = 127;
constexpr REAL rounding_shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
constexpr REAL exp_lowest = -104.0f, exp_highest = 89.0f, exp2_lowest = -151.0f, exp2_highest = 128.0f;
constexpr REAL ln2_high = 0.693115234375f, ln2_low = 3.1946184945e-5f;  // the high part times any exponent is exact
constexpr REAL exp_polynomial[] = {0.49999993468100719f, 0.16666519745199340f, 0.041668367430010908f,
                                   0.0083688249056871117f, 0.0013816767324975126f};
constexpr REAL exp2_polynomial[] = {0.69314720285809980f, 0.24022647914340122f,   0.055503324660632951f,
                                    0.0096184372326096713f, 0.0013398876367044040f, 0.00015353408533732867f};
constexpr REAL log_polynomial[] = {0.66666948479040485f, 0.39957690933739869f, 0.30363760695792981f};
constexpr REAL sin_polynomial[] = {-0.16666653861998184f, 0.0083321129684754870f, -0.00019508733019097801f};
constexpr REAL cos_polynomial[] = {0.041666644370133657f, -0.0013887251571006721f, 0.000024425689067299360f};
constexpr REAL tanh_polynomial[] = {-0.33333324536441332f, 0.13332980250284163f,   -0.053920620541497197f,
                                    0.021569547619015627f, -0.0078802274300828721f, 0.0018933484689530041f};
constexpr REAL half_pi[] = {1.5707962512969970703125f, 7.54978941586159635335e-8f, 5.39030252995776476554e-15f};
constexpr REAL largest_reduced_angle = 1e5f;
#else
#define SM_LIBM(name) __builtin_##name
constexpr int mantissa_bits = 52;
constexpr Integer exponent_bias = 1023;
constexpr REAL rounding_shift = 6755399441055744.0;  // 1.5 * 2^52
constexpr REAL exp_lowest = -746.0, exp_highest = 710.0, exp2_lowest = -1076.0, exp2_highest = 1024.0;
constexpr REAL ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
constexpr REAL exp_polynomial[] = {0.50000000000000108,   0.16666666666666415,   0.041666666666528288,
                                   0.0083333333334914619, 0.0013888888944178940, 0.00019841269515673599,
                                   2.4801492478864944e-5, 2.7557575933019216e-6, 2.7630485873431790e-7,
                                   2.5004096030199989e-8};
constexpr REAL exp2_polynomial[] = {0.69314718055994533,   0.24022650695910131,   0.055504108664820084,
                                    0.0096181291075941144, 0.0013333558146774428, 0.00015403530457119387,
                                    1.5252733493341051e-5, 1.3215435278594152e-6, 1.0178199471542434e-7,
                                    7.0737839022695453e-9, 4.4347880390058365e-10};
constexpr REAL log_polynomial[] = {0.66666666666672788, 0.39999999996117651, 0.28571429403457900, 0.22222137816303846,
                                   0.18186384757024288, 0.15249603993462111, 0.15372808558640245};
constexpr REAL sin_polynomial[] = {-0.16666666666666626,   0.0083333333333209408, -0.00019841269828618865,
                                   2.7557313276016476e-6, -2.5050692471699724e-8, 1.5892961395914308e-10};
constexpr REAL cos_polynomial[] = {0.041666666666666583,   -0.0013888888888871375, 0.000024801587287782380,
                                   -2.7557313865376658e-7, 2.0875657548602302e-9,  -1.1356265359831126e-11};
constexpr REAL tanh_polynomial[] = {-0.33333333333333320,   0.13333333333331197,   -0.053968253967044192,
                                    0.021869488501569143,   -0.0088632349451076344, 0.0035921216610513159,
                                    -0.0014557872210131166, 0.00058978345032920832, -0.00023823310845851725,
                                    9.4573038798428019e-5,  -3.4958715233449482e-5, 1.0418919104654949e-5,
                                    -1.7684790511174312e-6};
constexpr REAL half_pi[] = {1.570796326794896557998982, 6.123233995736764803273656e-17, 1.082856673921913894238698e-32};
constexpr REAL largest_reduced_angle = 1e9;
#endif

constexpr REAL infinity() { return __builtin_inf(); }
constexpr REAL not_a_number() { return __builtin_nan(""); }
constexpr REAL largest_number = REAL_BITS == 32 ? 3.40282346638528859e38 : 1.7976931348623157e308;
constexpr REAL log2_e = 1.4426950408889634;
constexpr REAL ln_2 = 0.6931471805599453;

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

// ---------------------------------------------------------------------------------------------------------------------
// Functions of the C library, lane by lane. Those that are calls stay out of line: a formula inlines its functions once
// per register of a pack.

#define SM_BY_LANE(qualifiers, lane_name, name)                                                 \
    qualifiers Vec lane_name(Vec x) {                                                           \
        Vec y;                                                                                  \
        for (int l = 0; l < lanes; ++l) y[l] = SM_LIBM(name)(x[l]);                             \
        return y;                                                                               \
    }
#define SM_BY_LANE_2(name)                                                                      \
    SM_CALL Vec name(Vec x, Vec y) {                                                            \
        Vec z;                                                                                  \
        for (int l = 0; l < lanes; ++l) z[l] = SM_LIBM(name)(x[l], y[l]);                       \
        return z;                                                                               \
    }
SM_BY_LANE(SM_INLINE, sqrt, sqrt)  // instructions on most processors
SM_BY_LANE(SM_INLINE, floor, floor)
SM_BY_LANE(SM_INLINE, ceil, ceil)
SM_BY_LANE(SM_INLINE, round, rint)  // half to even, as NumPy does
SM_BY_LANE(SM_CALL, sin_by_lane, sin)
SM_BY_LANE(SM_CALL, cos_by_lane, cos)
SM_BY_LANE(SM_CALL, tan, tan)
SM_BY_LANE(SM_CALL, asin, asin)
SM_BY_LANE(SM_CALL, acos, acos)
SM_BY_LANE(SM_CALL, atan, atan)
SM_BY_LANE(SM_CALL, sinh, sinh)
SM_BY_LANE(SM_CALL, cosh, cosh)
SM_BY_LANE(SM_CALL, expm1, expm1)
SM_BY_LANE(SM_CALL, erf, erf)
SM_BY_LANE(SM_CALL, erfc, erfc)
SM_BY_LANE(SM_CALL, lgamma, lgamma)
SM_BY_LANE(SM_CALL, cbrt, cbrt)
SM_BY_LANE_2(pow)
SM_BY_LANE_2(atan2)
#undef SM_BY_LANE
#undef SM_BY_LANE_2

// Very long formulas call the polynomials too.
#ifdef SM_LONG_FORMULA
#define SM_FUNCTION SM_CALL
#else
#define SM_FUNCTION SM_INLINE
#endif

// ---------------------------------------------------------------------------------------------------------------------
// exp and exp2: x = n + r in units of log 2, a polynomial in |r| <= 1/2, times 2^n.

#ifdef SM_AVX512
SM_INLINE Vec nearest_integer(Vec x) {
    Vec n;
    asm("vrndscale" SM_SUFFIX " $8, %1, %0" : "=v"(n) : "v"(x));
    return n;
}
SM_INLINE Vec fraction_to_nearest(Vec x) {  // x - nearest_integer(x), and 0 at infinity
    Vec r;
    asm("vreduce" SM_SUFFIX " $8, %1, %0" : "=v"(r) : "v"(x));
    return r;
}
SM_INLINE Vec times_power_of_2(Vec x, Vec n) {  // x 2^n, right for any n, infinite ones included
    Vec y;
    asm("vscalef" SM_SUFFIX " %2, %1, %0" : "=v"(y) : "v"(x), "v"(n));
    return y;
}
SM_INLINE Vec bounded_by_1(Vec x) {  // the sign of x times min(|x|, 1), where NaN counts as more than 1
    Vec y;
    asm("vrange" SM_SUFFIX " $2, %2, %1, %0" : "=v"(y) : "v"(x), "v"(splat(1)));
    return y;
}

SM_FUNCTION Vec exp2(Vec x) {
    const Vec r = fraction_to_nearest(x);
    return times_power_of_2(polynomial(exp2_polynomial, r) * r + REAL(1), x - r);
}

SM_FUNCTION Vec exp(Vec x) {
    const Vec n = nearest_integer(x * log2_e);
    // Out of range, r means nothing and n alone decides: r only has to stay finite.
    const Vec r = bounded_by_1((x - n * ln2_high) - n * ln2_low);
    return times_power_of_2((polynomial(exp_polynomial, r) * r + REAL(1)) * r + REAL(1), n);
}
#else
// x 2^n where shifted = n + rounding_shift + 2 bias: in two factors, as 2^n alone may be out of range.
SM_INLINE Vec times_power_of_2(Vec x, Vec shifted) {
    const Bits n = bits_of(shifted);
    const Bits half = (n << (mantissa_bits - 1)) & bits_of(splat(infinity()));
    return x * vec_of(half) * vec_of((n << mantissa_bits) - half);
}

SM_FUNCTION Vec exp2(Vec x) {
    x = limit(x, exp2_lowest, exp2_highest);
    const Vec shifted = x + (rounding_shift + 2 * exponent_bias);
    const Vec r = x - (shifted - (rounding_shift + 2 * exponent_bias));
    return times_power_of_2(polynomial(exp2_polynomial, r) * r + REAL(1), shifted);
}

SM_FUNCTION Vec exp(Vec x) {
    x = limit(x, exp_lowest, exp_highest);
    const Vec shifted = x * log2_e + (rounding_shift + 2 * exponent_bias);
    const Vec n = shifted - (rounding_shift + 2 * exponent_bias);
    const Vec r = (x - n * ln2_high) - n * ln2_low;
    return times_power_of_2((polynomial(exp_polynomial, r) * r + REAL(1)) * r + REAL(1), shifted);
}
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Signs, roundings, roots

SM_INLINE Vec abs(Vec x) { return vec_of(bits_of(x) & ~bits_of(splat(REAL(-0.0)))); }

// The sign of x on a y that is 0, positive, or of that sign already.
SM_INLINE Vec copy_sign(Vec y, Vec x) { return vec_of(bits_of(y) | (bits_of(x) & bits_of(splat(REAL(-0.0))))); }

// 1 / sqrt(x), and 0 at 0: the gradient of a norm at 0 is 0.
SM_INLINE Vec rsqrt(Vec x) { return x == REAL(0) ? splat(0) : REAL(1) / sqrt(x); }

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

// ---------------------------------------------------------------------------------------------------------------------
// Logarithms: x = m 2^e with m in [3/4, 3/2), and log m = log(1 + f) as a series in s = f / (2 + f).

// exponent log 2 + log(mantissa)
SM_INLINE Vec log_of_parts(Vec exponent, Vec mantissa) {
    const Vec f = mantissa - REAL(1);
    const Vec s = f / (mantissa + REAL(1));
    const Vec z = s * s;
    const Vec correction = s * (f - z * polynomial(log_polynomial, z)) - exponent * ln2_low;
    return exponent * ln2_high + (f - correction);
}

#ifdef SM_AVX512
SM_FUNCTION Vec log(Vec x) {  // zero, infinite and negative numbers come out right by the definition of these instructions
    Vec mantissa, exponent;
    asm("vgetmant" SM_SUFFIX " $11, %1, %0" : "=v"(mantissa) : "v"(x));  // in [3/4, 3/2), NaN where x < 0
    asm("vgetexp" SM_SUFFIX " %1, %0" : "=v"(exponent) : "v"(x));
    return log_of_parts(mantissa < REAL(1) ? exponent + REAL(1) : exponent, mantissa);
}
#else
SM_FUNCTION Vec log(Vec x) {
    constexpr REAL smallest_normal = REAL_BITS == 32 ? 1.17549435e-38 : 2.2250738585072014e-308;
    constexpr REAL scale = REAL(Integer(1) << mantissa_bits);
    const Bits is_tiny = x < smallest_normal;
    const Vec normal = is_tiny ? x * scale : x;
    // Biased first, so that the shift is the same for signed and unsigned numbers (AVX2 has one of them in 64 bits).
    const Bits biased = bits_of(normal) + (bits_of(splat(1)) - bits_of(splat(0.75)));
    const Bits exponent = logical_shift_right(biased, mantissa_bits) - exponent_bias;
    const Vec mantissa = vec_of(bits_of(normal) - (exponent << mantissa_bits));
    Vec result = log_of_parts(to_vec(exponent) - (is_tiny ? splat(mantissa_bits) : splat(0)), mantissa);
    result = x > REAL(0) ? result : (x == REAL(0) ? splat(-infinity()) : splat(not_a_number()));
    return x == infinity() ? x : result;
}
#endif

// log(1 + x): the logarithm of the rounded 1 + x, corrected for what the rounding lost.
SM_FUNCTION Vec log1p(Vec x) {
    const Vec u = x + REAL(1);
    const Vec lost = x - (u - REAL(1));
    const Vec corrected = log(u) + lost / u;
    const Bits is_exact = (lost == REAL(0)) | (abs(u) == infinity());  // also where the quotient is 0 / 0
    const Vec result = is_exact ? log(u) : corrected;
    return x == REAL(0) ? x : result;
}

// ---------------------------------------------------------------------------------------------------------------------
// Circular and hyperbolic functions

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
struct ReducedAngle {
    Vec rest;       // x - n pi / 2, in [-pi / 4, pi / 4]
    Bits quadrant;  // n
};

// pi / 2 in three positive parts (-0 stays -0): fused multiply-adds make the first two subtractions exact.
SM_INLINE ReducedAngle reduce_angle(Vec x) {
    const Vec shifted = x * REAL(0.63661977236758134) + rounding_shift;
    const Vec n = shifted - rounding_shift;
    return {((x - n * half_pi[0]) - n * half_pi[1]) - n * half_pi[2], bits_of(shifted)};
}

// The sine of the angle, or its cosine in odd quadrants, negated in the upper two.
SM_INLINE Vec sine_in_quadrant(Vec r, Bits quadrant) {
    const Vec z = r * r;
    const Vec sine = copy_sign(r + r * (z * polynomial(sin_polynomial, z)), r);  // -0 at -0
    const Vec cosine = z * (z * polynomial(cos_polynomial, z) - REAL(0.5)) + REAL(1);
    const Vec result = (quadrant & 1) != 0 ? cosine : sine;
    return vec_of(bits_of(result) ^ ((quadrant & 2) << (REAL_BITS - 2)));
}

#define SM_CIRCULAR(name, quadrants)                                                            \
    SM_FUNCTION Vec name(Vec x) {                                                               \
        if (__builtin_expect(any(not_at_least(splat(largest_reduced_angle), abs(x))), 0))       \
            return name##_by_lane(x);                                                           \
        const ReducedAngle angle = reduce_angle(x);                                             \
        return sine_in_quadrant(angle.rest, angle.quadrant + quadrants);                        \
    }
SM_CIRCULAR(sin, 0)
SM_CIRCULAR(cos, 1)
#undef SM_CIRCULAR
#else  // without fused multiply-adds, the reduction of the angle would need more parts
SM_FUNCTION Vec sin(Vec x) { return sin_by_lane(x); }
SM_FUNCTION Vec cos(Vec x) { return cos_by_lane(x); }
#endif

// tanh x = 1 - 2 / (exp(2 x) + 1), and a polynomial near 0 where that cancels.
SM_FUNCTION Vec tanh(Vec x) {
    const Vec size = abs(x), z = x * x;
    const Vec near = x + x * (z * polynomial(tanh_polynomial, z));
    const Vec far = REAL(1) - REAL(2) / (exp(size + size) + REAL(1));
    return copy_sign(size < REAL(0.7) ? near : far, x);
}

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
SM_EVERYWHERE_2(pow)
SM_EVERYWHERE_2(atan2)
SM_EVERYWHERE_2(minimum)
SM_EVERYWHERE_2(maximum)
#undef SM_EVERYWHERE
#undef SM_EVERYWHERE_2

}  // namespace symbolic_matrices
#endif
