"""Owns boxes around intervals of the entries of a level, from large to small; ignores what is bounded on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .hierarchy import Level

Pairs = tuple[np.ndarray, np.ndarray]  # numbers of row blocks and of column blocks

MOST = 64  # entries per block: smaller ones skip more pairs, and cost more tests
_GROWTH = 8  # times more entries from one scale of blocks to the next
_FEW = 32  # blocks that need no larger ones above them


@dataclass(frozen=True)
class Blocks:
    """Boxes around intervals of the entries of a level, at one scale, and the scale above: the coarsest is None."""

    starts: np.ndarray  # (K,)
    sizes: np.ndarray  # (K,)
    centres: np.ndarray  # (K, D)
    halves: np.ndarray  # (K, D): half the sides
    parents: Blocks | None
    first_child: np.ndarray  # (number of parents,): the first block of each parent, empty without parents

    @property
    def ranges(self) -> np.ndarray:
        return np.stack([self.starts, self.starts + self.sizes], 1)

    @property
    def depth(self) -> int:
        """How many scales there are above."""
        return 0 if self.parents is None else 1 + self.parents.depth

    @property
    def families(self) -> np.ndarray:
        """The interval of the blocks of each parent."""
        return np.stack([self.first_child, self.first_child + self.children], 1)

    @property
    def children(self) -> np.ndarray:
        """How many blocks each parent has."""
        return np.diff(np.append(self.first_child, len(self.starts)))


def make_blocks(level: Level, most: int) -> Blocks:
    """Blocks of at most about ``most`` entries, and larger ones around them."""
    partitions = []
    starts = level.starts_of(level.largest_split)
    size = most
    while len(level) > _FEW * size:
        size *= _GROWTH
    while size >= most:
        starts = _split(level, starts, size)
        partitions.append(starts)
        size //= _GROWTH
    return _nest(level.points, partitions)


def _split(level: Level, starts: np.ndarray, most: int) -> np.ndarray:
    """Cut intervals of more than ``most`` entries where the cells of finer and finer scales start.

    Cells that are neighbours along the curve stay together up to half of ``most``.
    """
    number = level.largest_split
    sizes = _sizes(starts, len(level))
    while number > level.number and sizes.max() > most:
        number -= 1
        is_start = level.splits > number
        is_start[starts[1:] - 1] = True
        cells = np.concatenate(([0], 1 + np.flatnonzero(is_start)))
        owner = np.searchsorted(starts, cells, side="right") - 1
        chunk = np.where(sizes[owner] > most, (cells - starts[owner]) // max(1, most // 2), 0)
        is_first = (np.diff(owner, prepend=-1) > 0) | (np.diff(chunk, prepend=0) != 0)
        starts = cells[is_first]
        sizes = _sizes(starts, len(level))
    return starts


def _nest(points: np.ndarray, partitions: list[np.ndarray]) -> Blocks:
    """The boxes of partitions, the coarsest first, each of which refines the one before."""
    *coarser, starts = partitions
    low = np.minimum.reduceat(points, starts, axis=0)
    high = np.maximum.reduceat(points, starts, axis=0)
    parents, first_child = None, np.empty(0, np.int64)
    if coarser:
        parents = _nest(points, coarser)
        first_child = np.searchsorted(starts, parents.starts)
    centre = low + (high - low) / 2
    halves = np.maximum(high - centre, centre - low)  # rounding included
    return Blocks(starts, _sizes(starts, len(points)), centre, halves, parents, first_child)


def _sizes(starts: np.ndarray, count: int) -> np.ndarray:
    return np.diff(np.append(starts, count))
