"""Owns Wasserstein barycentres whose points move; ignores fixed supports."""

from __future__ import annotations

from collections.abc import Sequence

from symbolic_matrices.arrays import Array, library_of

from .arguments import (
    check_clouds,
    check_positive,
    point_geometries,
    read_measures,
    read_stopping,
    read_temperature,
)
from .barycenters import normalised_shares
from .costs import Cost, find_cost
from .divergences import Annealing, solve_divergence
from .measures import Measure, check_compatible_masses, middle
from .penalties import Balanced
from .sinkhorn import Problem, Solution, Stopping

_CONSERVED = ((1.0, 1.0), (1.0, 1.0))


def barycenter_sample(
    X_b: Sequence[Array],
    X_init: Array,
    b: Sequence[Array] | None = None,
    a: Array | None = None,
    weights: Array | None = None,
    metric: str = "sqeuclidean",
    reg: float | None = None,
    *,
    blur: float | None = None,
    debias: bool = True,
    n_steps: int = 50,
    move: float = 1e-4,
    max_iter: int = 1000,
    tol: float | None = None,
) -> Array:
    r"""Wasserstein barycentre with free support: the positions x of weighted points that minimise

    .. math::
        \sum_k w_k\, S_\varepsilon\Big(\sum_i a_i \delta_{x_i}, b_k\Big).

    Each step moves the points to the mean of their images by the transport maps to the K clouds (from which the image
    by the map of the cloud to itself is subtracted, if debiased): a gradient step, of the length that is exact for
    quadratic costs.

    Parameters
    ----------
    X_b
        K clouds of points, (M_k, D), of any sizes.
    X_init
        First positions (N, D).
    b
        Weights (M_k,) of their points, of equal masses. Default: 1/M_k.
    a
        Weights (N,) of the points of the barycentre. Default: 1/N.
    weights
        w_k, (K,), normalised by their sum. Default: 1/K.
    metric
        ``"sqeuclidean"``, the cost whose barycentres are means.
    reg, blur
        As for :func:`solve_sample`.
    debias
        Whether to minimise Sinkhorn divergences instead of entropic costs, which gather points.
    n_steps
        Largest number of steps.
    move
        Displacement, in units of the size of the cloud, below which points are at rest.
    max_iter, tol
        Of each transport problem, as for :func:`solve_sample`.

    Returns
    -------
    Array
        Positions (N, D).

    Raises
    ------
    ValueError
        As :func:`solve_sample`.

    Notes
    -----
    Source: Cuturi and Doucet, *Fast computation of Wasserstein barycenters* (2014).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import barycenter_sample
    >>> x = np.random.default_rng(0).normal(size=(50, 2))
    >>> mean = barycenter_sample([x, x + [2.0, 0.0]], x + 0.1, blur=0.2)
    >>> bool(np.abs(mean - x - [1.0, 0.0]).max() < 0.01)
    True
    """
    if metric != "sqeuclidean":
        raise ValueError(f"metric={metric!r}: points move to means, which only 'sqeuclidean' asks for.")
    for name, value in (("n_steps", n_steps), ("move", move)):
        check_positive(name, value)
    if not X_b or (b is not None and len(b) != len(X_b)):
        raise ValueError(
            f"X_b holds {len(X_b)} clouds and b {b and len(b)} arrays of weights: expected as many."
        )
    cost = find_cost(metric, "metric")
    epsilon, stopping = read_temperature(reg, blur, cost), read_stopping(X_init, tol, max_iter, None)
    pairs = []
    for k, cloud in enumerate(X_b):
        check_clouds(X_init, cloud, ("X_init", f"X_b[{k}]"))
        source, target = read_measures((X_init, cloud), (a, None if b is None else b[k]))
        check_compatible_masses((source, target), _CONSERVED)
        pairs.append((source, target))
    shares = normalised_shares(weights, X_init[:1, :1], (len(X_b),))
    x, detach = X_init, library_of(X_init).detach
    for _ in range(n_steps):
        step = sum(
            shares[k] * _displacement(x, cloud, pairs[k], (cost, epsilon, stopping), debias=debias)
            for k, cloud in enumerate(X_b)
        )
        x = x + step
        if float(detach(abs(step)).max()) <= move * float(detach(abs(x - x.mean(0))).max()):
            break
    return x


def _displacement(
    x: Array,
    y: Array,
    measures: tuple[Measure, Measure],
    settings: tuple[Cost, float, Stopping],
    *,
    debias: bool,
) -> Array:
    """From each point to its image by the transport map: (N, D)."""
    cost, epsilon, stopping = settings
    centre = middle(x, y)
    geometries = point_geometries(x, y, cost, centre, lazy=True, debias=debias)
    problem = Problem(geometries[0], *measures, (Balanced(), Balanced()), epsilon)
    pair = (geometries[1], geometries[2]) if debias else None
    divergence = solve_divergence(problem, pair, Annealing(), stopping)
    image = _map(problem, divergence.ab.solution)
    if divergence.aa is None:
        return image - (x - centre)
    return image - _map(divergence.aa.problem, divergence.aa.solution)


def _map(problem: Problem, solution: Solution) -> Array:
    b = problem.target.weights[..., None]
    xp = library_of(b).namespace
    y = problem.geometry.T.row_points(b)
    sums = problem.geometry.apply_plan(
        problem.epsilon, solution.f, solution.g, xp.concatenate([b * y, b], -1)
    )
    return sums[..., :-1] / sums[..., -1:]
