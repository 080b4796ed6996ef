// Owns points, and the order in which successive ones are near each other: a k-d tree without pointers.
#ifndef SYMBOLIC_MATRICES_POINTS_HPP
#define SYMBOLIC_MATRICES_POINTS_HPP

#include "reduce.hpp"

namespace symbolic_matrices {

template <int D>
struct Point {
    REAL at[D];
    Integer number;  // of the row or column

    SM_INLINE bool is_number() const {
        bool result = true;
        for (int k = 0; k < D; ++k) result &= at[k] == at[k];
        return result;
    }
};

template <int D>
class Arrangement {
    typedef Point<D> P;
    static constexpr int64 most_samples = 32;

    // Those for which a condition holds come first. Without branches: their outcome would be a coin toss.
    template <class Condition>
    SM_INLINE static P* partition(P* first, P* const stop, const Condition& holds) {
        P* end = first;
        for (; first < stop; ++first) {
            const P point = *first;
            *first = *end;
            *end = point;
            end += holds(point);
        }
        return end;
    }

    static int widest_axis(const P* first, int64 count) {
        const int64 step = divide_up(count, most_samples);
        int widest = 0;
        REAL largest = -1;
        for (int k = 0; k < D; ++k) {
            REAL lowest = first[0].at[k], highest = lowest;
            for (int64 i = step; i < count; i += step) {
                lowest = first[i].at[k] < lowest ? first[i].at[k] : lowest;
                highest = first[i].at[k] > highest ? first[i].at[k] : highest;
            }
            if (highest - lowest > largest) {
                largest = highest - lowest;
                widest = k;
            }
        }
        return widest;
    }

    static REAL median(REAL a, REAL b, REAL c) {
        const REAL low = a < b ? a : b, high = a < b ? b : a;
        return c < low ? low : c > high ? high : c;
    }

    // Points before ``middle`` come to be no further along the axis than those behind it.
    static void select(P* first, P* stop, P* const middle, int axis) {
        while (stop - first > 1) {
            const REAL pivot = median(first->at[axis], first[(stop - first) / 2].at[axis], stop[-1].at[axis]);
            P* const lower = partition(first, stop, [=](const P& point) { return point.at[axis] < pivot; });
            if (middle < lower) {
                stop = lower;
            } else if (lower > first) {
                first = lower;
            } else {  // the pivot is the least
                first = partition(first, stop, [=](const P& point) { return point.at[axis] <= pivot; });
                if (middle < first) return;
            }
        }
    }

    static void arrange_numbers(P* first, P* stop, int64 size) {
        while (stop - first > size) {
            int64 left = size;
            while (2 * left < stop - first) left *= 2;
            P* const middle = first + left;
            select(first, stop, middle, widest_axis(first, stop - first));
            arrange_numbers(middle, stop, size);
            stop = middle;
        }
    }

  public:
    // Sorts points so that ``size`` successive ones are near each other; those with a NaN come last.
    static void arrange(P* first, P* stop, int64 size) {
        P* const numbers = partition(first, stop, [](const P& point) { return point.is_number(); });
        arrange_numbers(first, numbers, size);
    }
};

}  // namespace symbolic_matrices
#endif
