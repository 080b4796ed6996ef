// Owns the search for the nearest columns through a tree of boxes, for formulas that grow with each |x_k - y_k|.
//
// Rows and columns are points of dimension D: what a formula keeps of them. Columns are arranged so that D-dimensional
// boxes around ``tile_columns`` successive ones are small (a k-d tree without pointers); `lanes` successive boxes make a
// box of the next level. Rows are arranged in the same way, a register at a time. Each register of rows descends from the
// root to the boxes that are near, and skips those where no pair can be selected.
//
// The bound of a box is the formula itself, at the points of the boxes of rows and columns that are closest to each other.
// Differences, products, sums and roots round monotonically, so that it would need no margin if compilers fused the same
// products and sums everywhere. As some do not, it gives way by what two ways to round D terms may differ by.
#ifndef SYMBOLIC_MATRICES_SEARCH_HPP
#define SYMBOLIC_MATRICES_SEARCH_HPP

#include "any_order.hpp"
#include "points.hpp"

namespace symbolic_matrices {

// What the host asks for; mirrored field by field by backends/search.py.
struct Search {
    int64 rows, columns, batches;
    const void* const* variables;  // [batch][variable]
    const int64* strides;          // [variable]: elements from one row or column to the next
    int64 variable_count;
    char* memory;                  // <name>_bytes of them
    REAL* values;                  // (batches, rows, out_dim), or null
    int64* indices;                // (batches, rows, out_dim), or null
    int64* next_task;              // shared by the threads; at least `cancelled` once the host gives up
};

template <class Formula, class Reduction>
class TreeSearch {  // of one problem of a batch
    typedef typename AnyOrder<Reduction>::type Selection;
    typedef typename Selection::State State;
    typedef typename Selection::Compare Compare;
    static constexpr int D = Formula::row_dim;
    static_assert(Formula::column_dim == D, "rows and columns must be points of one space");
    typedef symbolic_matrices::Point<D> Point;
    static_assert(sizeof(Point) == (D + 1) * sizeof(REAL), "columns are read as arrays of numbers");
    static constexpr int C = columns_at_once;
    static constexpr int tile_columns = 32;
    static constexpr int most_levels = 24;
    static constexpr int64 task_rows = 8 * lanes;

    // Of `lanes` nodes of a level.
    struct Boxes {
        Vec lowest[D], highest[D];
    };

    // Where things are in the host's memory, for one problem.
    struct Layout {
        int64 bytes = 0, rows, columns, levels = 0;
        int64 boxes[most_levels], nodes[most_levels];  // [level], from tiles to the root

        int64 take(int64 size) {
            const int64 start = bytes;
            bytes += Workspace::padded(size);
            return start;
        }
        explicit Layout(const Search& search) {
            columns = take(search.columns * sizeof(Point));
            rows = take(search.rows * sizeof(Point));
            int64 count = divide_up(search.columns, tile_columns);
            do {
                nodes[levels] = count;
                count = divide_up(count, lanes);
                boxes[levels++] = take(count * sizeof(Boxes));
            } while (count > 1);
        }
    };

    struct Columns {
        const Point* first;
        SM_INLINE Integer operator[](int c) const { return first[c].number; }
    };

    const Search& search;
    const int64 batch;
    const Layout layout;
    char* const memory;
    REAL parameters[Formula::parameter_dim > 0 ? Formula::parameter_dim : 1];
    bool is_monotone;

    // A register of rows on its way through the tree.
    struct Packet {
        Vec row[D], lowest[D], highest[D];  // the box of its rows, on all the lanes
        Integer number[lanes];
        Vec threshold;  // the weakest of its rows'
        State state;
    };

    TreeSearch(const Search& search, int64 batch)
        : search(search), batch(batch), layout(search),
          memory(search.memory + (64 - uint64(search.memory) % 64) % 64 + batch * layout.bytes) {
        Formula::template parameter<REAL>(read(0), parameters);
        is_monotone = Formula::is_monotone(parameters);
    }

    Reader read(int64 position) const {
        const void* const* const variables = search.variables + batch * search.variable_count;
        return Reader{reinterpret_cast<const REAL* const*>(variables), search.strides, position};
    }
    template <class T>
    T* at(int64 offset) const {
        return reinterpret_cast<T*>(memory + offset);
    }
    Point* columns() const { return at<Point>(layout.columns); }
    Point* rows() const { return at<Point>(layout.rows); }
    Boxes* boxes(int64 level) const { return at<Boxes>(layout.boxes[level]); }

    void arrange_rows() const {
        for (int64 i = 0; i < search.rows; ++i) {
            Formula::template row<REAL>(read(i), parameters, rows()[i].at);
            rows()[i].number = Integer(i);
        }
        Arrangement<D>::arrange(rows(), rows() + search.rows, lanes);
    }

    void arrange_columns() const {
        for (int64 j = 0; j < search.columns; ++j) {
            Formula::template column<REAL>(read(j), parameters, columns()[j].at);
            columns()[j].number = Integer(j);
        }
        Arrangement<D>::arrange(columns(), columns() + search.columns, tile_columns);
        for (int64 tile = 0; tile < layout.nodes[0]; ++tile) enclose_tile(tile);
        for (int64 level = 1; level < layout.levels; ++level)
            for (int64 node = 0; node < layout.nodes[level]; ++node) enclose_nodes(level, node);
    }

    void enclose_tile(int64 tile) const {
        Boxes& box = boxes(0)[tile / lanes];
        const int lane = tile % lanes;
        const int64 first = tile * tile_columns, stop = least(first + tile_columns, search.columns);
        // A NaN that wins must be met by all the rows, wherever they are.
        bool is_everywhere = false;
        for (int64 j = first; j < stop; ++j) is_everywhere |= Selection::is_won_by_nan && !columns()[j].is_number();
        for (int k = 0; k < D; ++k) {
            REAL lowest = infinity(), highest = -infinity();
            for (int64 j = first; j < stop; ++j) {
                const Point& point = columns()[j];
                if (!point.is_number()) continue;
                lowest = point.at[k] < lowest ? point.at[k] : lowest;
                highest = point.at[k] > highest ? point.at[k] : highest;
            }
            set_lane(box.lowest[k], lane, is_everywhere ? -infinity() : lowest);
            set_lane(box.highest[k], lane, is_everywhere ? infinity() : highest);
        }
    }

    void enclose_nodes(int64 level, int64 node) const {
        Boxes& box = boxes(level)[node / lanes];
        const Boxes& inner = boxes(level - 1)[node];
        const int64 count = least(lanes, layout.nodes[level - 1] - node * lanes);
        for (int k = 0; k < D; ++k) {
            REAL lowest = infinity(), highest = -infinity();
            for (int l = 0; l < count; ++l) {
                lowest = inner.lowest[k][l] < lowest ? inner.lowest[k][l] : lowest;
                highest = inner.highest[k][l] > highest ? inner.highest[k][l] : highest;
            }
            set_lane(box.lowest[k], node % lanes, lowest);
            set_lane(box.highest[k], node % lanes, highest);
        }
    }

    // The formula lane by lane.
    SM_INLINE Vec evaluate(const Vec* row, const Vec* column) const {
        Values<1, 1> output;
        Formula::template pair<Pack<1>>(RowView<1>{row}, RowView<1>{column}, ParameterView<1>{parameters}, output);
        return output.value[0].part[0];
    }

    // The best value that a pair may have, from that at the closest points: of the same sign, but nearer to 0. Each way to
    // round D differences, squares, their sum, its root and a few factors errs by (D + 8) / 2 times the precision at most.
    SM_INLINE Vec bound_at(const Vec* row, const Vec* column) const {
        constexpr REAL precision = REAL(1) / two_to_mantissa;
        const Vec value = evaluate(row, column);
        const Vec finite = Compare::smallest ? smaller(splat(largest_number), value) : larger(splat(-largest_number), value);
        return finite * (REAL(1) - (D + 8) * precision);
    }

    // The bounds of the pairs of a packet with each of `lanes` boxes.
    SM_INLINE Vec bounds(const Packet& packet, const Boxes& box) const {
        Vec row[D], column[D];
        for (int k = 0; k < D; ++k) {
            row[k] = smaller(packet.highest[k], larger(packet.lowest[k], box.lowest[k]));
            column[k] = smaller(box.highest[k], larger(packet.lowest[k], box.lowest[k]));
        }
        return bound_at(row, column);
    }

    // Whether some row of a packet may select a column in a box.
    SM_INLINE bool may_select(const Packet& packet, const Boxes& box, int lane) const {
        Vec column[D];
        for (int k = 0; k < D; ++k)
            column[k] = smaller(splat(box.highest[k][lane]), larger(splat(box.lowest[k][lane]), packet.row[k]));
        return any(Compare::may_beat(bound_at(packet.row, column), packet.state.threshold[0]));
    }

    template <int width>
    SM_INLINE void absorb_columns(Packet& packet, const Point* column) const {
        typename Selection::Tile tile(packet.state);
        typename Selection::template Output<width> output(tile);
        Formula::template pair<Pack<width>>(RowView<width>{packet.row}, ColumnView<width, D + 1>{column->at},
                                            ParameterView<width>{parameters}, output);
        output.take(Columns{column});
    }

    void sweep_tile(Packet& packet, int64 tile) const {
        int64 j = tile * tile_columns;
        const int64 stop = least(j + tile_columns, search.columns);
        for (; j + C <= stop; j += C) absorb_columns<C>(packet, columns() + j);
        for (; j < stop; ++j) absorb_columns<1>(packet, columns() + j);
        packet.threshold = weakest(packet.state.threshold[0]);
    }

    SM_INLINE static Vec weakest(Vec thresholds) {
        REAL result = thresholds[0];
        SM_UNROLL for (int l = 1; l < lanes; ++l) {
            const REAL other = thresholds[l];
            const bool is_weaker = Compare::smallest ? other > result : other < result;
            result = is_weaker || other != other ? other : result;
        }
        return splat(result);
    }

    SM_INLINE static int nearest_lane(Vec bound, unsigned open) {
        int nearest = __builtin_ctz(open);
        for (unsigned rest = open & (open - 1); rest; rest &= rest - 1) {
            const int l = __builtin_ctz(rest);
            nearest = Compare::smallest ? bound[l] < bound[nearest] ? l : nearest : bound[l] > bound[nearest] ? l : nearest;
        }
        return nearest;
    }

    // The nodes of a block of a level: the nearest one first, so that the others are refused soon.
    void descend(Packet& packet, int64 level, int64 block) const {
        const Boxes& box = boxes(level)[block];
        const Vec bound = bounds(packet, box);
        const int64 count = least(lanes, layout.nodes[level] - block * lanes);
        unsigned open = unsigned((uint64(1) << count) - 1);
        if (is_monotone) open &= lane_bits(Compare::may_beat(bound, packet.threshold));
        for (bool is_first = true; open; is_first = false) {
            const int lane = is_first ? nearest_lane(bound, open) : __builtin_ctz(open);
            open &= ~(1u << lane);
            if (level > 0)
                descend(packet, level - 1, block * lanes + lane);
            else if (!is_monotone || may_select(packet, box, lane))
                sweep_tile(packet, block * lanes + lane);
            else
                continue;
            if (is_monotone) open &= lane_bits(Compare::may_beat(bound, packet.threshold));
        }
    }

    // Stores the lanes of a finished packet where their rows were.
    struct Writer {
        const Search& search;
        const Integer* number;
        int64 first, valid;  // the first row of the problem, counted over the batch; rows of the packet
        void value(int k, Vec x) const {
            if (search.values) write(search.values, k, x);
        }
        void index(int k, Bits x) const {
            if (search.indices) write(search.indices, k, x);
        }
        template <class Number, class Register>
        SM_INLINE void write(Number* output, int k, Register x) const {
            for (int l = 0; l < lanes && l < valid; ++l) output[(first + number[l]) * Selection::out_dim + k] = x[l];
        }
    };

    void search_packet(int64 first) const {
        Packet packet;
        const int64 valid = least(lanes, search.rows - first);
        for (int k = 0; k < D; ++k) {
            REAL lowest = infinity(), highest = -infinity();
            for (int l = 0; l < lanes; ++l) {
                const Point& point = rows()[first + least(l, valid - 1)];
                set_lane(packet.row[k], l, point.at[k]);
                packet.number[l] = point.number;
                if (!point.is_number()) continue;
                lowest = point.at[k] < lowest ? point.at[k] : lowest;
                highest = point.at[k] > highest ? point.at[k] : highest;
            }
            packet.lowest[k] = splat(lowest);
            packet.highest[k] = splat(highest);
        }
        Selection::identity(packet.state);
        packet.threshold = weakest(packet.state.threshold[0]);
        descend(packet, layout.levels - 1, 0);
        Selection::finish(packet.state, Writer{search, packet.number, batch * search.rows, valid});
    }

    void search_rows(int64 first) const {
        const int64 stop = least(first + task_rows, search.rows);
        for (; first < stop; first += lanes) search_packet(first);
    }

  public:
    static int64 bytes(const Search& search) { return Layout(search).bytes * search.batches + 64; }

    // Two tasks per problem: the columns, with their tree, and the rows.
    static int arrange(const Search& search) {
        for (;;) {
            const int64 task = __atomic_fetch_add(search.next_task, 1, __ATOMIC_RELAXED);
            if (task >= cancelled) return interrupted;
            if (task >= 2 * search.batches) return finished;
            const TreeSearch tree(search, task / 2);
            task % 2 == 0 ? tree.arrange_columns() : tree.arrange_rows();
        }
    }

    static int run(const Search& search) {
        const int64 tasks = divide_up(search.rows, task_rows);
        for (;;) {
            const int64 task = __atomic_fetch_add(search.next_task, 1, __ATOMIC_RELAXED);
            if (task >= cancelled) return interrupted;
            if (task >= tasks * search.batches) return finished;
            TreeSearch(search, task / tasks).search_rows(task % tasks * task_rows);
        }
    }
};

}  // namespace symbolic_matrices

// Instantiates the search for a formula and a reduction, under plain C names.
#define SM_SEARCH(name, formula, ...)                                                                            \
    typedef symbolic_matrices::TreeSearch<formula, __VA_ARGS__> name##_search;                                   \
    SM_EXPORT symbolic_matrices::int64 name##_bytes(const symbolic_matrices::Search* search) {                   \
        return name##_search::bytes(*search);                                                                    \
    }                                                                                                            \
    SM_EXPORT int name##_arrange(const symbolic_matrices::Search* search) { return name##_search::arrange(*search); } \
    SM_EXPORT int name##_run(const symbolic_matrices::Search* search) { return name##_search::run(*search); }

#endif
