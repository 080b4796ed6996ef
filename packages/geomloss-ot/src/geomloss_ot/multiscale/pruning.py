"""Owns which pairs of blocks a softmin may skip, with a proof; ignores how potentials are found. NumPy arrays.

A pair of blocks is skipped if the density exp((f_i + g_j - C_ij) / epsilon) of the plan is below exp(-truncation) for
all its pairs of points. All the skipped pairs of a row then hold less than exp(-truncation) times the mass of the
columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from symbolic_matrices import BlockRanges

from ..costs import Cost
from .hierarchy import Level

_BLOCK = 24  # entries per block, on average: smaller ones skip more pairs, and cost more tests
_TOGETHER = 1 << 18  # pairs of blocks that are tested together: what fits in a cache
_RIDGE = 1e-3  # of the slopes, relative to the spread of a block: they may be any, heights make up for them


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
    def children(self) -> np.ndarray:
        """How many blocks each parent has."""
        return np.diff(np.append(self.first_child, len(self.starts)))


@dataclass(frozen=True)
class Ceiling:
    """An upper bound of a potential on each block: v(x) <= height + slope . (x - centre) + curvature |x - centre|^2."""

    heights: np.ndarray  # (K,)
    slopes: np.ndarray | None  # (K, D); None: zero, and no curvature
    parents: Ceiling | None


def block_numbers(level: Level, depth: int) -> list[int]:
    """Scales whose cells are blocks of this level, the finest first, in steps of four scales."""
    number = level.number + 1
    while number < depth and len(level) < _BLOCK * len(level.starts_of(number)):
        number += 1
    return list(range(number, depth, 2)) or [depth]


def make_blocks(level: Level, numbers: list[int]) -> Blocks:
    """The blocks of a level at some scales, the finest first."""
    starts = level.starts_of(numbers[0])
    sizes = np.diff(np.append(starts, len(level)))
    low = np.minimum.reduceat(level.points, starts, axis=0)
    high = np.maximum.reduceat(level.points, starts, axis=0)
    parents, first_child = None, np.empty(0, np.int64)
    if len(numbers) > 1:
        parents = make_blocks(level, numbers[1:])
        first_child = np.searchsorted(starts, parents.starts)
    centre = low + (high - low) / 2
    halves = np.maximum(high - centre, centre - low)  # rounding included
    return Blocks(starts, sizes, centre, halves, parents, first_child)


def fitted_ceiling(blocks: Blocks, points: np.ndarray, values: np.ndarray, cost: Cost) -> Ceiling:
    """The best bounds of known values at the entries: exact maxima, around a fit of the slopes."""
    parents = None if blocks.parents is None else fitted_ceiling(blocks.parents, points, values, cost)
    if not cost.bilinear:
        return Ceiling(np.maximum.reduceat(values, blocks.starts), None, parents)
    numbers = np.repeat(np.arange(len(blocks.starts)), blocks.sizes)
    u = points - blocks.centres[numbers]
    flat = values - cost.coefficient * (u**2).sum(-1)
    slopes = _fit_slopes(blocks, u.astype(np.float64), flat.astype(np.float64)).astype(values.dtype)
    heights = np.maximum.reduceat(flat - (slopes[numbers] * u).sum(-1), blocks.starts)
    return Ceiling(heights, slopes, parents)


def tangent_ceiling(
    blocks: Blocks, tangents: Iterator[tuple[np.ndarray, np.ndarray | None]], cost: Cost
) -> Ceiling:
    """Bounds of a softmin everywhere in the blocks, from its values and gradients at their centres, scale by scale.

    For squared distances, a softmin is a concave function plus ``coefficient |x|^2``, below its tangents; for norms, it
    is Lipschitz.
    """
    values, gradients = next(tangents)
    parents = None if blocks.parents is None else tangent_ceiling(blocks.parents, tangents, cost)
    if cost.bilinear:
        return Ceiling(values, gradients, parents)
    assert cost.norm is not None
    return Ceiling(values + cost.coefficient * cost.norm(blocks.halves), None, parents)


def keep_blocks(
    sides: tuple[Blocks, Blocks], ceilings: tuple[Ceiling, Ceiling], cost: Cost, floor: float
) -> BlockRanges:
    """The pairs of blocks where f_i + g_j - C_ij may be above ``floor``."""
    pairs = _keep_pairs(sides, ceilings, cost, floor)
    return BlockRanges.from_pairs(sides[0].ranges, sides[1].ranges, np.stack(pairs, 1))


def _keep_pairs(
    sides: tuple[Blocks, Blocks], ceilings: tuple[Ceiling, Ceiling], cost: Cost, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scale by scale: the children of pairs that are skipped are not looked at."""
    rows, columns = sides
    above = rows.parents, columns.parents
    if above[0] is None or above[1] is None:
        count = len(rows.starts), len(columns.starts)
        i, j = np.repeat(np.arange(count[0]), count[1]), np.tile(np.arange(count[1]), count[0])
    else:
        ceilings_above = ceilings[0].parents, ceilings[1].parents
        assert ceilings_above[0] is not None
        assert ceilings_above[1] is not None
        kept = _keep_pairs((above[0], above[1]), (ceilings_above[0], ceilings_above[1]), cost, floor)
        i, j = _children(rows, columns, kept)
    bound = _bilinear_bound if cost.bilinear else _norm_bound
    keep = np.empty(len(i), bool)
    for start in range(0, len(i), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        keep[some] = bound(sides, ceilings, cost, (i[some], j[some])) >= floor
    return i[keep], j[keep]


def _children(
    rows: Blocks, columns: Blocks, kept: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """All the pairs of a child of a row block and a child of a column block, for pairs of parents."""
    n, m = rows.children[kept[0]], columns.children[kept[1]]
    count = n * m
    pair = np.repeat(np.arange(len(count)), count)
    inside = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
    i, j = np.divmod(inside, m[pair])
    return rows.first_child[kept[0]][pair] + i, columns.first_child[kept[1]][pair] + j


def _bilinear_bound(
    sides: tuple[Blocks, Blocks],
    ceilings: tuple[Ceiling, Ceiling],
    cost: Cost,
    pairs: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """The largest sum of the two ceilings minus the cost, over two boxes with centres d apart.

    The terms in |u|^2 and |v|^2 of the ceilings and of the cost c |d + u - v|^2 cancel out. What remains is bilinear
    along each axis, and largest at a corner.
    """
    (rows, columns), (f, g), (i, j) = sides, ceilings, pairs
    assert f.slopes is not None
    assert g.slopes is not None
    twice = 2 * cost.coefficient
    bound = f.heights[i] + g.heights[j]
    for axis in range(rows.centres.shape[1]):
        h, k = rows.halves[i, axis], columns.halves[j, axis]
        d = twice * (rows.centres[i, axis] - columns.centres[j, axis])
        along, against = (f.slopes[i, axis] - d) * h, (g.slopes[j, axis] + d) * k
        corner = twice * h * k
        bound += np.maximum(abs(along + against) + corner, abs(along - against) - corner)
        bound -= d * d / (2 * twice)
    return bound


def _norm_bound(
    sides: tuple[Blocks, Blocks],
    ceilings: tuple[Ceiling, Ceiling],
    cost: Cost,
    pairs: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """The sum of the heights, minus the distance between the boxes."""
    (rows, columns), (f, g), (i, j) = sides, ceilings, pairs
    assert cost.norm is not None
    gaps = abs(rows.centres[i] - columns.centres[j]) - rows.halves[i] - columns.halves[j]
    return f.heights[i] + g.heights[j] - cost.coefficient * cost.norm(np.maximum(gaps, 0.0))


def _fit_slopes(blocks: Blocks, u: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least squares in each block: (K, D)."""
    dim = u.shape[1]
    outer = np.add.reduceat((u[:, :, None] * u[:, None, :]).reshape(len(u), -1), blocks.starts, axis=0)
    mean, mean_value = (np.add.reduceat(w, blocks.starts, axis=0) for w in (u, values))
    sizes = blocks.sizes[:, None]
    mean, mean_value = mean / sizes, mean_value / blocks.sizes
    moments = np.add.reduceat(u * values[:, None], blocks.starts, axis=0) / sizes - mean * mean_value[:, None]
    covariance = outer.reshape(-1, dim, dim) / sizes[:, :, None] - mean[:, :, None] * mean[:, None, :]
    spread = np.einsum("kdd->k", covariance)
    ridge = _RIDGE * np.where(spread > 0, spread, 1.0)
    return np.linalg.solve(covariance + ridge[:, None, None] * np.eye(dim), moments[..., None])[..., 0]
