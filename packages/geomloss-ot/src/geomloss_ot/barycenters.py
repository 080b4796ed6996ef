"""Owns Wasserstein barycentres on fixed supports and grids; ignores points that move."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from symbolic_matrices.arrays import Array, library_of

from .annealing import epsilon_schedule
from .arguments import (
    grid_geometries,
    read_axes,
    read_grid,
    read_penalties,
    read_stopping,
    read_temperature,
)
from .costs import Cost, find_cost
from .geometries import Geometry, MatrixGeometry
from .measures import (
    Measure,
    check_array,
    check_compatible_masses,
    check_costs,
    check_same_kind,
    check_weights,
)
from .penalties import KullbackLeibler
from .problems import Progress, Stopping

_CONSERVED = ((1.0, 1.0), (1.0, 1.0))
_SCALING = 0.5
_LARGEST = 80.0  # its exponential is finite in float32
_SMALLEST = 1e-37  # a weight whose logarithm is finite in float32


class Leg(NamedTuple):
    """One of the measures that are averaged."""

    geometry: Geometry  # rows: the support of the barycentre; columns: that of the measure
    log_weights: Array  # (..., M)
    share: Array  # (..., 1): its weight in the mean


@dataclass(frozen=True)
class _State:
    """Potentials of the legs on the support of the barycentre, and the debiasing potential."""

    potentials: tuple[Array, ...]  # each (..., N)
    debiasing: Array  # (..., N), null if biased
    log_barycenter: Array  # (..., N)
    error: float  # relative L1 distance between the barycentre and the marginals of the plans


def fixed_support_barycenter(
    legs: Sequence[Leg],
    self_geometry: Geometry | None,
    epsilon: float,
    stopping: Stopping,
    backward_iterations: int = 0,
    strength: float = math.inf,
) -> Array:
    """Weights (..., N) of the barycentre: iterative Bregman projections, annealed, in the logarithmic domain.

    ``self_geometry`` is the cost of the support against itself, for debiased barycentres. The last
    ``backward_iterations`` belong to the graph of PyTorch's tensors. Marginals cost ``strength`` times their
    Kullback-Leibler divergence. Sources: Benamou et al., *Iterative Bregman projections for regularized transportation
    problems* (2015); Janati et al., *Debiased Sinkhorn barycenters* (2020); Chizat et al., *Scaling algorithms for
    unbalanced optimal transport problems*, arXiv 1607.05816.
    """
    fixed = tuple(Leg(leg.geometry, *map(_detach, leg[1:])) for leg in legs)
    start = max(leg.geometry.cost_bound for leg in legs)
    power = legs[0].geometry.annealing_power
    schedule = epsilon_schedule(start, epsilon, _SCALING**power)[: stopping.max_iter]
    state = _first_state(fixed)
    for done, temperature in enumerate(schedule[:-1], 1):
        state = _sweep(fixed, self_geometry, (temperature, strength), state)
        _report(stopping, Progress(done, temperature, state.error))
    for done in range(len(schedule), stopping.max_iter + 1):
        state = _sweep(fixed, self_geometry, (epsilon, strength), state)
        _report(stopping, Progress(done, epsilon, state.error))
        if state.error <= stopping.tol:
            break
    else:
        warnings.warn(
            f"The barycentre stopped after max_iter={stopping.max_iter} iterations with a relative marginal error of "
            f"{state.error:.1e}, above tol={stopping.tol:.1e}: raise max_iter, or ask for a larger tol or blur.",
            stacklevel=3,
        )
    for _ in range(backward_iterations):
        state = _sweep(tuple(legs), self_geometry, (epsilon, strength), state)
    return library_of(state.log_barycenter).namespace.exp(state.log_barycenter)


def _report(stopping: Stopping, progress: Progress) -> None:
    if stopping.callback is not None:
        stopping.callback(progress)


def _first_state(legs: tuple[Leg, ...]) -> _State:
    geometry, log_weights = legs[0].geometry, legs[0].log_weights
    zeros = library_of(log_weights).namespace.zeros_like(geometry.softmin(1.0, log_weights))
    return _State((zeros,) * len(legs), zeros, zeros, float("inf"))


def _sweep(
    legs: tuple[Leg, ...], self_geometry: Geometry | None, scales: tuple[float, float], state: _State
) -> _State:
    """One projection on each constraint: the given measures, then a common marginal on the support."""
    library, (epsilon, strength) = library_of(state.debiasing), scales
    xp, damping = library.namespace, 1 / (1 + epsilon / strength)
    softmins = []
    for leg, potential in zip(legs, state.potentials, strict=True):
        given = leg.log_weights + leg.geometry.T.softmin(epsilon, potential / epsilon) / epsilon
        softmins.append(leg.geometry.softmin(epsilon, damping * given))
    log_barycenter = (state.debiasing - _mean(legs, softmins, epsilon + strength)) / epsilon
    if strength == math.inf:
        log_barycenter = log_barycenter - _excess(log_barycenter, legs[0])
    barycenter = xp.exp(log_barycenter)
    potentials = tuple(damping * (epsilon * log_barycenter + softmin) for softmin in softmins)
    marginals, wanted = (
        xp.stack(
            [xp.exp(xp.clip((f - s) / epsilon, None, _LARGEST)) for f, s in zip(these, softmins, strict=True)]
        )
        for these in (state.potentials, potentials)
    )
    error = float(library.detach(abs(marginals - wanted).sum(-1) / barycenter.sum(-1)).max())
    debiasing = state.debiasing
    if self_geometry is not None:
        # d = sqrt(d a / (K d)), whose fixed point is d K d = a: the potential of the barycentre against itself.
        smooth = self_geometry.softmin(epsilon, debiasing / epsilon)
        debiasing = (debiasing + epsilon * log_barycenter + smooth) / 2
    return _State(potentials, debiasing, log_barycenter, error)


def _mean(legs: tuple[Leg, ...], softmins: list[Array], scale: float) -> Array:
    """What best agrees with the softmins: their mean, or, in units of ``scale`` if it is finite, their soft minimum."""
    if scale == math.inf:
        total: Array = sum(leg.share * softmin for leg, softmin in zip(legs, softmins, strict=True))
        return total
    xp = library_of(softmins[0]).namespace
    exponents = xp.stack(
        [_log(leg.share) - softmin / scale for leg, softmin in zip(legs, softmins, strict=True)]
    )
    largest = library_of(exponents).detach(xp.amax(exponents, 0))
    return -scale * (largest + xp.log(xp.exp(exponents - largest).sum(0)))


def _excess(log_weights: Array, leg: Leg) -> Array:
    """Logarithm of the mass over that of the measures: one at the solution, wild where temperatures change."""
    library = library_of(log_weights)
    xp = library.namespace
    fixed = library.detach(log_weights)
    largest = xp.amax(fixed, -1)[..., None]
    mass = xp.exp(library.detach(leg.log_weights)).sum(-1)[..., None]
    return largest + xp.log(xp.exp(fixed - largest).sum(-1)[..., None] / mass)


def barycenter(
    b: Array,
    C: Array,
    weights: Array | None = None,
    reg: float | None = None,
    unbalanced: float | None = None,
    *,
    C_aa: Array | None = None,
    max_iter: int = 2000,
    tol: float | None = None,
    verbose: bool = False,
    callback: Callable[[Progress], None] | None = None,
) -> Array:
    r"""Entropic Wasserstein barycentre on a fixed support, for explicit costs.

    .. math::
        \min_a \sum_k w_k\, OT_\varepsilon(a, b_k) \quad \text{or, debiased,} \quad
        \min_a \sum_k w_k\, S_\varepsilon(a, b_k)

    Parameters
    ----------
    b
        Weights of K measures on the same M points, (K, M), of equal masses: NumPy, PyTorch or CuPy.
    C
        Costs (N, M) between the N points of the barycentre and those of the measures.
    weights
        w_k, (K,), normalised by their sum. Default: 1/K.
    reg
        epsilon, in the units of the cost: the entropy is relative to the counting measure.
    unbalanced
        Strength of KL penalties on both marginals of all plans, in the units of the cost. None: mass is conserved, and
        the measures have equal masses. Not for debiased barycentres.
    C_aa
        Costs (N, N) between the points of the barycentre, for a debiased one, that entropy does not blur.
    max_iter
        Largest number of iterations, annealing included.
    tol
        Relative L1 difference between the barycentre and the marginals of its plans at which to stop. Default: 1e-5
        in float64, 1e-4 in float32.
    verbose, callback
        As for :func:`solve_sample`.

    Returns
    -------
    Array
        Weights (N,).

    Raises
    ------
    ValueError
        For wrong shapes, negative weights, unequal masses and parameters out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import barycenter
    >>> x = np.arange(5.0)
    >>> costs = (x[:, None] - x) ** 2
    >>> ends = np.array([[1.0, 0, 0, 0, 0], [0, 0, 0, 0, 1.0]])
    >>> barycenter(ends, costs, reg=0.1, C_aa=costs).round(3)
    array([0., 0., 1., 0., 0.])
    """
    check_costs("C", C)
    check_same_kind("b", b, "C", C)
    if C.ndim != 2 or b.ndim != 2 or b.shape[-1] != C.shape[-1]:
        raise ValueError(
            f"b and C have shapes {tuple(b.shape)} and {tuple(C.shape)}: expected (K, M) and (N, M), "
            "with one column of costs per point of the measures."
        )
    self_geometry = None
    if C_aa is not None:
        check_costs("C_aa", C_aa)
        check_same_kind("C_aa", C_aa, "C", C)
        if tuple(C_aa.shape) != (C.shape[0], C.shape[0]):
            raise ValueError(f"C_aa has shape {tuple(C_aa.shape)}: expected {(C.shape[0], C.shape[0])}.")
        self_geometry = MatrixGeometry(C_aa)
    shares = normalised_shares(weights, b[:, :1], (b.shape[0],))
    check_weights("b", b, tuple(b.shape), b)
    strength = _strength(unbalanced, None, None, debias=C_aa is not None)
    legs = _legs(MatrixGeometry(C), [b[k] for k in range(b.shape[0])], shares, strength)
    epsilon, stopping = (
        read_temperature(reg, None, None),
        read_stopping(b, tol, max_iter, callback, verbose=verbose),
    )
    return fixed_support_barycenter(legs, self_geometry, epsilon, stopping, strength=strength)


def barycenter_grid(
    b: Array,
    weights: Array | None = None,
    metric: str = "sqeuclidean",
    reg: float | None = None,
    unbalanced: float | None = None,
    *,
    blur: float | None = None,
    reach: float | None = None,
    axes: Sequence[tuple[float, float]] | None = None,
    debias: bool = True,
    backward_iterations: int = 5,
    max_iter: int = 2000,
    tol: float | None = None,
    verbose: bool = False,
    callback: Callable[[Progress], None] | None = None,
) -> Array:
    r"""Wasserstein barycentre of images on the same grid, in one, two or three dimensions: the image a that minimises

    .. math::
        \sum_k w_k\, S_\varepsilon(a, b_k).

    Softmins are taken along one axis after the other, and no matrix of costs is ever formed.

    Parameters
    ----------
    b
        K images of equal masses: (K, N), (K, N, M) or (K, N, M, P); with batches in front if ``axes`` is given,
        (..., K, N, M).
    weights
        Their weights in the mean, (K,) or (..., K), normalised by their sums. Default: 1/K.
    metric, reg, blur, axes
        As for :func:`solve_grid`. The size of a pixel is a sensible ``blur``.
    unbalanced, reach
        Strength of KL penalties, as for :func:`barycenter`, or the same as a distance: 2 reach^2 (reach for
        distances). Images may then have different masses. With ``debias=False`` only.
    debias
        Whether to minimise Sinkhorn divergences, whose barycentres are sharp, instead of entropic costs.
    backward_iterations
        With PyTorch, number of last iterations that gradients, in images and weights, go through.
    max_iter, tol, verbose, callback
        As for :func:`barycenter`.

    Returns
    -------
    Array
        An image (N, M), or (..., N, M).

    Raises
    ------
    ValueError
        As :func:`barycenter`.

    Notes
    -----
    Sources: Solomon et al., *Convolutional Wasserstein distances* (2015); Janati et al., *Debiased Sinkhorn
    barycenters* (2020).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import barycenter_grid
    >>> x = np.linspace(0, 1, 64)
    >>> bumps = np.exp(-((x - np.array([[0.3], [0.7]])) ** 2) / 0.005)
    >>> middle = barycenter_grid(bumps / bumps.sum(-1, keepdims=True), blur=0.02)
    >>> float((middle * x).sum().round(3))
    0.5
    """
    check_array("b", b)
    bounds = read_axes(axes, max(b.ndim - 1, 1))
    if b.ndim <= len(bounds):
        raise ValueError(
            f"b has shape {tuple(b.shape)}: expected K images in front of the {len(bounds)} dimensions of the grid."
        )
    measure, sizes, coordinates = read_grid("b", b, bounds)
    flat, cost = measure.weights, find_cost(metric, "metric")  # (..., K, N)
    epsilon = read_temperature(reg, blur, cost)
    shares = normalised_shares(weights, flat[..., :1], tuple(flat.shape[:-1]))
    side = Measure(flat[..., 0, :])
    geometry = grid_geometries((side, side), (coordinates, coordinates), cost, debias=False)[0]
    strength = _strength(unbalanced, reach, cost, debias=debias)
    legs = _legs(geometry, [flat[..., k, :] for k in range(flat.shape[-2])], shares, strength)
    graph = any(library_of(t).needs_gradient(t) for t in (flat, shares))
    mean = fixed_support_barycenter(
        legs,
        geometry if debias else None,
        epsilon,
        read_stopping(flat, tol, max_iter, callback, verbose=verbose),
        backward_iterations if graph else 0,
        strength,
    )
    return mean.reshape(*mean.shape[:-1], *sizes)


def _strength(unbalanced: float | None, reach: float | None, cost: Cost | None, *, debias: bool) -> float:
    """Strength of the penalties on marginals, infinite where mass is conserved."""
    for name, given in (("unbalanced", unbalanced), ("reach", reach)):
        if isinstance(given, (tuple, list)):
            raise ValueError(
                f"{name}={given!r}: expected one number, for both marginals of all plans, or None."
            )
    penalty = read_penalties(unbalanced, reach, "kl", cost)[0]
    if not isinstance(penalty, KullbackLeibler):
        return math.inf
    if debias:
        raise ValueError(
            f"unbalanced={unbalanced!r}, reach={reach!r}: barycentres of measures whose mass is not conserved are not "
            "debiased. Give debias=False (no C_aa), or see barycenter_sample."
        )
    return penalty.strength


def _legs(geometry: Geometry, measures: list[Array], shares: Array, strength: float) -> list[Leg]:
    for measure in measures[1:] if strength == math.inf else ():
        check_compatible_masses((Measure(measures[0]), Measure(measure)), _CONSERVED)
    return [Leg(geometry, _log(measure), shares[..., k, None]) for k, measure in enumerate(measures)]


def normalised_shares(weights: Array | None, like: Array, shape: tuple[int, ...]) -> Array:
    """Weights of the mean, (..., K), of sum one."""
    xp = library_of(like).namespace
    if weights is None:
        return xp.broadcast_to(xp.ones_like(like).reshape(-1)[:1] / shape[-1], shape)
    check_same_kind("weights", weights, "the measures", like)
    if tuple(weights.shape) != shape:
        if tuple(weights.shape) != shape[-1:]:
            raise ValueError(f"weights has shape {tuple(weights.shape)}: expected {shape}, one per measure.")
        weights = xp.broadcast_to(weights, shape)
    check_weights("weights", weights, shape, like)
    return weights / weights.sum(-1)[..., None]


def _log(weights: Array) -> Array:
    """Logarithm, of a number too small to matter where there is no mass."""
    xp = library_of(weights).namespace
    return xp.log(xp.clip(weights, _SMALLEST, None))


def _detach(array: Array) -> Array:
    return library_of(array).detach(array)
