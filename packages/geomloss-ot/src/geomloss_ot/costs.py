"""Owns the ground costs C(x, y), one row each; ignores measures, temperatures and algorithms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from symbolic_matrices import LazyTensor
from symbolic_matrices.arrays import Array, library_of

Formula = Any  # a LazyTensor


@dataclass(frozen=True)
class Cost:
    """A ground cost ``coefficient * formula(x, y)``.

    ``formula`` is written on LazyTensors and ``dense`` on arrays, (..., N, D) and (..., M, D) to (..., N, M).
    ``power`` states that the cost is of the order of that power of a distance, which gives blur and reach their units.
    ``homogeneous`` states that ``formula(s x, s y) = s**power formula(x, y)`` for ``s > 0``: points can then be
    scaled instead of costs, which saves one multiplication per pair. ``translation_invariant`` allows to centre the
    points. ``box_diameter`` bounds the distance between two points of a box, given the lengths of its sides;
    ``norm``, for costs that are norms of x - y, is this norm along the last axis. ``bilinear`` states that the cost is
    |x|^2 + |y|^2 - 2 <x, y>. ``lipschitz`` bounds the derivatives of ``formula`` in x and in y.
    """

    name: str
    formula: Callable[[Formula, Formula], Formula]
    dense: Callable[[Array, Array], Array]
    power: int = 2
    homogeneous: bool = False
    symmetric: bool = False
    translation_invariant: bool = False
    coefficient: float = 1.0
    box_diameter: Callable[[Array], float] | None = None
    norm: Callable[[Array], Array] | None = None
    bilinear: bool = False
    lipschitz: float | None = None


@dataclass(frozen=True)
class LipschitzCost:
    r"""A ground cost of yours that large clouds may have: how fast it changes tells which points are too far apart.

    .. math::  |C(x, y) - C(x', y')| \leq L\, (|x - x'| + |y - y'|)

    for all the points between those of the clouds. Losses take it as ``cost=``, with ``backend="multiscale"`` if you
    like, :func:`solve_sample` as ``metric=``.

    Parameters
    ----------
    formula
        A function of two LazyTensors x_i and y_j that returns a scalar formula, of x_i and y_j only.
    lipschitz
        L > 0, in units of the cost per unit of length. If it is too small, pairs of points may be left out that matter.

    Raises
    ------
    ValueError
        If ``formula`` is no function, or ``lipschitz`` not positive and finite.

    Examples
    --------
    >>> import torch
    >>> from geomloss_ot import LipschitzCost, SamplesLoss
    >>> cost = LipschitzCost(lambda x, y: (1 + x.sqdist(y)).sqrt() - 1, lipschitz=1.0)
    >>> x, y = torch.rand(100, 2), torch.rand(80, 2)
    >>> loss = SamplesLoss(cost=cost, blur=0.1, backend="multiscale")
    >>> bool(loss(x, y) > 0)
    True
    """

    formula: Callable[[Any, Any], Any]
    lipschitz: float

    def __post_init__(self) -> None:
        if not callable(self.formula):
            raise ValueError(f"formula={self.formula!r}: expected a function of two LazyTensors.")
        if not 0 < self.lipschitz < math.inf:
            raise ValueError(
                f"lipschitz={self.lipschitz!r}: expected a positive finite number, above the derivatives of the cost."
            )

    def __call__(self, x: Any, y: Any) -> Any:
        return self.formula(x, y)


def check_scalar_formula(what: str, formula: object, ndim: int, example: str) -> None:
    """Raise a ValueError unless what a function of two LazyTensors returned is one number per pair of points.

    ``ndim`` is that of the arrays of points; ``what`` and ``example`` are for the message.
    """
    if isinstance(formula, LazyTensor) and len(formula.shape) == ndim:
        return
    found = f"of shape {tuple(formula.shape)}" if isinstance(formula, LazyTensor) else type(formula).__name__
    raise ValueError(
        f"{what} of two LazyTensors returns a {found}: expected a LazyTensor of one number per pair of points, such as "
        f"{example}."
    )


def _sqeuclidean_dense(x: Array, y: Array) -> Array:
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


def root(values: Array, xp: Any, degree: float = 2.0) -> Array:
    """values^(1 / degree), of derivative zero at zero rather than infinite. ``xp`` is the namespace of the values."""
    null = values <= 0  # what is not a number stays so
    return xp.where(null, 0.0, xp.where(null, 1.0, values) ** (1 / degree))


def _euclidean_dense(x: Array, y: Array) -> Array:
    return root(_sqeuclidean_dense(x, y), library_of(x).namespace)


def _cityblock_dense(x: Array, y: Array) -> Array:
    return abs(x[..., :, None, :] - y[..., None, :, :]).sum(-1)


def _cosine_dense(x: Array, y: Array) -> Array:
    xp = library_of(x).namespace
    norms = xp.sqrt((x**2).sum(-1))[..., :, None] * xp.sqrt((y**2).sum(-1))[..., None, :]
    return 1 - (x[..., :, None, :] * y[..., None, :, :]).sum(-1) / norms


def _sphere_formula(x: Formula, y: Formula) -> Formula:
    # Kahan's angle: the arc cosine of a scalar product would lose half of the digits between neighbours.
    x, y = x * x.sqnorm2().rsqrt(), y * y.sqnorm2().rsqrt()
    return 2.0 * (x - y).sqnorm2().sqrt().atan2((x + y).sqnorm2().sqrt())


def _sphere_dense(x: Array, y: Array) -> Array:
    xp = library_of(x).namespace
    x, y = (z / xp.sqrt((z**2).sum(-1))[..., None] for z in (x, y))
    atan2 = xp.atan2 if library_of(x).name == "torch" else xp.arctan2
    return 2 * atan2(_euclidean_dense(x, y), _euclidean_dense(x, -y))


def _euclidean_diagonal(sides: Array) -> float:
    return float((sides**2).sum()) ** 0.5


SQEUCLIDEAN = Cost(
    "sqeuclidean",
    lambda x, y: x.sqdist(y),
    _sqeuclidean_dense,
    homogeneous=True,
    symmetric=True,
    translation_invariant=True,
    box_diameter=_euclidean_diagonal,
    bilinear=True,
)
# Direct differences: |x|^2 + |y|^2 - 2 <x, y> would lose all digits between neighbours.
EUCLIDEAN = Cost(
    "euclidean",
    lambda x, y: (x - y).sqnorm2().sqrt(),
    _euclidean_dense,
    power=1,
    homogeneous=True,
    symmetric=True,
    translation_invariant=True,
    box_diameter=_euclidean_diagonal,
    norm=lambda vectors: (vectors**2).sum(-1) ** 0.5,
)
CITYBLOCK = Cost(
    "cityblock",
    lambda x, y: (x - y).abs().sum(-1),
    _cityblock_dense,
    power=1,
    homogeneous=True,
    symmetric=True,
    translation_invariant=True,
    box_diameter=lambda sides: float(sides.sum()),
    norm=lambda vectors: abs(vectors).sum(-1),
)
COSINE = Cost(
    "cosine",
    lambda x, y: 1 - (x | y) / (x.sqnorm2() * y.sqnorm2()).sqrt(),
    _cosine_dense,
    symmetric=True,
)
# The angle between two directions, in radians.
SPHERE = Cost("geodesic sphere", _sphere_formula, _sphere_dense, power=1, symmetric=True)
COSTS = {cost.name: cost for cost in (SQEUCLIDEAN, EUCLIDEAN, CITYBLOCK, COSINE, SPHERE)}


def find_cost(cost: str | Callable[[Any, Any], Any], argument: str = "cost") -> Cost:
    """The row of a name; a function becomes a row of its own, used both on LazyTensors and on arrays."""
    if isinstance(cost, LipschitzCost):
        return Cost("custom", cost.formula, cost.formula, lipschitz=float(cost.lipschitz))
    if callable(cost):
        return Cost(getattr(cost, "__name__", "custom"), cost, cost)
    if cost not in COSTS:
        raise ValueError(
            f"{argument}={cost!r} is not a known ground cost: give one of {sorted(COSTS)}, "
            "or a function of two LazyTensors x_i and y_j that returns a scalar formula."
        )
    return COSTS[cost]
