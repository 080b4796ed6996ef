// Owns the reductions: what a row remembers of the columns seen so far, how it takes more, and how two memories merge.
//
// A reduction has a State (kept in memory for each group of R registers of rows), a Tile (its short-lived form while the
// columns of one tile go by, in registers where it fits), and an Output, through which a formula hands over its values
// for a Pack of R x C pairs: R registers of rows times C columns, part u * C + c.
#ifndef SYMBOLIC_MATRICES_REDUCTIONS_HPP
#define SYMBOLIC_MATRICES_REDUCTIONS_HPP

#include "math.hpp"

namespace symbolic_matrices {

// The values of a formula for R x C pairs, for reductions that look at them together.
template <int dim, int R, int C>
struct Values {
    Pack<R * C> value[dim];
    SM_INLINE Pack<R * C>& operator[](int k) { return value[k]; }
};

// sum += term, where error keeps what the rounding lost (Knuth's two-sum).
SM_INLINE void add_exactly(Vec& sum, Vec& error, Vec term) {
    const Vec total = sum + term;
    const Vec virtual_term = total - sum;
    const Vec lost = (sum - (total - virtual_term)) + (term - virtual_term);
    // Once the total is infinite or NaN, so is the loss, with the wrong sign: forget it.
    error = (total - total == REAL(0)) ? error + lost : splat(0);
    sum = total;
}

// ---------------------------------------------------------------------------------------------------------------------
// Sum over the columns: plain sums within a tile, compensated across tiles.

template <int dim>
struct Sum {
#ifndef CC
#define CC 1
#endif
    static constexpr int columns_at_once = CC;
    static constexpr int out_dim = dim;

    template <int R>
    struct State {
        Vec sum[dim][R], error[dim][R];
    };

    template <int R>
    struct Tile {
        Vec sum[dim][R];
        SM_INLINE explicit Tile(State<R>&) : sum{} {}
    };

    // Adds each value as soon as the formula assigns it: a wide value then never goes through memory.
    template <int R, int C>
    struct Output {
        struct Slot {
            Vec* sum;
            SM_INLINE void operator=(const Pack<R * C>& value) const {
                SM_UNROLL for (int u = 0; u < R; ++u)
                    SM_UNROLL for (int c = 0; c < C; ++c) sum[u] += value.part[u * C + c];
            }
        };
        Tile<R>& tile;
        SM_INLINE explicit Output(Tile<R>& tile) : tile(tile) {}
        SM_INLINE Slot operator[](int k) const { return Slot{tile.sum[k]}; }
        SM_INLINE void absorb(Integer) {}
    };

    template <int R>
    SM_INLINE static void identity(State<R>& state) {
        state = State<R>{};
    }
    template <int R>
    SM_INLINE static void close(State<R>& state, const Tile<R>& tile) {
        for (int k = 0; k < dim; ++k)
            for (int u = 0; u < R; ++u) add_exactly(state.sum[k][u], state.error[k][u], tile.sum[k][u]);
    }
    template <int R>
    SM_INLINE static void merge(State<R>& state, const State<R>& other) {
        for (int k = 0; k < dim; ++k)
            for (int u = 0; u < R; ++u) {
                add_exactly(state.sum[k][u], state.error[k][u], other.sum[k][u]);
                state.error[k][u] += other.error[k][u];
            }
    }
    template <int R, class Writer>
    SM_INLINE static void finish(const State<R>& state, const Writer& writer) {
        for (int k = 0; k < dim; ++k)
            for (int u = 0; u < R; ++u) writer.value(k, u, state.sum[k][u] + state.error[k][u]);
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// Sums of exponentials. The largest exponent is kept in units of log 2 and the sums are relative to it; both are
// brought up to date once for C columns.

template <int weights>
struct ExponentialSums {
    static constexpr int columns_at_once = SM_VECTOR_BYTES == 64 ? 8 : 4;

    template <int R>
    struct State {
        Vec largest[R];  // in units of log 2
        Vec sum[1 + weights][R], error[1 + weights][R];
    };

    template <int R>
    struct Tile {
        Vec largest[R];
        Vec sum[1 + weights][R];
        SM_INLINE explicit Tile(State<R>& state) : sum{} {
            SM_UNROLL for (int u = 0; u < R; ++u) largest[u] = state.largest[u];
        }
    };

    // What exponents are measured from: the largest one, but 0 if that is infinite (inf - inf would be NaN).
    SM_INLINE static Vec origin(Vec largest) { return abs(largest) == infinity() ? splat(0) : largest; }

    template <int R, int C>
    struct Output : Values<1 + weights, R, C> {
        Tile<R>& tile;
        SM_INLINE explicit Output(Tile<R>& tile) : tile(tile) {}

        SM_INLINE void absorb(Integer) {
            SM_UNROLL for (int u = 0; u < R; ++u) {
                const Vec* exponent = this->value[0].part + u * C;
                Vec highest = exponent[0];
                SM_UNROLL for (int c = 1; c < C; ++c) highest = larger(exponent[c], highest);
                highest = highest * log2_e;
                const Vec before = tile.largest[u];
                tile.largest[u] = larger(highest, before);
                const Vec from = origin(tile.largest[u]);
                const Vec shrink = exp2(before - from);
                Vec term[C];
                SM_UNROLL for (int c = 0; c < C; ++c) term[c] = exp2(exponent[c] * log2_e - from);
                tile.sum[0][u] = tile.sum[0][u] * shrink;
                SM_UNROLL for (int c = 0; c < C; ++c) tile.sum[0][u] += term[c];
                for (int k = 1; k <= weights; ++k) {
                    Vec sum = tile.sum[k][u] * shrink;
                    SM_UNROLL for (int c = 0; c < C; ++c) sum += term[c] * this->value[k].part[u * C + c];
                    tile.sum[k][u] = sum;
                }
            }
        }
    };

    template <int R>
    SM_INLINE static void identity(State<R>& state) {
        state = State<R>{};
        for (int u = 0; u < R; ++u) state.largest[u] = splat(-infinity());
    }
    template <int R>
    SM_INLINE static void add(State<R>& state, int u, Vec largest, const Vec (&sum)[1 + weights][R]) {
        const Vec before = state.largest[u];
        state.largest[u] = larger(largest, before);
        const Vec from = origin(state.largest[u]);
        const Vec shrink = exp2(before - from), other_shrink = exp2(largest - from);
        for (int k = 0; k <= weights; ++k) {
            state.sum[k][u] *= shrink;
            state.error[k][u] *= shrink;
            // A sum relative to an infinite origin is relative to 0 already.
            const Vec term = sum[k][u] * (abs(largest) == infinity() ? splat(1) : other_shrink);
            add_exactly(state.sum[k][u], state.error[k][u], term);
        }
    }
    template <int R>
    SM_INLINE static void close(State<R>& state, const Tile<R>& tile) {
        for (int u = 0; u < R; ++u) add(state, u, tile.largest[u], tile.sum);
    }
    template <int R>
    SM_INLINE static void merge(State<R>& state, const State<R>& other) {
        for (int u = 0; u < R; ++u) {
            add(state, u, other.largest[u], other.sum);
            const Vec shrink = exp2(other.largest[u] - origin(state.largest[u]));
            for (int k = 0; k <= weights; ++k) state.error[k][u] += other.error[k][u] * shrink;
        }
    }
    template <int R>
    SM_INLINE static Vec total(const State<R>& state, int k, int u) {
        return state.sum[k][u] + state.error[k][u];
    }
    template <int R>
    SM_INLINE static Vec log_total(const State<R>& state, int k, int u) {
        return (log2(total(state, k, u)) + origin(state.largest[u])) * REAL(0.6931471805599453);
    }
};

// log sum_j exp(value[0])
struct LogSumExp : ExponentialSums<0> {
    static constexpr int out_dim = 1;
    template <int R, class Writer>
    SM_INLINE static void finish(const State<R>& state, const Writer& writer) {
        for (int u = 0; u < R; ++u) writer.value(0, u, log_total(state, 0, u));
    }
};

// log sum_j exp(value[0]) value[1 + k]
template <int weights>
struct WeightedLogSumExp : ExponentialSums<weights> {
    static constexpr int out_dim = weights;
    template <int R, class Writer>
    SM_INLINE static void finish(const typename ExponentialSums<weights>::template State<R>& state, const Writer& writer) {
        for (int k = 0; k < weights; ++k)
            for (int u = 0; u < R; ++u)
                writer.value(k, u, ExponentialSums<weights>::log_total(state, 1 + k, u));
    }
};

// sum_j exp(value[0]) value[1 + k] / sum_j exp(value[0])
template <int weights>
struct SumSoftmax : ExponentialSums<weights> {
    static constexpr int out_dim = weights;
    template <int R, class Writer>
    SM_INLINE static void finish(const typename ExponentialSums<weights>::template State<R>& state, const Writer& writer) {
        typedef ExponentialSums<weights> Sums;
        for (int u = 0; u < R; ++u) {
            const Vec mass = Sums::total(state, 0, u);
            for (int k = 0; k < weights; ++k) writer.value(k, u, Sums::total(state, 1 + k, u) / mass);
        }
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// Extremes: the common path is one test per C columns, which says that none of them beats what the row has.
// An empty place holds NaN, which anything beats, and the index -1.

enum class Order { smallest, largest };
enum class Outputs { values, indices, both };  // what the host asks to be written; the work is the same

template <Order order>
struct Comparison {
    static constexpr bool smaller = order == Order::smallest;
    static constexpr REAL worst = smaller ? infinity() : -infinity();
    SM_INLINE static Flags may_beat(Vec value, Vec held) {
        return smaller ? not_at_least(value, held) : not_at_least(held, value);
    }
    SM_INLINE static Bits beats(Vec value, Vec held) { return smaller ? value < held : value > held; }
};

// The least (or greatest) value and the first column that reaches it; NaN wins over numbers.
template <int dim, Order order, Outputs>
struct Extremum : Comparison<order> {
    static constexpr int columns_at_once = 4;
    static constexpr int out_dim = dim;

    template <int R>
    struct State {
        Vec value[dim][R];
        Bits index[dim][R];

        SM_INLINE void take(int k, int u, Vec candidate, Bits candidate_index) {
            const Vec held = value[k][u];
            const Bits empty = index[k][u] < 0;
            const Bits better = Comparison<order>::beats(candidate, held) | ((candidate != candidate) & (held == held)) | empty;
            value[k][u] = better ? candidate : held;
            index[k][u] = better ? candidate_index : index[k][u];
        }
    };

    template <int R>
    struct Tile : State<R> {
        SM_INLINE explicit Tile(const State<R>& state) : State<R>(state) {}
    };

    template <int R, int C>
    struct Output : Values<dim, R, C> {
        Tile<R>& tile;
        SM_INLINE explicit Output(Tile<R>& tile) : tile(tile) {}

        SM_INLINE void absorb(Integer column) {
            Flags hits{};
            SM_UNROLL for (int k = 0; k < dim; ++k)
                SM_UNROLL for (int u = 0; u < R; ++u)
                    SM_UNROLL for (int c = 0; c < C; ++c)
                        hits |= Comparison<order>::may_beat(this->value[k].part[u * C + c], tile.value[k][u]);
            if (__builtin_expect(any(hits), 0)) {
                for (int k = 0; k < dim; ++k)
                    SM_UNROLL for (int u = 0; u < R; ++u)
                        SM_UNROLL for (int c = 0; c < C; ++c)
                            tile.take(k, u, this->value[k].part[u * C + c], splat_bits(column + c));
            }
        }
    };

    template <int R>
    SM_INLINE static void identity(State<R>& state) {
        for (int k = 0; k < dim; ++k)
            for (int u = 0; u < R; ++u) {
                state.value[k][u] = splat(not_a_number());
                state.index[k][u] = splat_bits(-1);
            }
    }
    template <int R>
    SM_INLINE static void close(State<R>& state, const Tile<R>& tile) {
        state = tile;
    }
    template <int R>
    SM_INLINE static void merge(State<R>& state, const State<R>& other) {
        for (int k = 0; k < dim; ++k)
            for (int u = 0; u < R; ++u) {
                State<R> both = state;
                both.take(k, u, other.value[k][u], other.index[k][u]);
                const Bits empty = other.index[k][u] < 0;
                state.value[k][u] = empty ? state.value[k][u] : both.value[k][u];
                state.index[k][u] = empty ? state.index[k][u] : both.index[k][u];
            }
    }
    template <int R, class Writer>
    SM_INLINE static void finish(const State<R>& state, const Writer& writer) {
        for (int k = 0; k < dim; ++k)
            for (int u = 0; u < R; ++u) {
                const Bits empty = state.index[k][u] < 0;
                writer.value(k, u, empty ? splat(Comparison<order>::worst) : state.value[k][u]);
                writer.index(k, u, state.index[k][u]);
            }
    }
};

// The K smallest values in increasing order with their columns, ties by column; NaN comes after the numbers.
template <int K, int dim, Outputs>
struct Smallest : Comparison<Order::smallest> {
    static constexpr int columns_at_once = 4;
    static constexpr int out_dim = K * dim;

    template <int R>
    struct State {
        Vec value[dim][R][K];
        Bits index[dim][R][K];

        // Does the candidate go before place s? Numbers precede NaN, NaN precedes an empty place.
        SM_INLINE Bits precedes(int k, int u, int s, Vec candidate) const {
            const Vec held = value[k][u][s];
            const Bits real = candidate == candidate;
            return beats(candidate, held) | ((held != held) & (real | (index[k][u][s] < 0)));
        }

        // Shift what comes after the candidate by one place, lane by lane in step, from the last place upwards.
        SM_INLINE void insert(int k, int u, Vec candidate, Bits candidate_index) {
            Bits here = precedes(k, u, K - 1, candidate);
            for (int s = K - 1; any_bit(here); --s) {
                const Bits above = s > 0 ? precedes(k, u, s - 1, candidate) : Bits{};
                const int from = s > 0 ? s - 1 : 0;
                const Vec moved = above ? value[k][u][from] : candidate;
                const Bits moved_index = above ? index[k][u][from] : candidate_index;
                value[k][u][s] = here ? moved : value[k][u][s];
                index[k][u][s] = here ? moved_index : index[k][u][s];
                here = above;
            }
        }
    };

    template <int R>
    struct Tile {
        State<R>& state;  // too large for registers: columns go straight to the state
        SM_INLINE explicit Tile(State<R>& state) : state(state) {}
    };

    template <int R, int C>
    struct Output : Values<dim, R, C> {
        Tile<R>& tile;
        SM_INLINE explicit Output(Tile<R>& tile) : tile(tile) {}

        SM_INLINE void absorb(Integer column) {
            Flags hits{};
            SM_UNROLL for (int k = 0; k < dim; ++k)
                SM_UNROLL for (int u = 0; u < R; ++u)
                    SM_UNROLL for (int c = 0; c < C; ++c)
                        hits |= may_beat(this->value[k].part[u * C + c], tile.state.value[k][u][K - 1]);
            if (__builtin_expect(any(hits), 0)) {
                for (int k = 0; k < dim; ++k)
                    SM_UNROLL for (int u = 0; u < R; ++u)
                        for (int c = 0; c < C; ++c)
                            tile.state.insert(k, u, this->value[k].part[u * C + c], splat_bits(column + c));
            }
        }
    };

    template <int R>
    SM_INLINE static void identity(State<R>& state) {
        for (int k = 0; k < dim; ++k)
            for (int u = 0; u < R; ++u)
                for (int s = 0; s < K; ++s) {
                    state.value[k][u][s] = splat(not_a_number());
                    state.index[k][u][s] = splat_bits(-1);
                }
    }
    template <int R>
    SM_INLINE static void close(State<R>&, const Tile<R>&) {}
    template <int R>
    SM_INLINE static void merge(State<R>& state, const State<R>& other) {
        for (int k = 0; k < dim; ++k)
            for (int u = 0; u < R; ++u)
                for (int s = 0; s < K; ++s) state.insert(k, u, other.value[k][u][s], other.index[k][u][s]);
    }
    template <int R, class Writer>
    SM_INLINE static void finish(const State<R>& state, const Writer& writer) {
        for (int k = 0; k < dim; ++k)
            for (int u = 0; u < R; ++u)
                for (int s = 0; s < K; ++s) {
                    const Bits empty = state.index[k][u][s] < 0;
                    writer.value(s * dim + k, u, empty ? splat(worst) : state.value[k][u][s]);
                    writer.index(s * dim + k, u, state.index[k][u][s]);
                }
    }
};

}  // namespace symbolic_matrices
#endif
