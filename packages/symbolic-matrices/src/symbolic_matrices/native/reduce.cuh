// Owns the loop nest of a reduction on a GPU: blocks of threads, rows in registers, tiles of columns in shared memory.
//
// A task is a block of rows of one problem of the batch against an interval of columns, or against those that the host
// lists in tables. A thread keeps SM_ROWS rows, each
// a block's width apart, so that neighbours read neighbours; the threads stage the columns of a tile together, and each
// column, read once from shared memory, serves all the rows of the thread. What depends on rows, columns or parameters
// alone is computed while staging. The grid has a dimension for blocks of rows, one for problems of the batch and one for
// intervals of columns; where a dimension of the grid is too small, its blocks take several in turn.
#ifndef SYMBOLIC_MATRICES_REDUCE_CUH
#define SYMBOLIC_MATRICES_REDUCE_CUH

#include "products.cuh"

namespace symbolic_matrices {

constexpr int most_batch_dims = 8;

struct Interval {
    int64 start, stop;
};

// A line of the host's table: rows first_row to stop_row - 1 against intervals first_interval to stop_interval - 1.
struct Task {
    int64 first_row, stop_row, first_interval, stop_interval;
    int64 first_group;  // for processors, whose rows come in groups
};

// What the host asks for, passed by value; mirrored field by field by backends/cuda.py.
struct Problem {
    int64 rows, columns, batches;
    int64 blocks;                                         // of rows, or tasks of a table
    int64 column_splits, split_columns;                   // intervals of columns, and the length of all but the last
    const Task* tasks;                                    // [split][block]; null for all the columns
    const Interval* intervals;
    REAL* values;                                         // (batches, rows, out_dim), or null
    int64* indices;                                       // (batches, rows, out_dim), or null
    void* partial_states;                                 // [split][batch][row]; null without splits
    int64 batch_rank, batch_shape[most_batch_dims];
    const void* variables[SM_VARIABLES];                  // REAL, or in half precision; see storage.cuh
    int64 strides[SM_VARIABLES];                          // elements from one row or column to the next
    int64 batch_strides[SM_VARIABLES][most_batch_dims];   // elements, 0 where broadcast
};

// The staged values as packs: one row, repeated for each of C columns, and C columns.
template <int C>
struct RowView {
    const REAL* values;
    SM_INLINE Pack<C> operator[](int k) const { return Pack<C>(values[k]); }
};

// After the staged numbers of a column come its products with the row.
template <int C, int stride, int dim, int product_stride>
struct ColumnView {
    const REAL* values;    // [c][k]
    const REAL* products;  // [product][...][c]
    SM_INLINE Pack<C> operator[](int k) const {
        Pack<C> result;
        SM_UNROLL for (int c = 0; c < C; ++c)
            result.part[c] = k < dim ? values[c * stride + k] : products[(k - dim) * product_stride + c];
        return result;
    }
};

template <int... numbers>
struct Numbers {};
template <int count, int... rest>
struct CountTo : CountTo<count - 1, count - 1, rest...> {};
template <int... rest>
struct CountTo<0, rest...> {
    typedef Numbers<rest...> Result;
};

template <class Formula, class Reduction>
class Kernel {
    static constexpr int C = columns_at_once;
    static constexpr int R = SM_ROWS;
    // Staged columns start where a vector does, unless they are shorter than that: 1 or 2 numbers.
    static constexpr int stride = Formula::column_dim <= 2 ? Formula::column_dim
                                                           : divide_up(Formula::column_dim, vector_length) * vector_length;
    static constexpr int sum_columns = SM_TILE_COLUMNS < 64 ? SM_TILE_COLUMNS : 64;  // plain sums over more lose digits
    static constexpr int row_dim = Formula::row_dim > 0 ? Formula::row_dim : 1;
    static constexpr int parameter_dim = Formula::parameter_dim > 0 ? Formula::parameter_dim : 1;
    typedef typename Reduction::State State;
    typedef typename Reduction::Tile Tile;
    typedef ProductTiles<typename Formula::Products> Products;
    static constexpr bool has_products = Formula::Products::count > 0;

    struct alignas(16) Shared : Products::Shared {
        REAL columns[SM_TILE_COLUMNS * (stride > 0 ? stride : 1)];
        REAL parameters[parameter_dim];
        const void* variables[SM_VARIABLES];  // of the problem of the batch that is under way
    };
    static_assert(R == 1 || !has_products, "a tile of products has a row per thread");
    static_assert(sizeof(Shared) <= SM_SHARED_BYTES, "the host allocates less shared memory than the kernel uses");
    static_assert(sizeof(State) <= SM_STATE_BYTES, "the host allocates less memory than the partial states need");

    const Problem& problem;
    Shared& shared;
    int64 first_row = 0, stop_row = 0;  // of the task
    REAL rows[R][row_dim];
    State states[R];

    SM_INLINE Kernel(const Problem& problem, Shared& shared) : problem(problem), shared(shared) {}

    // Point at the variables of one problem of the batch, and stage its parameters.
    SM_INLINE void enter_batch(unsigned batch) {
        __syncthreads();  // the threads are done with the problem before
        if (threadIdx.x == 0) {
            SM_UNROLL for (int v = 0; v < SM_VARIABLES; ++v) {
                unsigned rest = batch;  // 64-bit divisions are function calls
                int64 offset = 0;
                for (int axis = int(problem.batch_rank) - 1; axis >= 0; --axis) {
                    const unsigned size = unsigned(problem.batch_shape[axis]);
                    offset += rest % size * problem.batch_strides[v][axis];
                    rest /= size;
                }
                shared.variables[v] = advance(problem.variables[v], v, offset);
            }
            Formula::template parameter<REAL>(Reader{shared.variables, problem.strides, 0}, shared.parameters);
        }
        __syncthreads();
    }

    SM_INLINE int64 row_of(int q) const { return first_row + q * SM_THREADS + threadIdx.x; }

    // Rows past the end repeat the last one; their results are never stored.
    SM_INLINE void stage_rows() {
        SM_UNROLL for (int q = 0; q < R; ++q) {
            const Reader read{shared.variables, problem.strides, least(row_of(q), stop_row - 1)};
            Formula::template row<REAL>(read, shared.parameters, rows[q]);
            Reduction::identity(states[q]);
        }
    }

    SM_INLINE void stage_columns(int64 first, int count) {
        for (int j = threadIdx.x; j < count; j += SM_THREADS) {
            const Reader read{shared.variables, problem.strides, first + j};
            Formula::template column<REAL>(read, shared.parameters, shared.columns + j * stride);
        }
    }

    // Of the block's rows with the staged columns.
    SM_INLINE void compute_products(int64 first, int count) {
        if constexpr (has_products) {
            const int64 last_row = least(stop_row - first_row, SM_THREADS) - 1;
            Products::compute(shared, NearbyReader(shared.variables, problem.strides, first_row, int(last_row)),
                              NearbyReader(shared.variables, problem.strides, first, count - 1));
        }
    }

    template <int width>
    SM_INLINE auto column_view(const REAL* columns, int j) const {
        if constexpr (has_products)
            return ColumnView<width, stride, Formula::column_dim, Products::tile_size>{
                columns + j * stride, shared.tiles + threadIdx.x * Products::pitch + j};
        else
            return ColumnView<width, stride, Formula::column_dim, 0>{columns + j * stride, nullptr};
    }

    template <int width>
    SM_INLINE void absorb_columns(Tile& tile, const REAL* row, const REAL* columns, int j, const REAL* parameters,
                                  int64 index) const {
        typename Reduction::template Output<width> output(tile);
        Formula::template pair<Pack<width>>(RowView<width>{row}, column_view<width>(columns, j),
                                            RowView<width>{parameters}, output);
        output.absorb(index);
    }

    // The rows of the thread against staged columns first to stop - 1: the inner loop.
    template <int... q>
    SM_INLINE void sweep(int first, int stop, int64 first_column, Numbers<q...>) {
        Tile tiles[R] = {Tile(states[q])...};
        const REAL *const parameters = shared.parameters, *const columns = shared.columns;
        int j = first;
        for (; j + C <= stop; j += C)
            (absorb_columns<C>(tiles[q], rows[q], columns, j, parameters, first_column + j), ...);
        for (; j < stop; ++j)
            (absorb_columns<1>(tiles[q], rows[q], columns, j, parameters, first_column + j), ...);
        (Reduction::close(states[q], tiles[q]), ...);
    }

    SM_INLINE void reduce_columns(int64 start, int64 stop) {
        for (int64 j = start; j < stop; j += SM_TILE_COLUMNS) {
            const int count = int(least(SM_TILE_COLUMNS, stop - j));
            __syncthreads();  // the threads are done with the tile before
            stage_columns(j, count);
            compute_products(j, count);
            __syncthreads();
            for (int first = 0; first < count; first += sum_columns)
                sweep(first, int(least(first + sum_columns, count)), j, typename CountTo<R>::Result());
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
        const bool is_listed = problem.tasks != nullptr;
        const Task* const task = problem.tasks + (split * problem.blocks + block);
        first_row = is_listed ? task->first_row : int64(block) * (R * SM_THREADS);
        stop_row = is_listed ? task->stop_row : problem.rows;
        enter_batch(batch);
        stage_rows();
        const int64 last = is_listed ? task->stop_interval : 1;
        for (int64 n = is_listed ? task->first_interval : 0; n < last; ++n) {
            const int64 start = is_listed ? problem.intervals[n].start : split * problem.split_columns;
            reduce_columns(start, is_listed ? problem.intervals[n].stop
                                            : least(start + problem.split_columns, problem.columns));
        }
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
        for (unsigned split = blockIdx.z; split < unsigned(problem.column_splits); split += gridDim.z)
            for (unsigned batch = blockIdx.y; batch < unsigned(problem.batches); batch += gridDim.y)
                for (unsigned block = blockIdx.x; block < unsigned(problem.blocks); block += gridDim.x)
                    kernel.run_task(block, batch, split);
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

// Instantiates the loop nest for a formula and a reduction, under plain C names. To be used inside the namespace, where
// the functions of math.cuh hide those of CUDA. One block of a multiprocessor is enough where SM_BLOCKS is 1: asked for
// no number, the compiler spills registers for the sake of more of them.
#define SM_KERNEL(name, formula, ...)                                                           \
    typedef Kernel<formula, __VA_ARGS__> name##_kernel;                                         \
    extern "C" __global__ void __launch_bounds__(SM_THREADS, SM_BLOCKS) name(const Problem problem) {      \
        extern __shared__ float4 shared_memory[];                                               \
        name##_kernel::run(problem, shared_memory);                                             \
    }                                                                                           \
    extern "C" __global__ void __launch_bounds__(SM_THREADS) name##_merge(const Problem problem) { \
        name##_kernel::merge(problem);                                                          \
    }

}  // namespace symbolic_matrices
#endif
