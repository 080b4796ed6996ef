"""Owns Anderson's acceleration of fixed-point iterations; ignores what is iterated."""

from __future__ import annotations

import functools
import math

from symbolic_matrices.arrays import Array, ArrayLibrary, library_of

MEMORY = 10
_RIDGE = 1e-10
_REACH = 20.0  # longest step, in units of the path that is remembered


class Acceleration:
    """Anderson mixing of the last iterations of fixed-point maps, one per problem of a batch.

    Among the affine combinations of the last residuals ``map(state) - state``, the one of least squared norm, weighted
    by ``weights`` (..., M), says how to combine the ``map(state)``. Only what changed from one iteration to the next is
    kept, with its scalar products. Source: Walker and Ni, *Anderson acceleration for fixed-point iterations* (2011).
    """

    def __init__(self, weights: Array) -> None:
        library = self._library = library_of(weights)
        dtype, device = library.dtype_name(weights), library.device(weights)
        *batch, size = weights.shape
        self._weights = library.astype(weights, "float64")
        self._residuals = library.full((*batch, MEMORY, size), 0.0, "float64", device)  # their changes
        self._images = library.full((*batch, MEMORY, size), 0.0, dtype, device)  # changes of map(state)
        self._gram = library.full((*batch, MEMORY, MEMORY), 0.0, "float64", device)
        self._lengths = library.full((*batch, MEMORY), 0.0, dtype, device)  # of the changes of map(state)
        self._still = float(library.namespace.finfo(weights.dtype).eps)
        self._changes = 0
        self._last: tuple[Array, Array] | None = None  # residual and image

    def forget(self) -> None:
        """Start anew."""
        self._changes, self._last = 0, None

    def extrapolate(self, state: Array, residual: Array) -> Array:
        """The next state, after those that this was called with."""
        image, wide = state + residual, self._library.astype(residual, "float64")
        last, self._last = self._last, (wide, image)
        if last is None:
            return image
        place = self._changes % MEMORY
        self._changes += 1
        change = wide - last[0]
        self._residuals[..., place, :] = change
        self._images[..., place, :] = step = image - last[1]
        self._lengths[..., place] = self._length(step)
        count = min(self._changes, MEMORY)
        # One product per vector: libraries take six times as long for matrices of two columns.
        own, moments = (
            self._residuals[..., :count, :] @ (self._weights * v)[..., None] for v in (change, wide)
        )
        self._gram[..., :count, place] = own[..., 0]
        self._gram[..., place, :count] = own[..., 0]
        basis = _sums_up_to_now(count, place, self._library, self._library.device(state))
        gram = basis @ self._gram[..., :count, :count] @ basis.T
        smallest = self._still * (wide**2 * self._weights).sum(-1)[..., None]
        coefficients = self._solve(gram, basis @ moments, smallest) @ basis
        narrow = self._library.astype(coefficients, self._library.dtype_name(state))
        further = -(narrow[..., None, :] @ self._images[..., :count, :])[..., 0, :]
        return image + self._within_reach(further, self._lengths[..., :count].sum(-1))

    def _solve(self, gram: Array, moments: Array, smallest: Array) -> Array:
        """The solution of a system (..., K, K) for (..., K, 1), scaled to a diagonal of one: (..., K).

        Where no residual has changed by its ``smallest`` square, up to rounding, quotients tell nothing: on a straight
        line, go twice as far.
        """
        xp = self._library.namespace
        diagonal = xp.einsum("...kk->...k", gram)
        seen = diagonal > smallest
        scales = xp.sqrt(xp.where(seen, diagonal, math.inf))
        ridge = _ridge(gram.shape[-1], self._library, self._library.device(gram))
        scaled = gram / (scales[..., :, None] * scales[..., None, :]) + ridge
        solution = xp.linalg.solve(scaled, moments / scales[..., None])[..., 0] / scales
        twice = xp.zeros_like(solution)
        twice[..., 0] = -1.0  # what changed since the oldest iteration
        return xp.where(seen.any(-1)[..., None], solution, twice)

    def _within_reach(self, step: Array, path: Array) -> Array:
        xp = self._library.namespace
        length = self._length(step)
        return xp.clip(_REACH * path / xp.where(length > 0, length, 1.0), None, 1.0)[..., None] * step

    def _length(self, step: Array) -> Array:
        return self._library.namespace.amax(abs(step), -1)


@functools.lru_cache(maxsize=256)
def _sums_up_to_now(size: int, place: int, library: ArrayLibrary, device: str) -> Array:
    """What changed since each iteration, in terms of the changes: the last one is at ``place``, the others go round.

    Systems in these terms are better scaled, as their solutions are small where iterations have wandered.
    """
    rows = [[0.0] * size for _ in range(size)]
    for first in range(size):
        for k in range(first, size):
            rows[first][(place + 1 + k) % size] = 1.0
    return library.convert(rows, "float64", device)


@functools.lru_cache(maxsize=64)
def _ridge(size: int, library: ArrayLibrary, device: str) -> Array:
    return library.convert([[_RIDGE * (i == j) for j in range(size)] for i in range(size)], "float64", device)
