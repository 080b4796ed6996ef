// Owns exponentials and logarithms, and what is made of them: powers, hyperbolic functions, sigmoids.
#ifndef SYMBOLIC_MATRICES_EXPONENTIALS_HPP
#define SYMBOLIC_MATRICES_EXPONENTIALS_HPP

#include "double_word.hpp"
#include "polynomials.hpp"

namespace symbolic_matrices {

#if REAL_BITS == 32
constexpr REAL exp_lowest = -104.0f, exp_highest = 89.0f, exp2_lowest = -151.0f, exp2_highest = 128.0f;
constexpr REAL expm1_lowest = -20.0f, exact_expm1 = 1e-9f, hyperbolic_highest = 89.5f;
constexpr REAL log2_linear[] = {2.885390043258667f, 3.851926067000022e-08f};   // 2 / log 2, as a double word
constexpr REAL log2_cubic[] = {0.9617967009544373f, -7.028461812552678e-09f};  // a third of it
constexpr REAL ln2_high = 0.693115234375f, ln2_low = 3.1946184945e-5f;  // the high part times any exponent is exact
#else
constexpr REAL exp_lowest = -746.0, exp_highest = 710.0, exp2_lowest = -1076.0, exp2_highest = 1024.0;
constexpr REAL expm1_lowest = -40.0, exact_expm1 = 1e-18, hyperbolic_highest = 710.6;
constexpr REAL log2_linear[] = {2.8853900817779268, 4.0710547481862066e-17};
constexpr REAL log2_cubic[] = {0.9617966939259756, 5.0577616648125907e-17};
constexpr REAL ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
#endif

// ---------------------------------------------------------------------------------------------------------------------
// exp and exp2: x = n + k / steps + r in units of log 2, where 2^(k / steps) comes from a table in registers, 2^r from a
// polynomial. A table halves the polynomials, whose multiply-adds are what keeps the inner loops busy. Without
// instructions to look one up, steps = 1.

#ifdef SM_AVX512
constexpr int steps = sizeof(step_powers) / sizeof(REAL);  // two registers
constexpr REAL step_shift = rounding_shift / steps;        // adding it rounds to steps, and leaves k in the lowest bits

SM_INLINE Vec fraction_of_step(Vec x) {  // x minus the next step below; 0 at infinity
    static_assert(steps == (REAL_BITS == 32 ? 32 : 16), "the digits in the instruction");
    Vec r;
    asm("vreduce" SM_SUFFIX " %2, %1, %0" : "=v"(r) : "v"(x), "i"((REAL_BITS == 32 ? 5 : 4) << 4 | 9));
    return r;
}
SM_INLINE Vec shifted_down(Vec x) {  // x + step_shift, rounded down
    Vec y;
    asm("vadd" SM_SUFFIX " %{rd-sae%}, %2, %1, %0" : "=v"(y) : "v"(x), "v"(splat(step_shift)));
    return y;
}
SM_INLINE Vec step_power(Vec shifted) {
    asm("vpermi2" SM_SUFFIX " %2, %1, %0" : "+v"(shifted) : "v"(load(step_powers)), "v"(load(step_powers + lanes)));
    return shifted;
}
SM_INLINE Vec times_power_of_2(Vec x, Vec n) {  // x 2^floor(n), right for any n, infinite ones included
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
    const Vec r = fraction_of_step(x), power = step_power(shifted_down(x));
    return times_power_of_2(polynomial(exp2_step_polynomial, r) * (r * power) + power, x);
}

SM_FUNCTION Vec exp(Vec x) {
    const Vec shifted = shifted_down(x * log2_e), n = shifted - step_shift, power = step_power(shifted);
    // Out of range, r means nothing and n alone decides: r only has to stay finite.
    const Vec r = bounded_by_1((x - n * ln2_high) - n * ln2_low);
    return times_power_of_2(polynomial(exp_step_polynomial, r) * (r * power) + power, n);
}
#else
// 2^n where shifted = n + rounding_shift + 2 bias: in two factors, as 2^n alone may be out of range.
struct PowerOf2 {
    Bits half, rest;
};
SM_INLINE PowerOf2 power_of_2(Bits n, int place) {  // the lowest bit of n has this place
    const Bits half = (n << (mantissa_bits - place - 1)) & bits_of(splat(infinity()));
    return {half, (n << (mantissa_bits - place)) - half};
}
SM_INLINE Vec times_shifted_power_of_2(Vec x, Vec shifted) {
    const PowerOf2 power = power_of_2(bits_of(shifted), 0);
    return x * vec_of(power.half) * vec_of(power.rest);
}
SM_INLINE Vec times_power_of_2(Vec x, Vec n) {  // for |n| < 2 bias
    return times_shifted_power_of_2(x, n + (rounding_shift + 2 * exponent_bias));
}

#if defined(__AVX2__) && REAL_BITS == 32
constexpr REAL eighth_shift = rounding_shift / 8 + 2 * exponent_bias;

// (1 + P(r) r) 2^(n + k / 8), where shifted = n + k / 8 + eighth_shift. The exponents of the powers in the table are 0, and
// the bits of k are taken off them, so that they are added to those of n as integers.
template <int count>
SM_INLINE Vec from_eighths(const REAL (&coefficients)[count], Vec r, Vec shifted) {
    const Bits table = bits_of(load(eighth_powers)) - bits_of(splat(1)) - (lane_numbers() << (mantissa_bits - 3));
    Bits step;
    asm("vpermps %1, %2, %0" : "=x"(step) : "x"(table), "x"(shifted));
    const PowerOf2 power = power_of_2(bits_of(shifted), 3);
    const Vec scale = vec_of(step + power.rest);
    return (polynomial(coefficients, r) * (r * scale) + scale) * vec_of(power.half);
}

SM_FUNCTION Vec exp2(Vec x) {
    x = limit(x, exp2_lowest, exp2_highest);
    const Vec shifted = x + eighth_shift;
    return from_eighths(exp2_eighth_polynomial, x - (shifted - eighth_shift), shifted);
}

SM_FUNCTION Vec exp(Vec x) {
    x = limit(x, exp_lowest, exp_highest);
    const Vec shifted = x * log2_e + eighth_shift, n = shifted - eighth_shift;
    return from_eighths(exp_eighth_polynomial, (x - n * ln2_high) - n * ln2_low, shifted);
}
#else
SM_FUNCTION Vec exp2(Vec x) {
    x = limit(x, exp2_lowest, exp2_highest);
    const Vec shifted = x + (rounding_shift + 2 * exponent_bias);
    const Vec r = x - (shifted - (rounding_shift + 2 * exponent_bias));
    return times_shifted_power_of_2(polynomial(exp2_polynomial, r) * r + REAL(1), shifted);
}

SM_FUNCTION Vec exp(Vec x) {
    x = limit(x, exp_lowest, exp_highest);
    const Vec shifted = x * log2_e + (rounding_shift + 2 * exponent_bias);
    const Vec n = shifted - (rounding_shift + 2 * exponent_bias);
    const Vec r = (x - n * ln2_high) - n * ln2_low;
    return times_shifted_power_of_2((polynomial(exp_polynomial, r) * r + REAL(1)) * r + REAL(1), shifted);
}
#endif
#endif

// The exponential before its last roundings, for functions that go on from it.
struct Exponential {
    DoubleWord mantissa;  // about 1
    Vec exponent;         // of 2
};

struct ReducedExponent {  // x = n log 2 + rest
    Vec n;
    DoubleWord rest;
};

SM_INLINE ReducedExponent reduce_exponent(Vec x) {
    const Vec n = (x * log2_e + rounding_shift) - rounding_shift;
    const Vec high = x - n * ln2_high;  // exact
    const Vec rest = high - n * ln2_low;
    return {n, {rest, (high - rest) - n * ln2_low}};
}

// exp(x + lost)
SM_INLINE Exponential exponential(Vec x, Vec lost) {
    const ReducedExponent reduced = reduce_exponent(x);
    const DoubleWord r = two_sum(reduced.rest.high, reduced.rest.low + lost);
    const Vec curve = r.high * r.high * polynomial(exp_polynomial, r.high);
    const DoubleWord linear = quick_sum(splat(1), r.high);
    return {quick_sum(linear.high, linear.low + (curve + (r.low + r.high * r.low))), reduced.n};
}

// exp(x) - 1 = 2 ((2^(n - 1) - 1/2) + 2^(n - 1) (exp(r) - 1)), where the halves keep the powers in range.
SM_FUNCTION Vec expm1(Vec x) {
    const ReducedExponent reduced = reduce_exponent(limit(x, expm1_lowest, exp_highest));
    const Vec r = reduced.rest.high;
    const Vec power = times_power_of_2(splat(0.5), reduced.n), offset = power - REAL(0.5);
    const Vec curve = reduced.rest.low + r * r * polynomial(exp_polynomial, r);
    const DoubleWord sum = quick_sum(offset, power * r);
    const Vec result = sum.high + (sum.low + (power * curve + ((power - offset) - REAL(0.5))));
    return abs(x) < exact_expm1 ? x : result + result;
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
    const Bits is_tiny = x < smallest_normal;
    const Vec normal = is_tiny ? x * two_to_mantissa : x;
    // Biased first, so that the shift is the same for signed and unsigned numbers (AVX2 has one of them in 64 bits).
    const Bits biased = bits_of(normal) + (bits_of(splat(1)) - bits_of(splat(0.75)));
    const Bits exponent = logical_shift_right(biased, mantissa_bits) - exponent_bias;
    const Vec mantissa = vec_of(bits_of(normal) - (exponent << mantissa_bits));
    Vec result = log_of_parts(small_to_vec(exponent) - (is_tiny ? splat(mantissa_bits) : splat(0)), mantissa);
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
// Powers: x^y = 2^(y log2 x). The logarithm is wanted to 10 bits more than numbers have, as y log2 x may be 1000.

// log2 x of a positive finite x = m 2^e, m in [sqrt(1/2), sqrt(2)): the series in s = (m - 1) / (m + 1), whose first two
// terms are double words.
SM_INLINE DoubleWord log2_double_word(Vec x) {
    const Bits is_tiny = x < smallest_normal;
    const Vec normal = is_tiny ? x * two_to_mantissa : x;
    const Bits biased = bits_of(normal) + (bits_of(splat(1)) - bits_of(splat(0.7071067811865476)));
    const Bits exponent = logical_shift_right(biased, mantissa_bits) - exponent_bias;
    const Vec m = vec_of(bits_of(normal) - (exponent << mantissa_bits));
    const DoubleWord s = divide({m - REAL(1), splat(0)}, quick_sum(splat(1), m));
    const DoubleWord z = multiply(s, s);
    const Vec tail = z.high * polynomial(log2_polynomial, z.high);
    DoubleWord series = quick_sum(splat(log2_cubic[0]), tail + log2_cubic[1]);
    const DoubleWord bend = multiply(z, series);
    series = quick_sum(splat(log2_linear[0]), bend.high);
    series.low += bend.low + log2_linear[1];
    const DoubleWord log2_m = multiply(s, series);
    const Vec e = small_to_vec(exponent) - (is_tiny ? splat(mantissa_bits) : splat(0));
    const DoubleWord sum = quick_sum(e, log2_m.high);
    return {sum.high, sum.low + log2_m.low};
}

// |x|^y
SM_INLINE Vec power_of_size(Vec size, Vec y) {
    DoubleWord log2_x = log2_double_word(size);
    const Bits is_regular = (size > REAL(0)) & (size < infinity());
    log2_x.high = is_regular ? log2_x.high : (size == REAL(0) ? splat(-infinity()) : size);
    const Vec product = rounded(y * log2_x.high);
    const Vec exponent = limit(product, exp2_lowest, exp2_highest);
    const Vec lost = product_error(y, log2_x.high, product) + y * log2_x.low;
    const Vec n = (exponent + rounding_shift) - rounding_shift;
    const Vec r = (exponent - n) + (exponent == product ? lost : splat(0));
    return times_power_of_2(polynomial(exp2_polynomial, r) * r + REAL(1), n);
}

// The special values are those of the C standard: 1 where y = 0, x = 1, or x = -1 and y is infinite; NaN where x < 0 is
// finite and y is not an integer; the sign of x where y is odd.
SM_CALL Vec pow(Vec x, Vec y) {
    const Vec size = abs(x);
    const Vec power = power_of_size(size, y);
    const Bits is_odd = is_integer(y) & ~is_integer(y * REAL(0.5));
    const Vec with_sign = is_odd ? copy_sign(power, x) : power;
    const Bits is_undefined = (x < REAL(0)) & (size < infinity()) & ~is_integer(y);
    const Bits is_one = (y == REAL(0)) | (x == REAL(1)) | ((x == REAL(-1)) & (abs(y) == infinity()));
    return is_one ? splat(1) : (is_undefined ? splat(not_a_number()) : with_sign);
}

// The cube root of m = |x| / 8^k in [1/2, 4), times 2^k: a polynomial for m^(-1/3), one step of order 4 towards it, and
// one of Newton on m^(1/3), whose residual is exact.
SM_FUNCTION Vec cbrt(Vec x) {
    constexpr int tiny_thirds = (mantissa_bits + 2) / 3;  // 8^tiny_thirds makes denormal numbers normal
    const Vec size = abs(x);
    const Bits is_tiny = size < smallest_normal;
    const Vec normal = is_tiny ? size * REAL(Integer(1) << (3 * tiny_thirds)) : size;
    const Bits exponent = logical_shift_right(bits_of(normal), mantissa_bits) - exponent_bias;
    const Bits third = bits_of(small_to_vec(exponent) * REAL(1.0 / 3) + rounding_shift) - bits_of(splat(rounding_shift));
    const Vec m = vec_of(bits_of(normal) - ((third + third + third) << mantissa_bits));
    Vec inverse = polynomial(inverse_cbrt_polynomial, m);
    const Vec h = REAL(1) - m * inverse * (inverse * inverse);
    inverse += inverse * h * (REAL(1.0 / 3) + h * (REAL(2.0 / 9) + h * REAL(14.0 / 81)));
    const Vec inverse_square = inverse * inverse;
    const Vec root = rounded(m * inverse_square);
    const DoubleWord square = two_product(root, root);
    const Vec residual = product_error(square.high, root, m) + square.low * root;
    const Vec refined = root - residual * (inverse_square * REAL(1.0 / 3));
    const Bits shift = third - (is_tiny ? splat_bits(tiny_thirds) : splat_bits(0));
    const Vec result = copy_sign(vec_of(bits_of(refined) + (shift << mantissa_bits)), x);
    return (size > REAL(0)) & (size < infinity()) ? result : x;
}

// ---------------------------------------------------------------------------------------------------------------------
// Hyperbolic functions and sigmoids

// tanh x = 1 - 2 / (exp(2 x) + 1), and a polynomial near 0 where that cancels.
SM_FUNCTION Vec tanh(Vec x) {
    const Vec size = abs(x), z = x * x;
    const Vec near = x + x * (z * polynomial(tanh_polynomial, z));
    const Vec far = REAL(1) - REAL(2) / (exp(size + size) + REAL(1));
    return copy_sign(size < REAL(0.7) ? near : far, x);
}

// exp|x| / 4, whose square and inverse stay in range for all x where sinh and cosh do.
SM_INLINE DoubleWord quarter_exponential(Vec x) {
    const Exponential e = exponential(limit(abs(x), 0, hyperbolic_highest), splat(0));
    const Vec power = times_power_of_2(splat(0.25), e.exponent);
    return {e.mantissa.high * power, e.mantissa.low * power};
}

// cosh x = 2 (e + 1 / (16 e)) and sinh x = 2 (e - 1 / (16 e)), e = exp|x| / 4; a polynomial where the latter cancels.
SM_FUNCTION Vec cosh(Vec x) {
    const DoubleWord e = quarter_exponential(x);
    const DoubleWord sum = quick_sum(e.high, REAL(0.0625) / e.high);
    const Vec half = sum.high + (sum.low + e.low);
    return half + half;
}

SM_FUNCTION Vec sinh(Vec x) {
    const DoubleWord e = quarter_exponential(x);
    const DoubleWord sum = quick_sum(e.high, REAL(-0.0625) / e.high);
    const Vec half = sum.high + (sum.low + e.low);
    const Vec size = abs(x), z = size * size;
    const Vec near = size + size * (z * polynomial(sinh_polynomial, z));
    return copy_sign(size < REAL(1) ? near : half + half, x);
}

// 1 / (1 + exp(-x)), and exp(x) / (1 + exp(x)) where x < 0, whose power of 2 comes last as it may be out of range.
SM_FUNCTION Vec sigmoid(Vec x) {
    const Exponential e = exponential(limit(-abs(x), exp_lowest, 0), splat(0));
    const Bits is_negative = x < REAL(0);
    DoubleWord below = quick_sum(splat(1), times_power_of_2(e.mantissa.high, e.exponent));
    below.low += times_power_of_2(e.mantissa.low, e.exponent);
    const Vec high = is_negative ? e.mantissa.high : splat(1), low = is_negative ? e.mantissa.low : splat(0);
    return times_power_of_2(divide({high, low}, below).high, is_negative ? e.exponent : splat(0));
}

// log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), and log(1 + e) = 2 atanh(e / (2 + e)).
SM_FUNCTION Vec softplus(Vec x) {
    const Exponential e = exponential(limit(-abs(x), exp_lowest, 0), splat(0));
    DoubleWord below = quick_sum(splat(2), times_power_of_2(e.mantissa.high, e.exponent));
    below.low += times_power_of_2(e.mantissa.low, e.exponent);
    const DoubleWord s = divide(e.mantissa, below);  // times 2^exponent
    const Vec scaled = times_power_of_2(s.high, e.exponent), z = scaled * scaled;
    const Vec half = s.high + (s.low + s.high * (z * polynomial(atanh_polynomial, z)));
    const Vec rest = times_power_of_2(half + half, e.exponent);
    return x > REAL(0) ? x + rest : rest;
}
}  // namespace symbolic_matrices
#endif
