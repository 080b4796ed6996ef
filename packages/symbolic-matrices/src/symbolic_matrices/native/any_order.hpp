// Owns the selections of columns that come in any order: those of equal values are told apart by their numbers.
#ifndef SYMBOLIC_MATRICES_ANY_ORDER_HPP
#define SYMBOLIC_MATRICES_ANY_ORDER_HPP

#include "nearest.hpp"

namespace symbolic_matrices {

template <class Reduction>
struct AnyOrder;

template <int K, Outputs outputs>
struct AnyOrder<Smallest<K, 1, outputs>> {
    typedef Smallest<K, 1, outputs, false> type;
};

// The least (or greatest) value, the first of the columns that reach it; NaN wins over numbers.
template <Order order>
struct ExtremumInAnyOrder {
    typedef Comparison<order> Compare;
    static constexpr int out_dim = 1;
    static constexpr bool is_won_by_nan = true;

    struct State {
        Vec value, threshold[1];  // the threshold refuses what is worse than the value: it is the next number
        Bits index;
    };

    typedef State& Tile;

    template <int C>
    struct Output : Values<1, C> {
        State& state;
        SM_INLINE explicit Output(State& state) : state(state) {}

        template <class Columns>
        SM_INLINE void take(const Columns& columns) {
            Flags hits{};
            SM_UNROLL for (int c = 0; c < C; ++c) hits |= Compare::may_beat(this->value[0].part[c], state.threshold[0]);
            if (!any(hits)) return;
            SM_UNROLL for (int c = 0; c < C; ++c) {
                const Vec value = this->value[0].part[c], held = state.value;
                const Bits index = splat_bits(columns[c]);
                const Mask wins = Compare::beats(value, held) | ((value != value) & (held == held));
                const Mask ties = (value == held) | ((value != value) & (held != held));
                const Mask better = wins | (ties & (index < state.index)) | (state.index < 0);
                state.value = better ? value : held;
                state.index = better ? index : state.index;
            }
            const Bits key = ordered(state.value), next = Compare::smallest ? key + 1 : key - 1;
            state.threshold[0] = state.value == state.value ? from_ordered(next) : state.value;
        }
    };

    static void identity(State& state) {
        state.value = state.threshold[0] = splat(not_a_number());
        state.index = splat_bits(-1);
    }
    template <class Writer>
    static void finish(const State& state, const Writer& writer) {
        writer.value(0, state.index < 0 ? splat(Compare::worst()) : state.value);
        writer.index(0, state.index);
    }
};

template <Order order, Outputs outputs>
struct AnyOrder<Extremum<1, order, outputs>> {
    typedef ExtremumInAnyOrder<order> type;
};

}  // namespace symbolic_matrices
#endif
