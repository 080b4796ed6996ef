// Owns the digamma function and its derivatives: one number after the other, in float64 for both formats.
#ifndef SYMBOLIC_MATRICES_GAMMA_HPP
#define SYMBOLIC_MATRICES_GAMMA_HPP

#include "polynomials.hpp"

#ifdef __CUDACC__
#include "math.cuh"
#else
#include "math.hpp"
#endif

namespace symbolic_matrices {

constexpr double pi_64 = 3.141592653589793;
constexpr double digamma_root[] = {1.4616321449683622, 9.549995429965697e-17};  // as a double word
constexpr double bernoulli[] = {1.0 / 6,  -1.0 / 30,     1.0 / 42, -1.0 / 30,  // B_2, B_4...
                                5.0 / 66, -691.0 / 2730, 7.0 / 6,  -3617.0 / 510};
constexpr int bernoulli_count = sizeof(bernoulli) / sizeof(double);

template <int count>
SM_INLINE double polynomial(const double (&coefficients)[count], double x) {
    double result = coefficients[count - 1];
    for (int k = count - 2; k >= 0; --k) result = result * x + coefficients[k];
    return result;
}

// cot(pi x) for x not an integer
SM_INLINE double cotangent_of_turns(double x) { return 1 / SM_LIBM_64(tan)(pi_64 * (x - SM_LIBM_64(rint)(x))); }

constexpr double reflected_below = -20;  // the sums from there on take a few steps, and are more precise

// A polynomial around the root, and steps of 1 / x to the others from -20 to 10; an asymptotic series beyond, a
// reflection below.
SM_CALL double digamma_of(double x) {
    if (x == 0) return -1 / x;
    if (x < 0 && x == SM_LIBM_64(floor)(x)) return not_a_number();  // -infinity too
    if (x < reflected_below) return digamma_of(1 - x) - pi_64 * cotangent_of_turns(x);
    if (x < 1) return digamma_of(x + 1) - 1 / x;
    if (x < 10) {
        double steps = 0;
        for (; x > 2; x -= 1) steps += 1 / (x - 1);
        return steps + ((x - digamma_root[0]) - digamma_root[1]) * polynomial(digamma_polynomial, x - 1.5);
    }
    const double z = 1 / (x * x);
    double series = 0;
    for (int k = bernoulli_count; k > 0; --k) series = (series + bernoulli[k - 1] / (2 * k)) * z;
    return SM_LIBM_64(log)(x) - (0.5 / x + series);
}

// sum_k (x + k)^-(n + 1): some terms, the largest last, and the others by the formula of Euler and Maclaurin.
template <int n>
SM_CALL double sum_of_inverse_powers(double x) {
    const int terms = x < n + 12 ? int(SM_LIBM_64(ceil)(n + 12 - x)) : 0;
    const double end = x + terms, z = 1 / (end * end);
    double series = 1.0 / n + 0.5 / end, factor = 1;
    for (int j = 1; j <= bernoulli_count; ++j) {
        factor *= j == 1 ? (n + 1) / 2.0 * z : (n + 2 * j - 2.0) * (n + 2 * j - 1.0) / ((2 * j - 1.0) * (2 * j)) * z;
        series += bernoulli[j - 1] * factor;
    }
    double sum = series / powi<n>(end);
    for (int k = terms - 1; k >= 0; --k) sum += 1 / powi<n + 1>(x + k);
    return sum;
}

// The n-th derivative of cot(pi x), by pi^n: a polynomial of c = cot(pi x), as each derivative is -(1 + c^2) times that
// of the polynomial. Its coefficients have one sign.
template <int n>
SM_INLINE double cotangent_derivative(double c) {
    double coefficients[n + 2] = {0, 1};
    for (int k = 1; k <= n; ++k) {
        double slope[n + 2] = {};
        for (int i = 1; i <= k; ++i) slope[i - 1] = i * coefficients[i];
        for (int i = 0; i <= k + 1; ++i) coefficients[i] = -slope[i] - (i > 1 ? slope[i - 2] : 0);
    }
    return polynomial(coefficients, c);
}

// n! times the sum, with the sign (-1)^(n + 1), which is also that of its poles.
template <int n>
SM_INLINE double polygamma_of(double x) {
    constexpr double sign = n % 2 ? 1 : -1;
    double factorial = 1;
    for (int k = 2; k <= n; ++k) factorial *= k;
    if (x <= 0 && x == SM_LIBM_64(floor)(x)) return sign * infinity();
    if (!(x < reflected_below)) return sign * factorial * sum_of_inverse_powers<n>(x);
    const double reflected = factorial * sum_of_inverse_powers<n>(1 - x);
    return -powi<n + 1>(pi_64) * cotangent_derivative<n>(cotangent_of_turns(x)) - reflected;
}

template <int n>
SM_CALL REAL polygamma_number(REAL x) {
    static_assert(n >= 0, "the digamma function is derived n times");
    if constexpr (n == 0)
        return REAL(digamma_of(x));
    else
        return REAL(polygamma_of<n>(x));
}

template <int n>
SM_INLINE REAL polygamma(REAL x) {
    return polygamma_number<n>(x);
}
template <int n, int N>
SM_INLINE Pack<N> polygamma(const Pack<N>& x) {
    Pack<N> y;
    SM_UNROLL for (int q = 0; q < N; ++q) y.part[q] = by_lane<polygamma_number<n>>(x.part[q]);
    return y;
}
template <class V>
SM_INLINE V digamma(const V& x) {
    return polygamma<0>(x);
}

}  // namespace symbolic_matrices
#endif
