// Owns lookups: a component whose number is known at run time only.
#ifndef SYMBOLIC_MATRICES_LOOKUP_HPP
#define SYMBOLIC_MATRICES_LOOKUP_HPP

#ifdef __CUDACC__
#include "math.cuh"
#else
#include "math.hpp"
#endif

namespace symbolic_matrices {

// component(k) at k = position, rounded; NaN outside of 0 ... dim - 1, so that nothing else is ever read.
template <int dim, class Component>
SM_INLINE REAL take(const Component& component, REAL position) {
    const REAL k = round(position);
    return k >= 0 && k < dim ? component(int(k)) : not_a_number();
}

template <int dim, class Component, int N>
SM_INLINE Pack<N> take(const Component& component, const Pack<N>& position) {
    const Pack<N> rounded = round(position);
    Pack<N> result;
    SM_UNROLL for (int q = 0; q < N; ++q)
        for (int l = 0; l < lanes; ++l) {
            const REAL k = lane(rounded.part[q], l);
            set_lane(result.part[q], l, k >= 0 && k < dim ? lane(component(int(k)).part[q], l) : not_a_number());
        }
    return result;
}

}  // namespace symbolic_matrices
#endif
