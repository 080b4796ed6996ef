// Owns the circular functions and their inverses.
#ifndef SYMBOLIC_MATRICES_ANGLES_HPP
#define SYMBOLIC_MATRICES_ANGLES_HPP

#include "double_word.hpp"
#include "polynomials.hpp"

namespace symbolic_matrices {

#if REAL_BITS == 32
constexpr REAL half_pi[] = {1.5707962512969970703125f, 7.54978941586159635335e-8f, 5.39030252995776476554e-15f};
constexpr REAL largest_reduced_angle = 1e5f;
#else
constexpr REAL half_pi[] = {1.570796326794896557998982, 6.123233995736764803273656e-17, 1.082856673921913894238698e-32};
constexpr REAL largest_reduced_angle = 1e9;
#endif

constexpr REAL half_pi_lost = REAL_BITS == 32 ? -4.371138828673793e-08 : 6.123233995736766e-17;  // pi / 2 - REAL(pi / 2)

// Of large angles, in the C library
SM_BY_LANE(SM_CALL, sin_by_lane, SM_LIBM(sin))
SM_BY_LANE(SM_CALL, cos_by_lane, SM_LIBM(cos))
SM_BY_LANE(SM_CALL, tan_by_lane, SM_LIBM(tan))

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
struct Quadrant {  // n = x / (pi / 2), rounded
    Vec n;
    Bits number;
};

SM_INLINE Quadrant quadrant_of(Vec x) {
    const Vec shifted = x * REAL(0.63661977236758134) + rounding_shift;
    return {shifted - rounding_shift, bits_of(shifted)};
}

// x - n pi / 2, in [-pi / 4, pi / 4], where pi / 2 is in three positive parts (-0 stays -0). Fused multiply-adds round
// each subtraction once; the first one is exact, and the second one too where it leaves little.
SM_INLINE Vec reduce_angle(Vec x, Vec n) { return ((x - n * half_pi[0]) - n * half_pi[1]) - n * half_pi[2]; }

SM_INLINE DoubleWord reduce_angle_to_double_word(Vec x, Vec n) {
    const DoubleWord product = two_product(n, splat(half_pi[1]));
    const DoubleWord rest = two_sum(x - n * half_pi[0], -product.high);
    return quick_sum(rest.high, rest.low - (product.low + n * half_pi[2]));
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
        const Quadrant quadrant = quadrant_of(x);                                               \
        return sine_in_quadrant(reduce_angle(x, quadrant.n), quadrant.number + quadrants);      \
    }
SM_CIRCULAR(sin, 0)
SM_CIRCULAR(cos, 1)
#undef SM_CIRCULAR

// A polynomial for the tangent of the rest of the angle, and -1 over it in odd quadrants.
SM_FUNCTION Vec tan(Vec x) {
    if (__builtin_expect(any(not_at_least(splat(largest_reduced_angle), abs(x))), 0)) return tan_by_lane(x);
    const Quadrant quadrant = quadrant_of(x);
    const DoubleWord angle = reduce_angle_to_double_word(x, quadrant.n);
    const Vec r = angle.high, z = r * r;
    const DoubleWord tangent = quick_sum(r, r * (z * polynomial(tan_polynomial, z)) + angle.low * (z + REAL(1)));
    const Vec cotangent = divide({splat(-1), splat(0)}, tangent).high;
    return (quadrant.number & 1) != 0 ? cotangent : (x == REAL(0) ? x : tangent.high);
}
#else  // without fused multiply-adds, the reduction of the angle would need more parts
SM_FUNCTION Vec sin(Vec x) { return sin_by_lane(x); }
SM_FUNCTION Vec cos(Vec x) { return cos_by_lane(x); }
SM_FUNCTION Vec tan(Vec x) { return tan_by_lane(x); }
#endif

// sin(pi x) / (pi x), and 1 at 0. The distance r of x to an integer is exact, hence so are the zeros.
SM_FUNCTION Vec sinc(Vec x) {
    const Vec size = abs(x), whole = round(size), r = size - whole;
    const Bits is_odd = ~is_integer(whole * REAL(0.5));
    const Vec quotient = r / size, z = r * r;
    const Vec result = quotient + quotient * (z * polynomial(sin_pi_polynomial, z));
    return x == REAL(0) ? splat(1) : (is_odd ? -result : result);
}

// ---------------------------------------------------------------------------------------------------------------------
// Inverse functions

// The arc tangent of a ratio in [0, 1]
SM_INLINE Vec atan_in_octant(Vec ratio) {
    const Vec z = ratio * ratio;
    return ratio + ratio * (z * polynomial(atan_polynomial, z));
}

// pi / 2 - x for x in [0, 2]
SM_INLINE Vec complement(Vec x) {
    const DoubleWord difference = two_sum(splat(pi / 2), -x);
    return difference.high + (difference.low + half_pi_lost);
}

SM_FUNCTION Vec atan(Vec x) {
    const Vec size = abs(x);
    const Bits is_steep = size > REAL(1);
    const Vec angle = atan_in_octant(is_steep ? REAL(1) / size : size);
    return copy_sign(is_steep ? complement(angle) : angle, x);
}

// The angle of the point (x, y): that of its octant, mirrored.
SM_FUNCTION Vec atan2(Vec y, Vec x) {
    const Vec width = abs(x), height = abs(y);
    const Bits is_steep = height > width;
    const Vec above = is_steep ? width : height, below = is_steep ? height : width;
    Vec ratio = above / below;
    ratio = above == below ? (above == REAL(0) ? splat(0) : splat(1)) : ratio;  // also of infinite numbers
    const Vec octant = atan_in_octant(ratio);
    const Vec angle = is_steep ? complement(octant) : octant;
    const Bits is_left = bits_of(x) < 0;  // and -0
    const DoubleWord mirrored = quick_sum(splat(pi), -angle);
    return copy_sign(is_left ? mirrored.high + (mirrored.low + 2 * half_pi_lost) : angle, y);
}

// asin x for |x| <= 1/2, and twice asin sqrt((1 - |x|) / 2), which is acos |x|, beyond.
struct ArcSine {
    DoubleWord value;  // the root, and what the series adds
    Bits is_far;
};

SM_INLINE ArcSine arc_sine(Vec size) {
    const Bits is_far = size > REAL(0.5);
    const Vec z = is_far ? REAL(0.5) - REAL(0.5) * size : size * size;
    const Vec root = is_far ? sqrt(z) : size;
    const Vec series = root * (z * polynomial(asin_polynomial, z));
    return {{is_far ? root + root : root, is_far ? series + series : series}, is_far};
}

SM_FUNCTION Vec asin(Vec x) {
    const ArcSine arc = arc_sine(abs(x));
    const DoubleWord rest = two_sum(splat(pi / 2), -arc.value.high);
    const Vec far = rest.high + (rest.low + (half_pi_lost - arc.value.low));
    return copy_sign(arc.is_far ? far : arc.value.high + arc.value.low, x);
}

SM_FUNCTION Vec acos(Vec x) {
    const ArcSine arc = arc_sine(abs(x));
    const Bits is_negative = x < REAL(0);
    // Of a right angle minus or plus the arc sine, or of a straight angle minus the far arc.
    const Vec offset = arc.is_far ? (is_negative ? splat(pi) : splat(0)) : splat(pi / 2);
    const Vec lost = arc.is_far ? (is_negative ? splat(2 * half_pi_lost) : splat(0)) : splat(half_pi_lost);
    const Bits is_added = arc.is_far ^ is_negative;
    const Vec high = is_added ? arc.value.high : -arc.value.high, low = is_added ? arc.value.low : -arc.value.low;
    const DoubleWord sum = two_sum(offset, high);
    return sum.high + (sum.low + (lost + low));
}
}  // namespace symbolic_matrices
#endif
