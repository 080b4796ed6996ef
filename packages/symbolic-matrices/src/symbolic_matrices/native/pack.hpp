// Owns packs: N registers (Vec) with the arithmetic of one number. The printed formula computes with them, so that it
// evaluates several columns at once and shares what they have in common. Included after vector.hpp, whose registers hold
// several rows, or vector.cuh, whose registers are numbers.
#ifndef SYMBOLIC_MATRICES_PACK_HPP
#define SYMBOLIC_MATRICES_PACK_HPP

namespace symbolic_matrices {

template <int N>
struct PackMask {
    Mask part[N];
};

template <int N>
struct Pack {
    Vec part[N];

    Pack() = default;  // V() is 0; a variable without a value costs nothing
    SM_INLINE Pack(REAL value) : Pack(of(splat(value))) {}
    SM_INLINE static Pack of(Vec value) {
        Pack result;
        SM_UNROLL for (int q = 0; q < N; ++q) result.part[q] = value;
        return result;
    }

    SM_INLINE Pack operator-() const {
        Pack result;
        SM_UNROLL for (int q = 0; q < N; ++q) result.part[q] = -part[q];
        return result;
    }

#define SM_ARITHMETIC(op)                                                                       \
    friend SM_INLINE Pack operator op(const Pack& a, const Pack& b) {                           \
        Pack result;                                                                            \
        SM_UNROLL for (int q = 0; q < N; ++q) result.part[q] = a.part[q] op b.part[q];          \
        return result;                                                                          \
    }                                                                                           \
    friend SM_INLINE Pack& operator op##=(Pack& a, const Pack& b) {                             \
        SM_UNROLL for (int q = 0; q < N; ++q) a.part[q] = a.part[q] op b.part[q];               \
        return a;                                                                               \
    }
    SM_ARITHMETIC(+)
    SM_ARITHMETIC(-)
    SM_ARITHMETIC(*)
    SM_ARITHMETIC(/)
#undef SM_ARITHMETIC

#define SM_COMPARISON(op)                                                                       \
    friend SM_INLINE PackMask<N> operator op(const Pack& a, const Pack& b) {                    \
        PackMask<N> result;                                                                     \
        SM_UNROLL for (int q = 0; q < N; ++q) result.part[q] = a.part[q] op b.part[q];          \
        return result;                                                                          \
    }
    SM_COMPARISON(<)
    SM_COMPARISON(<=)
    SM_COMPARISON(>)
    SM_COMPARISON(>=)
    SM_COMPARISON(==)
    SM_COMPARISON(!=)
#undef SM_COMPARISON
};

#define SM_LOGIC(op)                                                                            \
    template <int N>                                                                            \
    SM_INLINE PackMask<N> operator op(const PackMask<N>& a, const PackMask<N>& b) {             \
        PackMask<N> result;                                                                     \
        SM_UNROLL for (int q = 0; q < N; ++q) result.part[q] = a.part[q] op b.part[q];          \
        return result;                                                                          \
    }
SM_LOGIC(&)
SM_LOGIC(|)
SM_LOGIC(^)
#undef SM_LOGIC

template <int N>
SM_INLINE PackMask<N> operator!(const PackMask<N>& a) {
    PackMask<N> result;
    SM_UNROLL for (int q = 0; q < N; ++q) result.part[q] = a.part[q] == 0;
    return result;
}

template <int N>
SM_INLINE Pack<N> select(const PackMask<N>& mask, const Pack<N>& yes, const Pack<N>& no) {
    Pack<N> result;
    SM_UNROLL for (int q = 0; q < N; ++q) result.part[q] = select(mask.part[q], yes.part[q], no.part[q]);
    return result;
}

// A number as a value of the formula's type.
template <class V>
SM_INLINE V splat(REAL value) {
    return V(value);
}

// A function of one or two registers, for packs of them.
#define SM_LIFT(name)                                                                           \
    template <int N>                                                                            \
    SM_INLINE Pack<N> name(const Pack<N>& x) {                                                  \
        Pack<N> y;                                                                              \
        SM_UNROLL for (int q = 0; q < N; ++q) y.part[q] = name(x.part[q]);                      \
        return y;                                                                               \
    }
#define SM_LIFT_2(name)                                                                         \
    template <int N>                                                                            \
    SM_INLINE Pack<N> name(const Pack<N>& a, const Pack<N>& b) {                                \
        Pack<N> y;                                                                              \
        SM_UNROLL for (int q = 0; q < N; ++q) y.part[q] = name(a.part[q], b.part[q]);           \
        return y;                                                                               \
    }

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
