"""Owns the cells of a point cloud, at as many scales as it deserves; ignores transport. Works on NumPy arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

MAX_DIMENSION = 16  # beyond, cells hold one point each until they hold all of them
_MOST_BITS = 40  # per axis: float64 still tells such cells apart
_WORD = 62  # bits of an int64 that a code may use
_BYTE = 8  # bits of a coordinate that one table look-up spreads
_FEWER = 16  # times fewer cells than points: coarser cells are made of these cells
_APART = 1 << 20  # a scale above all others: points of different labels never share a cell


@dataclass(frozen=True)
class Level:
    """A cloud at one scale: weighted centroids of cubes of edge ``width``, neighbours side by side.

    The entries k and k + 1 fall into different cells of the scales below ``splits[k]``, and share those above.
    """

    number: int  # edges double from one number to the next; points themselves are number -1
    width: float
    points: np.ndarray  # (K, D)
    weights: np.ndarray  # (K,)
    splits: np.ndarray  # (K - 1,)
    starts: np.ndarray  # (K,): where the points of each cell start, in the order of the hierarchy

    def __len__(self) -> int:
        return len(self.points)

    @property
    def largest_split(self) -> int:
        """The number of the first scale at which all the points of a label share their cell."""
        return int(self.splits.max(initial=0, where=self.splits < _APART))

    def starts_of(self, number: int) -> np.ndarray:
        """Where the cells of a coarser scale start among the entries of this one."""
        return np.concatenate(([0], 1 + np.flatnonzero(self.splits > number)))


@dataclass(frozen=True)
class Hierarchy:
    """Points in an order that keeps the cells of all scales contiguous (Morton's), and these cells.

    The cubes of scale k have the edge ``width * 2**k``; the grid starts at the smallest coordinates of the cloud.
    """

    points: np.ndarray  # (N, D), sorted
    weights: np.ndarray  # (N,), sorted
    order: np.ndarray  # (N,): sorted = given[order]
    splits: np.ndarray  # (N - 1,), see Level
    width: float

    @cached_property
    def depth(self) -> int:
        """The number of the first scale at which all the points of a label share their cell."""
        return self.finest.largest_split

    @cached_property
    def most_cells(self) -> int:
        """How many cells the finest scale has."""
        return self.count(0)

    def count(self, number: int) -> int:
        """How many cells a scale has."""
        return 1 + int((self.splits > number).sum())

    @cached_property
    def finest(self) -> Level:
        """The points themselves."""
        numbers = np.arange(len(self.points))
        return Level(-1, 0.0, self.points, self.weights, self.splits, numbers)

    def level(self, number: int) -> Level:
        """The cells of one scale."""
        finer = self._small if number > self._small.number else self.finest
        return _pool(finer, number, self.width * 2.0**number)

    @cached_property
    def _small(self) -> Level:
        """A scale with far fewer cells than points, of which coarser ones are made; the points if there is none."""
        counts = (number for number in range(self.depth) if _FEWER * self.count(number) < len(self.points))
        number = next(counts, None)
        return self.finest if number is None else _pool(self.finest, number, self.width * 2.0**number)

    def number_of(self, edge: float) -> int:
        """The largest scale whose cells have edges of at most ``edge``, or the smallest one."""
        return max(0, math.floor(math.log2(edge / self.width)))

    def means(self, level: Level, values: np.ndarray) -> np.ndarray:
        """Means (K,) over cells of the values (N,) of the sorted points; plain ones, as cells may have no mass."""
        found: np.ndarray = np.add.reduceat(values, level.starts) / self._sizes(level)
        return found

    def spread(self, level: Level, power: int) -> float:
        """What it costs to bring all the mass to the centroids of cells: sum_i w_i |x_i - c|^p over the points."""
        offsets = self.points - np.repeat(level.points, self._sizes(level), axis=0)
        return float(self.weights @ (offsets**2).sum(-1) ** (power / 2))

    def _sizes(self, level: Level) -> np.ndarray:
        """How many points each cell has."""
        return np.diff(np.append(level.starts, len(self.points)))

    def sorted(self, values: np.ndarray) -> np.ndarray:
        """Values (N, ...) of the points as they were given, in the order of the hierarchy."""
        return values[self.order]

    def unsorted(self, values: np.ndarray) -> np.ndarray:
        """Values (N, ...) in the order in which the points were given."""
        found = np.empty_like(values)
        found[self.order] = values
        return found


def build_hierarchy(
    points: np.ndarray, weights: np.ndarray, width: float, labels: np.ndarray | None = None
) -> Hierarchy:
    """Sort a cloud by cells.

    Parameters
    ----------
    points
        (N, D), D at most 16, finite.
    weights
        (N,), non-negative.
    width
        Edge of the smallest cells.
    labels
        (N,), whole numbers: points of different labels never share a cell, at any scale.
    """
    number, cells = _coordinates(points, width)
    words = _morton_words(cells)
    keys = words if labels is None else [*words, labels]
    order = np.argsort(keys[0]) if len(keys) == 1 else np.lexsort(keys)
    cells = cells[order]
    # The highest bit that differs along some axis tells the scale.
    highest = (cells[1:] ^ cells[:-1]).max(axis=1, initial=0)
    bits = np.frexp(highest.astype(np.float64))[1]
    splits = np.where(highest > 0, bits + number, 0)
    if labels is not None:
        splits[labels[order][1:] != labels[order][:-1]] = _APART
    return Hierarchy(points[order], weights[order], order, splits, width)


def _coordinates(points: np.ndarray, width: float) -> tuple[int, np.ndarray]:
    """Whole coordinates of cells of edge ``width * 2**number``, with the smallest ``number`` that can be counted."""
    low = points.min(axis=0).astype(np.float64)
    span = float((points.max(axis=0) - low).max())
    number = max(0, int(np.ceil(np.log2(max(span / width, 1.0)))) - _MOST_BITS)
    return number, ((points - low) / (width * 2.0**number)).astype(np.int64)


def _morton_words(cells: np.ndarray) -> list[np.ndarray]:
    """Numbers whose lexicographic order (the last one first) interleaves the bits of the coordinates."""
    dim = cells.shape[1]
    bits = max(1, int(cells.max()).bit_length())
    per_word = _WORD // dim
    words = []
    for start in range(0, bits, per_word):
        word = np.zeros(len(cells), np.int64)
        for low in range(start, min(start + per_word, bits), _BYTE):
            count = min(_BYTE, start + per_word - low)
            table = _spread(count, dim)
            for axis in range(dim):
                piece = (cells[:, axis] >> low) & ((1 << count) - 1)
                word |= table[piece] << ((low - start) * dim + axis)
        words.append(word)
    return words


def _spread(count: int, dim: int) -> np.ndarray:
    """For each number of ``count`` bits, the same bits at distance ``dim`` from each other."""
    numbers = np.arange(1 << count, dtype=np.int64)
    return sum((((numbers >> bit) & 1) << (bit * dim) for bit in range(count)), np.zeros_like(numbers))


def _pool(level: Level, number: int, width: float) -> Level:
    """The weighted centroids of coarser cells; cells without mass keep the mean of their points."""
    starts = level.starts_of(number)
    if len(starts) == len(level):
        return replace(level, number=number, width=width)
    weights = level.weights.astype(np.float64)
    points = level.points.astype(np.float64)
    masses = np.add.reduceat(weights, starts)
    moments = np.add.reduceat(weights[:, None] * points, starts, axis=0)
    centroids = moments / np.where(masses > 0, masses, 1.0)[:, None]
    if not masses.all():
        counts = np.diff(np.append(starts, len(level)))
        means = np.add.reduceat(points, starts, axis=0) / counts[:, None]
        centroids = np.where(masses[:, None] > 0, centroids, means)
    # Not even rounding may move a point that is alone: distances have a kink there.
    low, high = (extremum.reduceat(points, starts, axis=0) for extremum in (np.minimum, np.maximum))
    centroids = np.clip(centroids, low, high)
    dtype = level.points.dtype
    splits = level.splits[starts[1:] - 1]
    return Level(number, width, centroids.astype(dtype), masses.astype(dtype), splits, level.starts[starts])
