"""Owns which pairs of blocks a softmin may skip, with a proof; ignores how potentials are found. NumPy arrays.

A pair of blocks is skipped if the density exp((f_i + g_j - C_ij) / epsilon) of the plan is below exp(-truncation) for
all its pairs of points. All the skipped pairs of a row then hold less than exp(-truncation) times the mass of the
columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from symbolic_matrices import BlockRanges

from ..costs import Cost
from .blocks import Blocks, Pairs

_TOGETHER = 1 << 18  # pairs of blocks that are tested together: what fits in a cache
_RIDGE = 1e-2  # of the slopes, relative to the spread of a block: they may be any, heights make up for them


@dataclass(frozen=True)
class Ceiling:
    """An upper bound of a potential on each block: v(x) <= height + slope . (x - centre) + curvature |x - centre|^2."""

    heights: np.ndarray  # (K,)
    slopes: np.ndarray | None  # (K, D); None: zero, and no curvature
    parents: Ceiling | None


def fitted_ceiling(blocks: Blocks, points: np.ndarray, values: np.ndarray, cost: Cost) -> Ceiling:
    """The best bounds of known values at the entries: exact maxima, around a fit of the slopes."""
    if not cost.bilinear:
        parents = None if blocks.parents is None else fitted_ceiling(blocks.parents, points, values, cost)
        return Ceiling(np.maximum.reduceat(values, blocks.starts), None, parents)
    # Where curvatures are known, v(x) - c |x - o|^2 is bounded by affine functions, for any o.
    origin = points.mean(axis=0, dtype=np.float64)
    u = points - origin
    flat = values - cost.coefficient * np.einsum("nd,nd->n", u, u)
    return _affine_ceiling(
        blocks, (u, flat), _moments(u, flat, blocks), (origin, cost.coefficient), values.dtype
    )


def _affine_ceiling(
    blocks: Blocks,
    entries: tuple[np.ndarray, np.ndarray],
    moments: np.ndarray,
    frame: tuple[np.ndarray, float],
    dtype: np.dtype[Any],
) -> Ceiling:
    (u, flat), (origin, coefficient) = entries, frame
    parents = None
    if blocks.parents is not None:
        pooled = np.add.reduceat(moments, blocks.first_child, axis=0)
        parents = _affine_ceiling(blocks.parents, entries, pooled, frame, dtype)
    centres = blocks.centres - origin
    slopes = _fit_slopes(moments, -2 * coefficient * centres)
    tilted = flat - np.einsum("nd,nd->n", np.repeat(slopes, blocks.sizes, axis=0), u)
    heights = np.maximum.reduceat(tilted, blocks.starts) + ((slopes + coefficient * centres) * centres).sum(
        -1
    )
    slopes = slopes + 2 * coefficient * centres
    return Ceiling(heights.astype(dtype), slopes.astype(dtype), parents)


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


def ranges_of(sides: tuple[Blocks, Blocks], pairs: Pairs) -> BlockRanges:
    """Pairs of blocks, for reductions."""
    return BlockRanges.from_pairs(sides[0].ranges, sides[1].ranges, np.stack(pairs, 1))


def keep_pairs(
    sides: tuple[Blocks, Blocks], ceilings: tuple[Ceiling, Ceiling], cost: Cost, floor: float
) -> Pairs:
    """The pairs of blocks where f_i + g_j - C_ij may be above ``floor``.

    Scale by scale: the children of pairs that are skipped are not looked at.
    """
    rows, columns = sides
    above = rows.parents, columns.parents
    if above[0] is None or above[1] is None:
        count = len(rows.starts), len(columns.starts)
        i, j = np.repeat(np.arange(count[0]), count[1]), np.tile(np.arange(count[1]), count[0])
    else:
        ceilings_above = ceilings[0].parents, ceilings[1].parents
        assert ceilings_above[0] is not None
        assert ceilings_above[1] is not None
        kept = keep_pairs((above[0], above[1]), (ceilings_above[0], ceilings_above[1]), cost, floor)
        i, j = _children(rows, columns, kept)
    bound = _bilinear_bound if cost.bilinear else _norm_bound
    keep = np.empty(len(i), bool)
    for start in range(0, len(i), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        keep[some] = bound(sides, ceilings, cost, (i[some], j[some])) >= floor
    return i[keep], j[keep]


def _children(rows: Blocks, columns: Blocks, kept: Pairs) -> Pairs:
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
    pairs: Pairs,
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
    pairs: Pairs,
) -> np.ndarray:
    """The sum of the heights, minus the distance between the boxes."""
    (rows, columns), (f, g), (i, j) = sides, ceilings, pairs
    assert cost.norm is not None
    gaps = abs(rows.centres[i] - columns.centres[j]) - rows.halves[i] - columns.halves[j]
    return f.heights[i] + g.heights[j] - cost.coefficient * cost.norm(np.maximum(gaps, 0.0))


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
