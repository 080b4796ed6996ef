"""Owns costs between clouds of unequal sizes, in batches: potentials are padded, reductions visit real pairs only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from .geometry import ALL
from .points import PointGeometry


@dataclass(frozen=True)
class RaggedGeometry:
    """B problems between clouds that are concatenated in ``flat``, whose formulas carry the pairs to visit.

    ``row_mask`` (B, N) and ``column_mask`` (B, M) tell which entries of padded arrays stand for points.
    """

    flat: PointGeometry
    row_mask: np.ndarray
    column_mask: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.row_mask.shape, self.column_mask.shape[-1])

    @property
    def T(self) -> RaggedGeometry:
        return RaggedGeometry(self.flat.T, self.column_mask, self.row_mask)

    @property
    def cost_bound(self) -> float:
        return self.flat.cost_bound

    @property
    def annealing_power(self) -> int:
        return self.flat.annealing_power

    @property
    def takes_any_library(self) -> bool:
        return self.flat.takes_any_library

    @property
    def tensors(self) -> tuple[Array, ...]:
        return self.flat.tensors

    def replace(self, tensors: tuple[Array, ...]) -> RaggedGeometry:
        return RaggedGeometry(self.flat.replace(tensors), self.row_mask, self.column_mask)

    def one_sided(self) -> tuple[RaggedGeometry, RaggedGeometry]:
        rows, columns = self.flat.one_sided()
        return (
            RaggedGeometry(rows, self.row_mask, self.column_mask),
            RaggedGeometry(columns, self.column_mask, self.row_mask),
        )

    def coarsen(self) -> None:
        return None

    def with_columns_of(self, other: Any) -> RaggedGeometry:
        raise TypeError("Ragged clouds know no other columns than their own.")

    def row_points(self, like: Array) -> Array:
        return pad(self.flat.x, self.row_mask)

    def softmin(self, epsilon: float, exponents: Array) -> Array:
        return self.pad_rows(self.flat.softmin(epsilon, self.pack_columns(exponents)))

    def pad_rows(self, values: Array) -> Array:
        """Values (sum of sizes,) of the rows of all problems, as an array (B, N)."""
        return pad(values, self.row_mask)

    def pack_columns(self, values: Array) -> Array:
        """The values (B, M) that stand for columns, those of all problems side by side."""
        return _packed(values, self.column_mask)

    def apply_plan(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        return pad(self.flat.apply_plan(epsilon, *self._packed(f, g, values)), self.row_mask)

    def apply_plan_cost(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        return pad(self.flat.apply_plan_cost(epsilon, *self._packed(f, g, values)), self.row_mask)

    def primal_density(
        self, epsilon: float, f: Array, g: Array, rank_one: tuple[Array, Array, Array]
    ) -> Array:
        u, v, b = rank_one
        packed = (_packed(u, self.row_mask), *(_packed(w, self.column_mask) for w in (v, b)))
        f, g = _packed(f, self.row_mask), _packed(g, self.column_mask)
        return pad(self.flat.primal_density(epsilon, f, g, packed), self.row_mask)

    def dense_costs(self, like: Array) -> None:
        return None

    def density(self, epsilon: float, f: Array, g: Array, rows: slice = ALL) -> Array:
        raise TypeError(
            "A batch of clouds of unequal sizes has no dense plan: take one problem, as in result[0].plan."
        )

    def lazy_density(self, epsilon: float, f: Array, g: Array) -> Any:
        raise TypeError(
            "A batch of clouds of unequal sizes has no lazy plan: take one problem, as in result[0].lazy_plan."
        )

    def _packed(self, f: Array, g: Array, values: Array) -> tuple[Array, Array, Array]:
        return (
            _packed(f, self.row_mask),
            _packed(g, self.column_mask),
            _packed(values, self.column_mask),
        )


def _packed(values: Array, mask: np.ndarray) -> Array:
    """The entries (B, N, ...) of a padded array that stand for points: (sum of sizes, ...)."""
    return values[_as_index(mask, values)]


def pad(values: Array, mask: np.ndarray) -> Array:
    """Values (sum of sizes, ...) as an array (B, N, ...), with zeros elsewhere."""
    library = library_of(values)
    shape = (*mask.shape, *values.shape[1:])
    padded = library.full(shape, 0.0, library.dtype_name(values), library.device(values))
    padded[_as_index(mask, values)] = values
    return padded


def _as_index(mask: np.ndarray, like: Array) -> Array:
    library = library_of(like)
    return mask if library.name == "numpy" else library.convert(mask, "bool", library.device(like))
