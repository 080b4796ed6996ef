"""Owns Anderson's acceleration of fixed-point iterations; ignores what is iterated."""

from __future__ import annotations

import functools

from symbolic_matrices.arrays import Array, ArrayLibrary, library_of

MEMORY = 10
_RIDGE = 1e-10

History = tuple[tuple[Array, Array], ...]  # pairs (state, residual), each (..., M), oldest first


def extrapolate(history: History, weights: Array) -> Array:
    """The next state: Anderson mixing of the last states of a fixed-point iteration.

    Among the affine combinations of the residuals ``map(state) - state``, the one of least squared norm, weighted by
    ``weights`` (..., M); the new state is the same combination of the ``map(state)``. Each problem of the batch has
    coefficients of its own. Source: Walker and Ni, *Anderson acceleration for fixed-point iterations* (2011).
    """
    state, residual = history[-1]
    if len(history) == 1:
        return state + residual
    library = library_of(state)
    xp = library.namespace
    states, residuals = (xp.stack([entry[k] for entry in history[:-1]], -2) for k in (0, 1))  # (..., K, M)
    changes = residual[..., None, :] - residuals
    steps = (state[..., None, :] - states) + changes
    changes = library.astype(changes, "float64")
    weighted = changes * library.astype(weights, "float64")[..., None, :]
    gram = weighted @ xp.swapaxes(changes, -1, -2)
    moments = weighted @ library.astype(residual, "float64")[..., None]
    diagonal = xp.einsum("...kk->...k", gram)
    scales = xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0))
    gram = gram / (scales[..., :, None] * scales[..., None, :])
    solution = xp.linalg.solve(
        gram + _ridge(gram.shape[-1], library, library.device(state)), moments / scales[..., None]
    )
    coefficients = library.astype(solution / scales[..., None], library.dtype_name(state))
    return state + residual - (xp.swapaxes(coefficients, -1, -2) @ steps)[..., 0, :]


@functools.lru_cache(maxsize=64)
def _ridge(size: int, library: ArrayLibrary, device: str) -> Array:
    return library.convert([[_RIDGE * (i == j) for j in range(size)] for i in range(size)], "float64", device)
