"""Owns the list of questions that algorithms ask a geometry; answers none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from symbolic_matrices.arrays import Array

ALL = slice(None)


class Coarsening(NamedTuple):
    """A cost between fewer, larger pieces, and what relates them to the finer ones."""

    geometry: Geometry
    pool_rows: Callable[[Array], Array]  # sums of weights over pieces
    pool_columns: Callable[[Array], Array]
    spread_columns: Callable[[Array], Array]  # smooth values of pieces, at what they are made of
    resolution: float  # cost of the size of a piece: lower temperatures see the difference


class Geometry(Protocol):
    """A cost C_ij between N rows and M columns, with leading batch dimensions if any."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., N, M)."""

    @property
    def T(self) -> Geometry:
        """The same cost, seen from the columns."""

    @property
    def cost_bound(self) -> float:
        """An upper bound for the cost range max C - min C: where annealing starts."""

    @property
    def annealing_power(self) -> int:
        """The p of C = distance^p: epsilon follows ``scaling**p``."""

    @property
    def takes_any_library(self) -> bool:
        """Whether its arrays may be replaced by those of another library, and should be where that is faster."""

    @property
    def tensors(self) -> tuple[Array, ...]:
        """The arrays that the cost depends upon, for differentiation."""

    def replace(self, tensors: tuple[Array, ...]) -> Geometry:
        """The same geometry on other arrays."""

    def one_sided(self) -> tuple[Geometry, Geometry | None]:
        """Two geometries whose gradients add up to that of the cost; the second has its axes swapped.

        Points have one per cloud, the other cloud being frozen. A matrix has only one.
        """

    def coarsen(self) -> Coarsening | None:
        """The same cost at about half the resolution, where annealing can start; None if there is no such thing."""

    def with_columns_of(self, other: Any) -> Geometry:
        """The cost between these rows and the columns of another geometry of the same kind."""

    def row_points(self, like: Array) -> Array:
        """Positions of the rows, (..., N, D); a TypeError where there are none."""

    def softmin(self, epsilon: float, exponents: Array) -> Array:
        """-epsilon log sum_j exp(h_j - C_ij / epsilon), with h (..., M): (..., N)."""

    def apply_plan(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        """sum_j exp((f_i + g_j - C_ij) / epsilon) v_j, with v (..., M, E): (..., N, E)."""

    def apply_plan_cost(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        """sum_j exp((f_i + g_j - C_ij) / epsilon) C_ij v_j, with v (..., M, 1): (..., N, 1)."""

    def primal_density(
        self, epsilon: float, f: Array, g: Array, rank_one: tuple[Array, Array, Array]
    ) -> Array:
        """sum_j b_j (C_ij p_ij + epsilon (p_ij log p_ij - p_ij + 1)) for p = exp((f + g - C) / epsilon) + u_i v_j.

        ``rank_one`` is (u, v, b), of shapes (..., N), (..., M), (..., M).
        """

    def dense_costs(self, like: Array) -> Array | None:
        """All the costs, (..., N, M), in the dtype of ``like``; None where they are only known as a formula."""

    def density(self, epsilon: float, f: Array, g: Array, rows: slice = ALL) -> Array:
        """exp((f_i + g_j - C_ij) / epsilon), dense, for some of the rows: (..., N, M)."""

    def lazy_density(self, epsilon: float, f: Array, g: Array) -> Any:
        """The same as a LazyTensor."""
