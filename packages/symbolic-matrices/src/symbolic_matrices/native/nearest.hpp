// Owns the K smallest values on processors: places in whole registers, one row's at a time.
#ifndef SYMBOLIC_MATRICES_NEAREST_HPP
#define SYMBOLIC_MATRICES_NEAREST_HPP

#include "reductions.hpp"

namespace symbolic_matrices {

// The K smallest values in increasing order with their columns, ties by column; NaN comes after the numbers.
template <int K, int dim, Outputs>
struct Smallest {
    typedef Comparison<Order::smallest> Compare;
    static constexpr int out_dim = K * dim;
    static constexpr bool reads_numbers = true;
    static constexpr int chunks = (K + lanes - 1) / lanes;  // registers that hold one row's places

    // What one row holds, as integers of the same order as the numbers (see `ordered`); there may be places beyond K.
    struct Places {
        Bits key[chunks], index[chunks];

        void clear() {
            for (int chunk = 0; chunk < chunks; ++chunk) {
                key[chunk] = splat_bits(last_in_order);
                index[chunk] = splat_bits(-1);
            }
        }

        REAL value_at(int place) const { return from_ordered(key[place / lanes])[place % lanes]; }
        Integer index_at(int place) const { return index[place / lanes][place % lanes]; }

        // Every place takes the one before it, or the candidate, or keeps its own; equal keys stay before the candidate.
        // Whole registers are read and written: a number written alone would stall the next read of its register.
        SM_INLINE void insert(Bits new_key, Integer candidate_index) {
            const Bits new_index = splat_bits(candidate_index);
            for (int chunk = chunks - 1; chunk >= 0; --chunk) {
                const Bits before = shifted_up(chunk > 0 ? key[chunk - 1] : splat_bits(first_in_order), key[chunk]);
                const Bits before_index = shifted_up(chunk > 0 ? index[chunk - 1] : index[chunk], index[chunk]);
                const Bits moves = new_key < before, enters = new_key < key[chunk];
                key[chunk] = moves ? before : enters ? new_key : key[chunk];
                index[chunk] = moves ? before_index : enters ? new_index : index[chunk];
                if (chunk > 0 && new_key[0] >= key[chunk - 1][lanes - 1]) return;
            }
        }
    };

    struct State {
        Vec threshold[dim];  // the last place of each row, to test a register of rows at once; NaN where it is empty
        Places rows[dim][lanes];

        SM_INLINE void insert(int k, int l, REAL candidate, Integer candidate_index) {
            Places& row = rows[k][l];
            row.insert(ordered(splat(candidate)), candidate_index);
            threshold[k] = lane_numbers() == splat_bits(l) ? splat(row.value_at(K - 1)) : threshold[k];
        }
    };

    struct Tile {
        State& state;  // too large for registers: columns go straight to the state
        SM_INLINE explicit Tile(State& state) : state(state) {}
    };

    template <int C>
    struct Output : Values<dim, C> {
        Tile& tile;
        SM_INLINE explicit Output(Tile& tile) : tile(tile) {}

        SM_INLINE void absorb(Integer column) {
            Flags hits{};
            SM_UNROLL for (int k = 0; k < dim; ++k)
                SM_UNROLL for (int c = 0; c < C; ++c)
                    hits |= Compare::may_beat(this->value[k].part[c], tile.state.threshold[k]);
            if (__builtin_expect(any(hits), 0))
                for (int k = 0; k < dim; ++k) {
                    const Pack<C> candidates = this->value[k];  // a copy, so that the others stay in registers
                    insert_all(tile.state, k, candidates, column);
                }
        }

        // Takes what looked better before the first of them was inserted; those that no longer are change nothing.
        // One loop over all of them, which ends once, costs the processor less than one per column.
        __attribute__((noinline)) static void insert_all(State& state, int k, const Pack<C>& candidates, Integer column) {
            constexpr int columns_per_word = 64 / lanes;
            for (int first = 0; first < C; first += columns_per_word) {
                uint64 hits = 0;
                SM_UNROLL for (int c = first; c < C && c < first + columns_per_word; ++c)
                    hits |= uint64(lane_bits(Compare::may_beat(candidates.part[c], state.threshold[k])))
                            << (c - first) * lanes;
                for (; hits; hits &= hits - 1) {
                    const int bit = __builtin_ctzll(hits), c = first + bit / lanes, l = bit % lanes;
                    state.insert(k, l, candidates.part[c][l], column + c);
                }
            }
        }
    };

    static void identity(State& state) {
        for (int k = 0; k < dim; ++k) {
            state.threshold[k] = from_ordered(splat_bits(last_in_order));
            for (int l = 0; l < lanes; ++l) state.rows[k][l].clear();
        }
    }
    static void close(State&, const Tile&) {}
    static void merge(State& state, const State& other) {
        for (int k = 0; k < dim; ++k)
            for (int l = 0; l < lanes; ++l)
                for (int place = 0; place < K && other.rows[k][l].index_at(place) >= 0; ++place)
                    state.insert(k, l, other.rows[k][l].value_at(place), other.rows[k][l].index_at(place));
    }
    template <class Writer>
    static void finish(const State& state, const Writer& writer) {
        for (int k = 0; k < dim; ++k)
            for (int place = 0; place < K; ++place) {
                Vec values{};
                Bits indices{};
                for (int l = 0; l < lanes; ++l) {
                    values[l] = state.rows[k][l].value_at(place);
                    indices[l] = state.rows[k][l].index_at(place);
                }
                writer.value(place * dim + k, indices < 0 ? splat(Compare::worst()) : values);
                writer.index(place * dim + k, indices);
            }
    }
};

}  // namespace symbolic_matrices
#endif
