"""Owns Anderson's acceleration of fixed-point iterations; ignores what is iterated."""

from __future__ import annotations

from symbolic_matrices.arrays import Array, library_of

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
    steps = xp.stack([state - s + residual - r for s, r in history[:-1]], -2)  # (..., K, M)
    changes = library.astype(xp.stack([residual - r for _, r in history[:-1]], -2), "float64")
    weighted = changes * library.astype(weights, "float64")[..., None, :]
    gram = weighted @ xp.swapaxes(changes, -1, -2)
    moments = weighted @ library.astype(residual, "float64")[..., None]
    diagonal = xp.einsum("...kk->...k", gram)
    scales = xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0))
    gram = gram / (scales[..., :, None] * scales[..., None, :])
    solution = xp.linalg.solve(gram + _RIDGE * _identity(gram), moments / scales[..., None])
    coefficients = library.astype(solution / scales[..., None], library.dtype_name(state))
    return state + residual - (xp.swapaxes(coefficients, -1, -2) @ steps)[..., 0, :]


def _identity(like: Array) -> Array:
    size = like.shape[-1]
    library = library_of(like)
    return library.convert(
        [[float(i == j) for j in range(size)] for i in range(size)], "float64", library.device(like)
    )
