// Owns the loop nest of a reduction: tasks, rows kept in registers, tiles of columns, and the C entry points.
//
// A task is a block of rows of one problem of the batch against a list of column intervals. Its rows are staged once, in
// the order of the registers; the columns are staged tile by tile, so that a tile is read from the nearest cache by all
// the rows of the block. What depends on rows, columns or parameters alone is computed while staging.
#ifndef SYMBOLIC_MATRICES_REDUCE_HPP
#define SYMBOLIC_MATRICES_REDUCE_HPP

#include "reductions.hpp"

namespace symbolic_matrices {

// What the host asks for; mirrored field by field by backends/cpu.py.
struct Problem {
    int64 rows, columns, batches;
    int64 batch_rank;
    const int64* batch_shape;      // [batch_rank]
    int64 variable_count;
    const void* const* variables;  // [variable]
    const int64* strides;          // [variable]: elements from one row or column to the next
    const int64* batch_strides;    // [variable][batch_rank]: elements, 0 where broadcast
    int64 row_block;               // rows of a task, a multiple of group_rows
    int64 column_splits;           // more than 1: tasks write partial states, merged by <name>_merge
    void* partial_states;          // [split][batch][group of rows], state_bytes each; null without splits
    REAL* values;                  // (batches, rows, out_dim), or null
    int64* indices;                // (batches, rows, out_dim), or null
    int64* next_task;              // shared by the threads; at least `cancelled` once the host gives up
};

// What the host must know to allocate and split; mirrored by backends/cpu.py.
struct Traits {
    int64 group_rows;   // rows that share one state
    int64 state_bytes;  // of one group
    int64 row_bytes;    // staged values of one row
    int64 out_dim;
};

constexpr int64 cancelled = int64(1) << 62;
enum Outcome { finished = 0, interrupted = 1, out_of_memory = 2 };

constexpr int64 divide_up(int64 a, int64 b) { return (a + b - 1) / b; }
constexpr int64 least(int64 a, int64 b) { return a < b ? a : b; }

struct Interval {
    int64 start, stop;
};

// Reads the variables at one row or column, while staging.
struct Reader {
    const REAL* const* variables;
    const int64* strides;
    int64 position;
    SM_INLINE REAL operator()(int variable, int component) const {
        return variables[variable][position * strides[variable] + component];
    }
    SM_INLINE REAL index() const { return REAL(position); }
};

// The staged values as packs: one register of rows, repeated for each of C columns, and C columns, each splat.
template <int C>
struct RowView {
    const Vec* values;
    SM_INLINE Pack<C> operator[](int k) const { return Pack<C>(values[k]); }
};

template <int C, int stride>
struct ColumnView {
    const REAL* values;  // [c][k]
    SM_INLINE Pack<C> operator[](int k) const {
        Pack<C> result;
        SM_UNROLL for (int c = 0; c < C; ++c) result.part[c] = splat(values[c * stride + k]);
        return result;
    }
};

template <int N>
struct ParameterView {
    const REAL* values;
    SM_INLINE Pack<N> operator[](int k) const { return Pack<N>(values[k]); }
};

// Scratch memory of one thread, in one allocation aligned to registers.
class Workspace {
    char* memory;
    int64 used = 0;

  public:
    explicit Workspace(int64 bytes) : memory(static_cast<char*>(__builtin_malloc(bytes + 64))) {}
    ~Workspace() { __builtin_free(memory); }
    Workspace(const Workspace&) = delete;
    bool allocated() const { return memory != nullptr; }
    static constexpr int64 padded(int64 bytes) { return divide_up(bytes, 64) * 64; }
    template <class T>
    T* take(int64 count) {
        char* const start = memory + (64 - reinterpret_cast<__UINTPTR_TYPE__>(memory) % 64) % 64 + used;
        used += padded(count * sizeof(T));
        return reinterpret_cast<T*>(start);
    }
};

template <class Formula, class Reduction>
class Kernel {
    static constexpr int C = columns_at_once;
    static constexpr int group_rows = lanes;
    static constexpr int64 column_bytes = sizeof(REAL) * (Formula::column_dim > 0 ? Formula::column_dim : 1);
    // A tile stays in the L1 cache, and a plain sum over it loses little.
    static constexpr int64 columns_in_l1 = 16384 / column_bytes / 8 * 8;
    static constexpr int tile_columns = columns_in_l1 > 64 ? 64 : columns_in_l1 < 8 ? 8 : int(columns_in_l1);
    typedef typename Reduction::State State;
    typedef typename Reduction::Tile Tile;

    const Problem& problem;
    Workspace workspace;
    const REAL** variables;
    REAL* parameters;
    REAL* rows;
    REAL* columns;
    State* states;

    static int64 workspace_bytes(const Problem& problem) {
        const int64 groups = problem.row_block / group_rows;
        return Workspace::padded(problem.variable_count * sizeof(REAL*)) +
               Workspace::padded(Formula::parameter_dim * sizeof(REAL)) +
               Workspace::padded(problem.row_block * Formula::row_dim * sizeof(REAL)) +
               Workspace::padded(tile_columns * column_bytes) + Workspace::padded(groups * sizeof(State));
    }

    explicit Kernel(const Problem& problem) : problem(problem), workspace(workspace_bytes(problem)) {
        if (!workspace.allocated()) return;
        variables = workspace.template take<const REAL*>(problem.variable_count);
        parameters = workspace.template take<REAL>(Formula::parameter_dim);
        rows = workspace.template take<REAL>(problem.row_block * Formula::row_dim);
        columns = workspace.template take<REAL>(tile_columns * column_bytes / sizeof(REAL));
        states = workspace.template take<State>(problem.row_block / group_rows);
    }

    // Point at the variables of one problem of the batch, and stage its parameters.
    void enter_batch(int64 batch) {
        for (int64 v = 0; v < problem.variable_count; ++v) {
            int64 offset = 0, rest = batch;
            for (int64 axis = problem.batch_rank - 1; axis >= 0; --axis) {
                offset += rest % problem.batch_shape[axis] * problem.batch_strides[v * problem.batch_rank + axis];
                rest /= problem.batch_shape[axis];
            }
            variables[v] = static_cast<const REAL*>(problem.variables[v]) + offset;
        }
        Formula::template parameter<REAL>(Reader{variables, problem.strides, 0}, parameters);
    }

    // Rows past the end repeat the last one; their results are never stored.
    void stage_rows(int64 first, int64 groups) {
        for (int64 i = 0; i < groups * group_rows; ++i) {
            REAL staged[Formula::row_dim > 0 ? Formula::row_dim : 1];
            const Reader read{variables, problem.strides, least(first + i, problem.rows - 1)};
            Formula::template row<REAL>(read, parameters, staged);
            REAL* const group = rows + i / group_rows * (Formula::row_dim * group_rows) + i % group_rows;
            for (int k = 0; k < Formula::row_dim; ++k) group[k * group_rows] = staged[k];
        }
    }

    void stage_columns(int64 first, int64 count) {
        for (int64 j = 0; j < count; ++j) {
            const Reader read{variables, problem.strides, first + j};
            Formula::template column<REAL>(read, parameters, columns + j * Formula::column_dim);
        }
    }

    template <int width>
    SM_INLINE void absorb_columns(Tile& tile, const Vec* row, const REAL* column, int64 index) const {
        typename Reduction::template Output<width> output(tile);
        Formula::template pair<Pack<width>>(RowView<width>{row}, ColumnView<width, Formula::column_dim>{column},
                                            ParameterView<width>{parameters}, output);
        output.absorb(Integer(index));
    }

    // One group of rows against the staged columns: the inner loop.
    void sweep(State& state, int64 group, int64 first_column, int64 count) const {
        Tile tile(state);
        const Vec* const row = reinterpret_cast<const Vec*>(rows) + group * Formula::row_dim;
        int64 j = 0;
        for (; j + C <= count; j += C)
            absorb_columns<C>(tile, row, columns + j * Formula::column_dim, first_column + j);
        for (; j < count; ++j) absorb_columns<1>(tile, row, columns + j * Formula::column_dim, first_column + j);
        Reduction::close(state, tile);
    }

    bool is_cancelled() const { return __atomic_load_n(problem.next_task, __ATOMIC_RELAXED) >= cancelled; }

    // A block of rows against column intervals; false when the host gave up meanwhile.
    bool reduce_block(int64 first_row, int64 groups, const Interval* intervals, int64 interval_count) {
        for (int64 g = 0; g < groups; ++g) Reduction::identity(states[g]);
        stage_rows(first_row, groups);
        for (int64 n = 0; n < interval_count; ++n)
            for (int64 j = intervals[n].start; j < intervals[n].stop; j += tile_columns) {
                if (is_cancelled()) return false;
                const int64 count = least(tile_columns, intervals[n].stop - j);
                stage_columns(j, count);
                for (int64 g = 0; g < groups; ++g) sweep(states[g], g, j, count);
            }
        return true;
    }

    // Stores the valid lanes of a finished group.
    struct Writer {
        const Problem& problem;
        int64 first, valid;  // first row, counted over the batch; rows of the problem from there on
        void value(int k, Vec x) const {
            if (problem.values) write(problem.values, k, x);
        }
        void index(int k, Bits x) const {
            if (problem.indices) write(problem.indices, k, x);
        }
        template <class Number, class Register>
        SM_INLINE void write(Number* output, int k, Register x) const {
            if (Reduction::out_dim == 1 && sizeof(Number) == sizeof(x[0]) && valid >= lanes) {
                __builtin_memcpy(output + first, &x, sizeof(x));
                return;
            }
            for (int l = 0; l < lanes && l < valid; ++l) output[(first + l) * Reduction::out_dim + k] = x[l];
        }
    };

    void finish_group(const State& state, int64 batch, int64 row) const {
        Reduction::finish(state, Writer{problem, batch * problem.rows + row, problem.rows - row});
    }

    static int64 all_groups(const Problem& problem) { return divide_up(problem.rows, group_rows); }

    State* partial(int64 split, int64 batch, int64 group) const {
        return static_cast<State*>(problem.partial_states) +
               (split * problem.batches + batch) * all_groups(problem) + group;
    }

    bool run_task(int64 task) {
        const int64 blocks = divide_up(problem.rows, problem.row_block);
        const int64 block = task % blocks;
        const int64 split = task / blocks % problem.column_splits;
        const int64 batch = task / blocks / problem.column_splits;
        const int64 first_row = block * problem.row_block;
        const int64 groups = divide_up(least(problem.row_block, problem.rows - first_row), group_rows);
        const Interval interval{problem.columns * split / problem.column_splits,
                                problem.columns * (split + 1) / problem.column_splits};
        enter_batch(batch);
        if (!reduce_block(first_row, groups, &interval, 1)) return false;
        for (int64 g = 0; g < groups; ++g) {
            const int64 row = first_row + g * group_rows;
            if (problem.column_splits > 1)
                *partial(split, batch, row / group_rows) = states[g];
            else
                finish_group(states[g], batch, row);
        }
        return true;
    }

  public:
    static constexpr Traits traits = {group_rows, sizeof(State), Formula::row_dim * sizeof(REAL), Reduction::out_dim};

    // Takes tasks until none is left.
    static int run(const Problem& problem) {
        Kernel kernel(problem);
        if (!kernel.workspace.allocated()) return out_of_memory;
        const int64 tasks = divide_up(problem.rows, problem.row_block) * problem.column_splits * problem.batches;
        for (;;) {
            const int64 task = __atomic_fetch_add(problem.next_task, 1, __ATOMIC_RELAXED);
            if (task >= cancelled) return interrupted;
            if (task >= tasks) return finished;
            if (!kernel.run_task(task)) return interrupted;
        }
    }

    // Merges the partial states of the splits, in the order of the columns.
    static int merge(const Problem& problem) {
        const Kernel kernel(problem);
        for (int64 batch = 0; batch < problem.batches; ++batch)
            for (int64 group = 0; group < all_groups(problem); ++group) {
                State state = *kernel.partial(0, batch, group);
                for (int64 split = 1; split < problem.column_splits; ++split)
                    Reduction::merge(state, *kernel.partial(split, batch, group));
                kernel.finish_group(state, batch, group * group_rows);
            }
        return finished;
    }
};

}  // namespace symbolic_matrices

#ifdef _WIN32
#define SM_EXPORT extern "C" __declspec(dllexport)
#else
#define SM_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// Instantiates the loop nest for a formula and a reduction, under plain C names.
#define SM_KERNEL(name, formula, ...)                                                                             \
    typedef symbolic_matrices::Kernel<formula, __VA_ARGS__> name##_kernel;                                        \
    SM_EXPORT int name(const symbolic_matrices::Problem* problem) { return name##_kernel::run(*problem); }        \
    SM_EXPORT int name##_merge(const symbolic_matrices::Problem* problem) { return name##_kernel::merge(*problem); } \
    SM_EXPORT void name##_traits(symbolic_matrices::Traits* traits) { *traits = name##_kernel::traits; }

using namespace symbolic_matrices;
#endif
