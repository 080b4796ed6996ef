"""Owns transport between Gaussian mixtures, as a small linear program on their components; ignores samples."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse

from symbolic_matrices.arrays import Array, library_of

from .costs import root
from .gaussians import bures_wasserstein_barycenter, check_gaussians, geodesic, squared_distance
from .measures import Measure, check_compatible_masses, check_same_kind, check_weights, uniform_weights

_CONSERVED = ((1.0, 1.0), (1.0, 1.0))
_MAX_TUPLES = 20_000


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
    """Mass that goes from each component of a to each component of b, for :func:`gaussian_mixture_distance`.

    Parameters
    ----------
    m_a, m_b, C_a, C_b, w_a, w_b
        As for :func:`gaussian_mixture_distance`.

    Returns
    -------
    Array
        An optimal plan (K, L), at a vertex of the polytope: at most K + L - 1 entries are not null. No gradient goes
        through it.

    Raises
    ------
    ValueError
        As :func:`gaussian_mixture_distance`.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import gaussian_mixture_plan
    >>> means, covariances = np.array([[0.0], [4.0]]), np.ones((2, 1, 1))
    >>> gaussian_mixture_plan(means, means[::-1] + 1, covariances, covariances)
    array([[0. , 0.5],
           [0.5, 0. ]])
    """
    source, target = (_component_weights(name, w, m) for name, w, m in (("w_a", w_a, m_a), ("w_b", w_b, m_b)))
    check_compatible_masses((Measure(source), Measure(target)), _CONSERVED)
    library = library_of(m_a)
    costs, weights_a, weights_b = (
        np.asarray(library.detach(values).tolist())
        for values in (_component_costs(m_a, m_b, C_a, C_b), source, target)
    )
    plan = _linear_program(costs, [weights_a, weights_b * (weights_a.sum() / weights_b.sum())])
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

    Parameters
    ----------
    m_a, m_b, C_a, C_b, w_a, w_b
        As for :func:`gaussian_mixture_distance`.
    t
        Time between 0, where a is, and 1, where b is.

    Returns
    -------
    Mixture
        Means (P, D), covariances (P, D, D) and weights (P,).

    Raises
    ------
    ValueError
        As :func:`gaussian_mixture_distance`, and for times out of [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import gaussian_mixture_geodesic
    >>> means, covariances = np.array([[0.0], [4.0]]), np.ones((2, 1, 1))
    >>> gaussian_mixture_geodesic(means, means + 2, covariances, covariances, t=0.5).means
    array([[1.],
           [5.]])
    """
    plan = gaussian_mixture_plan(m_a, m_b, C_a, C_b, w_a, w_b)
    origin, end = library_of(plan).namespace.where(plan > 0)
    between = geodesic(m_a[origin], m_b[end], C_a[origin], C_b[end], t)
    return Mixture(between.mean, between.covariance, plan[origin, end])


def gaussian_mixture_barycenter(
    m: Sequence[Array],
    C: Sequence[Array],
    w: Sequence[Array] | None = None,
    weights: Array | None = None,
) -> Mixture:
    r"""Barycentre of Gaussian mixtures for :func:`gaussian_mixture_distance`: the mixture that minimises

    .. math::
        \sum_k \lambda_k \, MW_2^2(\cdot, \nu_k) = \min_P \sum_{i_1 \dots i_K} P_{i_1 \dots i_K}
        \min_N \sum_k \lambda_k W_2^2(N, N^k_{i_k}),

    where the marginals of the multi-marginal plan P are the weights of the components.

    Parameters
    ----------
    m, C
        Means (M_k, D) and covariances (M_k, D, D) of the components of the K mixtures.
    w
        Weights of the components, (M_k,), of equal sums. Default: 1/M_k.
    weights
        lambda_k, (K,), normalised by their sum. Default: 1/K.

    Returns
    -------
    Mixture
        One component per group of components that the plan sends to the same place: at most sum_k M_k - K + 1.

    Raises
    ------
    ValueError
        As :func:`gaussian_mixture_distance`, and if the plan would have more than 20,000 entries.

    Notes
    -----
    Source: Delon and Desolneux, *A Wasserstein-type distance in the space of Gaussian mixture models* (2020).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import gaussian_mixture_barycenter
    >>> means, covariances = np.array([[0.0], [4.0]]), np.ones((2, 1, 1))
    >>> gaussian_mixture_barycenter([means, means + 3, means[::-1] + 6], [covariances] * 3).means
    array([[3.],
           [7.]])
    """
    measures = _read_mixtures(m, C, w)
    library = library_of(m[0])
    like = library.full((len(m), 1), 1.0, library.dtype_name(m[0]), library.device(m[0]))
    shares = _component_weights("weights", weights, like)
    sizes = [len(means) for means in m]
    centres, costs = [], []
    for group in itertools.product(*map(range, sizes)):
        means = library.namespace.stack([mean[i] for mean, i in zip(m, group, strict=True)])
        covariances = library.namespace.stack([matrix[i] for matrix, i in zip(C, group, strict=True)])
        centre = bures_wasserstein_barycenter(means, covariances, shares)
        centres.append(centre)
        costs.append(_energy(centre.mean, centre.covariance, (means, covariances, shares)))
    found = _linear_program(np.array(costs).reshape(sizes), measures).ravel()
    kept = [k for k, mass in enumerate(found.tolist()) if mass > 0]
    stack = library.namespace.stack
    return Mixture(
        stack([centres[k].mean for k in kept]),
        stack([centres[k].covariance for k in kept]),
        library.convert(found[kept].tolist(), library.dtype_name(m[0]), library.device(m[0])),
    )


def _read_mixtures(m: Sequence[Array], C: Sequence[Array], w: Sequence[Array] | None) -> list[np.ndarray]:
    """The weights of the components of each mixture, of the same mass."""
    if not m or len(C) != len(m) or (w is not None and len(w) != len(m)):
        raise ValueError(
            f"Received {len(m)} arrays of means, {len(C)} of covariances and {len(m if w is None else w)} of weights: "
            "expected as many, one per mixture."
        )
    entries = math.prod(len(means) for means in m)
    if entries > _MAX_TUPLES:
        raise ValueError(
            f"A plan between {len(m)} mixtures of {[len(means) for means in m]} components has {entries} entries: "
            f"expected at most {_MAX_TUPLES}. Merge components, or average the mixtures two by two."
        )
    measures = []
    for k, (means, covariances) in enumerate(zip(m, C, strict=True)):
        check_gaussians(means, means, covariances, covariances)
        check_gaussians(m[0][:1], means[:1], C[0][:1], covariances[:1])
        measures.append(Measure(_component_weights(f"w[{k}]", None if w is None else w[k], means)))
        check_compatible_masses((measures[0], measures[k]), _CONSERVED)
    detach = library_of(m[0]).detach
    weights = [np.asarray(detach(measure.weights).tolist()) for measure in measures]
    return [values * (weights[0].sum() / values.sum()) for values in weights]


def _energy(mean: Array, covariance: Array, gaussians: tuple[Array, Array, Array]) -> float:
    """sum_k share_k W_2^2 between one Gaussian and others."""
    means, covariances, shares = gaussians
    xp, detach = library_of(mean).namespace, library_of(mean).detach
    squares = squared_distance(
        xp.broadcast_to(mean, means.shape), means, xp.broadcast_to(covariance, covariances.shape), covariances
    )
    return float(detach((shares * squares).sum() / shares.sum()))


def _component_costs(m_a: Array, m_b: Array, C_a: Array, C_b: Array) -> Array:
    """W_2^2 between all pairs of components: (K, L)."""
    check_gaussians(m_a, m_a, C_a, C_a)
    check_gaussians(m_b, m_b, C_b, C_b)
    check_same_kind("m_b", m_b, "m_a", m_a)
    if m_a.ndim != 2 or m_b.ndim != 2 or m_a.shape[-1] != m_b.shape[-1]:
        raise ValueError(
            f"m_a and m_b have shapes {tuple(m_a.shape)} and {tuple(m_b.shape)}: expected (K, D) and (L, D), with the "
            "same D."
        )
    xp = library_of(m_a).namespace
    shape = (m_a.shape[0], m_b.shape[0], m_a.shape[-1])
    means = (xp.broadcast_to(m_a[:, None], shape), xp.broadcast_to(m_b[None], shape))
    square = (*shape, shape[-1])
    return squared_distance(*means, xp.broadcast_to(C_a[:, None], square), xp.broadcast_to(C_b[None], square))


def _component_weights(name: str, weights: Array | None, means: Array) -> Array:
    weights = uniform_weights(means) if weights is None else weights
    check_weights(name, weights, tuple(means.shape[:1]), means)
    return weights


def _linear_program(costs: np.ndarray, marginals: list[np.ndarray]) -> np.ndarray:
    """Exact transport plan of a small problem with one marginal per axis of the costs, at a vertex of the polytope."""
    constraints = []
    for axis in range(costs.ndim):
        factors = [
            sparse.identity(size) if k == axis else np.ones((1, size)) for k, size in enumerate(costs.shape)
        ]
        constraints.append(functools.reduce(sparse.kron, factors))
    found = optimize.linprog(
        costs.ravel(), A_eq=sparse.vstack(constraints), b_eq=np.concatenate(marginals), method="highs"
    )
    assert found.status == 0, found.message
    return np.where(found.x > 0, found.x, 0.0).reshape(costs.shape)
