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
    steps = xp.stack([state - s + residual - r for s, r in history[:-1]])  # (K, ..., M)
    changes = library.astype(xp.stack([residual - r for _, r in history[:-1]]), "float64")
    weighted = changes * library.astype(weights, "float64")
    gram = xp.einsum("k...j,l...j->...kl", weighted, changes)
    moments = xp.einsum("k...j,...j->...k", weighted, library.astype(residual, "float64"))
    diagonal = xp.einsum("...kk->...k", gram)
    scales = xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0))
    gram = gram / (scales[..., :, None] * scales[..., None, :])
    ridge = _RIDGE * xp.ones_like(scales)[..., None, :] * _identity(gram)
    solution = xp.linalg.solve(gram + ridge, (moments / scales)[..., None])[..., 0] / scales
    return (
        state
        + residual
        - xp.einsum("...k,k...j->...j", library.astype(solution, library.dtype_name(state)), steps)
    )


def _identity(like: Array) -> Array:
    size = like.shape[-1]
    library = library_of(like)
    return library.convert(
        [[float(i == j) for j in range(size)] for i in range(size)], "float64", library.device(like)
    )
