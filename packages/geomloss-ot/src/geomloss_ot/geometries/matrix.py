"""Owns an explicit cost matrix: quadratic memory, any cost, small problems."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from symbolic_matrices.arrays import Array, library_of

from .geometry import ALL


@dataclass(frozen=True)
class MatrixGeometry:
    """C_ij as an array (..., N, M)."""

    costs: Array
    annealing_power: int = 2

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.costs.shape)

    @cached_property
    def T(self) -> MatrixGeometry:
        return MatrixGeometry(
            library_of(self.costs).namespace.swapaxes(self.costs, -1, -2), self.annealing_power
        )

    @cached_property
    def cost_bound(self) -> float:
        costs = library_of(self.costs).detach(self.costs)
        return float(costs.max() - costs.min())

    @property
    def takes_any_library(self) -> bool:
        return False  # dense operations are what PyTorch's threads are good at

    @property
    def tensors(self) -> tuple[Array, ...]:
        return (self.costs,)

    def replace(self, tensors: tuple[Array, ...]) -> MatrixGeometry:
        return MatrixGeometry(tensors[0], self.annealing_power)

    def one_sided(self) -> tuple[MatrixGeometry, None]:
        return self, None

    def coarsen(self) -> None:
        return None

    def with_columns_of(self, other: Any) -> MatrixGeometry:
        raise TypeError("Explicit costs know no other columns than their own.")

    def row_points(self, like: Array) -> Array:
        raise TypeError(
            "A cost given as a matrix has no points to map: use plan, or solve_sample with lazy=True."
        )

    def softmin(self, epsilon: float, exponents: Array) -> Array:
        return -epsilon * _logsumexp(exponents[..., None, :] - self.costs / epsilon)

    def apply_plan(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        return self.density(epsilon, f, g) @ values

    def apply_plan_cost(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        return (self.density(epsilon, f, g) * self.costs) @ values

    def primal_density(
        self, epsilon: float, f: Array, g: Array, rank_one: tuple[Array, Array, Array]
    ) -> Array:
        u, v, b = rank_one
        xp = library_of(f).namespace
        p = self.density(epsilon, f, g) + u[..., :, None] * v[..., None, :]
        logarithms = xp.log(xp.where(p > 0, p, 1.0))
        terms = p * self.costs + epsilon * (p * logarithms - p + 1.0)
        return (terms @ b[..., :, None])[..., 0]

    def dense_costs(self, like: Array) -> Array:
        return self.costs

    def density(self, epsilon: float, f: Array, g: Array, rows: slice = ALL) -> Array:
        xp = library_of(f).namespace
        return xp.exp((f[..., rows, None] + g[..., None, :] - self.costs[..., rows, :]) / epsilon)

    def lazy_density(self, epsilon: float, f: Array, g: Array) -> Any:
        raise TypeError(
            "A cost given as a matrix has no lazy plan: use plan instead, which is the same, as an array."
        )


def _logsumexp(exponents: Array) -> Array:
    """Along the last axis; each row holds at least one finite number, since measures have a positive mass."""
    library = library_of(exponents)
    xp = library.namespace
    if library.name == "torch":
        return xp.logsumexp(exponents, -1)
    largest = exponents.max(-1, keepdims=True)
    return largest[..., 0] + xp.log(xp.exp(exponents - largest).sum(-1))
