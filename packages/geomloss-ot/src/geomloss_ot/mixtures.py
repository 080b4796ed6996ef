"""Owns transport between Gaussian mixtures, as a small linear program on their components; ignores samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse

from symbolic_matrices.arrays import Array, library_of

from .costs import root
from .gaussians import check_gaussians, geodesic, squared_distance
from .measures import Measure, check_compatible_masses, check_weights, uniform_weights

_CONSERVED = ((1.0, 1.0), (1.0, 1.0))


class Mixture(NamedTuple):
    """Means (K, D), covariances (K, D, D) and weights (K,)."""

    means: Array
    covariances: Array
    weights: Array


def gaussian_mixture_distance(
    m_a: Array, m_b: Array, C_a: Array, C_b: Array, w_a: Array | None = None, w_b: Array | None = None
) -> Array:
    r"""Wasserstein distance between Gaussian mixtures, among plans that are Gaussian mixtures too.

    .. math::
        MW_2^2 = \min_{P 1 = w_a,\, P^\top 1 = w_b} \sum_{kl} P_{kl}\, W_2^2(N_k, N_l)

    Parameters
    ----------
    m_a, m_b
        Means of the components, (K, D) and (L, D).
    C_a, C_b
        Covariances of the components, (K, D, D) and (L, D, D).
    w_a, w_b
        Weights of the components, (K,) and (L,), of equal sums. Default: 1/K and 1/L.

    Returns
    -------
    Array
        MW_2, not squared: not less than the Wasserstein distance between the mixtures. Differentiable in means and
        covariances with PyTorch.

    Raises
    ------
    ValueError
        As :func:`bures_wasserstein_distance`, and for weights of different sums.

    Notes
    -----
    Source: Delon and Desolneux, *A Wasserstein-type distance in the space of Gaussian mixture models* (2020).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import gaussian_mixture_distance
    >>> means, covariances = np.array([[0.0], [4.0]]), np.ones((2, 1, 1))
    >>> float(gaussian_mixture_distance(means, means[::-1] + 2, covariances, covariances).round(6))
    2.0
    """
    costs = _component_costs(m_a, m_b, C_a, C_b)
    squares = (gaussian_mixture_plan(m_a, m_b, C_a, C_b, w_a, w_b) * costs).sum()
    return root(squares, library_of(m_a).namespace)


def gaussian_mixture_plan(
    m_a: Array, m_b: Array, C_a: Array, C_b: Array, w_a: Array | None = None, w_b: Array | None = None
) -> Array:
    """Mass (K, L) that goes from each component of a to each component of b, for :func:`gaussian_mixture_distance`."""
    source, target = (_component_weights(name, w, m) for name, w, m in (("w_a", w_a, m_a), ("w_b", w_b, m_b)))
    check_compatible_masses((Measure(source), Measure(target)), _CONSERVED)
    library = library_of(m_a)
    costs, weights_a, weights_b = (
        np.asarray(library.detach(values).tolist())
        for values in (_component_costs(m_a, m_b, C_a, C_b), source, target)
    )
    plan = _linear_program(costs, weights_a, weights_b * (weights_a.sum() / weights_b.sum()))
    return library.convert(plan.tolist(), library.dtype_name(m_a), library.device(m_a))


def gaussian_mixture_geodesic(
    m_a: Array,
    m_b: Array,
    C_a: Array,
    C_b: Array,
    w_a: Array | None = None,
    w_b: Array | None = None,
    *,
    t: float,
) -> Mixture:
    """The mixture at time ``t`` in [0, 1] of the geodesic of :func:`gaussian_mixture_distance`.

    One component per pair that exchanges mass, at most K + L - 1, on its own Wasserstein geodesic.
    """
    plan = gaussian_mixture_plan(m_a, m_b, C_a, C_b, w_a, w_b)
    origin, end = library_of(plan).namespace.where(plan > 0)
    between = geodesic(m_a[origin], m_b[end], C_a[origin], C_b[end], t)
    return Mixture(between.mean, between.covariance, plan[origin, end])


def _component_costs(m_a: Array, m_b: Array, C_a: Array, C_b: Array) -> Array:
    """W_2^2 between all pairs of components: (K, L)."""
    check_gaussians(m_a, m_a, C_a, C_a)
    check_gaussians(m_b, m_b, C_b, C_b)
    xp = library_of(m_a).namespace
    shape = (m_a.shape[0], m_b.shape[0], m_a.shape[-1])
    means = (xp.broadcast_to(m_a[:, None], shape), xp.broadcast_to(m_b[None], shape))
    square = (*shape, shape[-1])
    return squared_distance(*means, xp.broadcast_to(C_a[:, None], square), xp.broadcast_to(C_b[None], square))


def _component_weights(name: str, weights: Array | None, means: Array) -> Array:
    weights = uniform_weights(means) if weights is None else weights
    check_weights(name, weights, tuple(means.shape[:1]), means)
    return weights


def _linear_program(costs: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Exact transport plan of a small problem, at a vertex of the polytope."""
    n, m = costs.shape
    rows = sparse.kron(sparse.identity(n), np.ones((1, m)))
    columns = sparse.kron(np.ones((1, n)), sparse.identity(m))
    found = optimize.linprog(
        costs.ravel(),
        A_eq=sparse.vstack([rows, columns]),
        b_eq=np.concatenate([a, b]),
        method="highs",
    )
    assert found.status == 0, found.message
    return np.asarray(found.x).reshape(n, m)
