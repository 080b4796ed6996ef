// Owns the error functions, which are also the distribution function of the Gaussian.
#ifndef SYMBOLIC_MATRICES_ERROR_FUNCTIONS_HPP
#define SYMBOLIC_MATRICES_ERROR_FUNCTIONS_HPP

#include "exponentials.hpp"

namespace symbolic_matrices {

#if REAL_BITS == 32
constexpr REAL erf_is_1 = 4.0f, erfc_is_0 = 10.5f;
constexpr REAL half_sqrt_low = 1.2101617485882343e-08f;  // sqrt(1/2) - REAL(sqrt(1/2))
#else
constexpr REAL erf_is_1 = 6.0, erfc_is_0 = 27.5;
constexpr REAL half_sqrt_low = -4.833646656726457e-17;
#endif
constexpr REAL half_sqrt = 0.7071067811865476;

// ---------------------------------------------------------------------------------------------------------------------
// Error functions

// A polynomial near 0, and 1 - exp(-P(x)).
SM_FUNCTION Vec erf(Vec x) {
    const Vec size = abs(x);
    const Vec near = size + size * polynomial(erf_polynomial, size * size);
    const Vec far = REAL(1) - exp(-polynomial(erf_exponent_polynomial, limit(size, 1, erf_is_1)));
    return copy_sign(size < REAL(1) ? near : far, x);
}

// exp(-square) times exp(y^2) erfc(y), where y >= 0 and square is y^2, but more precise. The second factor falls as
// S / (y + pole), where S is nearly constant.
SM_INLINE Exponential erfc_of(DoubleWord y, DoubleWord square) {
    constexpr REAL pole = 0.75, middle = 3.75, level = 0.65625;  // mirrored by tools/generate_polynomials.py
    const Exponential e = exponential(-square.high, -square.low);
    const Vec t = (y.high - middle) / (y.high + middle);
    const DoubleWord s = quick_sum(splat(level), polynomial(erfc_polynomial, t));
    DoubleWord below = two_sum(y.high, splat(pole));
    below.low += y.low;
    return {divide(multiply(e.mantissa, s), below), e.exponent};
}

SM_CALL Vec erfc(Vec x) {
    const Vec y = limit(abs(x), 0, erfc_is_0);
    const Exponential e = erfc_of({y, splat(0)}, two_product(y, y));
    const Vec value = times_power_of_2(e.mantissa.high, e.exponent);
    return x < REAL(0) ? REAL(2) - value : value;
}

// x / 2 erfc(-x / sqrt(2)), that is x times the distribution function of a standard normal variable. The power of 2
// comes last, as it may be out of range.
SM_CALL Vec gelu(Vec x) {
    const Vec size = limit(abs(x), 0, REAL(1.4142135623730951) * erfc_is_0);
    DoubleWord y = two_product(size, splat(half_sqrt));
    y.low += size * half_sqrt_low;
    DoubleWord square = two_product(size, size);
    square = {REAL(0.5) * square.high, REAL(0.5) * square.low};
    const Exponential e = erfc_of(y, square);
    const Vec half = REAL(0.5) * size;
    const Vec rest = times_power_of_2(half * e.mantissa.high + half * e.mantissa.low, e.exponent);
    return x < REAL(0) ? -rest : x - rest;
}

}  // namespace symbolic_matrices
#endif
