// Owns soft dynamic time warping: its value, the expected alignment, and the derivatives of the latter.
//
// M. Cuturi and M. Blondel, Soft-DTW: a differentiable loss function for time-series, ICML 2017, algorithms 1 and 2. The
// derivatives of the alignment along directions run the same recursions on dual numbers, nested once per direction.
#ifndef SYMBOLIC_MATRICES_DTW_HPP
#define SYMBOLIC_MATRICES_DTW_HPP

#include "lookup.hpp"

namespace symbolic_matrices {

// value + epsilon tangent, where epsilon^2 = 0.
template <class T>
struct Dual {
    T value, tangent;
    SM_INLINE friend Dual operator+(const Dual& a, const Dual& b) {
        return {a.value + b.value, a.tangent + b.tangent};
    }
    SM_INLINE friend Dual operator-(const Dual& a, const Dual& b) {
        return {a.value - b.value, a.tangent - b.tangent};
    }
    SM_INLINE friend Dual operator*(const Dual& a, const Dual& b) {
        return {a.value * b.value, a.value * b.tangent + a.tangent * b.value};
    }
    SM_INLINE friend Dual operator/(const Dual& a, const Dual& b) {
        const T quotient = a.value / b.value;
        return {quotient, (a.tangent - quotient * b.tangent) / b.value};
    }
};
template <class T>
SM_INLINE Dual<T> exp(const Dual<T>& x) {
    const T e = exp(x.value);
    return {e, e * x.tangent};
}
template <class T>
SM_INLINE Dual<T> log(const Dual<T>& x) {
    return {log(x.value), x.tangent / x.value};
}

// Numbers of type V with `order` nested tangents; at(d, entry) reads direction number d, and the cost where d = -1.
template <int order, class V>
struct Nested {
    typedef Nested<order - 1, V> Below;
    typedef Dual<typename Below::Type> Type;
    template <class Read>
    SM_INLINE static Type read(const Read& at, int entry) {
        return {Below::read(at, entry), Below::constant(at(order - 1, entry))};
    }
    SM_INLINE static Type constant(const V& x) { return {Below::constant(x), Below::constant(V())}; }
    SM_INLINE static V primal(const Type& x) { return Below::primal(x.value); }
    SM_INLINE static V highest(const Type& x) { return Below::highest(x.tangent); }
};
template <class V>
struct Nested<0, V> {
    typedef V Type;
    template <class Read>
    SM_INLINE static V read(const Read& at, int entry) {
        return at(-1, entry);
    }
    SM_INLINE static V constant(const V& x) { return x; }
    SM_INLINE static V primal(const V& x) { return x; }
    SM_INLINE static V highest(const V& x) { return x; }
};

// The soft minimum, -log sum exp(-x), of the costs of all the paths to each cell, without the cost of the cell itself
// (before) and with it (total). Costs are in units of gamma.
template <int order, int rows, int columns, class V>
struct Warping {
    typedef Nested<order, V> Number;
    typedef typename Number::Type T;
    T before[rows * columns], total[rows * columns];

    SM_INLINE static T soft_minimum(const T* terms, int count) {
        V least = Number::primal(terms[0]);
        for (int t = 1; t < count; ++t) least = minimum(least, Number::primal(terms[t]));
        const T shift = Number::constant(least);
        T sum = exp(shift - terms[0]);
        for (int t = 1; t < count; ++t) sum = sum + exp(shift - terms[t]);
        return shift - log(sum);
    }

    template <class Read>
    SM_INLINE explicit Warping(const Read& at) {
        for (int k = 0; k < rows; ++k)
            for (int l = 0; l < columns; ++l) {
                const int cell = k * columns + l;
                T terms[3];
                int count = 0;
                if (k > 0) terms[count++] = total[cell - columns];
                if (l > 0) terms[count++] = total[cell - 1];
                if (k > 0 && l > 0) terms[count++] = total[cell - columns - 1];
                before[cell] = count > 0 ? soft_minimum(terms, count) : Number::constant(V());
                total[cell] = before[cell] + Number::read(at, cell);
            }
    }

    // How much of a path that goes on to a cell comes from another one.
    SM_INLINE T share(int from, int to) const { return exp(before[to] - total[from]); }

    // out(cell, x): the derivative of the total cost in the cost of each cell, by its highest tangent.
    template <class Write>
    SM_INLINE void align(const Write& out) const {
        T reached[rows * columns];
        for (int k = rows - 1; k >= 0; --k)
            for (int l = columns - 1; l >= 0; --l) {
                const int cell = k * columns + l;
                T sum = Number::constant(cell == rows * columns - 1 ? V(REAL(1)) : V());
                if (k + 1 < rows) sum = sum + reached[cell + columns] * share(cell, cell + columns);
                if (l + 1 < columns) sum = sum + reached[cell + 1] * share(cell, cell + 1);
                if (k + 1 < rows && l + 1 < columns)
                    sum = sum + reached[cell + columns + 1] * share(cell, cell + columns + 1);
                reached[cell] = sum;
                out(cell, Number::highest(sum));
            }
    }
};

}  // namespace symbolic_matrices
#endif
