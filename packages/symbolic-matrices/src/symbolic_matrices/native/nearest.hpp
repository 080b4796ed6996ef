// Owns the K smallest values on processors: sorted lists, one per row, across the lanes of registers or within them.
#ifndef SYMBOLIC_MATRICES_NEAREST_HPP
#define SYMBOLIC_MATRICES_NEAREST_HPP

#include "ranked.hpp"
#include "reductions.hpp"

namespace symbolic_matrices {

// Values from here on are refused by a row whose last place holds a key; NaN refuses nothing. Columns that come in order
// lose ties against those before them; otherwise, only the next number is refused for sure.
template <bool in_order>
SM_INLINE Vec refused_from(Bits key) {
    return from_ordered(in_order ? key : key + ones(key < last_in_order));
}

// The lists of a register of rows, place after place: lane l of each belongs to row l.
template <int K, bool in_order>
struct ListsAcrossLanes {
    static constexpr int in_registers = 12;  // places, on the larger machines
    static constexpr int step = 8;
    Ranked place[K];

    SM_INLINE void clear() {
        for (int k = 0; k < K; ++k) place[k] = Ranked(splat_bits(last_in_order), splat_bits(-1));
    }
    SM_INLINE Bits keys(int k) const { return place[k].keys(); }
    SM_INLINE Bits columns(int k) const { return place[k].columns(); }

    // Place k takes the one before it, or the candidate, or keeps its own.
    SM_INLINE void shift(int k, const Ranked& candidate) {
        place[k] = Ranked::last_of(place[k - 1], Ranked::first_of(place[k], candidate));
    }
    // One candidate per row; those that come after the whole list change nothing.
    SM_INLINE void insert(const Ranked& candidate, Vec value) {
        int k = K - 1;
        for (; K > in_registers && k > step; k -= step) {
            SM_UNROLL for (int s = 0; s < step; ++s) shift(k - s, candidate);
            if (!any(not_at_least(value, refused_from<in_order>(keys(k - step))))) return;  // the others stay
        }
        SM_UNROLL for (; k > 0; --k) shift(k, candidate);
        place[0] = Ranked::first_of(place[0], candidate);
    }

    // Takes the columns that look better for some row. One loop over them, which ends once, costs the processor less than
    // a test per column.
    template <int C, class Columns>
    SM_INLINE void insert_all(const Pack<C>& candidates, Vec threshold, const Columns& columns) {
        unsigned hits = 0;
        SM_UNROLL for (int c = 0; c < C; ++c)
            hits |= unsigned(any(not_at_least(candidates.part[c], threshold))) << c;
        for (; hits; hits &= hits - 1) {
            const int c = __builtin_ctz(hits);
            insert(Ranked(ordered(candidates.part[c]), splat_bits(columns[c])), candidates.part[c]);
        }
    }
    void merge(const ListsAcrossLanes& other) {
        for (int k = 0; k < K; ++k) insert(other.place[k], from_ordered(other.keys(k)));
    }
};

// The lists of a register of rows, each in registers of its own; columns come in order. There may be places beyond K.
template <int K>
struct ListsByRow {
    static constexpr int chunks = (K + lanes - 1) / lanes;
    struct List {
        Bits key[chunks], column[chunks];

        // As above. Whole registers are read and written: a number written alone would stall the next read of its
        // register.
        SM_INLINE void insert(Bits new_key, Bits new_column) {
            for (int chunk = chunks - 1; chunk >= 0; --chunk) {
                const Bits before = shifted_up(chunk > 0 ? key[chunk - 1] : splat_bits(first_in_order), key[chunk]);
                const Bits before_column = shifted_up(chunk > 0 ? column[chunk - 1] : column[chunk], column[chunk]);
                const Bits moves = new_key < before, enters = new_key < key[chunk];
                key[chunk] = moves ? before : enters ? new_key : key[chunk];
                column[chunk] = moves ? before_column : enters ? new_column : column[chunk];
                if (chunk > 0 && new_key[0] >= key[chunk - 1][lanes - 1]) return;
            }
        }
    } list[lanes];

    void clear() {
        for (List& each : list)
            for (int chunk = 0; chunk < chunks; ++chunk) {
                each.key[chunk] = splat_bits(last_in_order);
                each.column[chunk] = splat_bits(-1);
            }
    }
    SM_INLINE Bits keys(int k) const {
        Bits result{};
        SM_UNROLL for (int l = 0; l < lanes; ++l) result[l] = list[l].key[k / lanes][k % lanes];
        return result;
    }
    SM_INLINE Bits columns(int k) const {
        Bits result{};
        SM_UNROLL for (int l = 0; l < lanes; ++l) result[l] = list[l].column[k / lanes][k % lanes];
        return result;
    }

    template <int C, class Columns>
    SM_INLINE void insert_all(const Pack<C>& candidates, Vec threshold, const Columns& columns) {
        constexpr int columns_per_word = 64 / lanes;
        for (int first = 0; first < C; first += columns_per_word) {
            uint64 hits = 0;
            SM_UNROLL for (int c = first; c < C && c < first + columns_per_word; ++c)
                hits |= uint64(lane_bits(not_at_least(candidates.part[c], threshold))) << (c - first) * lanes;
            for (; hits; hits &= hits - 1) {
                const int bit = __builtin_ctzll(hits), c = first + bit / lanes, l = bit % lanes;
                list[l].insert(ordered(splat(candidates.part[c][l])), splat_bits(columns[c]));
            }
        }
    }
    void merge(const ListsByRow& other) {
        for (int l = 0; l < lanes; ++l)
            for (int k = 0; k < K && other.list[l].column[k / lanes][k % lanes] >= 0; ++k)
                list[l].insert(splat_bits(other.list[l].key[k / lanes][k % lanes]),
                               splat_bits(other.list[l].column[k / lanes][k % lanes]));
    }
};

// Columns that come in order are refused by most rows, in the long run: beyond a few places, it is faster to insert them
// row by row. Near columns are taken by many rows at once.
constexpr int most_places_across_lanes = 12;
template <int K, bool in_order, bool across = !in_order || K <= most_places_across_lanes>
struct ListsOf {
    typedef ListsAcrossLanes<K, in_order> type;
};
template <int K>
struct ListsOf<K, true, false> {
    typedef ListsByRow<K> type;
};

// The numbers of C columns that follow each other.
struct Successive {
    Integer first;
    SM_INLINE Integer operator[](int c) const { return first + c; }
};

// The K smallest values in increasing order with their columns, ties by column; NaN comes after the numbers.
// Columns that come ``in_order`` lose ties against all those before them.
template <int K, int dim, Outputs, bool in_order = true>
struct Smallest {
    typedef Comparison<Order::smallest> Compare;
    static constexpr int out_dim = K * dim;
    static constexpr bool reads_numbers = true;
    static constexpr bool is_won_by_nan = false;

    struct State {
        Vec threshold[dim];  // see refused_from
        typename ListsOf<K, in_order>::type lists[dim];

        SM_INLINE void update_threshold(int k) { threshold[k] = refused_from<in_order>(lists[k].keys(K - 1)); }
    };

    struct Tile {
        State& state;  // too large for registers: columns go straight to the state
        SM_INLINE explicit Tile(State& state) : state(state) {}
    };

    template <int C>
    struct Output : Values<dim, C> {
        Tile& tile;
        SM_INLINE explicit Output(Tile& tile) : tile(tile) {}

        SM_INLINE void absorb(Integer column) { take(Successive{column}); }

        template <class Columns>
        SM_INLINE void take(const Columns& columns) {
            Flags hits{};
            SM_UNROLL for (int k = 0; k < dim; ++k)
                SM_UNROLL for (int c = 0; c < C; ++c)
                    hits |= Compare::may_beat(this->value[k].part[c], tile.state.threshold[k]);
            if (__builtin_expect(any(hits), 0))
                for (int k = 0; k < dim; ++k) {
                    const Pack<C> candidates = this->value[k];  // a copy, so that the others stay in registers
                    insert_all(tile.state, k, candidates, columns);
                }
        }

        template <class Columns>
        __attribute__((noinline)) static void insert_all(State& state, int k, const Pack<C>& candidates,
                                                         Columns columns) {
            state.lists[k].insert_all(candidates, state.threshold[k], columns);
            state.update_threshold(k);
        }
    };

    static void identity(State& state) {
        for (int k = 0; k < dim; ++k) {
            state.threshold[k] = from_ordered(splat_bits(last_in_order));
            state.lists[k].clear();
        }
    }
    static void close(State&, const Tile&) {}
    static void merge(State& state, const State& other) {
        for (int k = 0; k < dim; ++k) {
            state.lists[k].merge(other.lists[k]);
            state.update_threshold(k);
        }
    }
    template <class Writer>
    static void finish(const State& state, const Writer& writer) {
        for (int k = 0; k < dim; ++k)
            for (int place = 0; place < K; ++place) {
                const Bits columns = state.lists[k].columns(place);
                const Vec values = from_ordered(state.lists[k].keys(place));
                writer.value(place * dim + k, columns < 0 ? splat(Compare::worst()) : values);
                writer.index(place * dim + k, columns);
            }
    }
};

}  // namespace symbolic_matrices
#endif
