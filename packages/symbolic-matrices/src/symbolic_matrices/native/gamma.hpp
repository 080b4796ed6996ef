// Owns the digamma function and its derivatives, lane by lane: see gamma_functions.py for the formulas.
#ifndef SYMBOLIC_MATRICES_GAMMA_HPP
#define SYMBOLIC_MATRICES_GAMMA_HPP

#ifdef __CUDACC__
#include "math.cuh"
#else
#include "math.hpp"
#endif

namespace symbolic_matrices {

constexpr REAL pi = 3.14159265358979324;
constexpr REAL bernoulli[] = {1.0 / 6,       -1.0 / 30, 1.0 / 42,      -1.0 / 30,     5.0 / 66,
                              -691.0 / 2730, 7.0 / 6,   -3617.0 / 510, 43867.0 / 798, -174611.0 / 330};
constexpr int bernoulli_count = sizeof(bernoulli) / sizeof(bernoulli[0]);

// The derivative number `order` of cot, at pi x: a polynomial in c = cot(pi x), as c' = -(1 + c^2).
template <int order>
inline REAL cotangent_derivative(REAL x) {
    REAL coefficients[order + 4] = {0, 1};
    for (int n = 0; n < order; ++n) {
        REAL slope[order + 4] = {};
        for (int k = 0; k <= n; ++k) slope[k] = REAL(k + 1) * coefficients[k + 1];
        for (int k = 0; k <= n + 2; ++k) coefficients[k] = -slope[k] - (k < 2 ? REAL(0) : slope[k - 2]);
    }
    const REAL c = REAL(1) / SM_LIBM(tan)(pi * (x - SM_LIBM(rint)(x)));
    REAL result = 0;
    for (int k = order + 1; k >= 0; --k) result = result * c + coefficients[k];
    return result;
}

template <int order>
inline REAL polygamma_at_positive(REAL x) {
    constexpr int sign = order % 2 ? 1 : -1;
    REAL factorial = 1, shifted_sum = 0;  // factorial of order - 1, then of order
    for (int k = 2; k < order; ++k) factorial *= REAL(k);
    const REAL scale = factorial;
    if (order > 1) factorial *= REAL(order);
    for (; x < REAL(order + 12); x += 1) {
        REAL term = REAL(sign) * factorial / x;
        for (int k = 0; k < order; ++k) term /= x;
        shifted_sum += term;
    }
    REAL series = 0;
    for (int k = bernoulli_count; k > 0; --k) {
        REAL weight = order ? REAL(1) : REAL(1) / REAL(2 * k);  // else the binomial coefficient (2k + order - 1, 2k)
        for (int m = 1; m < order; ++m) weight *= REAL(2 * k + m) / REAL(m);
        series = (series + bernoulli[k - 1] * weight) / (x * x);
    }
    if (order == 0) return shifted_sum + (SM_LIBM(log)(x) - (REAL(0.5) / x + series));
    REAL largest = REAL(sign) * scale;
    for (int k = 0; k < order; ++k) largest /= x;
    return shifted_sum + largest * (1 + REAL(order) / (2 * x) + series);
}

template <int order>
SM_CALL REAL polygamma_of(REAL x) {
    if (x <= 0 && x == SM_LIBM(floor)(x)) {
        if (order > 0) return order % 2 ? infinity() : -infinity();
        return x == 0 ? -1 / x : not_a_number();
    }
    if (!(x < 0)) return polygamma_at_positive<order>(x);
    REAL power_of_pi = pi;
    for (int k = 0; k < order; ++k) power_of_pi *= pi;
    const REAL reflected = polygamma_at_positive<order>(1 - x);
    return (order % 2 ? -reflected : reflected) - power_of_pi * cotangent_derivative<order>(x);
}

template <int order>
SM_INLINE REAL polygamma(REAL x) {
    return polygamma_of<order>(x);
}
template <int order, int N>
SM_INLINE Pack<N> polygamma(const Pack<N>& x) {
    Pack<N> y;
    SM_UNROLL for (int q = 0; q < N; ++q) y.part[q] = by_lane<polygamma_of<order>>(x.part[q]);
    return y;
}
template <class V>
SM_INLINE V digamma(const V& x) {
    return polygamma<0>(x);
}

}  // namespace symbolic_matrices
#endif
