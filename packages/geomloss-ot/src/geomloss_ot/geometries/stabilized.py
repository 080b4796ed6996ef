"""Owns the repeated softmins of small problems at one temperature: a stored kernel takes each exponential once.

The kernel absorbs potentials that are close to those of the iterations to come, which then are products of this matrix
with vectors. Source: Schmitzer, *Stabilized sparse scaling algorithms for entropy regularized transport problems*
(arXiv 1610.06519), section 3.1.

Products are cut into pieces that linear algebra libraries compute on the calling thread: their threads meet several
times per iteration, which takes a hundred times longer where anything else uses a core.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from symbolic_matrices.arrays import Array

from .geometry import Geometry
from .points import PointGeometry

_MOST_BYTES = 17e6  # of a kernel: beyond, memory is slower than exponentials
_WORTH_A_KERNEL = 4  # updates that take as long as one
_MOST_LOSSES = 3  # kernels in a row that served for less: potentials wander
_LARGEST = 60.0  # exponents that leave room for sums
_FLOOR = 1e-26  # least sum that is right: entries vanish below 1e-38, and no factor is larger than one
_BLOCK = 250_000  # multiplications: in the cache, and below what linear algebra libraries share among threads


# Memory of past kernels, for the next ones: systems take longer to give it than they to fill it.
_spare: list[np.ndarray] = []
_MOST_SPARE = 2  # kernels that are in use at the same time, as a rule: one per thread


class Softmins:
    """The softmins over the columns and over the rows of a geometry, at one temperature."""

    def __init__(self, geometry: Geometry, epsilon: float) -> None:
        self._geometry, self._epsilon = geometry, epsilon

    def over_columns(self, exponents: Array) -> Array:
        """-epsilon log sum_j exp(h_j - C_ij / epsilon), with h (..., M): (..., N)."""
        return self._geometry.softmin(self._epsilon, exponents)

    def over_rows(self, exponents: Array) -> Array:
        """-epsilon log sum_i exp(h_i - C_ij / epsilon), with h (..., N): (..., M)."""
        return self._geometry.T.softmin(self._epsilon, exponents)

    def slopes(self, row_exponents: Array, column_exponents: Array) -> tuple[Array, Array] | None:
        """Derivatives of both softmins in the points, where they are cheap: (..., N, D) and (..., M, D)."""
        return None

    def close(self) -> None:
        """Give memory back: no softmin is to come."""


class StabilizedSoftmins(Softmins):
    """The same softmins from a stored kernel, while potentials stay close to those that it has absorbed."""

    def __init__(self, geometry: PointGeometry, epsilon: float, *, symmetric: bool) -> None:
        super().__init__(geometry, epsilon)
        self._points = geometry
        self._memory = _memory(math.prod(geometry.shape) * geometry.x.itemsize)
        self._kernel: _Kernel | None = None
        self._uses, self._losses = 0, 0  # of the kernel; kernels in a row that were hardly used
        if symmetric:  # each point is close to one: itself
            zeros = np.zeros_like(geometry.x[..., 0])
            self._kernel = self._absorbed(zeros, zeros)

    def over_columns(self, exponents: Array) -> Array:
        self._uses += 1
        found = None if self._kernel is None else self._kernel.over_columns(exponents)
        if found is None and self._losses < _MOST_LOSSES:
            self._losses = self._losses + 1 if self._uses < _WORTH_A_KERNEL else 0
            self._kernel, self._uses = self._absorbed(None, _finite(exponents)), 0
            found = None if self._kernel is None else self._kernel.over_columns(exponents)
        return super().over_columns(exponents) if found is None else self._epsilon * found

    def over_rows(self, exponents: Array) -> Array:
        found = None if self._kernel is None else self._kernel.over_rows(exponents)
        if found is not None:
            return self._epsilon * found
        self._kernel = None  # the next update over columns makes another one
        return super().over_rows(exponents)

    def slopes(self, row_exponents: Array, column_exponents: Array) -> tuple[Array, Array] | None:
        kernel, points = self._kernel, self._points
        if kernel is None:
            return None
        coefficient = points.cost.coefficient
        left = _slopes(coefficient, (points.x, points.y), kernel.times, column_exponents - kernel.columns)
        right = left
        if points.x is not points.y:
            right = _slopes(
                coefficient, (points.y, points.x), kernel.transposed_times, row_exponents - kernel.rows
            )
        return None if left is None or right is None else (left, right)

    def close(self) -> None:
        self._kernel = None
        if len(_spare) < _MOST_SPARE:
            _spare.append(self._memory)

    def _absorbed(self, rows: np.ndarray | None, columns: np.ndarray) -> _Kernel | None:
        """The kernel of these potentials; None if it does not fit into floating-point numbers.

        Without ``rows``, those that make one the largest entry of each row.
        """
        shape, dtype = self._points.shape, columns.dtype
        matrix = self._memory[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        left, right = self._points.exponent_factors(self._epsilon, rows, columns)
        found = np.empty(shape[:-1], dtype) if rows is None else rows
        for block in _blocks(shape, left.shape[-1]):
            part = matrix[block]
            np.matmul(left[block], right[block[:-1]], out=part)
            top = part.max(-1)
            if rows is None:
                found[block] = -top
                part -= top[..., None]
            elif not top.max() <= _LARGEST:
                return None
            np.exp(part, out=part)
        return _Kernel(matrix, found, columns) if np.isfinite(found).all() else None


@dataclass(frozen=True)
class _Kernel:
    """matrix_ij = exp(rows_i + columns_j - C_ij / epsilon)."""

    matrix: np.ndarray  # (..., N, M), in C order
    rows: np.ndarray  # (..., N)
    columns: np.ndarray  # (..., M)

    def over_columns(self, exponents: np.ndarray) -> np.ndarray | None:
        """Minus the logarithm of sum_j exp(h_j - C_ij / epsilon); None where the kernel cannot tell."""
        shifts = exponents - self.columns
        top = shifts.max(-1, keepdims=True)
        # As many scalar products as there are rows.
        sums = (self.matrix[..., None, :] @ np.exp(shifts - top)[..., None, :, None])[..., 0, 0]
        return _logarithms(self.rows - top, sums)

    def over_rows(self, exponents: np.ndarray) -> np.ndarray | None:
        """Minus the logarithm of sum_i exp(h_i - C_ij / epsilon); None where the kernel cannot tell."""
        shifts = exponents - self.rows
        top = shifts.max(-1, keepdims=True)
        sums = np.einsum("...ij,...i->...j", self.matrix, np.exp(shifts - top))
        return _logarithms(self.columns - top, sums)

    def times(self, values: np.ndarray) -> np.ndarray:
        """The matrix times v (..., M, E)."""
        found = np.empty((*self.matrix.shape[:-1], values.shape[-1]), values.dtype)
        for block in _blocks(self.matrix.shape, values.shape[-1]):
            np.matmul(self.matrix[block], values[block[:-1]], out=found[block])
        return found

    def transposed_times(self, values: np.ndarray) -> np.ndarray:
        """The transposed matrix times v (..., N, E)."""
        shape = self.matrix.shape
        found = np.zeros((*shape[:-2], shape[-1], values.shape[-1]), values.dtype)
        for block in _blocks(shape, values.shape[-1]):
            found[block[:-1]] += self.matrix[block].T @ values[block]
        return found


def is_stabilized(geometry: Geometry) -> bool:
    """Whether the softmins of a geometry come from a stored kernel."""
    if not isinstance(geometry, PointGeometry) or geometry.ranges is not None or not geometry.cost.bilinear:
        return False
    is_small = math.prod(geometry.shape) * geometry.x.itemsize <= _MOST_BYTES
    return is_small and isinstance(geometry.x, np.ndarray)


def _memory(size: int) -> np.ndarray:
    """So many bytes, whose content does not matter."""
    with contextlib.suppress(IndexError):  # another thread may have taken the last one
        found = _spare.pop()
        if found.size >= size:
            return found
    return np.empty(size, np.uint8)


def _blocks(shape: tuple[int, ...], operations: int) -> Iterator[tuple[int | slice, ...]]:
    """The places of blocks of rows of the matrices of a batch, for so many multiplications per entry."""
    rows = max(1, _BLOCK // (operations * shape[-1]))
    for batch in np.ndindex(shape[:-2]):
        for start in range(0, shape[-2], rows):
            yield (*batch, slice(start, start + rows))


def _slopes(
    coefficient: float,
    points: tuple[np.ndarray, np.ndarray],
    product: Callable[[np.ndarray], np.ndarray],
    shifts: np.ndarray,
) -> np.ndarray | None:
    """Displacements from x to the means of y: see ``PointGeometry.slopes``."""
    x, y = points
    scaling = np.exp(shifts - shifts.max(-1, keepdims=True))[..., None]
    sums = product(np.concatenate([scaling * y, scaling], -1))
    if not sums[..., -1].min() >= _FLOOR:
        return None
    return 2 * coefficient * (x - sums[..., :-1] / sums[..., -1:])


def _logarithms(own: np.ndarray, sums: np.ndarray) -> np.ndarray | None:
    """own - log(sums); None where the largest terms are too small to be told from zero."""
    if not sums.min() >= _FLOOR:  # or not a number, after a wild extrapolation
        return None
    return own - np.log(sums)


def _finite(exponents: np.ndarray) -> np.ndarray:
    """Exponents with those of points without mass, minus infinity, replaced by the least of the others."""
    finite = np.isfinite(exponents)
    if finite.all():
        return exponents
    least = np.where(finite, exponents, np.inf).min(-1, keepdims=True)
    return np.where(finite, exponents, least)
