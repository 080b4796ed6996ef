"""Owns softmins over fixed columns, as functions of the rows; ignores where the columns come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from symbolic_matrices.arrays import Array

from .points import PointGeometry


@dataclass(frozen=True)
class Extension:
    """x -> -epsilon log sum_j exp(h_j - C(x, y_j) / epsilon), for the columns y_j and the cost of ``geometry``.

    Where ``geometry`` visits some pairs only, its rows are the N points that were thought of, in the order
    ``rows[order]``, and ``ranks`` undoes this order.
    """

    geometry: PointGeometry
    exponents: Array  # (M,): h
    order: Array | None = None  # (N,)
    ranks: Array | None = None  # (N,)
    values: Array | None = None  # (N,): the softmin at the points that were thought of

    def softmin(self, epsilon: float, rows: Array) -> Array:
        """The values at ``rows`` (N, D): (N,)."""
        if self.order is None or self.ranks is None:
            return replace(self.geometry, x=rows).softmin(epsilon, self.exponents)
        return replace(self.geometry, x=rows[self.order]).softmin(epsilon, self.exponents)[self.ranks]

    def gradient(self, epsilon: float, rows: Array) -> Array:
        """The derivatives at the points that were thought of, for squared distances: (N, D)."""
        values = self.values
        assert values is not None
        if self.order is not None:
            rows, values = rows[self.order], values[self.order]
        found = replace(self.geometry, x=rows).slopes(epsilon, values, self.exponents)
        return found if self.ranks is None else found[self.ranks]

    def to_tensors(self, convert: Callable[[np.ndarray], Array]) -> Extension:
        """The same, from NumPy's arrays to those of another library."""
        geometry = self.geometry
        moved = replace(geometry, x=convert(geometry.x), y=convert(geometry.y))
        others = (self.order, self.ranks, self.values)
        order, ranks, values = (None if array is None else convert(array) for array in others)
        return Extension(moved, convert(self.exponents), order, ranks, values)
