// Owns the mathematical functions of the printed formulas, for one register (Vec), packs of registers and one number.
//
// The frequent ones are polynomials after an argument reduction, at most 2 ulp off over the whole domain; the rare ones
// call the C library lane by lane. Nothing here may be re-associated by the compiler: no -ffast-math.
#ifndef SYMBOLIC_MATRICES_MATH_HPP
#define SYMBOLIC_MATRICES_MATH_HPP

#include "vector.hpp"

namespace symbolic_matrices {

#if REAL_BITS == 32
#define SM_LIBM(name) __builtin_##name##f
constexpr int mantissa_bits = 23;
constexpr Integer exponent_bias = 127;
constexpr REAL rounding_shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
constexpr REAL exp_lowest = -104.0f, exp_highest = 89.0f, exp2_lowest = -151.0f, exp2_highest = 128.0f;
constexpr REAL ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;  // the high part times any exponent is exact
constexpr REAL exp_polynomial[] = {0.49999993468100719f, 0.16666519745199340f, 0.041668367430010908f,
                                   0.0083688249056871117f, 0.0013816767324975126f};
constexpr REAL exp2_polynomial[] = {0.69314720285809980f, 0.24022647914340122f,   0.055503324660632951f,
                                    0.0096184372326096713f, 0.0013398876367044040f, 0.00015353408533732867f};
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
#endif

constexpr REAL infinity() { return __builtin_inf(); }
constexpr REAL not_a_number() { return __builtin_nan(""); }
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

SM_INLINE Vec exp2(Vec x) {
    const Vec r = fraction_to_nearest(x);
    return times_power_of_2(polynomial(exp2_polynomial, r) * r + REAL(1), x - r);
}

SM_INLINE Vec exp(Vec x) {
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

SM_INLINE Vec exp2(Vec x) {
    x = limit(x, exp2_lowest, exp2_highest);
    const Vec shifted = x + (rounding_shift + 2 * exponent_bias);
    const Vec r = x - (shifted - (rounding_shift + 2 * exponent_bias));
    return times_power_of_2(polynomial(exp2_polynomial, r) * r + REAL(1), shifted);
}

SM_INLINE Vec exp(Vec x) {
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

SM_INLINE Vec sqrt(Vec x) {
    Vec y;
    SM_UNROLL for (int l = 0; l < lanes; ++l) y[l] = SM_LIBM(sqrt)(x[l]);
    return y;
}

// 1 / sqrt(x), and 0 at 0: the gradient of a norm at 0 is 0.
SM_INLINE Vec rsqrt(Vec x) { return x == REAL(0) ? splat(0) : REAL(1) / sqrt(x); }

SM_INLINE Vec sign(Vec x) {
    const Vec unit = x < REAL(0) ? splat(-1) : splat(1);
    return x != REAL(0) ? (x == x ? unit : x) : splat(0);
}

SM_INLINE Vec step(Vec x) { return x < REAL(0) ? splat(0) : splat(1); }

SM_INLINE Vec minimum(Vec a, Vec b) {  // NaN if either is
    const Vec least = a < b ? a : b;
    return a == a ? least : a;
}

SM_INLINE Vec maximum(Vec a, Vec b) {
    const Vec most = a > b ? a : b;
    return a == a ? most : a;
}

// ---------------------------------------------------------------------------------------------------------------------
// Functions left to the C library, lane by lane.

#define SM_LANE_BY_LANE(name)                                                                   \
    SM_INLINE Vec name(Vec x) {                                                                 \
        Vec y;                                                                                  \
        for (int l = 0; l < lanes; ++l) y[l] = SM_LIBM(name)(x[l]);                             \
        return y;                                                                               \
    }
#define SM_LANE_BY_LANE_2(name)                                                                 \
    SM_INLINE Vec name(Vec x, Vec y) {                                                          \
        Vec z;                                                                                  \
        for (int l = 0; l < lanes; ++l) z[l] = SM_LIBM(name)(x[l], y[l]);                       \
        return z;                                                                               \
    }
SM_LANE_BY_LANE(log)
SM_LANE_BY_LANE(sin)
SM_LANE_BY_LANE(cos)
SM_LANE_BY_LANE(tanh)
SM_LANE_BY_LANE(log2)
SM_LANE_BY_LANE(log1p)
SM_LANE_BY_LANE(expm1)
SM_LANE_BY_LANE(erf)
SM_LANE_BY_LANE(tan)
SM_LANE_BY_LANE(asin)
SM_LANE_BY_LANE(acos)
SM_LANE_BY_LANE(atan)
SM_LANE_BY_LANE(sinh)
SM_LANE_BY_LANE(cosh)
SM_LANE_BY_LANE(erfc)
SM_LANE_BY_LANE(lgamma)
SM_LANE_BY_LANE(cbrt)
SM_LANE_BY_LANE(floor)
SM_LANE_BY_LANE(ceil)
SM_LANE_BY_LANE(rint)
SM_LANE_BY_LANE_2(pow)
SM_LANE_BY_LANE_2(atan2)
SM_INLINE Vec round(Vec x) { return rint(x); }  // half to even, as NumPy does

// ---------------------------------------------------------------------------------------------------------------------
// The same functions for packs of registers and for single numbers

#define SM_EVERYWHERE(name)                                                                     \
    template <int N>                                                                            \
    SM_INLINE Pack<N> name(const Pack<N>& x) {                                                  \
        Pack<N> y;                                                                              \
        SM_UNROLL for (int q = 0; q < N; ++q) y.part[q] = name(x.part[q]);                      \
        return y;                                                                               \
    }                                                                                           \
    SM_INLINE REAL name(REAL x) { return name(splat(x))[0]; }
#define SM_EVERYWHERE_2(name)                                                                   \
    template <int N>                                                                            \
    SM_INLINE Pack<N> name(const Pack<N>& a, const Pack<N>& b) {                                \
        Pack<N> y;                                                                              \
        SM_UNROLL for (int q = 0; q < N; ++q) y.part[q] = name(a.part[q], b.part[q]);           \
        return y;                                                                               \
    }                                                                                           \
    SM_INLINE REAL name(REAL a, REAL b) { return name(splat(a), splat(b))[0]; }

SM_EVERYWHERE(exp)
SM_EVERYWHERE(exp2)
SM_EVERYWHERE(expm1)
SM_EVERYWHERE(log)
SM_EVERYWHERE(log2)
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

// x^n for an integer n known at compile time, by repeated squaring.
template <int n, class V>
SM_INLINE V powi(const V& x) {
    if constexpr (n < 0) {
        return V(REAL(1)) / powi<-n>(x);
    } else if constexpr (n == 0) {
        return V(REAL(1));
    } else if constexpr (n == 1) {
        return x;
    } else {
        const V half = powi<n / 2>(x);
        return n % 2 ? half * half * x : half * half;
    }
}

// A condition as a number: 1 where it holds, 0 elsewhere.
template <int N>
SM_INLINE Pack<N> as_real(const PackMask<N>& mask) {
    return select(mask, Pack<N>(REAL(1)), Pack<N>(REAL(0)));
}
SM_INLINE REAL as_real(bool condition) { return condition ? REAL(1) : REAL(0); }

}  // namespace symbolic_matrices
#endif
