"""Owns Wasserstein barycentres whose points move; ignores fixed supports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from symbolic_matrices.arrays import Array, library_of

from .arguments import (
    check_clouds,
    check_count,
    check_positive,
    point_geometries,
    read_measures,
    read_penalties,
    read_stopping,
    read_temperature,
)
from .barycenters import normalised_shares
from .costs import Cost, find_cost
from .divergences import Annealing, solve_divergence, warn_if_stopped_early
from .measures import Measure, check_compatible_masses, check_points, middle
from .penalties import Penalty
from .problems import Problem, Solution, Stopping


def barycenter_sample(
    X_b: Sequence[Array],
    X_init: Array,
    b: Sequence[Array] | None = None,
    a: Array | None = None,
    weights: Array | None = None,
    metric: str = "sqeuclidean",
    reg: float | None = None,
    unbalanced: Any = None,
    *,
    unbalanced_type: str = "kl",
    blur: float | None = None,
    reach: Any = None,
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
    quadratic costs. Where mass is not conserved, means are weighted by what is transported.

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
    reg, unbalanced, unbalanced_type, blur, reach
        As for :func:`solve_sample`; a pair of penalties is for the barycentre and for the clouds.
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
    check_count("n_steps", n_steps)
    check_positive("move", move)
    check_points("X_init", X_init)
    if len(X_b) == 0 or (b is not None and len(b) != len(X_b)):
        raise ValueError(
            f"X_b holds {len(X_b)} clouds and b {None if b is None else len(b)} arrays of weights: expected as many."
        )
    cost = find_cost(metric, "metric")
    epsilon, stopping = read_temperature(reg, blur, cost), read_stopping(X_init, tol, max_iter, None)
    penalties = read_penalties(unbalanced, reach, unbalanced_type, cost)
    pairs = []
    for k, cloud in enumerate(X_b):
        check_clouds(X_init, cloud, ("X_init", f"X_b[{k}]"))
        source, target = read_measures((X_init, cloud), (a, None if b is None else b[k]))
        check_compatible_masses((source, target), (penalties[0].ratio_bounds, penalties[1].ratio_bounds))
        pairs.append((source, target))
    shares = normalised_shares(weights, X_init[:1, :1], (len(X_b),))
    x, detach = X_init, library_of(X_init).detach
    problem = _Unplaced(cost, penalties, epsilon)
    for _ in range(n_steps):
        legs = [
            _pull(problem, (x, cloud), pair, stopping, debias=debias)
            for cloud, pair in zip(X_b, pairs, strict=True)
        ]
        pull, mass = (sum(shares[k] * leg[part] for k, leg in enumerate(legs)) for part in (0, 1))
        step = _quotient(pull, mass)
        x = x + step
        if float(detach(abs(step)).max()) <= move * float(detach(abs(x - x.mean(0))).max()):
            break
    return x


class _Unplaced(NamedTuple):
    """A transport problem without its points."""

    cost: Cost
    penalties: tuple[Penalty, Penalty]
    epsilon: float


def _pull(
    unplaced: _Unplaced,
    clouds: tuple[Array, Array],
    measures: tuple[Measure, Measure],
    stopping: Stopping,
    *,
    debias: bool,
) -> tuple[Array, Array]:
    """Transported mass times the displacement to its image, (N, D), and this mass, (N, 1), per unit of weight."""
    centre = middle(*clouds)
    geometries = point_geometries(*clouds, unplaced.cost, centre, lazy=True, debias=debias)
    problem = Problem(geometries[0], *measures, unplaced.penalties, unplaced.epsilon)
    pair = (geometries[1], geometries[2]) if debias else None
    divergence = solve_divergence(problem, pair, Annealing(), stopping)
    warn_if_stopped_early(divergence, stopping, stacklevel=3)
    pull, mass = _moments(problem, divergence.ab.solution)
    if divergence.aa is None:
        return pull, mass
    own, _ = _moments(divergence.aa.problem, divergence.aa.solution)
    return pull - own, mass


def _moments(problem: Problem, solution: Solution) -> tuple[Array, Array]:
    b = problem.target.weights[..., None]
    x, y = problem.geometry.row_points(b), problem.geometry.T.row_points(b)
    values = library_of(b).namespace.concatenate([b * y, b], -1)
    sums = problem.geometry.apply_plan(problem.epsilon, solution.f, solution.g, values)
    return sums[..., :-1] - sums[..., -1:] * x, sums[..., -1:]


def _quotient(pull: Array, mass: Array) -> Array:
    """The displacement, and zero for points whose mass goes nowhere."""
    xp = library_of(pull).namespace
    moved = mass > 0
    return xp.where(moved, pull / xp.where(moved, mass, 1.0), 0.0)
