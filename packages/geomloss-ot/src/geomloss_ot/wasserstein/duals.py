"""Owns bounds of the cost of transport from below, and the pairs of points that they tell apart; ignores plans.

Potentials prove a lower bound once c-transforms have made them satisfy all the constraints. Optimal plans use pairs
where these are tight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from symbolic_matrices import Vi, Vj

from ..costs import Cost
from .flows import Edges, join_edges
from .pair import Pair


@dataclass(frozen=True)
class LowerBound:
    """A lower bound of the cost, and the potentials (f, g), of the sorted points, that prove it."""

    value: float
    f: np.ndarray
    g: np.ndarray


def lower_bound(pair: Pair, f: np.ndarray) -> LowerBound:
    """The dual value of g_j = min_i C_ij - f_i and f_i = min_j C_ij - g_j, which no plan undercuts."""
    (x, y), (a, b) = pair.points, pair.weights
    g = _c_transform(pair.cost, y, x, f)
    f = _c_transform(pair.cost, x, y, g)
    return LowerBound(float(a @ f + b @ g), f, g)


def _c_transform(cost: Cost, x: np.ndarray, y: np.ndarray, g: np.ndarray) -> np.ndarray:
    """min_j C(x_i, y_j) - g_j."""
    nearest = _nearest(cost, x, y, g, 1)[:, 0]
    return costs_between(cost, x, y[nearest]) - g[nearest]


def _nearest(cost: Cost, x: np.ndarray, y: np.ndarray, g: np.ndarray, count: int) -> np.ndarray:
    """The columns of the smallest C(x_i, y_j) - g_j: (N, count).

    For squared distances, these are the nearest neighbours of (x, 0) among (y, (max g - g)^(1/2)).
    """
    if cost.power == 1:
        formula = cost.formula(Vi(x), Vj(y)) - Vj(g[:, None])
    else:
        height = np.sqrt(g.max() - g)[:, None]
        formula = Vi(np.concatenate([x, np.zeros_like(x[:, :1])], 1)).sqdist(
            Vj(np.concatenate([y, height], 1))
        )
    found: np.ndarray = formula.argKmin(count, axis=1)
    return found


def costs_between(cost: Cost, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Costs of pairs of points (K, D)."""
    squared = ((x - y) ** 2).sum(-1)
    return np.sqrt(squared) if cost.power == 1 else squared


class Side(NamedTuple):
    """Points and their potential."""

    points: np.ndarray
    potential: np.ndarray


def likely_pairs(cost: Cost, sides: tuple[Side, Side], among: Edges, count: int) -> Edges:
    """The pairs of the smallest C_ij - f_i - g_j, ``count`` for each of the given rows and columns, or all of them."""
    (rows, columns), (left, right) = among, sides
    x, y = left.points[rows], right.points[columns]
    forward = _nearest(cost, x, y, right.potential[columns], min(count, len(columns)))
    backward = _nearest(cost, y, x, left.potential[rows], min(count, len(rows)))
    first = Edges(rows.repeat(forward.shape[1]), columns[forward].ravel())
    second = Edges(rows[backward].ravel(), columns.repeat(backward.shape[1]))
    return join_edges(first, second, len(right.points))
