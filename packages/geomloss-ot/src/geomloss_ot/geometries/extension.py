"""Owns softmins over fixed columns, as functions of the rows; ignores where the columns come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from .points import PointGeometry

_LEAST, _LARGEST = 1e-26, 1e26  # sums that are right


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
    near: Array | None = (
        None  # (N,), in that order: about what the softmin is at the points that were thought of
    )
    values: Array | None = None  # (N,): the softmin there
    slopes: Array | None = None  # (N, D): its derivatives there

    def softmin(self, epsilon: float, rows: Array) -> Array:
        """The values at ``rows`` (N, D): (N,)."""
        found = replace(self.geometry, x=self._ordered(rows)).softmin(epsilon, self.exponents)
        return self._unordered(found)

    def evaluate(self, epsilon: float, rows: Array, *, with_slopes: bool) -> Extension:
        """The same with its values at ``rows`` and, for squared distances, with its derivatives if these are wanted."""
        found = None if self.near is None else self._sums(epsilon, rows, with_slopes)
        return replace(self, values=self.softmin(epsilon, rows)) if found is None else found

    def gradient(self, epsilon: float, rows: Array) -> Array:
        """The derivatives at the points that were thought of, for squared distances: (N, D)."""
        if self.slopes is not None:
            return self.slopes
        assert self.values is not None
        geometry = replace(self.geometry, x=self._ordered(rows))
        return self._unordered(geometry.slopes(epsilon, self._ordered(self.values), self.exponents))

    def to_tensors(self, convert: Callable[[np.ndarray], Array]) -> Extension:
        """The same, from NumPy's arrays to those of another library."""
        geometry = self.geometry
        moved = replace(geometry, x=convert(geometry.x), y=convert(geometry.y))
        names = ("order", "ranks", "near", "values", "slopes")
        arrays = {name: getattr(self, name) for name in names}
        others = {name: convert(array) for name, array in arrays.items() if array is not None}
        return replace(self, geometry=moved, exponents=convert(self.exponents), **others)

    def _sums(self, epsilon: float, rows: Array, with_slopes: bool) -> Extension | None:
        """Values and derivatives from one reduction, relative to what is known; None where this is too far."""
        geometry, near = replace(self.geometry, x=self._ordered(rows)), self.near
        assert near is not None
        xp = library_of(near).namespace
        moments = xp.ones_like(geometry.y[:, :1])
        if with_slopes:
            moments = xp.concatenate([geometry.y, moments], -1)
        sums = geometry.apply_plan(epsilon, near, epsilon * self.exponents, moments)
        total = sums[:, -1]
        if not (float(total.min()) >= _LEAST and float(total.max()) <= _LARGEST):
            return None
        values, slopes = self._unordered(near - epsilon * xp.log(total)), None
        if with_slopes:
            means = sums[:, :-1] / total[:, None]
            slopes = self._unordered(2 * geometry.cost.coefficient * (geometry.x - means))
        return replace(self, values=values, slopes=slopes)

    def _ordered(self, rows: Array) -> Array:
        return rows if self.order is None else rows[self.order]

    def _unordered(self, found: Array) -> Array:
        return found if self.ranks is None else found[self.ranks]
