// Owns the loop nest of sums of wide vectors on a GPU: sum_j w_ij v_j, where w is a number for each pair, alone or as
// the exponential of one. It is a product of matrices that are never stored: the weights of a block's rows with a tile of
// columns go through shared memory, and each thread keeps a few rows by a few components of the result in registers (as
// in Dao et al., FlashAttention, 2022).
//
// A block of threads has a row per thread while it computes weights, then 8 rows by `thread_outs` components per thread.
// It takes a chunk of the components; weights are computed again for each chunk. Weights may be multiplied with
// differences v_j - u_i instead, and several sums, the parts, may stand side by side: what derivatives need.
#ifndef SYMBOLIC_MATRICES_WIDE_CUH
#define SYMBOLIC_MATRICES_WIDE_CUH

#include "staging.cuh"

namespace symbolic_matrices {

// What the threads that own rows do with numbers of pairs, and the reduction of a single component, whose states the
// splits of the columns merge. `padding` stands where there is no column.
template <class Reduction>
struct WideSums;

template <int dim>
struct WideSums<Sum<dim>> {
    typedef Sum<1> Narrow;
    static constexpr int components = dim;
    static constexpr bool are_exponential = false;
    static SM_INLINE REAL padding() { return 0; }
};

template <int weights, template <int> class Reduction>
struct WideExponentialSums {
    typedef Reduction<1> Narrow;
    static constexpr int components = weights;
    static constexpr bool are_exponential = true;
    static SM_INLINE REAL padding() { return -infinity(); }
};
template <int weights>
using PlainSumSoftmax = SumSoftmax<weights>;
template <int weights>
using PlainWeightedLogSumExp = WeightedLogSumExp<weights>;
template <int weights>
struct WideSums<SumSoftmax<weights>> : WideExponentialSums<weights, PlainSumSoftmax> {};
template <int weights>
struct WideSums<WeightedLogSumExp<weights>> : WideExponentialSums<weights, PlainWeightedLogSumExp> {};

// The weights of a block's rows, unless the tile of a product takes them, number by number.
template <bool has_products>
struct WeightTile {
    REAL tiles[SM_THREADS * (SM_TILE_COLUMNS + vector_length)];
};
template <>
struct WeightTile<true> {};

template <class Formula, class Reduction>
class WideKernel : Block<Formula> {
    typedef Block<Formula> Base;
    typedef typename Formula::Parts Parts;
    typedef WideSums<Reduction> Sums;
    typedef typename Sums::Narrow Narrow;
    using Base::C, Base::row_dim, Base::problem, Base::first_row, Base::stop_row;
    static constexpr int row_groups = 16, out_groups = SM_THREADS / row_groups;
    static constexpr int thread_rows = SM_THREADS / row_groups, thread_outs = SM_CHUNK / out_groups;
    static constexpr int tile = SM_TILE_COLUMNS, pitch = tile + vector_length;
    static constexpr int plain_columns = 64 / tile * tile;  // plain sums over more lose digits
    static constexpr int chunks = Parts::chunks;

    // The sum of exponentials of a row, which every component needs.
    struct Total {
        REAL origin, sum, error;
    };
    struct alignas(16) Shared : Base::Shared, WeightTile<Base::has_products> {
        REAL vectors[tile * SM_CHUNK];
        REAL shrink[SM_THREADS];  // how the sums of a row shrink as their origin grows
        Total totals[Sums::are_exponential ? SM_THREADS : 1];
    };
    static_assert(tile <= 64 && tile % C == 0 && tile % vector_length == 0, "tiles are taken a few columns at a time");
    static_assert(sizeof(Shared) <= SM_SHARED_BYTES, "the host allocates less shared memory than the kernel uses");
    static_assert(Sums::components * sizeof(typename Narrow::State) <= SM_STATE_BYTES,
                  "the host allocates less memory than the partial states need");

    // Where the components of a chunk are: in one part, from a component on; `offset` counts all the components.
    struct Chunk {
        int part, first, count, offset;
    };

    // Takes the weights of one part, of those that the formula assigns.
    struct Chosen {
        int part;
        Pack<C> weight;
        struct Slot {
            Chosen& chosen;
            int part;
            SM_INLINE void operator=(const Pack<C>& value) const {
                const bool is_wanted = Parts::count == 1 || part == chosen.part;
                SM_UNROLL for (int c = 0; c < C; ++c)
                    chosen.weight.part[c] = is_wanted ? value.part[c] : chosen.weight.part[c];
            }
        };
        SM_INLINE Slot operator[](int part) { return Slot{*this, part}; }
    };

    Shared& shared;
    Chunk chunk;
    int row_group, out_group;
    REAL row[row_dim];
    typename ExponentialSums<0, Automatic>::State total;
    // Of a component, the sum so far, and the sum over the next few columns, which starts with what roundings lost.
    REAL sum[thread_rows][thread_outs], recent[thread_rows][thread_outs];
    REAL origin[Parts::has_rows ? thread_rows : 1][Parts::has_rows ? thread_outs : 1];  // u_i of differences

    SM_INLINE WideKernel(const Problem& problem, Shared& shared)
        : Base(problem, shared), shared(shared), row_group(threadIdx.x / out_groups), out_group(threadIdx.x % out_groups) {}

    SM_INLINE int row_place(int a) const { return row_group + a * row_groups; }
    SM_INLINE int out_place(int b) const {
        constexpr int run = thread_outs < vector_length ? thread_outs : vector_length;
        return b / run * (out_groups * run) + out_group * run + b % run;
    }

    static SM_INLINE Chunk find_chunk(int number) {
        int part = 0, first = number * SM_CHUNK, offset = 0;
        for (; first >= divide_up(Parts::dim(part), SM_CHUNK) * SM_CHUNK; ++part) {
            first -= int(divide_up(Parts::dim(part), SM_CHUNK) * SM_CHUNK);
            offset += Parts::dim(part);
        }
        return Chunk{part, first, int(least(SM_CHUNK, Parts::dim(part) - first)), offset + first};
    }

    SM_INLINE void start() {
        this->stage_row(threadIdx.x, row);
        if constexpr (Sums::are_exponential) ExponentialSums<0, Automatic>::identity(total);
        SM_UNROLL for (int a = 0; a < thread_rows; ++a)
            SM_UNROLL for (int b = 0; b < thread_outs; ++b) sum[a][b] = recent[a][b] = 0;
        if constexpr (Parts::has_rows)
            SM_UNROLL for (int a = 0; a < thread_rows; ++a) {
                const int64 position = least(first_row + row_place(a), stop_row - 1);
                const Reader read{shared.variables, problem.strides, position};
                SM_UNROLL for (int b = 0; b < thread_outs; ++b) {
                    const int k = out_place(b);
                    origin[a][b] = Parts::row(read, chunk.part, chunk.first + (k < chunk.count ? k : 0));
                }
            }
    }

    // The vectors of the columns of a tile; those past the end, and components past the end, are 0.
    SM_INLINE void stage_vectors(int64 first, int count) {
        const int k = threadIdx.x % SM_CHUNK, component = chunk.first + (k < chunk.count ? k : 0);
        _Pragma("unroll 4") for (int n = threadIdx.x / SM_CHUNK; n < tile; n += SM_THREADS / SM_CHUNK) {
            const Reader read{shared.variables, problem.strides, first + least(n, count - 1)};
            const REAL value = Parts::column(read, chunk.part, component);
            shared.vectors[n * SM_CHUNK + k] = n < count && k < chunk.count ? value : REAL(0);
        }
    }

    // The numbers of the thread's row with the staged columns, in shared memory: no other thread writes there.
    SM_INLINE void compute_weights(int count) {
        REAL* const weights = shared.tiles + threadIdx.x * pitch;
        _Pragma("unroll 1") for (int j = 0; j < tile; j += C) {
            Chosen chosen{chunk.part, {}};
            Formula::template pair<Pack<C>>(RowView<C>{row}, this->template column_view<C>(shared.columns, j),
                                            RowView<C>{shared.parameters}, chosen);
            SM_UNROLL for (int c = 0; c < C; ++c) weights[j + c] = chosen.weight.part[c];
        }
        _Pragma("unroll 1") for (int j = count; j < tile; ++j) weights[j] = Sums::padding();
        if constexpr (Sums::are_exponential) take_exponents(weights);
    }

    // Replaces exponents by exponentials, relative to the largest exponent so far.
    SM_INLINE void take_exponents(REAL* exponents) {
        REAL highest = exponents[0];
        _Pragma("unroll 8") for (int j = 1; j < tile; ++j) highest = larger(exponents[j], highest);
        const REAL before = total.origin;
        total.origin = smaller(larger(origin_of(highest), before), largest_number);
        const REAL shrink = origin_ratio(before, total.origin);
        PlainSum terms;
        _Pragma("unroll 8") for (int j = 0; j < tile; ++j) {
            exponents[j] = exp_from(total.origin, exponents[j]);
            terms.add(exponents[j]);
        }
        total.total[0].scale(shrink);
        total.total[0].add(terms);
        shared.shrink[threadIdx.x] = shrink;
    }

    // Sums are rescaled where the largest exponent of a row has grown: rarely, once some columns have gone by.
    SM_INLINE void rescale() {
        REAL shrink[thread_rows];
        bool any = false;
        SM_UNROLL for (int a = 0; a < thread_rows; ++a) {
            shrink[a] = shared.shrink[row_place(a)];
            any |= shrink[a] != REAL(1);
        }
        if (!any) return;
        SM_UNROLL for (int a = 0; a < thread_rows; ++a)
            SM_UNROLL for (int b = 0; b < thread_outs; ++b) {
                sum[a][b] *= shrink[a];
                recent[a][b] *= shrink[a];
            }
    }

    // The inner loop: the weights of the tile's columns times their vectors.
    SM_INLINE void multiply(int count) {
        const REAL* const weights = shared.tiles + row_group * pitch;
        const REAL* const vectors = shared.vectors;
        _Pragma("unroll 1") for (int j = 0; j < count; j += vector_length) {
            REAL weight[thread_rows][vector_length];
            SM_UNROLL for (int a = 0; a < thread_rows; ++a)
                SM_UNROLL for (int c = 0; c < vector_length; ++c) weight[a][c] = weights[a * row_groups * pitch + j + c];
            SM_UNROLL for (int c = 0; c < vector_length; ++c) {
                REAL vector[thread_outs];
                SM_UNROLL for (int b = 0; b < thread_outs; ++b) vector[b] = vectors[(j + c) * SM_CHUNK + out_place(b)];
                SM_UNROLL for (int a = 0; a < thread_rows; ++a)
                    SM_UNROLL for (int b = 0; b < thread_outs; ++b)
                        if constexpr (Parts::has_rows)
                            recent[a][b] += weight[a][c] * (vector[b] - origin[a][b]);
                        else
                            recent[a][b] += weight[a][c] * vector[b];
            }
        }
    }

    // Adds the recent sums to those before; what the rounding loses starts the next ones (Kahan's summation).
    SM_INLINE void close() {
        SM_UNROLL for (int a = 0; a < thread_rows; ++a)
            SM_UNROLL for (int b = 0; b < thread_outs; ++b) {
                const REAL before = sum[a][b], now = before + recent[a][b];
                // Once the sum is infinite or NaN there is no loss to speak of, and the difference is NaN.
                recent[a][b] = SM_LIBM(fabs)(now) < infinity() ? recent[a][b] - (now - before) : REAL(0);
                sum[a][b] = now;
            }
    }

    SM_INLINE void reduce_columns(int64 start, int64 stop) {
        for (int64 j = start; j < stop; j += tile) {
            const int count = int(least(tile, stop - j));
            this->stage_columns(j, tile, count);  // weights, not columns, are what other threads may still read
            this->compute_products(j, count);
            __syncthreads();
            compute_weights(count);
            stage_vectors(j, count);
            if ((j - start) % plain_columns == 0) close();
            __syncthreads();
            if (Sums::are_exponential) rescale();
            multiply(count);
        }
    }

    struct Writer {
        const Problem& problem;
        int64 row;  // counted over the batch
        int component;
        // After the value of the component may come one that all the components of a row share.
        SM_INLINE void value(int k, REAL x) const {
            if (k == 0 || component == 0)
                problem.values[row * Reduction::out_dim + (k == 0 ? component : Sums::components)] = x;
        }
    };

    static SM_INLINE typename Narrow::State& partial(const Problem& problem, int64 split, int64 row, int component) {
        typedef typename Narrow::State State;
        const int64 number = split * (problem.batches * problem.rows) + row;
        return static_cast<State*>(problem.partial_states)[number * Sums::components + component];
    }

    SM_INLINE typename Narrow::State state_of(int a, int b) const {
        typename Narrow::State state;
        if constexpr (Sums::are_exponential) {
            const Total& own = shared.totals[row_place(a)];
            state.origin = own.origin;
            state.total[0] = CompensatedSum{own.sum, own.error};
            state.total[1] = CompensatedSum{sum[a][b], recent[a][b]};
        } else {
            state.total[0] = CompensatedSum{sum[a][b], recent[a][b]};
        }
        return state;
    }

    SM_INLINE void finish(unsigned batch, unsigned split) {
        close();
        if constexpr (Sums::are_exponential) {
            shared.totals[threadIdx.x] = Total{total.origin, total.total[0].sum, total.total[0].error};
            __syncthreads();
        }
        SM_UNROLL for (int a = 0; a < thread_rows; ++a)
            SM_UNROLL for (int b = 0; b < thread_outs; ++b) {
                const int64 row = first_row + row_place(a), in_batch = batch * problem.rows + row;
                const int component = chunk.offset + out_place(b);
                if (row >= stop_row || out_place(b) >= chunk.count) continue;
                if (problem.column_splits > 1)
                    partial(problem, split, in_batch, component) = state_of(a, b);
                else
                    Narrow::finish(state_of(a, b), Writer{problem, in_batch, component});
            }
    }

    SM_INLINE void run_task(unsigned number, unsigned batch, unsigned split) {
        chunk = find_chunk(int(number % chunks));
        const Task* const task = this->enter_task(number / chunks, split, SM_THREADS);
        this->enter_batch(batch);
        start();
        this->visit_columns(split, task, [&](int64 first, int64 stop) { reduce_columns(first, stop); });
        finish(batch, split);
    }

  public:
    static SM_INLINE void run(const Problem& problem, void* shared_memory) {
        WideKernel kernel(problem, *static_cast<Shared*>(shared_memory));
        Base::share_tasks(problem, unsigned(problem.blocks * chunks),
                          [&](unsigned number, unsigned batch, unsigned split) { kernel.run_task(number, batch, split); });
    }

    // Merges the partial states of the splits, in the order of the columns: one thread per row and component.
    static SM_INLINE void merge(const Problem& problem) {
        const int64 first = int64(blockIdx.x) * SM_THREADS + threadIdx.x, rows = problem.batches * problem.rows;
        for (int64 number = first; number < rows * Sums::components; number += int64(gridDim.x) * SM_THREADS) {
            const int64 row = number / Sums::components;
            const int component = int(number % Sums::components);
            typename Narrow::State state = partial(problem, 0, row, component);
            for (int64 split = 1; split < problem.column_splits; ++split)
                Narrow::merge(state, partial(problem, split, row, component));
            Narrow::finish(state, Writer{problem, row, component});
        }
    }
};

}  // namespace symbolic_matrices
#endif
