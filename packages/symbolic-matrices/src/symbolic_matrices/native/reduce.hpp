// Owns the loop nest of a reduction: tasks, rows kept in registers, tiles of columns, and the C entry points.
//
// A task is a block of rows of one problem of the batch against a list of column intervals: all the columns, or those that
// the host lists in tables. Its rows are staged once, in the order of the registers; the columns are staged tile by tile,
// so that a tile is read from the nearest cache by all the rows of the block. A tile gathers short intervals. What depends
// on rows, columns or parameters alone is computed while staging.
#ifndef SYMBOLIC_MATRICES_REDUCE_HPP
#define SYMBOLIC_MATRICES_REDUCE_HPP

#include "nearest.hpp"

namespace symbolic_matrices {

struct Interval {
    int64 start, stop;
};

// A line of the host's table: rows first_row to stop_row - 1 against intervals first_interval to stop_interval - 1.
struct Task {
    int64 first_row, stop_row, first_interval, stop_interval;
    int64 first_group;  // where its partial states are: groups of rows of the tasks before it
};

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
    int64 groups;                  // groups of rows of all the tasks of one split
    REAL* values;                  // (batches, rows, out_dim), or null
    int64* indices;                // (batches, rows, out_dim), or null
    int64* next_task;              // shared by the threads; at least `cancelled` once the host gives up
    int64 task_count;              // of one split
    const Task* tasks;             // [split][task_count]; null where tasks are blocks of rows against all the columns
    const Interval* intervals;
};

// What the host must know to allocate and split; mirrored by backends/cpu.py.
struct Traits {
    int64 group_rows;   // rows that share one state
    int64 state_bytes;  // of one group
    int64 row_bytes;    // staged values of one row
    int64 out_dim;
};

// The inner loop, for people who look at its machine code; mirrored by cpu_machine_code.py.
struct LoopShape {
    int64 lanes;         // pairs that one instruction serves
    int64 pairs;         // of an iteration
    int64 columns;       // of an iteration
    int64 column_bytes;  // staged values of one column
};

constexpr int64 cancelled = int64(1) << 62;
enum Outcome { finished = 0, interrupted = 1, out_of_memory = 2 };

constexpr int64 divide_up(int64 a, int64 b) { return (a + b - 1) / b; }
constexpr int64 least(int64 a, int64 b) { return a < b ? a : b; }

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
    SM_INLINE Pack<C> operator[](int k) const { return Pack<C>::of(values[k]); }
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

// Columns in flight. With 16 registers, two more of them pay for sums but not for selections. Measured with AVX2: 6 instead of
// 4 gain 7 to 10 % for Gaussians of dimension 3 to 10 and 14 to 30 % from 20 on, where 8 lose a quarter; an argmin loses 14 %.
constexpr int columns_of_sums_in_16_registers = 6;

template <int dim, class Accumulate>
constexpr bool adds(const Sum<dim, Accumulate>*) { return true; }
template <int weights, class Accumulate>
constexpr bool adds(const ExponentialSums<weights, Accumulate>*) { return true; }
constexpr bool adds(const void*) { return false; }

template <class Reduction>
constexpr int columns_of() {
    constexpr bool has_16_registers = columns_in_registers == 4;
    constexpr int wanted = has_16_registers && adds(static_cast<const Reduction*>(nullptr))
                               ? columns_of_sums_in_16_registers
                               : columns_in_registers;
    return wanted < SM_MOST_COLUMNS ? wanted : SM_MOST_COLUMNS;
}

template <class Formula, class Reduction>
class Kernel {
    static constexpr int C = columns_of<Reduction>();
    static constexpr int group_rows = lanes;
    static constexpr int64 column_bytes = sizeof(REAL) * (Formula::column_dim > 0 ? Formula::column_dim : 1);
    // A tile stays in the L2 cache beside the rows, and a plain sum over it loses little. Each group of rows streams it
    // through the L1 cache, and moves its sums once per tile: short tiles would spend their time on that.
    static constexpr int64 columns_in_cache = 65536 / column_bytes;
    static constexpr int most_columns = columns_in_cache > 64 ? 64 : columns_in_cache < 8 ? 8 : int(columns_in_cache);
    static constexpr int tile_columns = most_columns / C * C;  // few are left over
    typedef typename Reduction::State State;
    typedef typename Reduction::Tile Tile;

    // Staged columns first to stop - 1, whose numbers are those of their places plus ``shift``.
    struct Run {
        int64 first, stop, shift;
    };

    const Problem& problem;
    Workspace workspace;
    const REAL** variables;
    REAL* parameters;
    REAL* rows;
    REAL* columns;
    State* states;
    Run runs[tile_columns];  // of the tile
    int64 run_count;

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
    void stage_rows(int64 first, int64 stop, int64 groups) {
        for (int64 i = 0; i < groups * group_rows; ++i) {
            REAL staged[Formula::row_dim > 0 ? Formula::row_dim : 1];
            const Reader read{variables, problem.strides, least(first + i, stop - 1)};
            Formula::template row<REAL>(read, parameters, staged);
            REAL* const group = rows + i / group_rows * (Formula::row_dim * group_rows) + i % group_rows;
            for (int k = 0; k < Formula::row_dim; ++k) group[k * group_rows] = staged[k];
        }
    }

    // Columns first to first + count - 1, from place ``place`` of the tile on.
    void stage_columns(int64 first, int64 count, int64 place) {
        for (int64 j = 0; j < count; ++j) {
            const Reader read{variables, problem.strides, first + j};
            Formula::template column<REAL>(read, parameters, columns + (place + j) * Formula::column_dim);
        }
        if (run_count > 0 && !Reduction::reads_numbers)
            runs[0].stop = place + count;
        else
            runs[run_count++] = Run{place, place + count, first - place};
    }

    template <int width>
    SM_INLINE void absorb_columns(Tile& tile, const Vec* row, const REAL* column, int64 index) const {
        typename Reduction::template Output<width> output(tile);
        Formula::template pair<Pack<width>>(RowView<width>{row}, ColumnView<width, Formula::column_dim>{column},
                                            ParameterView<width>{parameters}, output);
        output.absorb(Integer(index));
    }

    // One group of rows against the staged columns: the inner loop. A function of its own, by whose name profilers and
    // cpu_machine_code.py know it.
    __attribute__((noinline)) void sweep(State& state, int64 group) const {
        Tile tile(state);
        const Vec* const row = reinterpret_cast<const Vec*>(rows) + group * Formula::row_dim;
        for (const Run* run = runs; run < runs + run_count; ++run) {
            int64 j = run->first;
            for (; j + C <= run->stop; j += C)
                absorb_columns<C>(tile, row, columns + j * Formula::column_dim, run->shift + j);
            for (; j < run->stop; ++j) absorb_columns<1>(tile, row, columns + j * Formula::column_dim, run->shift + j);
        }
        Reduction::close(state, tile);
    }

    bool is_cancelled() const { return __atomic_load_n(problem.next_task, __ATOMIC_RELAXED) >= cancelled; }

    // The staged columns against all the staged rows; false when the host gave up meanwhile.
    bool sweep_tile(int64 groups) {
        if (is_cancelled()) return false;
        for (int64 g = 0; g < groups; ++g) sweep(states[g], g);
        run_count = 0;
        return true;
    }

    // A block of rows against column intervals; false when the host gave up meanwhile.
    bool reduce_block(int64 first_row, int64 stop_row, const Interval* interval, const Interval* end) {
        const int64 groups = divide_up(stop_row - first_row, group_rows);
        for (int64 g = 0; g < groups; ++g) Reduction::identity(states[g]);
        stage_rows(first_row, stop_row, groups);
        int64 staged = run_count = 0;
        for (; interval < end; ++interval)
            for (int64 j = interval->start; j < interval->stop;) {
                const int64 count = least(tile_columns - staged, interval->stop - j);
                stage_columns(j, count, staged);
                j += count;
                staged += count;
                if (staged < tile_columns) continue;
                if (!sweep_tile(groups)) return false;
                staged = 0;
            }
        return staged == 0 || sweep_tile(groups);
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

    void finish_group(const State& state, int64 batch, int64 row, int64 stop_row) const {
        Reduction::finish(state, Writer{problem, batch * problem.rows + row, stop_row - row});
    }

    State* partial(int64 split, int64 batch, int64 group) const {
        return static_cast<State*>(problem.partial_states) + (split * problem.batches + batch) * problem.groups + group;
    }

    // The rows and the columns of a task: from the table, or a block of rows against a part of all the columns.
    Task describe(int64 split, int64 task, Interval& columns) const {
        if (problem.tasks) return problem.tasks[split * problem.task_count + task];
        const int64 first_row = task * problem.row_block;
        columns.start = problem.columns * split / problem.column_splits;
        columns.stop = problem.columns * (split + 1) / problem.column_splits;
        return Task{first_row, least(first_row + problem.row_block, problem.rows), 0, 1, first_row / group_rows};
    }

    bool run_task(int64 number) {
        const int64 split = number / problem.task_count % problem.column_splits;
        const int64 batch = number / problem.task_count / problem.column_splits;
        Interval columns;
        const Task task = describe(split, number % problem.task_count, columns);
        const Interval* const intervals = problem.tasks ? problem.intervals : &columns;
        enter_batch(batch);
        if (!reduce_block(task.first_row, task.stop_row, intervals + task.first_interval, intervals + task.stop_interval))
            return false;
        for (int64 row = task.first_row, g = 0; row < task.stop_row; row += group_rows, ++g)
            if (problem.column_splits > 1)
                *partial(split, batch, task.first_group + g) = states[g];
            else
                finish_group(states[g], batch, row, task.stop_row);
        return true;
    }

    void merge_task(int64 batch, int64 number) const {
        Interval columns;
        const Task task = describe(0, number, columns);
        for (int64 row = task.first_row, group = task.first_group; row < task.stop_row; row += group_rows, ++group) {
            State state = *partial(0, batch, group);
            for (int64 split = 1; split < problem.column_splits; ++split)
                Reduction::merge(state, *partial(split, batch, group));
            finish_group(state, batch, row, task.stop_row);
        }
    }

  public:
    static constexpr LoopShape loop_shape = {lanes, C * lanes, C, column_bytes};
    static constexpr Traits traits = {group_rows, sizeof(State), Formula::row_dim * sizeof(REAL), Reduction::out_dim};

    // Takes tasks until none is left.
    static int run(const Problem& problem) {
        Kernel kernel(problem);
        if (!kernel.workspace.allocated()) return out_of_memory;
        const int64 tasks = problem.task_count * problem.column_splits * problem.batches;
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
            for (int64 task = 0; task < problem.task_count; ++task) kernel.merge_task(batch, task);
        return finished;
    }
};

}  // namespace symbolic_matrices

#ifdef _WIN32
#define SM_EXPORT extern "C" __declspec(dllexport)
#else
#define SM_EXPORT extern "C" __attribute__((visibility("default")))
#endif

// A constant of this name beside the kernel, which tells of its inner loop in the assembly and changes no instruction.
#ifdef SM_LOOP_SHAPE
#define SM_DESCRIBE(kernel) SM_EXPORT const symbolic_matrices::LoopShape SM_LOOP_SHAPE = kernel::loop_shape;
#else
#define SM_DESCRIBE(kernel)
#endif

// Instantiates the loop nest for a formula and a reduction, under plain C names.
#define SM_KERNEL(name, formula, ...)                                                                             \
    typedef symbolic_matrices::Kernel<formula, __VA_ARGS__> name##_kernel;                                        \
    SM_EXPORT int name(const symbolic_matrices::Problem* problem) { return name##_kernel::run(*problem); }        \
    SM_EXPORT int name##_merge(const symbolic_matrices::Problem* problem) { return name##_kernel::merge(*problem); } \
    SM_EXPORT void name##_traits(symbolic_matrices::Traits* traits) { *traits = name##_kernel::traits; }          \
    SM_DESCRIBE(name##_kernel)

using namespace symbolic_matrices;
#endif
