// Owns what the loop nests of a GPU share: what the host asks for, the columns that a block
// stages in shared memory, and the tasks that it takes in turn.
//
// A task is a block of rows of one problem of the batch against an interval of columns, or against those that the host
// lists in tables. What depends on rows, columns or parameters alone is computed while staging. The grid has a dimension
// for blocks of rows, one for problems of the batch and one for intervals of columns; where a dimension of the grid is
// too small, its blocks take several in turn.
#ifndef SYMBOLIC_MATRICES_STAGING_CUH
#define SYMBOLIC_MATRICES_STAGING_CUH

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

// A block of threads with its staged columns. A loop nest derives from it, and adds what it does with them.
template <class Formula>
class Block {
  protected:
    static constexpr int C = columns_at_once;
    // Staged columns start where a vector does, unless they are shorter than that: 1 or 2 numbers.
    static constexpr int stride = Formula::column_dim <= 2 ? Formula::column_dim
                                                           : divide_up(Formula::column_dim, vector_length) * vector_length;
    static constexpr int sum_columns = SM_TILE_COLUMNS < 64 ? SM_TILE_COLUMNS : 64;  // plain sums over more lose digits
    static constexpr int row_dim = Formula::row_dim > 0 ? Formula::row_dim : 1;
    static constexpr int parameter_dim = Formula::parameter_dim > 0 ? Formula::parameter_dim : 1;
    typedef ProductTiles<typename Formula::Products> Products;
    static constexpr bool has_products = Formula::Products::count > 0;

    struct alignas(16) Shared : Products::Shared {
        REAL columns[SM_TILE_COLUMNS * (stride > 0 ? stride : 1)];
        REAL parameters[parameter_dim];
        const void* variables[SM_VARIABLES];  // of the problem of the batch that is under way
    };

    const Problem& problem;
    Shared& shared;
    int64 first_row = 0, stop_row = 0;  // of the task

    SM_INLINE Block(const Problem& problem, Shared& shared) : problem(problem), shared(shared) {}

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

    // Of row number ``n`` of the task; rows past the end repeat the last one, and their results are never stored.
    SM_INLINE void stage_row(int64 n, REAL* row) const {
        const Reader read{shared.variables, problem.strides, least(first_row + n, stop_row - 1)};
        Formula::template row<REAL>(read, shared.parameters, row);
    }

    // The places of ``count`` columns; those from number ``copied`` on repeat the last one before.
    SM_INLINE void stage_columns(int64 first, int count, int copied) {
        for (int j = threadIdx.x; j < count; j += SM_THREADS) {
            const Reader read{shared.variables, problem.strides, first + least(j, copied - 1)};
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

    // Calls reduce(start, stop) for each interval of columns of a task, once the block knows its rows.
    template <class Reduce>
    SM_INLINE void visit_columns(unsigned split, const Task* task, const Reduce& reduce) const {
        const int64 last = task ? task->stop_interval : 1;
        for (int64 n = task ? task->first_interval : 0; n < last; ++n) {
            const int64 start = task ? problem.intervals[n].start : split * problem.split_columns;
            reduce(start, task ? problem.intervals[n].stop : least(start + problem.split_columns, problem.columns));
        }
    }

    // The line of the host's table, if there is one, or null; and the rows of the task.
    SM_INLINE const Task* enter_task(unsigned block, unsigned split, int rows) {
        const bool is_listed = problem.tasks != nullptr;
        const Task* const task = is_listed ? problem.tasks + (split * problem.blocks + block) : nullptr;
        first_row = is_listed ? task->first_row : int64(block) * rows;
        stop_row = is_listed ? task->stop_row : problem.rows;
        return task;
    }

    // Calls run_task(block, batch, split) for the share of this block of threads in ``blocks`` of each.
    template <class RunTask>
    SM_INLINE static void share_tasks(const Problem& problem, unsigned blocks, const RunTask& run_task) {
        for (unsigned split = blockIdx.z; split < unsigned(problem.column_splits); split += gridDim.z)
            for (unsigned batch = blockIdx.y; batch < unsigned(problem.batches); batch += gridDim.y)
                for (unsigned block = blockIdx.x; block < blocks; block += gridDim.x) run_task(block, batch, split);
    }
};

}  // namespace symbolic_matrices

// Instantiates a loop nest under plain C names. To be used inside the namespace, where the functions of math.cuh hide
// those of CUDA. One block of a multiprocessor is enough where SM_BLOCKS is 1: asked for no number, the compiler spills
// registers for the sake of more of them.
#define SM_KERNEL(name, ...)                                                                    \
    typedef __VA_ARGS__ name##_kernel;                                                          \
    extern "C" __global__ void __launch_bounds__(SM_THREADS, SM_BLOCKS) name(const Problem problem) {      \
        extern __shared__ float4 shared_memory[];                                               \
        name##_kernel::run(problem, shared_memory);                                             \
    }                                                                                           \
    extern "C" __global__ void __launch_bounds__(SM_THREADS) name##_merge(const Problem problem) { \
        name##_kernel::merge(problem);                                                          \
    }

#endif
