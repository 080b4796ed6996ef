// Owns the loop nest of a reduction on a GPU: rows in registers against tiles of columns in shared memory.
//
// A thread keeps SM_ROWS rows, each a block's width apart, so that neighbours read neighbours; the threads stage the
// columns of a tile together, and each column, read once from shared memory, serves all the rows of the thread.
#ifndef SYMBOLIC_MATRICES_REDUCE_CUH
#define SYMBOLIC_MATRICES_REDUCE_CUH

#include "staging.cuh"

namespace symbolic_matrices {

template <int... numbers>
struct Numbers {};
template <int count, int... rest>
struct CountTo : CountTo<count - 1, count - 1, rest...> {};
template <int... rest>
struct CountTo<0, rest...> {
    typedef Numbers<rest...> Result;
};

template <class Formula, class Reduction>
class Kernel : Block<Formula> {
    typedef Block<Formula> Base;
    using Base::C, Base::row_dim, Base::sum_columns, Base::problem, Base::shared, Base::first_row, Base::stop_row;
    static constexpr int R = SM_ROWS;
    typedef typename Reduction::State State;
    typedef typename Reduction::Tile Tile;
    typedef typename Base::Shared Shared;

    static_assert(R == 1 || !Base::has_products, "a tile of products has a row per thread");
    static_assert(sizeof(Shared) <= SM_SHARED_BYTES, "the host allocates less shared memory than the kernel uses");
    static_assert(sizeof(State) <= SM_STATE_BYTES, "the host allocates less memory than the partial states need");

    REAL rows[R][row_dim];
    // States stand apart: where they have to be in local memory, all that is in one object with them would be there.
    typedef State States[R];

    SM_INLINE Kernel(const Problem& problem, Shared& shared) : Base(problem, shared) {}

    SM_INLINE int64 row_of(int q) const { return first_row + q * SM_THREADS + threadIdx.x; }

    SM_INLINE void stage_rows(States& states) {
        SM_UNROLL for (int q = 0; q < R; ++q) {
            this->stage_row(q * SM_THREADS + threadIdx.x, rows[q]);
            Reduction::identity(states[q]);
        }
    }

    template <int width>
    SM_INLINE void absorb_columns(Tile& tile, const REAL* row, const REAL* columns, int j, const REAL* parameters,
                                  int64 index) const {
        typename Reduction::template Output<width> output(tile);
        Formula::template pair<Pack<width>>(RowView<width>{row}, this->template column_view<width>(columns, j),
                                            RowView<width>{parameters}, output);
        output.absorb(index);
    }

    // The rows of the thread against staged columns first to stop - 1: the inner loop.
    template <int... q>
    SM_INLINE void sweep(States& states, int first, int stop, int64 first_column, Numbers<q...>) {
        Tile tiles[R] = {Tile(states[q])...};
        const REAL *const parameters = shared.parameters, *const columns = shared.columns;
        int j = first;
        for (; j + C <= stop; j += C)
            (absorb_columns<C>(tiles[q], rows[q], columns, j, parameters, first_column + j), ...);
        for (; j < stop; ++j)
            (absorb_columns<1>(tiles[q], rows[q], columns, j, parameters, first_column + j), ...);
        (Reduction::close(states[q], tiles[q]), ...);
    }

    SM_INLINE void reduce_columns(States& states, int64 start, int64 stop) {
        for (int64 j = start; j < stop; j += SM_TILE_COLUMNS) {
            const int count = int(least(SM_TILE_COLUMNS, stop - j));
            __syncthreads();  // the threads are done with the tile before
            this->stage_columns(j, count, count);
            this->compute_products(j, count);
            __syncthreads();
            for (int first = 0; first < count; first += sum_columns)
                sweep(states, first, int(least(first + sum_columns, count)), j, typename CountTo<R>::Result());
        }
    }

    struct Writer {
        const Problem& problem;
        int64 row;  // counted over the batch
        SM_INLINE void value(int k, REAL x) const {
            if (problem.values) problem.values[row * Reduction::out_dim + k] = x;
        }
        SM_INLINE void index(int k, int64 x) const {
            if (problem.indices) problem.indices[row * Reduction::out_dim + k] = x;
        }
    };

    static SM_INLINE State& partial(const Problem& problem, int64 split, int64 batch, int64 row) {
        return static_cast<State*>(problem.partial_states)[(split * problem.batches + batch) * problem.rows + row];
    }

    SM_INLINE void run_task(unsigned block, unsigned batch, unsigned split) {
        const Task* const task = this->enter_task(block, split, R * SM_THREADS);
        this->enter_batch(batch);
        States states;
        stage_rows(states);
        this->visit_columns(split, task, [&](int64 start, int64 stop) { reduce_columns(states, start, stop); });
        SM_UNROLL for (int q = 0; q < R; ++q) {
            const int64 row = row_of(q);
            if (row >= stop_row) continue;
            if (problem.column_splits > 1)
                partial(problem, split, batch, row) = states[q];
            else
                Reduction::finish(states[q], Writer{problem, batch * problem.rows + row});
        }
    }

  public:
    static SM_INLINE void run(const Problem& problem, void* shared_memory) {
        Kernel kernel(problem, *static_cast<Shared*>(shared_memory));
        Base::share_tasks(problem, unsigned(problem.blocks),
                          [&](unsigned block, unsigned batch, unsigned split) { kernel.run_task(block, batch, split); });
    }

    // Merges the partial states of the splits, in the order of the columns: one thread per row.
    static SM_INLINE void merge(const Problem& problem) {
        const int64 first = int64(blockIdx.x) * SM_THREADS + threadIdx.x;
        for (int64 row = first; row < problem.batches * problem.rows; row += int64(gridDim.x) * SM_THREADS) {
            State state = partial(problem, 0, 0, row);
            for (int64 split = 1; split < problem.column_splits; ++split)
                Reduction::merge(state, partial(problem, split, 0, row));
            Reduction::finish(state, Writer{problem, row});
        }
    }
};

}  // namespace symbolic_matrices
#endif
