// Owns inner products and squared distances in high dimension: those of a block's rows with a tile of columns, computed
// together as a product of matrices, by tensor cores (tensor_cores.cuh) or by multiply-adds. For the latter, a thread keeps
// 8 rows by a few columns in registers, and the block stages a few components of its vectors at a time, so that neither
// registers nor shared memory limit the dimension.
//
// The tile goes through shared memory to the threads that own the rows, which read it as they read staged columns.
#ifndef SYMBOLIC_MATRICES_PRODUCTS_CUH
#define SYMBOLIC_MATRICES_PRODUCTS_CUH

#include "tensor_cores.cuh"

namespace symbolic_matrices {

constexpr SM_INLINE int64 divide_up(int64 a, int64 b) { return (a + b - 1) / b; }
constexpr SM_INLINE int64 least(int64 a, int64 b) { return a < b ? a : b; }

// The vectors that a formula multiplies; `Product` has a dim, `is_distance`, the `Format` of what computes it, and how the
// components of rows and columns are read.
template <class... Product>
struct ProductList {
    static constexpr int count = sizeof...(Product);
};

template <class List>
struct ProductTiles;

template <>
struct ProductTiles<ProductList<>> {
    struct Shared {};
};

template <class... Product>
struct ProductTiles<ProductList<Product...>> {
    static constexpr int step = 64 / sizeof(REAL);  // components that are staged at once
    static constexpr int components_at_once = 4;  // mirrored by cuda_printing.py
    static constexpr int row_groups = 16, column_groups = SM_THREADS / row_groups;
    static constexpr int tile_rows = SM_THREADS, tile_columns = SM_TILE_COLUMNS;
    static constexpr int thread_rows = tile_rows / row_groups, thread_columns = tile_columns / column_groups;
    // The pitches keep vectors aligned, and rows of the tile in different banks of the memory.
    static constexpr int pitch = tile_columns + vector_length, tile_size = tile_rows * pitch;
    static constexpr int row_pitch = tile_rows + vector_length, column_pitch = tile_columns + vector_length;
    static_assert(step * (row_pitch + column_pitch) <= tile_size, "the staged components do not fit under a tile");

    // The components are staged where the last tile will be.
    struct alignas(16) Shared {
        REAL tiles[sizeof...(Product) * tile_size];
    };

    // Which of 16 or 8 groups of neighbours a thread's rows or columns are in: as many as one instruction loads, and
    // again as many further on.
    template <int each, int groups>
    static SM_INLINE int place(int group, int n) {
        constexpr int run = each < vector_length ? each : vector_length;
        return n / run * (groups * run) + group * run + n % run;
    }

    template <class Rows, class Columns>
    static SM_INLINE void compute(Shared& shared, const Rows& row, const Columns& column) {
        int number = 0;
        (compute_one<Product>(shared, shared.tiles + number++ * tile_size, row, column), ...);
    }

  private:
    template <class P, class Rows, class Columns>
    static SM_INLINE void compute_one(Shared& shared, REAL* tile, const Rows& row, const Columns& column) {
        REAL* const rows = shared.tiles + (sizeof...(Product) - 1) * tile_size;
        if constexpr (P::Format::is_tensor)
            TensorProduct<P, tile_rows, tile_columns, pitch>::compute(rows, tile, row, column);
        else
            multiply_and_add<P>(rows, tile, row, column);
    }

    template <class P, class Rows, class Columns>
    static SM_INLINE void multiply_and_add(REAL* rows, REAL* tile, const Rows& row, const Columns& column) {
        REAL* const columns = rows + step * row_pitch;
        const int row_group = threadIdx.x % row_groups, column_group = threadIdx.x / row_groups;
        REAL sum[thread_rows][thread_columns] = {};
        _Pragma("unroll 1") for (int first = 0; first < P::dim; first += step) {
            __syncthreads();  // the threads are done with the components before
            stage<P, tile_rows, row_pitch>(rows, first, [&](int n, int k) { return P::RowOperand::read(row.at(n), k); });
            stage<P, tile_columns, column_pitch>(columns, first, [&](int n, int k) { return P::ColumnOperand::read(column.at(n), k); });
            __syncthreads();
            _Pragma("unroll components_at_once") for (int k = 0; k < step; ++k)
                add<P>(sum, rows + k * row_pitch, columns + k * column_pitch, row_group, column_group);
        }
        __syncthreads();  // the tile takes the place of the components
        SM_UNROLL for (int a = 0; a < thread_rows; ++a)
            SM_UNROLL for (int b = 0; b < thread_columns; ++b)
                tile[place<thread_rows, row_groups>(row_group, a) * pitch +
                     place<thread_columns, column_groups>(column_group, b)] = sum[a][b];
    }

    // Neighbouring threads read neighbouring components. Those past the end are 0 on both sides.
    template <class P, int count, int count_pitch, class Read>
    static SM_INLINE void stage(REAL* staged, int first, const Read& read) {
        constexpr int at_once = SM_THREADS / step;
        const int k = threadIdx.x % step, component = first + k;
        const bool is_inside = P::dim % step == 0 || component < P::dim;
        _Pragma("unroll 4") for (int n = 0; n < count; n += at_once) {
            const int at = n + threadIdx.x / step;
            const REAL value = read(at, is_inside ? component : P::dim - 1);
            if (count % at_once == 0 || at < count) staged[k * count_pitch + at] = is_inside ? value : REAL(0);
        }
    }

    template <class P>
    static SM_INLINE void add(REAL (&sum)[thread_rows][thread_columns], const REAL* rows, const REAL* columns,
                              int row_group, int column_group) {
        REAL x[thread_rows], y[thread_columns];
        SM_UNROLL for (int a = 0; a < thread_rows; ++a) x[a] = rows[place<thread_rows, row_groups>(row_group, a)];
        SM_UNROLL for (int b = 0; b < thread_columns; ++b)
            y[b] = columns[place<thread_columns, column_groups>(column_group, b)];
        SM_UNROLL for (int a = 0; a < thread_rows; ++a)
            SM_UNROLL for (int b = 0; b < thread_columns; ++b) {
                const REAL difference = x[a] - y[b];
                sum[a][b] += P::is_distance ? difference * difference : x[a] * y[b];
            }
    }
};

}  // namespace symbolic_matrices
#endif
