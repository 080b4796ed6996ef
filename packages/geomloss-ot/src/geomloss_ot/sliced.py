"""Owns transport on a line, by sorting, and its averages and maxima over directions; ignores entropy."""

from __future__ import annotations

import math

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from .arguments import check_clouds, check_count, check_positive, read_measures
from .costs import root
from .measures import check_array, check_compatible_masses, check_points, check_same_kind

_CONSERVED = ((1.0, 1.0), (1.0, 1.0))
_SMALLEST_STEP = 1e-6  # radians: ascents stop when they turn by less


def wasserstein_1d(
    x_a: Array, x_b: Array, a: Array | None = None, b: Array | None = None, p: float = 2.0
) -> Array:
    r"""Exact transport cost between two measures on a line.

    .. math::
        W_p^p(a, b) = \int_0^m |F_a^{-1}(t) - F_b^{-1}(t)|^p \, dt,

    where F_a and F_b are the cumulative distributions and m the common mass: the p-th power of the
    Wasserstein distance.

    Parameters
    ----------
    x_a, x_b
        Positions (N,) and (M,), or batches (..., N) and (..., M): NumPy, PyTorch or CuPy, float32 or float64.
    a, b
        Non-negative weights of the same shapes and of equal masses. Default: 1/N and 1/M.
    p
        Exponent, at least one.

    Returns
    -------
    Array
        A scalar, or one value per problem of the batch; differentiable in positions and weights with PyTorch.

    Raises
    ------
    ValueError
        For wrong shapes, unequal masses, non-finite positions, negative weights, or p below one, for which sorting is
        not optimal.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import wasserstein_1d
    >>> float(wasserstein_1d(np.array([0.0, 1.0]), np.array([3.0, 2.0]), p=1))
    2.0
    """
    _check_exponent(p)
    for name, line in (("x_a", x_a), ("x_b", x_b)):
        check_array(name, line)
        if line.ndim < 1 or line.shape[-1] == 0 or line.shape[:-1] != x_a.shape[:-1]:
            raise ValueError(
                f"x_a and x_b have shapes {tuple(x_a.shape)} and {tuple(x_b.shape)}: expected positions (N,) and (M,), "
                "or (..., N) and (..., M) with the same batch."
            )
    points_a, points_b = x_a[..., None], x_b[..., None]
    check_clouds(points_a, points_b, ("x_a", "x_b"))
    source, target = read_measures((points_a, points_b), (a, b))
    check_compatible_masses((source, target), _CONSERVED)
    return _as_input(_sorted_cost((x_a, x_b), (source.weights, target.weights), p), x_a)


def sliced_wasserstein_distance(
    X_a: Array,
    X_b: Array,
    a: Array | None = None,
    b: Array | None = None,
    n_projections: int = 50,
    p: float = 2.0,
    *,
    projections: Array | None = None,
    seed: int = 0,
) -> Array:
    r"""Wasserstein distance of the projections on a line, averaged over directions.

    .. math::
        SW_p(a, b) = \Big( \frac1L \sum_{l=1}^L W_p^p(\langle x, \theta_l \rangle_\sharp a,
        \langle y, \theta_l \rangle_\sharp b) \Big)^{1/p}

    Parameters
    ----------
    X_a, X_b
        Points, (N, D) and (M, D), or batches (B, N, D) and (B, M, D).
    a, b
        Non-negative weights of equal masses. Default: 1/N and 1/M.
    n_projections
        Number L of random directions.
    p
        Exponent, at least one.
    projections
        Directions (D, L) to use instead, of length one: they are not normalised.
    seed
        Of the random directions: the same seed gives the same function of the measures.

    Returns
    -------
    Array
        SW_p, not its p-th power: a scalar, or (B,); differentiable in points and weights with PyTorch.

    Raises
    ------
    ValueError
        As :func:`wasserstein_1d`.

    Notes
    -----
    Source: Bonneel et al., *Sliced and Radon Wasserstein barycenters of measures* (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import sliced_wasserstein_distance
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> axes = np.eye(2)  # the mean of 3^2 and 4^2
    >>> round(float(sliced_wasserstein_distance(x, x + [3.0, 4.0], projections=axes)) ** 2, 6)
    12.5
    """
    _check_exponent(p)
    weights = _check_measures(X_a, X_b, a, b)
    if projections is None:
        projections = _directions(X_a, n_projections, seed)
    check_points("projections", projections)
    check_same_kind("projections", projections, "X_a", X_a)
    if projections.ndim != 2 or projections.shape[0] != X_a.shape[-1]:
        raise ValueError(
            f"projections has shape {tuple(projections.shape)}: expected ({X_a.shape[-1]}, L), one direction per "
            "column."
        )
    costs = _projected_costs((X_a, X_b), weights, projections, p)
    return _as_input(root(costs.mean(-1), library_of(X_a).namespace, p), X_a)


def max_sliced_wasserstein_distance(
    X_a: Array,
    X_b: Array,
    a: Array | None = None,
    b: Array | None = None,
    n_projections: int = 50,
    p: float = 2.0,
    *,
    n_steps: int = 50,
    seed: int = 0,
) -> Array:
    r"""Largest Wasserstein distance between projections on a line.

    .. math::
        \max_{|\theta| = 1} W_p(\langle x, \theta \rangle_\sharp a, \langle y, \theta \rangle_\sharp b)

    Ascents from ``n_projections`` random directions; the maximum over directions is not a concave problem, so that
    the result is a lower bound, which improves with their number.

    Parameters
    ----------
    X_a, X_b, a, b, p, seed
        As for :func:`sliced_wasserstein_distance`, without batches.
    n_projections
        Number of starting points.
    n_steps
        Largest number of steps of each ascent. 0: the best of the random directions.

    Returns
    -------
    Array
        A scalar; differentiable in points and weights with PyTorch, at the direction that was found.

    Raises
    ------
    ValueError
        As :func:`wasserstein_1d`.

    Notes
    -----
    Source: Deshpande et al., *Max-sliced Wasserstein distance and its use for GANs* (2019).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import max_sliced_wasserstein_distance
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> round(float(max_sliced_wasserstein_distance(x, x + [3.0, 4.0])), 4)
    5.0
    """
    _check_exponent(p)
    check_count("n_steps", n_steps, 0)
    weights = _check_measures(X_a, X_b, a, b)
    if X_a.ndim != 2:
        raise ValueError(
            f"X_a has shape {tuple(X_a.shape)}: expected (N, D); call once per problem of a batch."
        )
    detach = library_of(X_a).detach
    fixed = (detach(X_a), detach(X_b)), (detach(weights[0]), detach(weights[1]))
    theta = _ascent(fixed, _directions(X_a, n_projections, seed), p, n_steps)
    cost = _projected_costs((X_a, X_b), weights, theta, p)[..., 0]
    return _as_input(root(cost, library_of(X_a).namespace, p), X_a)


def _ascent(
    measures: tuple[tuple[Array, Array], tuple[Array, Array]], theta: Array, p: float, n_steps: int
) -> Array:
    """The best direction (D, 1) found by turning each column of ``theta`` uphill, by steps that adapt to it."""
    xp = library_of(theta).namespace
    costs = _projected_costs(*measures, theta, p)  # (L,)
    steps = xp.ones_like(costs)  # angles, in radians
    for _ in range(n_steps):
        slope = _slope_in_direction(*measures, theta, p)
        tangent = slope - theta * (theta * slope).sum(0)
        norm = xp.sqrt((tangent**2).sum(0))
        tangent = tangent / xp.where(norm > 0, norm, 1.0)
        turned = theta * xp.cos(steps) + tangent * xp.sin(steps)
        turned = turned / xp.sqrt((turned**2).sum(0))
        found = _projected_costs(*measures, turned, p)
        better = found > costs
        theta, costs = xp.where(better, turned, theta), xp.where(better, found, costs)
        steps = xp.where(better, 1.2 * steps, steps / 3)
        if bool((steps < _SMALLEST_STEP).all()):
            break
    best = int(costs.argmax())
    return theta[:, best : best + 1]


def _slope_in_direction(
    points: tuple[Array, Array], weights: tuple[Array, Array], theta: Array, p: float
) -> Array:
    """Gradient of the projected costs in the directions, (D, L), with the matching as it is."""
    library = library_of(theta)
    xp = library.namespace
    lines = [xp.swapaxes(x @ theta, -1, -2) for x in points]
    masses, cells, orders = _matching((lines[0], lines[1]), weights)
    matched = []
    for x, line, cell, order in zip(points, lines, cells, orders, strict=True):
        index = library.gather(order, cell, -1)  # (L, K): the point that each piece of mass comes from
        matched.append((x[index], library.gather(line, index, -1)))
    gap = matched[0][1] - matched[1][1]
    force = p * xp.sign(gap) * abs(gap) ** (p - 1) * library.astype(masses, library.dtype_name(gap))
    return xp.einsum("lk,lkd->dl", force, matched[0][0] - matched[1][0])


def _projected_costs(
    points: tuple[Array, Array], weights: tuple[Array, Array], theta: Array, p: float
) -> Array:
    """W_p^p of the projections on each of the L columns of theta: (..., L), in float64."""
    xp = library_of(theta).namespace
    lines = [xp.swapaxes(x @ theta, -1, -2) for x in points]  # (..., L, N)
    return _sorted_cost((lines[0], lines[1]), (weights[0][..., None, :], weights[1][..., None, :]), p)


def _sorted_cost(positions: tuple[Array, Array], weights: tuple[Array, Array], p: float) -> Array:
    """sum_k m_k |x_i(k) - y_j(k)|^p over the pieces of mass of the monotone matching, in float64."""
    library = library_of(positions[0])
    masses, cells, orders = _matching(positions, weights)
    gaps = [
        library.gather(library.astype(x, "float64"), library.gather(order, cell, -1), -1)
        for x, cell, order in zip(positions, cells, orders, strict=True)
    ]
    return (masses * abs(gaps[0] - gaps[1]) ** p).sum(-1)


def _matching(
    positions: tuple[Array, Array], weights: tuple[Array, Array]
) -> tuple[Array, tuple[Array, Array], tuple[Array, Array]]:
    """Masses (..., K) of the pieces that travel together, their ranks on both sides, and the orders of both sides.

    The cumulative weights of both sides cut [0, m] into K = N + M pieces.
    """
    library = library_of(positions[0])
    xp = library.namespace
    orders = tuple(library.stable_argsort(library.detach(x), -1) for x in positions)
    ends = []
    for order, weight in zip(orders, weights, strict=True):
        sorted_weights = library.gather(xp.broadcast_to(weight, order.shape), order, -1)
        ends.append(xp.cumsum(library.astype(sorted_weights, "float64"), -1))
    cuts = xp.concatenate(ends, -1)
    rank = library.stable_argsort(library.detach(cuts), -1)
    cuts = library.gather(cuts, rank, -1)
    masses = xp.concatenate([cuts[..., :1], cuts[..., 1:] - cuts[..., :-1]], -1)
    sizes = (ends[0].shape[-1], ends[1].shape[-1])
    from_a = library.astype(rank < sizes[0], "int64")
    passed_a = xp.cumsum(from_a, -1) - from_a  # how many cuts of side a come before
    passed_b = xp.cumsum(1 - from_a, -1) - (1 - from_a)
    # Rounding may leave a crumb beyond the last cut of one side: it stays where it is.
    both = (passed_a < sizes[0]) & (passed_b < sizes[1])
    masses = xp.where(both, masses, 0.0)
    cells = (xp.clip(passed_a, 0, sizes[0] - 1), xp.clip(passed_b, 0, sizes[1] - 1))
    return masses, cells, (orders[0], orders[1])


def _directions(like: Array, count: int, seed: int) -> Array:
    """Random unit vectors: (D, L)."""
    check_count("n_projections", count)
    vectors = np.random.default_rng(seed).normal(size=(like.shape[-1], count))
    vectors /= np.linalg.norm(vectors, axis=0)
    library = library_of(like)
    return library.convert(vectors.tolist(), library.dtype_name(like), library.device(like))


def _check_measures(X_a: Array, X_b: Array, a: Array | None, b: Array | None) -> tuple[Array, Array]:
    check_clouds(X_a, X_b, ("X_a", "X_b"))
    source, target = read_measures((X_a, X_b), (a, b))
    check_compatible_masses((source, target), _CONSERVED)
    return source.weights, target.weights


def _check_exponent(p: float) -> None:
    check_positive("p", p)
    if not 1 <= p < math.inf:
        raise ValueError(f"p={p!r}: expected a number of at least 1, for which sorted points match in order.")


def _as_input(values: Array, like: Array) -> Array:
    library = library_of(like)
    return library.astype(values, library.dtype_name(like))
