"""Owns the repeated softmins of large clouds at one temperature: sums of exponentials that are known to stay in range.

Potentials move little from one update to the next: relative to the last softmin of each row, exponentials neither
overflow nor vanish, and no largest one has to be looked for. What is left per pair is a scalar product and a power of
two: a sum takes three fifths of the time of a log-sum-exp. Where scalar products would lose the digits of small
distances, differences take their place: three quarters of the time.
"""

from __future__ import annotations

import math

import numpy as np

from symbolic_matrices import LazyTensor

from .geometry import Geometry
from .points import PointGeometry
from .ragged import RaggedGeometry
from .stabilized import Softmins, StabilizedSoftmins, is_stabilized

_J = -2  # the j axis of a LazyTensor of any number of batch dimensions
_LOST = 2e-4  # relative error that scalar products may leave of a density
_LEAST, _LARGEST = 1e-26, 1e26  # sums that are right
_BITS = math.log2(math.e)


class AbsorbedSoftmins(Softmins):
    """The softmins of a geometry from sums, as long as these stay in range."""

    def __init__(self, geometry: PointGeometry, epsilon: float) -> None:
        super().__init__(geometry, epsilon)
        self._left, self._right = _Side(geometry, epsilon), _Side(geometry.T, epsilon)

    def over_columns(self, exponents: np.ndarray) -> np.ndarray:
        return self._left.softmin(exponents)

    def over_rows(self, exponents: np.ndarray) -> np.ndarray:
        return self._right.softmin(exponents)


class _Side:
    """The softmins over the columns of a geometry."""

    def __init__(self, geometry: PointGeometry, epsilon: float) -> None:
        self._geometry, self._epsilon = geometry, epsilon
        factor = geometry.cost.coefficient / epsilon * _BITS
        x, y = geometry.x, geometry.y
        self._rows: np.ndarray | float = 0.0
        self._columns: np.ndarray | float = 0.0
        if _keeps_digits(geometry, epsilon):
            self._rows, self._columns = (-factor * (points * points).sum(-1) for points in (x, y))
            formula = LazyTensor((2 * factor * x)[..., :, None, :]) | LazyTensor(y[..., None, :, :])
        else:
            x, y = (math.sqrt(factor) * points for points in (x, y))
            formula = -LazyTensor(x[..., :, None, :]).sqdist(LazyTensor(y[..., None, :, :]))
        if geometry.ranges is not None:
            formula.ranges = geometry.ranges
        self._formula = formula
        self._last: np.ndarray | None = None  # (..., N)

    def softmin(self, exponents: np.ndarray) -> np.ndarray:
        """-epsilon log sum_j exp(h_j - C_ij / epsilon), with h (..., M): (..., N)."""
        found = None if self._last is None else self._moved(self._last, exponents)
        if found is None:
            found = self._geometry.softmin(self._epsilon, exponents)
        self._last = found if np.isfinite(found).all() else None
        return found

    def _moved(self, last: np.ndarray, exponents: np.ndarray) -> np.ndarray | None:
        """The softmin from its last value; None where it has moved too far, or to what is no number."""
        rows = self._rows + (_BITS / self._epsilon) * last
        columns = self._columns + _BITS * exponents
        offsets = LazyTensor(rows[..., :, None, None]) + LazyTensor(columns[..., None, :, None])
        sums = (self._formula + offsets).exp2().sum(axis=_J)[..., 0]
        if not (sums.min() >= _LEAST and sums.max() <= _LARGEST):
            return None
        return last - self._epsilon * np.log(sums)


class RaggedSoftmins(Softmins):
    """The softmins of clouds of unequal sizes, from those of all their points."""

    def __init__(self, geometry: RaggedGeometry, epsilon: float, *, symmetric: bool) -> None:
        super().__init__(geometry, epsilon)
        self._ragged = geometry
        self._flat = softmins(geometry.flat, epsilon, symmetric=symmetric)

    def over_columns(self, exponents: np.ndarray) -> np.ndarray:
        return self._ragged.pad_rows(self._flat.over_columns(self._ragged.pack_columns(exponents)))

    def over_rows(self, exponents: np.ndarray) -> np.ndarray:
        swapped = self._ragged.T
        return swapped.pad_rows(self._flat.over_rows(swapped.pack_columns(exponents)))


def softmins(geometry: Geometry, epsilon: float, *, symmetric: bool) -> Softmins:
    """The fastest softmins of a geometry, if many of them are to come; ``symmetric``: between a cloud and itself."""
    if isinstance(geometry, RaggedGeometry):
        return RaggedSoftmins(geometry, epsilon, symmetric=symmetric)
    if is_stabilized(geometry):
        assert isinstance(geometry, PointGeometry)
        return StabilizedSoftmins(geometry, epsilon, symmetric=symmetric)
    if is_absorbed(geometry):
        assert isinstance(geometry, PointGeometry)
        return AbsorbedSoftmins(geometry, epsilon)
    return Softmins(geometry, epsilon)


def is_absorbed(geometry: Geometry) -> bool:
    """Whether the softmins of a geometry come from sums: for squared distances between points in memory."""
    if not isinstance(geometry, PointGeometry) or not isinstance(geometry.x, np.ndarray):
        return False
    return geometry.cost.bilinear


def _keeps_digits(geometry: PointGeometry, epsilon: float) -> bool:
    """Whether scalar products are as good as differences."""
    digits = float(np.finfo(geometry.x.dtype).eps)
    return digits * geometry.cost_bound <= _LOST * epsilon
