"""Owns block sparsity: the pairs (i, j) that a reduction visits, as intervals of rows and columns.

Knows arrays, neither formulas nor backends. Works on whole arrays, never block by block: 100,000 blocks are usual.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from . import intervals as v
from .arrays import Array, find_library
from .errors import ArrayTypeError, ShapeError

Derived = TypeVar("Derived")
NAMES = ("row_ranges", "slices", "column_ranges")
KEOPS_NAMES = ("ranges_i", "slices_i", "redranges_j", "ranges_j", "slices_j", "redranges_i")


@dataclass(frozen=True, eq=False, repr=False)
class BlockRanges:
    r"""The pairs that a block-sparse reduction visits: row intervals, each with its own column intervals.

    Rows :math:`i \in [a_k, b_k)` are reduced over the columns of the intervals number ``slices[k - 1]`` to
    ``slices[k] - 1`` of ``column_ranges``; with ``slices[-1]`` read as 0. Each pair (i, j) is visited once at most.
    A row that no interval covers gets the reduction of nothing: 0 for a sum, -inf for log-sum-exp, +inf for a minimum,
    and the index -1.

    Parameters
    ----------
    row_ranges : integer array of shape (R, 2)
        Intervals [start, stop) of rows, in any order, which do not overlap.
    slices : integer array of shape (R,)
        Where the column intervals of each row interval end in ``column_ranges``: increasing, up to C.
    column_ranges : integer array of shape (C, 2)
        Intervals [start, stop) of columns, in any order; those of one row interval do not overlap.

    Raises
    ------
    ArrayTypeError
        If something is no array of integers.
    ShapeError
        If intervals overlap, stop before they start, are negative, or if shapes or slices do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices import BlockRanges, Vi, Vj
    >>> ranges = BlockRanges([[0, 2], [2, 5]], [1, 3], [[0, 3], [1, 2], [4, 6]])
    >>> ranges
    BlockRanges: 2 row intervals, 3 blocks, 15 pairs, 50% of the 5 x 6 matrix that they span
    >>> x, y = np.zeros((5, 1)), np.ones((6, 1))
    >>> (Vi(x) + Vj(y)).sum(axis=1, ranges=ranges)[:, 0]
    array([3., 3., 3., 3., 3.])
    """

    row_ranges: np.ndarray
    slices: np.ndarray
    column_ranges: np.ndarray
    _remembered: dict[Hashable, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        half = v.half_ranges((self.row_ranges, self.slices, self.column_ranges), NAMES)
        for name, array in zip(NAMES, half, strict=True):
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        v.check_disjoint(half)

    # ------------------------------------------------------------------ other ways to make one

    @classmethod
    def from_keops(cls, ranges: tuple[Array, ...]) -> BlockRanges:
        """KeOps' 6-tuple ``(ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i)``.

        The first three arrays serve reductions over j, the others reductions over i: both must describe the same pairs.

        Parameters
        ----------
        ranges : integer arrays (NumPy, PyTorch or CuPy) of shapes (R, 2), (R,), (C, 2), (S, 2), (S,), (B, 2).

        Raises
        ------
        ArrayTypeError, ShapeError
            As for the constructor; and if the two halves describe different pairs.
        """
        if len(ranges) != 6:
            raise ShapeError(
                f"KeOps' ranges are six arrays ({', '.join(KEOPS_NAMES)}) but got {len(ranges)}; for three of them, "
                "use BlockRanges(ranges_i, slices_i, redranges_j)."
            )
        forward = cls(*v.half_ranges(ranges[:3], KEOPS_NAMES[:3]))
        backward = v.half_ranges(ranges[3:], KEOPS_NAMES[3:])
        if v.fingerprint(*forward._half.blocks) != v.fingerprint(*backward.blocks[::-1]):
            raise ShapeError(
                f"The two halves of the ranges describe different pairs: {forward.pairs} for reductions over j, "
                f"{backward.pairs} for reductions over i. To let the second half be computed, use "
                "BlockRanges(ranges_i, slices_i, redranges_j)."
            )
        if v.find_overlap(backward.rows) is None:
            _link(forward, cls(*backward))
        return forward

    @classmethod
    def from_pairs(cls, row_ranges: Array, column_ranges: Array, pairs: Array) -> BlockRanges:
        """Some blocks ``row_ranges[k] x column_ranges[l]``, by the list of their (k, l).

        Parameters
        ----------
        row_ranges, column_ranges : integer arrays of shapes (R, 2) and (S, 2).
        pairs : integer array of shape (B, 2), in any order, without repetition.

        Examples
        --------
        >>> from symbolic_matrices import BlockRanges
        >>> BlockRanges.from_pairs([[0, 2], [2, 4]], [[0, 3], [3, 9]], [[0, 1], [1, 0]])
        BlockRanges: 2 row intervals, 2 blocks, 18 pairs, 50% of the 4 x 9 matrix that they span
        """
        rows, columns = v.intervals(row_ranges, "row_ranges"), v.intervals(column_ranges, "column_ranges")
        chosen = v.integers(pairs, "pairs")
        chosen = chosen if chosen.size else chosen.reshape(0, 2)
        if chosen.ndim != 2 or chosen.shape[1] != 2:
            raise ShapeError(f"pairs must have shape (B, 2) but has shape {chosen.shape}.")
        for name, numbers, count in (
            ("row", chosen[:, 0], len(rows)),
            ("column", chosen[:, 1], len(columns)),
        ):
            if len(numbers) and not 0 <= numbers.min() <= numbers.max() < count:
                raise ShapeError(
                    f"pairs names the {name} intervals number {numbers.min()} to {numbers.max()} but there are {count}."
                )
        forward = cls(*v.select(rows, columns, chosen[:, 0], chosen[:, 1]))
        if v.find_overlap(columns) is None:
            _link(forward, cls(*v.select(columns, rows, chosen[:, 1], chosen[:, 0])))
        return forward

    @classmethod
    def from_mask(cls, mask: Array, row_ranges: Array, column_ranges: Array) -> BlockRanges:
        """The blocks ``row_ranges[k] x column_ranges[l]`` where ``mask[k, l]``.

        Parameters
        ----------
        mask : boolean array of shape (R, S).
        row_ranges, column_ranges : integer arrays of shapes (R, 2) and (S, 2).

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import BlockRanges
        >>> BlockRanges.from_mask(np.eye(2) == 1, [[0, 2], [2, 4]], [[0, 3], [3, 9]])
        BlockRanges: 2 row intervals, 2 blocks, 18 pairs, 50% of the 4 x 9 matrix that they span
        """
        kept = v.to_numpy(mask, "mask")
        expected = (len(row_ranges), len(column_ranges))
        if kept.dtype != np.bool_:
            raise ArrayTypeError(
                f"mask must be boolean, as in distances < threshold, but has dtype {kept.dtype}."
            )
        if kept.shape != expected:
            raise ShapeError(
                f"mask must have shape {expected}, one entry per block, but has shape {kept.shape}."
            )
        return cls.from_pairs(row_ranges, column_ranges, np.argwhere(kept))

    # ------------------------------------------------------------------ what it is

    @property
    def _half(self) -> v.HalfRanges:
        return v.HalfRanges(self.row_ranges, self.slices, self.column_ranges)

    @functools.cached_property
    def pairs(self) -> int:
        """How many pairs (i, j) are visited."""
        return self._half.pairs

    @functools.cached_property
    def covered_rows(self) -> int:
        """How many rows are reduced over some columns."""
        half = self._half
        columns = np.bincount(
            half.row_of_block, weights=half.columns[:, 1] > half.columns[:, 0], minlength=len(half.rows)
        )
        return int((half.rows[:, 1] - half.rows[:, 0])[columns > 0].sum())

    @functools.cached_property
    def extent(self) -> tuple[int, int]:
        """The shape of the smallest matrix that holds all the intervals."""
        stops = (ranges[:, 1] for ranges in (self.row_ranges, self.column_ranges))
        rows, columns = (int(stop.max(initial=0)) for stop in stops)
        return rows, columns

    def __repr__(self) -> str:
        rows, columns = self.extent
        share = 100 * self.pairs / max(1, rows * columns)
        return (
            f"BlockRanges: {len(self.row_ranges)} row intervals, {len(self.column_ranges)} blocks, {self.pairs} pairs, "
            f"{share:.3g}% of the {rows} x {columns} matrix that they span"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockRanges, (self.row_ranges, self.slices, self.column_ranges)

    def is_same_as(self, other: BlockRanges) -> bool:
        """Whether both list the same intervals in the same order."""
        return self is other or all(map(np.array_equal, self._half, other._half))

    def check_fits(self, rows: int, columns: int) -> None:
        """Raise a ShapeError if an interval ends beyond a matrix of ``rows`` x ``columns``."""
        if self.extent[0] > rows or self.extent[1] > columns:
            raise ShapeError(
                f"The block ranges reach row {self.extent[0]} and column {self.extent[1]} but the matrix has shape "
                f"({rows}, {columns})."
            )

    # ------------------------------------------------------------------ what it becomes

    @functools.cached_property
    def T(self) -> BlockRanges:
        """The same pairs with rows and columns exchanged; computed once, unless it was given.

        Column intervals are cut where others start or end, so that they no longer overlap.
        """
        transposed = BlockRanges(*v.transpose(self._half))
        transposed.__dict__["T"] = self
        return transposed

    def to_keops(self, like: Array | None = None) -> tuple[Array, ...]:
        """KeOps' 6-tuple of int64 arrays: NumPy's, or of the library and on the device of the array ``like``.

        Examples
        --------
        >>> from symbolic_matrices import ragged
        >>> [array.tolist() for array in ragged([2, 1]).to_keops()[:3]]
        [[[0, 2], [2, 3]], [1, 2], [[0, 2], [2, 3]]]
        """
        arrays = (*self._half, *self.T._half)
        library = find_library(like)
        if library is None:
            return tuple(array.copy() for array in arrays)
        return tuple(library.convert(array.copy(), "int64", library.device(like)) for array in arrays)

    def remember(self, key: Hashable, build: Callable[[], Derived]) -> Derived:
        """What ``build`` returns, computed once for each key and kept as long as the structure."""
        if key not in self._remembered:
            self._remembered[key] = build()
        return self._remembered[key]

    def cover(self, rows: int) -> v.Cover:
        """All the rows from 0 to ``rows``, in order, and the columns that they are reduced over."""
        return self.remember(("cover", rows), lambda: v.cover(self._half, rows))


def ragged(lengths_i: Any, lengths_j: Any = None) -> BlockRanges:
    """Independent problems of unequal sizes, concatenated: a block-diagonal structure.

    Parameters
    ----------
    lengths_i : integers of shape (B,)
        How many rows each problem has.
    lengths_j : integers of shape (B,)
        How many columns; by default, as many as rows.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices import Vi, Vj, ragged
    >>> x = np.arange(5.0)[:, None]  # clouds of 2 and 3 points
    >>> (Vi(x) - Vj(x)).max(axis=1, ranges=ragged([2, 3]))[:, 0]
    array([0., 1., 0., 1., 2.])
    """
    rows = v.counting_numbers(lengths_i, "lengths_i")
    columns = rows if lengths_j is None else v.counting_numbers(lengths_j, "lengths_j")
    if len(rows) != len(columns):
        raise ShapeError(
            f"lengths_i and lengths_j must list the same problems but have {len(rows)} and {len(columns)} entries."
        )
    numbers = np.arange(len(rows))
    return BlockRanges.from_pairs(
        v.consecutive(rows), v.consecutive(columns), np.stack((numbers, numbers), 1)
    )


def ragged_from_batch(batch_i: Array, batch_j: Array | None = None) -> BlockRanges:
    """The structure of :func:`ragged`, from vectors that tell the problem of each point, as in PyTorch Geometric.

    Parameters
    ----------
    batch_i : sorted integers of shape (M,)
        The number of the problem that each row belongs to.
    batch_j : sorted integers of shape (N,)
        The same for columns; by default, as for rows.

    Raises
    ------
    ShapeError
        If a vector is not sorted or holds negative numbers.

    Examples
    --------
    >>> from symbolic_matrices import ragged_from_batch
    >>> ragged_from_batch([0, 0, 1, 1, 1], [0, 1, 1, 3])
    BlockRanges: 4 row intervals, 4 blocks, 8 pairs, 40% of the 5 x 4 matrix that they span
    """
    rows = v.sorted_numbers(batch_i, "batch_i")
    columns = rows if batch_j is None else v.sorted_numbers(batch_j, "batch_j")
    count = 1 + max(int(rows.max(initial=-1)), int(columns.max(initial=-1)))
    return ragged(np.bincount(rows, minlength=count), np.bincount(columns, minlength=count))


def as_block_ranges(value: Any) -> BlockRanges:
    """A structure as users give it: a BlockRanges, or KeOps' 6-tuple."""
    if isinstance(value, BlockRanges):
        return value
    if isinstance(value, (tuple, list)):
        return BlockRanges.from_keops(tuple(value))
    raise ArrayTypeError(
        f"ranges must be a BlockRanges or KeOps' 6-tuple of arrays but got {type(value).__qualname__}."
    )


def _link(forward: BlockRanges, backward: BlockRanges) -> None:
    """Tell two structures that they are the transposed of each other: they then reach equally far."""
    (rows, columns), (other_columns, other_rows) = forward.extent, backward.extent
    extent = max(rows, other_rows), max(columns, other_columns)
    forward.__dict__.update(T=backward, extent=extent)
    backward.__dict__.update(T=forward, extent=extent[::-1])
