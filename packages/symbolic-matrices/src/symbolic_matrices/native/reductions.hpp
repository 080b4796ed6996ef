// Owns the reductions: what a row remembers of the columns seen so far, how it takes more, and how two memories merge.
//
// A reduction has a State, kept in memory for one register of rows; a Tile, its short-lived form while the columns of one
// tile go by, in registers where it fits; and an Output, to which a formula assigns the values of C columns at once.
// ``reads_numbers`` says whether it looks at the numbers of the columns: C of them at once are then neighbours.
#ifndef SYMBOLIC_MATRICES_REDUCTIONS_HPP
#define SYMBOLIC_MATRICES_REDUCTIONS_HPP

#include "gamma.hpp"
#include "dtw.hpp"

namespace symbolic_matrices {

// The values of a formula for C columns, for reductions that look at them together.
template <int dim, int C>
struct Values {
    Pack<C> value[dim];
    SM_INLINE Pack<C>& operator[](int k) { return value[k]; }
};

// ---------------------------------------------------------------------------------------------------------------------
// How terms are added up: a Tile takes the terms of one tile of columns, in registers where it fits, a Total the tiles.

struct PlainSum {
    Vec sum{};
    SM_INLINE void add(Vec term) { sum += term; }
    SM_INLINE void scale(Vec factor) { sum *= factor; }
};

// Keeps what the rounding lost (Knuth's two-sum), as if the sum had twice the digits.
struct CompensatedSum {
    Vec sum{}, error{};
    SM_INLINE void add(Vec term) {
        const Vec total = sum + term;
        const Vec virtual_term = total - sum;
        const Vec lost = (sum - (total - virtual_term)) + (term - virtual_term);
        // Once the total is infinite or NaN there is no loss to speak of, and the difference above is NaN.
        error = (total - total == REAL(0)) ? error + lost : splat(0);
        sum = total;
    }
    SM_INLINE void add(const PlainSum& tile) { add(tile.sum); }
    SM_INLINE void add(const CompensatedSum& other) {
        add(other.sum);
        error += other.error;
    }
    SM_INLINE void scale(Vec factor) {
        sum *= factor;
        error *= factor;
    }
    SM_INLINE Vec value() const { return sum + error; }
};

struct DoubleSum {
    Wide sum{};
    SM_INLINE void add(Vec term) { sum += to_wide(term); }
    SM_INLINE void add(const DoubleSum& other) { sum += other.sum; }
    SM_INLINE void scale(Vec factor) { sum *= to_wide(factor); }
    SM_INLINE Vec value() const { return from_wide(sum); }
};

// Plain sums within a tile, which is short; compensated across tiles.
struct Automatic {
    typedef PlainSum Tile;
    typedef CompensatedSum Total;
};
struct Kahan {
    typedef CompensatedSum Tile;
    typedef CompensatedSum Total;
};
struct InDouble {
    typedef DoubleSum Tile;
    typedef DoubleSum Total;
};

// ---------------------------------------------------------------------------------------------------------------------
// Sum over the columns, and the count of those that are not 0.

template <int dim, class Accumulate = Automatic>
struct Sum {
    static constexpr int out_dim = dim;
    static constexpr bool reads_numbers = false;

    struct State {
        typename Accumulate::Total total[dim];
    };

    struct Tile {
        typename Accumulate::Tile sum[dim];
        SM_INLINE explicit Tile(State&) {}
    };

    // Adds each value as soon as the formula assigns it: a wide value then never goes through memory.
    template <int C>
    struct Output {
        struct Slot {
            typename Accumulate::Tile& sum;
            SM_INLINE void operator=(const Pack<C>& value) const {
                SM_UNROLL for (int c = 0; c < C; ++c) sum.add(value.part[c]);
            }
        };
        Tile& tile;
        SM_INLINE explicit Output(Tile& tile) : tile(tile) {}
        SM_INLINE Slot operator[](int k) const { return Slot{tile.sum[k]}; }
        SM_INLINE void absorb(Integer) {}
    };

    static void identity(State& state) { state = State{}; }
    static void close(State& state, const Tile& tile) {
        for (int k = 0; k < dim; ++k) state.total[k].add(tile.sum[k]);
    }
    static void merge(State& state, const State& other) {
        for (int k = 0; k < dim; ++k) state.total[k].add(other.total[k]);
    }
    template <class Writer>
    static void finish(const State& state, const Writer& writer) {
        for (int k = 0; k < dim; ++k) writer.value(k, state.total[k].value());
    }
};

template <int dim>
struct Count {
    static constexpr int out_dim = dim;
    static constexpr bool reads_numbers = false;

    struct State {
        Bits count[dim];
    };

    struct Tile : State {
        SM_INLINE explicit Tile(const State& state) : State(state) {}
    };

    template <int C>
    struct Output {
        struct Slot {
            Bits& count;
            SM_INLINE void operator=(const Pack<C>& value) const {
                SM_UNROLL for (int c = 0; c < C; ++c) count += ones(value.part[c] != REAL(0));
            }
        };
        Tile& tile;
        SM_INLINE explicit Output(Tile& tile) : tile(tile) {}
        SM_INLINE Slot operator[](int k) const { return Slot{tile.count[k]}; }
        SM_INLINE void absorb(Integer) {}
    };

    static void identity(State& state) { state = State{}; }
    static void close(State& state, const Tile& tile) { state = tile; }
    static void merge(State& state, const State& other) {
        for (int k = 0; k < dim; ++k) state.count[k] += other.count[k];
    }
    template <class Writer>
    static void finish(const State& state, const Writer& writer) {
        for (int k = 0; k < dim; ++k) writer.index(k, state.count[k]);
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// Sums of exponentials: value[0] is the exponent, value[1 + k] the weights. The sums are relative to the largest exponent,
// their origin (see `origin_of`); both are brought up to date once for C columns.

template <int weights, class Accumulate>
struct ExponentialSums {
    static constexpr bool reads_numbers = false;

    struct State {
        Vec origin;  // finite: inf - inf would be NaN
        typename Accumulate::Total total[1 + weights];
    };

    struct Tile {
        Vec origin;
        typename Accumulate::Tile sum[1 + weights];
        SM_INLINE explicit Tile(State& state) : origin(state.origin) {}
    };

    // Takes the exponent first, which a formula assigns before the weights, and each weight as it comes: wide ones then
    // never go through memory.
    template <int C>
    struct Output {
        Tile& tile;
        Vec shrink, term[C];
        SM_INLINE explicit Output(Tile& tile) : tile(tile) {}

        struct Slot {
            Output& output;
            int k;
            SM_INLINE void operator=(const Pack<C>& value) const {
                if (k == 0)
                    output.take_exponent(value.part);
                else
                    output.take_weight(k, value.part);
            }
        };
        SM_INLINE Slot operator[](int k) { return Slot{*this, k}; }

        SM_INLINE void take_exponent(const Vec* exponent) {
            Vec highest = exponent[0];
            SM_UNROLL for (int c = 1; c < C; ++c) highest = larger(exponent[c], highest);
            const Vec before = tile.origin;
            tile.origin = smaller(larger(origin_of(highest), before), splat(largest_number));
            shrink = origin_ratio(before, tile.origin);
            SM_UNROLL for (int c = 0; c < C; ++c) term[c] = exp_from(tile.origin, exponent[c]);
            tile.sum[0].scale(shrink);
            SM_UNROLL for (int c = 0; c < C; ++c) tile.sum[0].add(term[c]);
        }
        SM_INLINE void take_weight(int k, const Vec* weight) {
            typename Accumulate::Tile sum = tile.sum[k];
            sum.scale(shrink);
            SM_UNROLL for (int c = 0; c < C; ++c) sum.add(term[c] * weight[c]);
            tile.sum[k] = sum;
        }
        SM_INLINE void absorb(Integer) {}
    };

    static void identity(State& state) {
        state = State{};
        state.origin = splat(-largest_number);
    }
    // Adds sums that are relative to another exponent.
    template <class Addend>
    static void add(State& state, Vec origin, const Addend (&sum)[1 + weights]) {
        const Vec before = state.origin;
        state.origin = larger(origin, before);
        const Vec shrink = origin_ratio(before, state.origin);
        const Vec other_shrink = origin_ratio(origin, state.origin);
        for (int k = 0; k <= weights; ++k) {
            Addend other = sum[k];
            other.scale(other_shrink);
            state.total[k].scale(shrink);
            state.total[k].add(other);
        }
    }
    static void close(State& state, const Tile& tile) { add(state, tile.origin, tile.sum); }
    static void merge(State& state, const State& other) { add(state, other.origin, other.total); }
    static Vec total(const State& state, int k) { return state.total[k].value(); }
    static Vec log_total(const State& state, int k) { return log(total(state, k)) + exponent_of(state.origin); }
};

// log sum_j exp(value[0])
template <class Accumulate = Automatic>
struct LogSumExp : ExponentialSums<0, Accumulate> {
    typedef ExponentialSums<0, Accumulate> Sums;
    static constexpr int out_dim = 1;
    template <class Writer>
    static void finish(const typename Sums::State& state, const Writer& writer) {
        writer.value(0, Sums::log_total(state, 0));
    }
};

// log sum_j exp(value[0]) value[1 + k]
template <int weights, class Accumulate = Automatic>
struct WeightedLogSumExp : ExponentialSums<weights, Accumulate> {
    typedef ExponentialSums<weights, Accumulate> Sums;
    static constexpr int out_dim = weights;
    template <class Writer>
    static void finish(const typename Sums::State& state, const Writer& writer) {
        for (int k = 0; k < weights; ++k) writer.value(k, Sums::log_total(state, 1 + k));
    }
};

// sum_j exp(value[0]) value[1 + k] / sum_j exp(value[0]), or 0 for a sum of nothing, then log sum_j exp(value[0])
template <int weights, class Accumulate = Automatic>
struct SumSoftmax : ExponentialSums<weights, Accumulate> {
    typedef ExponentialSums<weights, Accumulate> Sums;
    static constexpr int out_dim = weights + 1;
    template <class Writer>
    static void finish(const typename Sums::State& state, const Writer& writer) {
        const Vec total = Sums::total(state, 0);
        for (int k = 0; k < weights; ++k)
            writer.value(k, total == 0 ? splat(0) : Sums::total(state, 1 + k) / total);
        writer.value(weights, Sums::log_total(state, 0));
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// Selections: the common path is one test for C columns, which says that none of them beats what the rows hold.
// An empty place holds NaN, so that the test never refuses anything, and the index -1.

enum class Order { smallest, largest };
enum class Outputs { values, indices, both };  // what the host asks to be written; the work is the same

template <Order order>
struct Comparison {
    static constexpr bool smallest = order == Order::smallest;
    SM_INLINE static REAL worst() { return smallest ? infinity() : -infinity(); }
    SM_INLINE static Flags may_beat(Vec value, Vec held) {
        return smallest ? not_at_least(value, held) : not_at_least(held, value);
    }
    SM_INLINE static Mask beats(Vec value, Vec held) { return smallest ? value < held : value > held; }
};

// The least (or greatest) value and the first column that reaches it; NaN wins over numbers.
template <int dim, Order order, Outputs>
struct Extremum {
    typedef Comparison<order> Compare;
    static constexpr int out_dim = dim;
    static constexpr bool reads_numbers = true;

    struct State {
        Vec value[dim];
        Bits index[dim];

        SM_INLINE void take(int k, Vec candidate, Bits candidate_index) {
            const Vec held = value[k];
            const Mask wins = Compare::beats(candidate, held) | ((candidate != candidate) & (held == held));
            const Mask better = (wins | (index[k] < 0)) & (candidate_index >= 0);
            value[k] = better ? candidate : held;
            index[k] = better ? candidate_index : index[k];
        }
    };

    struct Tile : State {
        SM_INLINE explicit Tile(const State& state) : State(state) {}
    };

    template <int C>
    struct Output : Values<dim, C> {
        Tile& tile;
        SM_INLINE explicit Output(Tile& tile) : tile(tile) {}

        SM_INLINE void absorb(Integer column) {
            Flags hits{};
            SM_UNROLL for (int k = 0; k < dim; ++k)
                SM_UNROLL for (int c = 0; c < C; ++c) hits |= Compare::may_beat(this->value[k].part[c], tile.value[k]);
            if (__builtin_expect(any(hits), 0))
                for (int k = 0; k < dim; ++k)
                    SM_UNROLL for (int c = 0; c < C; ++c)
                        tile.take(k, this->value[k].part[c], splat_bits(column + c));
        }
    };

    static void identity(State& state) {
        for (int k = 0; k < dim; ++k) {
            state.value[k] = splat(not_a_number());
            state.index[k] = splat_bits(-1);
        }
    }
    static void close(State& state, const Tile& tile) { state = tile; }
    static void merge(State& state, const State& other) {
        for (int k = 0; k < dim; ++k) state.take(k, other.value[k], other.index[k]);
    }
    template <class Writer>
    static void finish(const State& state, const Writer& writer) {
        for (int k = 0; k < dim; ++k) {
            writer.value(k, state.index[k] < 0 ? splat(Compare::worst()) : state.value[k]);
            writer.index(k, state.index[k]);
        }
    }
};

}  // namespace symbolic_matrices
#endif
