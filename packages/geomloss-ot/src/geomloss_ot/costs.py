"""Owns the ground costs C(x, y), one row each; ignores measures, temperatures and algorithms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from symbolic_matrices.arrays import Array, library_of

Formula = Any  # a LazyTensor


@dataclass(frozen=True)
class Cost:
    """A ground cost ``coefficient * formula(x, y)``.

    ``formula`` is written on LazyTensors and ``dense`` on arrays, (..., N, D) and (..., M, D) to (..., N, M).
    ``degree`` states that ``formula(s x, s y) = s**degree formula(x, y)``: points can then be scaled instead of
    costs, which saves one multiplication per pair. ``translation_invariant`` allows to centre the points.
    """

    name: str
    formula: Callable[[Formula, Formula], Formula]
    dense: Callable[[Array, Array], Array]
    degree: int | None = None
    translation_invariant: bool = False
    coefficient: float = 1.0


def _sqeuclidean_dense(x: Array, y: Array) -> Array:
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


def _euclidean_dense(x: Array, y: Array) -> Array:
    squares = _sqeuclidean_dense(x, y)
    xp = library_of(x).namespace
    positive = squares > 0  # the gradient of the distance at zero is taken to be zero, never NaN
    return xp.where(positive, xp.sqrt(xp.where(positive, squares, 1.0)), 0.0)


def _cosine_dense(x: Array, y: Array) -> Array:
    xp = library_of(x).namespace
    norms = xp.sqrt((x**2).sum(-1))[..., :, None] * xp.sqrt((y**2).sum(-1))[..., None, :]
    return 1 - (x[..., :, None, :] * y[..., None, :, :]).sum(-1) / norms


SQEUCLIDEAN = Cost("sqeuclidean", lambda x, y: x.sqdist(y), _sqeuclidean_dense, 2, True)
# Direct differences: |x|^2 + |y|^2 - 2 <x, y> would lose all digits between neighbours.
EUCLIDEAN = Cost("euclidean", lambda x, y: (x - y).sqnorm2().sqrt(), _euclidean_dense, 1, True)
COSINE = Cost("cosine", lambda x, y: 1 - (x | y) / (x.sqnorm2() * y.sqnorm2()).sqrt(), _cosine_dense)
COSTS = {cost.name: cost for cost in (SQEUCLIDEAN, EUCLIDEAN, COSINE)}


def find_cost(cost: str | Callable[[Any, Any], Any], argument: str = "cost") -> Cost:
    """The row of a name; a function becomes a row of its own, used both on LazyTensors and on arrays."""
    if callable(cost):
        return Cost(getattr(cost, "__name__", "custom"), cost, cost)
    if cost not in COSTS:
        raise ValueError(
            f"{argument}={cost!r} is not a known ground cost: give one of {sorted(COSTS)}, "
            "or a function of two LazyTensors x_i and y_j that returns a scalar formula."
        )
    return COSTS[cost]
