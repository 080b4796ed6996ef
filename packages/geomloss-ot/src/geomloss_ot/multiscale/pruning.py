"""Owns which pairs of blocks a softmin may skip, with a proof; ignores how potentials are found. NumPy arrays.

A pair of blocks is skipped if the density exp((f_i + g_j - C_ij) / epsilon) of the plan is below exp(-truncation) for
all its pairs of points. All the skipped pairs of a row then hold less than exp(-truncation) times the mass of the
columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from symbolic_matrices import BlockRanges, LazyTensor

from ..costs import Cost
from .blocks import Blocks, Pairs

_TOGETHER = 1 << 14  # pairs of blocks that are tested together: what fits in a cache
_RIDGE = 1e-2  # of the slopes, relative to the spread of a block: they may be any, heights make up for them


@dataclass(frozen=True)
class Ceiling:
    """An upper bound of a potential on each block: v(x) <= height + slope . (x - centre) + curvature |x - centre|^2."""

    heights: np.ndarray  # (K,)
    slopes: np.ndarray | None  # (K, D); None: zero, and no curvature


# What bounds a potential on the blocks of one side, at any scale, given those of the other side and the pairs of
# larger blocks that are kept (None: all of them).
Bound = Callable[[Blocks, Blocks, "Pairs | None"], Ceiling]


def known_bound(blocks: Blocks, points: np.ndarray, values: np.ndarray, cost: Cost) -> Bound:
    """The best bounds of known values at the entries: exact maxima, around a fit of the slopes."""
    if not cost.bilinear:
        return lambda own, others, kept: Ceiling(np.maximum.reduceat(values, own.starts), None)
    # Where curvatures are known, v(x) - c |x - o|^2 is bounded by affine functions, for any o.
    origin = points.mean(axis=0, dtype=np.float64)
    u = points - origin
    flat = values - cost.coefficient * np.einsum("nd,nd->n", u, u)
    scale, moments = blocks, {blocks.depth: _moments(u, flat, blocks)}
    while scale.parents is not None:
        pooled = np.add.reduceat(moments[scale.depth], scale.first_child, axis=0)
        scale = scale.parents
        moments[scale.depth] = pooled

    def bound(own: Blocks, others: Blocks, kept: Pairs | None) -> Ceiling:
        centres = own.centres - origin
        slopes = _fit_slopes(moments[own.depth], -2 * cost.coefficient * centres)
        tilted = flat - np.einsum("nd,nd->n", np.repeat(slopes, own.sizes, axis=0), u)
        heights = np.maximum.reduceat(tilted, own.starts)
        heights += ((slopes + cost.coefficient * centres) * centres).sum(-1)
        slopes = slopes + 2 * cost.coefficient * centres
        return Ceiling(heights.astype(values.dtype), slopes.astype(values.dtype))

    return bound


def tangent_ceiling(blocks: Blocks, values: np.ndarray, gradients: np.ndarray | None, cost: Cost) -> Ceiling:
    """Bounds of a softmin everywhere in the blocks, from its values and gradients at their centres.

    For squared distances, a softmin is a concave function plus ``coefficient |x|^2``, below its tangents; for other
    costs, it is as Lipschitz as they are.
    """
    if cost.bilinear:
        return Ceiling(values, gradients)
    return Ceiling(values + cost.coefficient * _largest_change(blocks, cost), None)


def _largest_change(blocks: Blocks, cost: Cost) -> np.ndarray:
    """Of the formula of a cost, between the centre and any other point of a block: (K,)."""
    if cost.norm is not None:
        return cost.norm(blocks.halves)
    assert cost.lipschitz is not None
    found: np.ndarray = cost.lipschitz * np.sqrt((blocks.halves**2).sum(-1))
    return found


def ranges_of(sides: tuple[Blocks, Blocks], pairs: Pairs) -> BlockRanges:
    """Pairs of blocks, for reductions."""
    return BlockRanges.from_pairs(sides[0].ranges, sides[1].ranges, np.stack(pairs, 1))


def keep_pairs(sides: tuple[Blocks, Blocks], bounds: tuple[Bound, Bound], cost: Cost, floor: float) -> Pairs:
    """The pairs of blocks where f_i + g_j - C_ij may be above ``floor``.

    Scale by scale: the children of pairs that are skipped are not looked at.
    """
    rows, columns = sides
    above, kept, swapped = (rows.parents, columns.parents), None, None
    if above[0] is None or above[1] is None:
        count = len(rows.starts), len(columns.starts)
        i, j = np.repeat(np.arange(count[0]), count[1]), np.tile(np.arange(count[1]), count[0])
    else:
        kept = keep_pairs((above[0], above[1]), bounds, cost, floor)
        swapped = kept[1], kept[0]
        i, j = _children(rows, columns, kept)
    ceilings = bounds[0](rows, columns, kept), bounds[1](columns, rows, swapped)
    excess = _find_excess(cost)(sides, ceilings, cost)
    keep = np.empty(len(i), bool)
    for start in range(0, len(i), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        keep[some] = excess((i[some], j[some])) >= floor
    return i[keep], j[keep]


def _find_excess(cost: Cost) -> Callable[..., Callable[[Pairs], np.ndarray]]:
    if cost.bilinear:
        return _bilinear_excess
    return _lipschitz_excess if cost.norm is None else _norm_excess


def _children(rows: Blocks, columns: Blocks, kept: Pairs) -> Pairs:
    """All the pairs of a child of a row block and a child of a column block, for pairs of parents."""
    pair, i = _count_on(rows.first_child[kept[0]], rows.children[kept[0]])
    parent = kept[1][pair]
    row, j = _count_on(columns.first_child[parent], columns.children[parent])
    return i[row], j


def _count_on(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """starts[0], starts[0] + 1, ... (counts[0] numbers), starts[1], ... and which of the starts each comes from."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)


def _bilinear_excess(
    sides: tuple[Blocks, Blocks], ceilings: tuple[Ceiling, Ceiling], cost: Cost
) -> Callable[[Pairs], np.ndarray]:
    """The largest sum of the two ceilings minus the cost, over two boxes with centres d apart.

    The terms in |u|^2 and |v|^2 of the ceilings and of the cost c |d + u - v|^2 cancel out. What remains is bilinear
    along each axis, and largest at a corner.
    """
    twice = 2 * cost.coefficient
    first, second = (_table(side, ceiling, twice) for side, ceiling in zip(sides, ceilings, strict=True))

    def excess(pairs: Pairs) -> np.ndarray:
        height, tilt, x, h = _columns(first, pairs[0])
        other_height, other_tilt, y, k = _columns(second, pairs[1])
        along, against, corner = (tilt + twice * y) * h, (other_tilt + twice * x) * k, twice * h * k
        largest = np.maximum(abs(along + against) + corner, abs(along - against) - corner)
        largest -= cost.coefficient * (x - y) ** 2
        found: np.ndarray = height[0] + other_height[0] + largest.sum(0)
        return found

    return excess


def _table(blocks: Blocks, ceiling: Ceiling, twice: float) -> np.ndarray:
    """Heights, slopes minus ``twice`` the centres, centres and halves: one line per block, which is copied at once."""
    assert ceiling.slopes is not None
    tilts = ceiling.slopes - twice * blocks.centres
    return np.concatenate((ceiling.heights[:, None], tilts, blocks.centres, blocks.halves), 1)


def _columns(table: np.ndarray, numbers: np.ndarray) -> list[np.ndarray]:
    """The columns of a table for some blocks: (1, P), and three times (D, P)."""
    dim = (table.shape[1] - 1) // 3
    return np.split(np.ascontiguousarray(table.take(numbers, 0).T), [1, 1 + dim, 1 + 2 * dim])


def _norm_excess(
    sides: tuple[Blocks, Blocks], ceilings: tuple[Ceiling, Ceiling], cost: Cost
) -> Callable[[Pairs], np.ndarray]:
    """The sum of the heights, minus the distance between the boxes."""
    (rows, columns), (f, g), norm = sides, ceilings, cost.norm
    assert norm is not None

    def excess(pairs: Pairs) -> np.ndarray:
        i, j = pairs
        gaps = abs(rows.centres[i] - columns.centres[j]) - rows.halves[i] - columns.halves[j]
        found: np.ndarray = f.heights[i] + g.heights[j] - cost.coefficient * norm(np.maximum(gaps, 0.0))
        return found

    return excess


def _lipschitz_excess(
    sides: tuple[Blocks, Blocks], ceilings: tuple[Ceiling, Ceiling], cost: Cost
) -> Callable[[Pairs], np.ndarray]:
    """The sum of the heights, minus the cost between the centres, plus what it changes at most in both boxes."""
    rows, columns = sides
    first, second = (
        ceiling.heights + cost.coefficient * _largest_change(side, cost)
        for side, ceiling in zip(sides, ceilings, strict=True)
    )

    def excess(pairs: Pairs) -> np.ndarray:
        i, j = pairs
        x, y = (LazyTensor(centres[:, None]) for centres in (rows.centres[i], columns.centres[j]))
        costs = cost.formula(x, y).sum(axis=1)[:, 0]
        found: np.ndarray = first[i] + second[j] - cost.coefficient * costs
        return found

    return excess


def _moments(u: np.ndarray, values: np.ndarray, blocks: Blocks) -> np.ndarray:
    """Sums of 1, v, u, u v and u u^T over the entries of each block: (K, 2 + 2 D + D^2)."""
    columns = [np.ones_like(values), values, *u.T, *(u.T * values), *(p * q for p in u.T for q in u.T)]
    return np.stack([np.add.reduceat(column, blocks.starts) for column in columns], 1)


def _fit_slopes(moments: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Least squares in each block, from its moments, not far from a guess: (K, D)."""
    dim = guess.shape[1]
    mean = moments / moments[:, :1]
    value, u, products, squares = np.split(mean[:, 1:], np.cumsum([1, dim, dim]), axis=1)
    covariance = squares.reshape(-1, dim, dim) - u[:, :, None] * u[:, None, :]
    spread = np.einsum("kdd->k", covariance)
    ridge = _RIDGE * np.where(spread > 0, spread, 1.0)
    left = products - u * value - (covariance @ guess[:, :, None])[..., 0]
    return guess + np.linalg.solve(covariance + ridge[:, None, None] * np.eye(dim), left[..., None])[..., 0]
