// Owns pairs (value, column) in lexicographic order, one pair per lane: NaN comes after the numbers, equal values are
// ordered by their columns.
#ifndef SYMBOLIC_MATRICES_RANKED_HPP
#define SYMBOLIC_MATRICES_RANKED_HPP

#include "numbers.hpp"

namespace symbolic_matrices {

#if REAL_BITS == 32

// Each pair is one 64-bit integer, the value's key above the column, so that the order takes one instruction. The lanes
// of a register make two registers of pairs: the even ones and the odd ones.
class Ranked {
    typedef int64 Pairs __attribute__((vector_size(SM_VECTOR_BYTES)));
    typedef uint64 Unsigned __attribute__((vector_size(SM_VECTOR_BYTES)));
    static constexpr int64 low_half = 0xffffffffll;
    Pairs even, odd;

    SM_INLINE Ranked(Pairs even, Pairs odd) : even(even), odd(odd) {}
    SM_INLINE static Pairs shifted_down(Pairs x) { return (Pairs)((Unsigned)x >> 32); }
    SM_INLINE static Pairs shifted_up(Pairs x) { return (Pairs)((Unsigned)x << 32); }

  public:
    Ranked() = default;
    SM_INLINE Ranked(Bits key, Bits column)
        : even(shifted_up((Pairs)key) | ((Pairs)column & low_half)),
          odd(((Pairs)key & ~low_half) | shifted_down((Pairs)column)) {}

    SM_INLINE Bits keys() const { return (Bits)(shifted_down(even) | (odd & ~low_half)); }
    SM_INLINE Bits columns() const { return (Bits)((even & low_half) | shifted_up(odd)); }

    SM_INLINE static Ranked first_of(const Ranked& a, const Ranked& b) {
        return Ranked(a.even < b.even ? a.even : b.even, a.odd < b.odd ? a.odd : b.odd);
    }
    SM_INLINE static Ranked last_of(const Ranked& a, const Ranked& b) {
        return Ranked(a.even > b.even ? a.even : b.even, a.odd > b.odd ? a.odd : b.odd);
    }
};

#else

class Ranked {
    Bits key, column;

    SM_INLINE static Mask is_before(const Ranked& a, const Ranked& b) {
        return (a.key < b.key) | ((a.key == b.key) & (a.column < b.column));
    }
    SM_INLINE static Ranked choose(Mask mask, const Ranked& a, const Ranked& b) {
        return Ranked(mask ? a.key : b.key, mask ? a.column : b.column);
    }

  public:
    Ranked() = default;
    SM_INLINE Ranked(Bits key, Bits column) : key(key), column(column) {}

    SM_INLINE Bits keys() const { return key; }
    SM_INLINE Bits columns() const { return column; }

    SM_INLINE static Ranked first_of(const Ranked& a, const Ranked& b) { return choose(is_before(a, b), a, b); }
    SM_INLINE static Ranked last_of(const Ranked& a, const Ranked& b) { return choose(is_before(a, b), b, a); }
};

#endif

}  // namespace symbolic_matrices
#endif
