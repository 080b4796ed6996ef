"""Owns lists of intervals of rows and columns, as int64 arrays: their validation, transposition and covers.

Everything is computed on whole arrays, never interval by interval: 100,000 of them are usual.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .arrays import find_library
from .errors import ArrayTypeError, ShapeError

MOST_CUT_BLOCKS = 1 << 25  # of a transposed structure: beyond, it would fill the memory

# ---------------------------------------------------------------------- what users give


class HalfRanges(NamedTuple):
    """Row intervals, and the column intervals of each: ``columns[slices[k - 1]:slices[k]]``.

    Attributes
    ----------
    rows, slices, columns : int64 arrays of shapes (R, 2), (R,) and (C, 2).
    """

    rows: np.ndarray
    slices: np.ndarray
    columns: np.ndarray

    @property
    def row_of_block(self) -> np.ndarray:
        """The number of the row interval that each column interval belongs to."""
        return np.repeat(np.arange(len(self.slices)), np.diff(self.slices, prepend=0))

    @property
    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows and the columns of each block, both of shape (C, 2)."""
        return self.rows[self.row_of_block], self.columns

    @property
    def pairs(self) -> int:
        """How many pairs (i, j) the blocks hold."""
        rows, columns = self.blocks
        return int(((rows[:, 1] - rows[:, 0]) * (columns[:, 1] - columns[:, 0])).sum())


def to_numpy(value: Any, name: str) -> np.ndarray:
    """An array of any library, or a list; errors call it ``name``."""
    library = find_library(value)
    if library is not None:
        return library.to_numpy(value)
    if not isinstance(value, (list, tuple)):
        raise ArrayTypeError(f"{name} must be an array or a list but got {type(value).__qualname__}.")
    return np.asarray(value) if len(value) else np.zeros(0, "int64")


def integers(value: Any, name: str) -> np.ndarray:
    """A copy, as int64."""
    array = to_numpy(value, name)
    if array.dtype.kind not in "iu":
        raise ArrayTypeError(f"{name} must hold integers but has dtype {array.dtype}; convert it to int64.")
    return array.astype("int64")


def intervals(value: Any, name: str) -> np.ndarray:
    """Intervals [start, stop) as an array of shape (count, 2)."""
    array = integers(value, name)
    if array.size == 0:
        return array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ShapeError(
            f"{name} must have shape (count, 2), [start, stop) by line, but has shape {array.shape}."
        )
    wrong = np.flatnonzero((array[:, 0] < 0) | (array[:, 1] < array[:, 0]))
    if len(wrong):
        start, stop = array[wrong[0]]
        raise ShapeError(
            f"{name}[{wrong[0]}] = [{start}, {stop}) is no interval: it must satisfy 0 <= start <= stop."
        )
    return array


def half_ranges(arrays: tuple[Any, ...], names: tuple[str, ...]) -> HalfRanges:
    """Check the three arrays of a half, all but overlaps; errors call them by their ``names``."""
    rows, columns = intervals(arrays[0], names[0]), intervals(arrays[2], names[2])
    slices = integers(arrays[1], names[1])
    if slices.shape != (len(rows),):
        raise ShapeError(
            f"{names[1]} must have shape ({len(rows)},), one entry per interval of {names[0]}, but has shape "
            f"{slices.shape}."
        )
    falls = np.flatnonzero(np.diff(slices, prepend=0) < 0)
    if len(falls):
        raise ShapeError(f"{names[1]} must increase from 0 on but entry {falls[0]} is {slices[falls[0]]}.")
    last = int(slices[-1]) if len(slices) else 0
    if last != len(columns):
        raise ShapeError(
            f"{names[1]} must end at the number of intervals of {names[2]}, {len(columns)}, but ends at {last}."
        )
    return HalfRanges(rows, slices, columns)


def counting_numbers(value: Any, name: str) -> np.ndarray:
    """A vector of integers >= 0."""
    array = integers(value, name)
    if array.ndim != 1:
        raise ShapeError(f"{name} must have shape (count,) but has shape {array.shape}.")
    if array.min(initial=0) < 0:
        raise ShapeError(f"{name} must hold integers >= 0 but holds {array.min()}.")
    return array


def sorted_numbers(value: Any, name: str) -> np.ndarray:
    """A sorted vector of integers >= 0."""
    array = counting_numbers(value, name)
    falls = np.flatnonzero(np.diff(array) < 0)
    if len(falls):
        raise ShapeError(
            f"{name} must be sorted but {array[falls[0] + 1]} follows {array[falls[0]]} at entry {falls[0] + 1}; sort "
            "the points first, as in `order = batch.argsort(); x, batch = x[order], batch[order]`."
        )
    return array


def find_overlap(intervals: np.ndarray, groups: np.ndarray | None = None) -> tuple[int, int] | None:
    """The numbers of two intervals of the same group that overlap. Empty intervals overlap nothing."""
    groups = np.zeros(len(intervals), "int64") if groups is None else groups
    kept = np.flatnonzero(intervals[:, 0] < intervals[:, 1])
    order = kept[_order(groups[kept], intervals[kept, 0])]
    before, after = order[:-1], order[1:]
    overlaps = (groups[before] == groups[after]) & (intervals[after, 0] < intervals[before, 1])
    found = np.flatnonzero(overlaps)
    return (int(before[found[0]]), int(after[found[0]])) if len(found) else None


def check_disjoint(half: HalfRanges) -> None:
    """Raise a ShapeError if row intervals overlap, or the column intervals of one of them."""
    found = find_overlap(half.rows)
    if found is not None:
        raise ShapeError(
            f"The row intervals number {found[0]} and {found[1]} overlap: {_spell(half.rows, found)}. "
            "List each row once, with all its column intervals."
        )
    row_of_block = half.row_of_block
    found = find_overlap(half.columns, row_of_block)
    if found is not None:
        raise ShapeError(
            f"The row interval number {row_of_block[found[0]]} lists column intervals that overlap: "
            f"{_spell(half.columns, found)}. A pair counts once: merge them."
        )


def _spell(intervals: np.ndarray, numbers: tuple[int, int]) -> str:
    return " and ".join(f"[{intervals[n, 0]}, {intervals[n, 1]})" for n in numbers)


# ---------------------------------------------------------------------- computations on whole structures


def _order(major: np.ndarray, minor: np.ndarray) -> np.ndarray:
    """What sorts by ``major``, then by ``minor``, both >= 0."""
    keys = major * (1 + minor.max(initial=0)) + minor
    if (keys[1:] >= keys[:-1]).all():
        return np.arange(len(keys))
    # NumPy sorts numbers of 16 bits by counting: digit by digit, three times as fast as comparisons.
    order = np.argsort(keys.astype("uint16"), kind="stable")
    for shift in range(16, int(keys.max()).bit_length(), 16):
        digits = (keys[order] >> shift).astype("uint16")
        order = order[np.argsort(digits, kind="stable")]
    return order


def consecutive(lengths: np.ndarray) -> np.ndarray:
    """Intervals of the given lengths, one after the other."""
    stops = np.cumsum(lengths)
    return np.stack((stops - lengths, stops), 1)


def select(rows: np.ndarray, columns: np.ndarray, of_row: np.ndarray, of_column: np.ndarray) -> HalfRanges:
    """The blocks ``rows[of_row[b]] x columns[of_column[b]]``."""
    order = _order(of_row, of_column)
    return HalfRanges(rows, np.cumsum(np.bincount(of_row, minlength=len(rows))), columns[of_column[order]])


def fingerprint(rows: np.ndarray, columns: np.ndarray) -> int:
    """sum u_i v_j over the pairs of all the blocks, modulo 2^64, for random u and v.

    Structures that visit different pairs differ here, up to a chance of about 2^-62. The prefix sums of u and v are
    themselves random numbers, so that only those at the ends of intervals are needed.
    """
    u, v = _random_prefix_sum(rows, 1), _random_prefix_sum(columns, 2)
    return int(((u[:, 1] - u[:, 0]) * (v[:, 1] - v[:, 0])).sum(dtype="uint64"))


def _random_prefix_sum(positions: np.ndarray, seed: int) -> np.ndarray:
    """One random number per position and seed: the mixing function of SplitMix64 (Steele, Lea, Flood, 2014)."""
    z = (2 * positions.astype("uint64") + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def expand(starts: np.ndarray, counts: np.ndarray, steps: np.ndarray | int = 1) -> np.ndarray:
    """starts[0], starts[0] + steps[0], ... (counts[0] numbers), starts[1], ..."""
    owner = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
    return starts[owner] + rank * np.broadcast_to(steps, counts.shape)[owner]


def transpose(half: HalfRanges) -> HalfRanges:
    """The same pairs by column: column intervals are cut where others start or end, so that they no longer overlap."""
    rows, columns = half.blocks
    kept = (columns[:, 0] < columns[:, 1]) & (rows[:, 0] < rows[:, 1])
    rows, columns = rows[kept], columns[kept]
    cuts = np.unique(columns)
    first, last = np.searchsorted(cuts, columns).T
    counts = last - first
    if counts.sum() > MOST_CUT_BLOCKS:
        raise ShapeError(
            f"The transposed structure would need {counts.sum()} blocks, as column intervals of different rows overlap "
            "in many ways; let them start and end at fewer places, as intervals of clusters do."
        )
    piece, row = expand(first, counts), np.repeat(np.arange(len(rows)), counts)
    return select(np.stack((cuts[:-1], cuts[1:]), 1), rows, piece, row)


class Cover(NamedTuple):
    """All the rows of a matrix and what they are reduced over; easy to walk along.

    Attributes
    ----------
    rows : (R, 2), not empty, from row 0 to the last, one after the other.
    offsets : (R + 1,); ``columns[offsets[k]:offsets[k + 1]]`` are the column intervals of ``rows[k]``.
    columns : (C, 2), not empty; those of one row interval are in order and do not touch.
    """

    rows: np.ndarray
    offsets: np.ndarray
    columns: np.ndarray


def cover(half: HalfRanges, row_count: int) -> Cover:
    """All the rows from 0 to ``row_count``, in order, and the columns that they are reduced over."""
    order = np.argsort(half.rows[:, 0], kind="stable")
    order = order[half.rows[order, 0] < half.rows[order, 1]]
    rank = np.full(len(half.rows), -1)
    rank[order] = np.arange(len(order))
    owner, columns = _merge_touching(rank[half.row_of_block], half.columns)
    counts = np.bincount(owner, minlength=len(order))
    # each interval follows the gap before it, which has no column; most gaps are empty
    stops = np.append(0, half.rows[order, 1])
    starts = np.append(half.rows[order, 0], row_count)
    ends = np.stack((stops, starts), 1).reshape(-1)
    rows = np.stack((ends[:-1], ends[1:]), 1)
    interleaved = np.zeros(len(rows), "int64")
    interleaved[1::2] = counts
    kept = rows[:, 0] < rows[:, 1]
    return Cover(rows[kept], np.append(0, np.cumsum(interleaved[kept])), columns)


def _merge_touching(owner: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort the intervals of each owner, drop the empty ones and join those that touch; owner -1 has none."""
    kept = np.flatnonzero((owner >= 0) & (columns[:, 0] < columns[:, 1]))
    kept = kept[_order(owner[kept], columns[kept, 0])]
    owner, starts, stops = owner[kept], columns[kept, 0], columns[kept, 1]
    is_first = np.ones(len(kept), bool)
    is_first[1:] = (owner[1:] != owner[:-1]) | (starts[1:] != stops[:-1])
    is_last = np.append(is_first[1:], True)[: len(kept)]
    return owner[is_first], np.stack((starts[is_first], stops[is_last]), 1)
