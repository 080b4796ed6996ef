"""Owns the cost between two point clouds, never stored: every question is one fused reduction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from symbolic_matrices import BlockRanges, LazyTensor
from symbolic_matrices.arrays import Array, library_of

from ..costs import Cost
from ..measures import box_sides
from .cells import cells_of
from .geometry import ALL, Coarsening

_RADIUS = 0.7  # of a cell, in units of its edge: how far its points are from their mean
_J = -2  # the j axis of a LazyTensor of any number of batch dimensions


@dataclass(frozen=True)
class PointGeometry:
    """C_ij = cost(x_i, y_j) between points x (..., N, D) and y (..., M, D); ``ranges``: of some pairs only."""

    x: Array
    y: Array
    cost: Cost
    ranges: BlockRanges | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.x.shape[:-1], self.y.shape[-2])

    @cached_property
    def T(self) -> PointGeometry:
        cost = self.cost
        ranges = None if self.ranges is None else self.ranges.T
        if cost.symmetric:
            return PointGeometry(self.y, self.x, cost, ranges)
        swapped = Cost(
            cost.name,
            lambda y, x: cost.formula(x, y),
            lambda y, x: library_of(x).namespace.swapaxes(cost.dense(x, y), -1, -2),
            power=cost.power,
            coefficient=cost.coefficient,
            lipschitz=cost.lipschitz,
        )
        return PointGeometry(self.y, self.x, swapped, ranges)

    @cached_property
    def cost_bound(self) -> float:
        cost = self.cost
        if cost.box_diameter is not None:
            return float(cost.coefficient * cost.box_diameter(box_sides(self.x, self.y)) ** cost.power)
        detached = self.replace(tuple(library_of(t).detach(t) for t in self.tensors))
        costs = detached._scaled_cost(1.0)
        return float(costs.max(axis=_J).max() - costs.min(axis=_J).min())

    @property
    def annealing_power(self) -> int:
        return self.cost.power

    @property
    def takes_any_library(self) -> bool:
        return self.cost.symmetric  # a function of the user may hold arrays of its own

    @property
    def tensors(self) -> tuple[Array, ...]:
        return (self.x,) if self.x is self.y else (self.x, self.y)

    def replace(self, tensors: tuple[Array, ...]) -> PointGeometry:
        return PointGeometry(tensors[0], tensors[-1], self.cost, self.ranges)

    def one_sided(self) -> tuple[PointGeometry, PointGeometry]:
        library = library_of(self.x)
        return (
            PointGeometry(self.x, library.detach(self.y), self.cost, self.ranges),
            PointGeometry(library.detach(self.x), self.y, self.cost, self.ranges).T,
        )

    def coarsen(self) -> Coarsening | None:
        """Between the cells of large clouds, where there are far fewer of them than points."""
        cost, x, y = self.cost, self.x, self.y
        # The size of cells means something for distances only, and users' functions take points as they are.
        if (
            cost.box_diameter is None
            or self.ranges is not None
            or x.ndim > 2
            or not isinstance(x, np.ndarray)
        ):
            return None
        cells = cells_of(x, y)
        if cells is None:
            return None
        rows, columns = cells.rows, cells.columns
        coarse = PointGeometry(rows.means, columns.means, cost)
        resolution = cost.coefficient * (cells.width * _RADIUS) ** cost.power
        return Coarsening(coarse, rows.pool, columns.pool, columns.spread, resolution)

    def with_columns_of(self, other: Any) -> PointGeometry:
        return PointGeometry(self.x, other.y, self.cost)

    def row_points(self, like: Array) -> Array:
        return self.x

    def softmin(self, epsilon: float, exponents: Array) -> Array:
        return -epsilon * (_column(exponents) - self._scaled_cost(epsilon)).logsumexp(axis=_J)[..., 0]

    def slopes(self, epsilon: float, softmin: Array, exponents: Array) -> Array:
        """Derivatives in x (..., N, D) of the softmin of ``exponents``, which is given too, for squared distances.

        2 c (x - y(x)), where y(x) is the mean of the columns under the row of x in the plan, and c the coefficient.
        """
        assert self.cost.bilinear
        xp = library_of(self.x).namespace
        moments = xp.concatenate([self.y, xp.ones_like(self.y[..., :1])], -1)
        sums = self.apply_plan(epsilon, softmin, epsilon * exponents, moments)
        return 2 * self.cost.coefficient * (self.x - sums[..., :-1] / sums[..., -1:])

    def exponent_factors(self, epsilon: float, rows: Array | None, columns: Array) -> tuple[Array, Array]:
        """Matrices whose product is r_i + c_j - C_ij / epsilon, for r (..., N), zero if None, and c (..., M)."""
        assert self.cost.bilinear
        xp = library_of(self.x).namespace
        factor = self.cost.coefficient / epsilon
        own = -factor * (self.x * self.x).sum(-1)[..., None]
        if rows is not None:
            own = own + rows[..., None]
        left = xp.concatenate([2 * factor * self.x, own, xp.ones_like(own)], -1)
        columns = columns - factor * (self.y * self.y).sum(-1)
        right = xp.concatenate([self.y, xp.ones_like(self.y[..., :1]), columns[..., None]], -1)
        return left, xp.ascontiguousarray(xp.swapaxes(right, -1, -2))

    def apply_plan(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        weights = LazyTensor(values[..., None, :, :])
        return (self.lazy_density(epsilon, f, g) * weights).sum(axis=_J)

    def apply_plan_cost(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        weights = LazyTensor(values[..., None, :, :])
        scaled = self._scaled_cost(epsilon)
        density = (_row(f / epsilon) + _column(g / epsilon) - scaled).exp()
        return epsilon * (density * scaled * weights).sum(axis=_J)

    def primal_density(
        self, epsilon: float, f: Array, g: Array, rank_one: tuple[Array, Array, Array]
    ) -> Array:
        u, v, b = rank_one
        density = (_row(f / epsilon) + _column(g / epsilon) - self._scaled_cost(epsilon)).exp()
        return self._integral(epsilon, density + _row(u) * _column(v), b)

    def skipped_density(self, epsilon: float, rank_one: tuple[Array, Array, Array]) -> Array:
        """What ``primal_density`` leaves out where pairs are not visited and the plan is u_i v_j.

        For squared distances.
        """
        u, v, b = rank_one
        return self._product_integral(epsilon, rank_one) - self._integral(epsilon, _row(u) * _column(v), b)

    def _integral(self, epsilon: float, p: Any, b: Array) -> Array:
        """sum_j b_j (p C + epsilon (p log p - p + 1)) over the pairs that are visited."""
        terms = p * self._scaled_cost(epsilon) + p * (p + _tiny(b)).log() - p + 1.0
        return epsilon * (terms * _column(b)).sum(axis=_J)[..., 0]

    def _product_integral(self, epsilon: float, rank_one: tuple[Array, Array, Array]) -> Array:
        """The same for p = u_i v_j over all the pairs, without visiting them."""
        assert self.cost.bilinear
        u, v, b = rank_one
        xp, mass, tiny = library_of(u).namespace, b * v, _tiny(b)
        squares = [(points * points).sum(-1) for points in (self.x, self.y)]
        moment = (mass[..., None] * self.y).sum(-2)
        costs = mass.sum() * squares[0] - 2 * (self.x * moment).sum(-1) + (mass * squares[1]).sum()
        logarithms = mass.sum() * (xp.log(u + tiny) - 1) + (mass * xp.log(v + tiny)).sum()
        return u * (self.cost.coefficient * costs + epsilon * logarithms) + epsilon * b.sum()

    def dense_costs(self, like: Array) -> Array | None:
        # A formula of the user may know symbolic matrices only, and pairs may be left out.
        if not self.cost.symmetric or self.ranges is not None:
            return None
        return self.cost.coefficient * self.cost.dense(self.x, self.y)

    def density(self, epsilon: float, f: Array, g: Array, rows: slice = ALL) -> Array:
        xp = library_of(f).namespace
        costs = self.cost.coefficient * self.cost.dense(self.x[..., rows, :], self.y)
        return xp.exp((f[..., rows, None] + g[..., None, :] - costs) / epsilon)

    def lazy_density(self, epsilon: float, f: Array, g: Array) -> Any:
        return (_row(f / epsilon) + _column(g / epsilon) - self._scaled_cost(epsilon)).exp()

    def _scaled_cost(self, epsilon: float) -> Any:
        """C(x_i, y_j) / epsilon as a formula: the same kernel for all the temperatures."""
        if any(library_of(t).needs_gradient(t) for t in self.tensors):
            return self._build_cost(epsilon)  # a graph is for one use
        if epsilon not in self._last_cost:
            self._last_cost.clear()
            self._last_cost[epsilon] = self._build_cost(epsilon)
        return self._last_cost[epsilon]

    @cached_property
    def _last_cost(self) -> dict[float, Any]:
        """The last temperature and its formula: building one takes longer than reducing a few hundred points."""
        return {}

    def _build_cost(self, epsilon: float) -> Any:
        formula = self._build_formula(epsilon)
        if self.ranges is not None:
            formula.ranges = self.ranges  # formulas that are made of this one inherit them
        return formula

    def _build_formula(self, epsilon: float) -> Any:
        x, y, cost = self.x, self.y, self.cost
        factor = cost.coefficient / epsilon
        if not cost.homogeneous:
            return factor * cost.formula(LazyTensor(x[..., :, None, :]), LazyTensor(y[..., None, :, :]))
        scale = float(factor ** (1 / cost.power))
        return cost.formula(
            LazyTensor((scale * x)[..., :, None, :]), LazyTensor((scale * y)[..., None, :, :])
        )


def _tiny(like: Array) -> float:
    """What makes p log p zero at p = 0."""
    return 1e-38 if library_of(like).dtype_name(like) == "float32" else 1e-300


def _row(values: Array) -> Any:
    return LazyTensor(values[..., :, None, None])


def _column(values: Array) -> Any:
    return LazyTensor(values[..., None, :, None])
