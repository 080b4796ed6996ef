// Owns numbers of twice the precision: unevaluated sums of two, for the few steps where the rounding of one is too much.
#ifndef SYMBOLIC_MATRICES_DOUBLE_WORD_HPP
#define SYMBOLIC_MATRICES_DOUBLE_WORD_HPP

#include "numbers.hpp"

namespace symbolic_matrices {

// x itself, as it is rounded: the compiler may not fuse the product that made it into what follows.
SM_INLINE Vec rounded(Vec x) {
#if defined(SM_AVX512)
    asm("" : "+v"(x));
#elif defined(__SSE2__)
    asm("" : "+x"(x));
#elif defined(__aarch64__)
    asm("" : "+w"(x));
#else
    asm("" : "+m"(x));
#endif
    return x;
}

// a b - product, where the product is about that: exact, up to one rounding.
SM_INLINE Vec product_error(Vec a, Vec b, Vec product) {
#if defined(__FMA__)
    asm("vfmsub213" SM_SUFFIX " %2, %1, %0" : "+v"(a) : "v"(b), "v"(product));
    return a;
#elif defined(__aarch64__)
    Vec error = -product;
#if REAL_BITS == 32
    asm("fmla %0.4s, %1.4s, %2.4s" : "+w"(error) : "w"(a), "w"(b));
#else
    asm("fmla %0.2d, %1.2d, %2.2d" : "+w"(error) : "w"(a), "w"(b));
#endif
    return error;
#else  // the products of halves of the digits are exact
    const Bits upper = splat_bits(-(Integer(1) << (mantissa_bits / 2 + 1)));
    const Vec a_high = vec_of(bits_of(a) & upper), b_high = vec_of(bits_of(b) & upper);
    const Vec a_low = a - a_high, b_low = b - b_high;
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
#endif
}

struct DoubleWord {  // high + low, where high is that sum rounded
    Vec high, low;
};

// a + b where a is 0 or the larger one.
SM_INLINE DoubleWord quick_sum(Vec a, Vec b) {
    const Vec high = a + b;
    return {high, b - (high - a)};
}

// a + b in general.
SM_INLINE DoubleWord two_sum(Vec a, Vec b) {
    const Vec high = a + b;
    const Vec b_there = high - a;
    return {high, (a - (high - b_there)) + (b - b_there)};
}

SM_INLINE DoubleWord two_product(Vec a, Vec b) {
    const Vec high = rounded(a * b);
    return {high, product_error(a, b, high)};
}

SM_INLINE DoubleWord multiply(DoubleWord a, DoubleWord b) {
    const DoubleWord product = two_product(a.high, b.high);
    return quick_sum(product.high, product.low + (a.high * b.low + a.low * b.high));
}

// The quotient by 1 / b.high, corrected once for what it leaves.
SM_INLINE DoubleWord divide(DoubleWord a, DoubleWord b) {
    const Vec inverse = REAL(1) / b.high;
    const Vec quotient = rounded(a.high * inverse);
    const Vec rest = (a.low - product_error(quotient, b.high, a.high)) - quotient * b.low;
    return quick_sum(quotient, rest * inverse);
}

}  // namespace symbolic_matrices
#endif
