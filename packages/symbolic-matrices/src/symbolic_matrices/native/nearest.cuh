// Owns the K smallest values on GPUs: up to `most_in_registers` places in the registers of a thread, which a loop over
// all of them keeps sorted without a branch; more of them in its local memory. The common path is the same test as ever.
#ifndef SYMBOLIC_MATRICES_NEAREST_CUH
#define SYMBOLIC_MATRICES_NEAREST_CUH

#include "reductions.hpp"

namespace symbolic_matrices {

constexpr int most_in_registers = 32;

// The K smallest values in increasing order with their columns, ties by column; NaN comes after the numbers.
template <int K, int dim, Outputs>
struct Smallest {
    typedef Comparison<Order::smallest> Compare;
    static constexpr bool reads_numbers = true;
    static constexpr int out_dim = K * dim;
    static constexpr int unrolled = K <= most_in_registers ? K : 1;

    // What one row holds. An empty place has the index -1 and the value NaN, so that the common test lets all pass.
    struct Places {
        Vec value[K];
        Bits index[K];

        SM_INLINE bool is_behind(int place, Vec candidate) const {
            return index[place] < 0 || candidate < value[place] ||
                   (value[place] != value[place] && candidate == candidate);
        }

        // From the last place on, each one takes what stood before it, or the candidate, or keeps its own.
        SM_INLINE void insert(Vec candidate, Bits candidate_index) {
            _Pragma("unroll unrolled") for (int place = K - 1; place > 0; --place) {
                const bool moves = is_behind(place - 1, candidate), enters = is_behind(place, candidate);
                value[place] = moves ? value[place - 1] : enters ? candidate : value[place];
                index[place] = moves ? index[place - 1] : enters ? candidate_index : index[place];
            }
            const bool enters = is_behind(0, candidate);
            value[0] = enters ? candidate : value[0];
            index[0] = enters ? candidate_index : index[0];
        }
    };

    struct State {
        Places rows[dim];
    };

    // Columns go straight to the state, which may be in local memory: what the common test reads of it is kept here.
    struct Tile {
        State& state;
        Vec threshold[dim];
        SM_INLINE explicit Tile(State& state) : state(state) {
            SM_UNROLL for (int k = 0; k < dim; ++k) threshold[k] = state.rows[k].value[K - 1];
        }
    };

    template <int C>
    struct Output : Values<dim, C> {
        Tile& tile;
        SM_INLINE explicit Output(Tile& tile) : tile(tile) {}

        SM_INLINE void absorb(Integer column) {
            Flags hits{};
            SM_UNROLL for (int k = 0; k < dim; ++k)
                SM_UNROLL for (int c = 0; c < C; ++c)
                    hits |= Compare::may_beat(this->value[k].part[c], tile.threshold[k]);
            if (any(hits))
                SM_UNROLL for (int k = 0; k < dim; ++k) insert_all(k, column);
        }

        // In the order of the columns, one by one: rows of a warp that like different columns insert them together.
        SM_INLINE void insert_all(int k, Integer column) {
            unsigned rest = 0;
            SM_UNROLL for (int c = 0; c < C; ++c)
                rest |= unsigned(Compare::may_beat(this->value[k].part[c], tile.threshold[k])) << c;
            for (; rest != 0; rest &= rest - 1) {
                Vec candidate = this->value[k].part[C - 1];
                Bits number = C - 1;
                SM_UNROLL for (int c = C - 2; c >= 0; --c) {
                    const bool is_next = (rest >> c & 1) != 0;
                    candidate = is_next ? this->value[k].part[c] : candidate;
                    number = is_next ? c : number;
                }
                tile.state.rows[k].insert(candidate, column + number);
            }
            tile.threshold[k] = tile.state.rows[k].value[K - 1];
        }
    };

    static SM_INLINE void identity(State& state) {
        SM_UNROLL for (int k = 0; k < dim; ++k)
            _Pragma("unroll unrolled") for (int place = 0; place < K; ++place) {
                state.rows[k].value[place] = not_a_number();
                state.rows[k].index[place] = -1;
            }
    }
    static SM_INLINE void close(State&, const Tile&) {}
    static SM_INLINE void merge(State& state, const State& other) {
        for (int k = 0; k < dim; ++k)
            for (int place = 0; place < K && other.rows[k].index[place] >= 0; ++place)
                state.rows[k].insert(other.rows[k].value[place], other.rows[k].index[place]);
    }
    template <class Writer>
    static SM_INLINE void finish(const State& state, const Writer& writer) {
        SM_UNROLL for (int k = 0; k < dim; ++k)
            _Pragma("unroll unrolled") for (int place = 0; place < K; ++place) {
                const Bits index = state.rows[k].index[place];
                writer.value(place * dim + k, index < 0 ? Compare::worst() : state.rows[k].value[place]);
                writer.index(place * dim + k, index);
            }
    }
};

}  // namespace symbolic_matrices
#endif
