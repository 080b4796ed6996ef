"""Owns the functional interface: names, defaults and conventions of arguments; ignores algorithms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from symbolic_matrices.arrays import Array, library_of

from .arguments import (
    check_choice,
    check_clouds,
    check_positive,
    grid_geometries,
    point_geometries,
    read_grid,
    read_measures,
    read_penalties,
    read_stopping,
    read_temperature,
)
from .costs import Cost, find_cost
from .divergences import Annealing, Divergence, solve_divergence, warn_if_stopped_early
from .fixed_mass import solve_given_mass
from .geometries import Geometry, MatrixGeometry
from .measures import check_compatible_masses, check_costs, check_given_mass, check_same_kind, middle
from .multiscale import Multiscale, solve_multiscale
from .penalties import Balanced
from .problems import Problem, Progress, Stopping
from .results import OTResult

# One strength, or one per side (None: conserved); for "range", one pair (low, high), or one per side.
Unbalanced: TypeAlias = "float | tuple[Any, Any] | None"


def solve_sample(
    X_a: Array,
    X_b: Array,
    a: Array | None = None,
    b: Array | None = None,
    metric: str | Callable[[Any, Any], Any] = "sqeuclidean",
    reg: float | None = None,
    unbalanced: Unbalanced = None,
    *,
    unbalanced_type: str = "kl",
    mass: float | None = None,
    blur: float | None = None,
    reach: float | tuple[float | None, float | None] | None = None,
    debias: bool = False,
    lazy: bool = True,
    backend: str = "online",
    max_iter: int = 1000,
    tol: float | None = None,
    verbose: bool = False,
    callback: Callable[[Progress], None] | None = None,
) -> OTResult:
    r"""Entropic optimal transport between two point clouds.

    .. math::
        \min_{P \ge 0} \sum_{ij} P_{ij} C(x_i, y_j) + \varepsilon\, \mathrm{KL}(P | a b^\top)
        + \rho_a \mathrm{KL}(P 1 | a) + \rho_b \mathrm{KL}(P^\top 1 | b)

    where the two last terms are constraints if ``unbalanced`` is None, and KL(p | q) = sum p log(p / q) - p + q;
    ``unbalanced_type`` replaces them by other penalties. The cost is :math:`|x - y|^2`, **not halved**
    (``SamplesLoss`` halves it).

    Parameters
    ----------
    X_a, X_b
        Points, (N, D) and (M, D), or batches (B, N, D) and (B, M, D): NumPy, PyTorch or CuPy, float32 or float64.
    a, b
        Non-negative weights, (N,) and (M,), or (B, N) and (B, M). Default: 1/N and 1/M.
    metric
        ``"sqeuclidean"``, ``"euclidean"``, ``"cityblock"``, ``"cosine"``, ``"geodesic sphere"`` (the angle between two
        directions), or a function of two LazyTensors ``x_i`` and ``y_j`` that returns a scalar formula (with
        ``lazy=False``, of the two arrays, that returns the (N, M) costs), or a :class:`LipschitzCost`.
    reg
        epsilon, in the units of the cost.
    unbalanced
        Strength rho of the penalties, in the units of the cost, or bounds for ``"range"``; a pair for one value per
        side, where None conserves mass. None: mass is conserved on both sides.
    unbalanced_type
        - ``"kl"``: rho KL(p | a), for a marginal p of the plan;
        - ``"tv"``: rho sum |p - a|: what would travel at a cost above the sum of both strengths stays;
        - ``"partial"``: rho (mass of a - mass of p), with p at most a: the same, but no mass is created;
        - ``"range"``: p lies between low and high times a, with ``unbalanced=(low, high)`` or a pair of such pairs.
    mass
        Mass of the plan, whose marginals are then at most a and b: partial transport, with ``unbalanced=None`` and
        without batches. What stays behind is what would be the most expensive to move.
    blur, reach
        The same as distances: epsilon = 2 blur^2 and rho = 2 reach^2 (blur and reach for distances).
        Give ``reg`` or ``blur``, not both.
    debias
        Whether ``value`` is the Sinkhorn divergence OT(a, b) - OT(a, a)/2 - OT(b, b)/2 (+ epsilon (m_a - m_b)^2 / 2).
        Both sides should then have the same penalty: the divergence of a from itself is zero only in this case.
    lazy
        Never store the N x M costs. False is for small problems and costs that only exist as arrays.
    backend
        ``"online"``: all pairs at all iterations; ``"multiscale"``, for large clouds in low dimension and the costs
        "sqeuclidean", "euclidean" and "cityblock": cells first, then points, without the pairs that hold at most
        ``tol / 4`` of the mass of a row or a column; batches are solved one problem after the other. The result is the
        same, up to ``tol``.
    max_iter
        Largest number of iterations, annealing included.
    tol
        The relative L1 error of the marginals at which to stop. Default: 1e-5 in float64, 1e-4 in float32.
    verbose
        Print the temperature and marginal error of each iteration.
    callback
        Called with the ``Progress`` of each iteration, instead of printing it.

    Returns
    -------
    OTResult
        Value, potentials, plan, maps and certificate, computed on demand.

    Raises
    ------
    ValueError
        For wrong shapes, unequal masses without ``unbalanced``, non-finite points, negative weights, mixed libraries,
        dtypes or devices, and parameters out of range.

    Warns
    -----
    UserWarning
        If ``max_iter`` iterations were not enough.

    Notes
    -----
    Sources: Feydy et al., *Interpolating between optimal transport and MMD using Sinkhorn divergences* (2019);
    Sejourne et al., *Sinkhorn divergences for unbalanced optimal transport*, arXiv 1910.12958; for partial transport,
    Caffarelli and McCann, *Free boundaries in optimal transport and Monge-Ampere obstacle problems* (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import solve_sample
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> result = solve_sample(x, x + [1.0, 2.0], blur=0.3, debias=True)
    >>> round(float(result.value), 4)  # the squared length of the translation
    5.0
    >>> result.a_to_b.shape
    (100, 2)
    """
    check_clouds(X_a, X_b, ("X_a", "X_b"))
    cost = find_cost(metric, "metric")
    epsilon = read_temperature(reg, blur, cost)
    sides = read_penalties(unbalanced, reach, unbalanced_type, cost)
    source, target = read_measures((X_a, X_b), (a, b))
    centre = middle(X_a, X_b) if cost.translation_invariant else None
    geometries = point_geometries(X_a, X_b, cost, centre, lazy=lazy, debias=debias)
    problem = Problem(geometries[0], source, target, sides, epsilon)
    by_cells = read_backend(backend, cost, f"metric={metric!r}")
    method = _method(problem, mass, geometries[1:])
    if backend == "multiscale":
        if not lazy or mass is not None:
            raise ValueError(
                f"backend='multiscale' serves lazy=True and mass=None, but lazy={lazy} and mass={mass!r}: choose "
                "'online'."
            )
        method = by_cells
    divergence = _solve(
        problem, geometries[1:], read_stopping(X_a, tol, max_iter, callback, verbose=verbose), method
    )
    return OTResult(divergence, centre)


def solve(
    C: Array,
    a: Array | None = None,
    b: Array | None = None,
    reg: float | None = None,
    unbalanced: Unbalanced = None,
    *,
    unbalanced_type: str = "kl",
    mass: float | None = None,
    C_aa: Array | None = None,
    C_bb: Array | None = None,
    max_iter: int = 1000,
    tol: float | None = None,
    verbose: bool = False,
    callback: Callable[[Progress], None] | None = None,
) -> OTResult:
    r"""Entropic optimal transport for an explicit cost matrix.

    .. math::
        \min_{P \ge 0} \sum_{ij} P_{ij} C_{ij} + \varepsilon\, \mathrm{KL}(P | a b^\top)
        + \rho_a \mathrm{KL}(P 1 | a) + \rho_b \mathrm{KL}(P^\top 1 | b)

    Parameters
    ----------
    C
        Costs (N, M), or batches (B, N, M): NumPy, PyTorch or CuPy, float32 or float64.
    a, b
        Non-negative weights, (N,) and (M,), or (B, N) and (B, M). Default: 1/N and 1/M.
    reg, unbalanced, unbalanced_type, mass, max_iter, tol, verbose, callback
        As for :func:`solve_sample`.
    C_aa, C_bb
        Costs (N, N) and (M, M) of each measure against itself: the value is then the Sinkhorn divergence. Give both.

    Returns
    -------
    OTResult
        Value, potentials, plan and certificate, computed on demand. There are no points to map.

    Raises
    ------
    ValueError
        As :func:`solve_sample`.

    Notes
    -----
    Sources: Cuturi, *Sinkhorn distances: lightspeed computation of optimal transport* (2013); those of
    :func:`solve_sample`.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import solve
    >>> result = solve(np.array([[0.0, 1.0], [1.0, 0.0]]), reg=0.1)
    >>> result.plan.round(3)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    check_costs("C", C)
    epsilon = read_temperature(reg, None, None)
    sides = read_penalties(unbalanced, None, unbalanced_type, None)
    swapped = library_of(C).namespace.swapaxes(C, -1, -2)
    source, target = read_measures((C, swapped), (a, b))
    self_geometries = _self_matrices(C, C_aa, C_bb)
    problem = Problem(MatrixGeometry(C), source, target, sides, epsilon)
    stopping = read_stopping(C, tol, max_iter, callback, verbose=verbose)
    return OTResult(_solve(problem, self_geometries, stopping, _method(problem, mass, self_geometries)))


def solve_grid(
    a: Array,
    b: Array,
    metric: str = "sqeuclidean",
    reg: float | None = None,
    unbalanced: Unbalanced = None,
    *,
    unbalanced_type: str = "kl",
    mass: float | None = None,
    axes: Sequence[tuple[float, float]] | None = None,
    blur: float | None = None,
    reach: float | tuple[float | None, float | None] | None = None,
    debias: bool = False,
    max_iter: int = 1000,
    tol: float | None = None,
    verbose: bool = False,
    callback: Callable[[Progress], None] | None = None,
) -> OTResult:
    r"""Entropic optimal transport between images: signals, pictures or volumes on regular grids.

    Solves the problem of :func:`solve_sample` for the centres of the pixels, one axis after the other: an iteration on
    an image of N x N pixels takes of the order of N^3 operations instead of N^4, at any temperature. Annealing
    starts on coarser images.

    Parameters
    ----------
    a, b
        Images (N,), (N, M) or (N, M, P) of non-negative weights, or batches of any dimensions if ``axes`` is given:
        NumPy, PyTorch or CuPy, float32 or float64. Sizes are free, and may differ between a and b.
    metric
        ``"sqeuclidean"`` or ``"cityblock"``.
    axes
        Bounds (low, high) of the domain along each axis of the grid, which the pixels of both images fill. Default:
        (0, 1) along each axis, without batches.
    reg, unbalanced, unbalanced_type, mass, blur, reach, debias, max_iter, tol, verbose, callback
        As for :func:`solve_sample`. The size of a pixel is a sensible ``blur``.

    Returns
    -------
    OTResult
        Potentials and marginals have the shapes of the images, maps have one more dimension for coordinates.

    Raises
    ------
    ValueError
        As :func:`solve_sample`.

    Notes
    -----
    Source: Solomon et al., *Convolutional Wasserstein distances* (2015), in the logarithmic domain.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import solve_grid
    >>> image = np.zeros((16, 16))
    >>> image[2:5, 3:6] = 1 / 9
    >>> moved = np.roll(image, (8, 4), (0, 1))  # by half of the unit square, and a quarter
    >>> round(float(solve_grid(image, moved, blur=1 / 16, debias=True).value), 4)
    0.3125
    """
    source, size_a, x = read_grid("a", a, axes)
    target, size_b, y = read_grid("b", b, axes)
    check_same_kind("b", b, "a", a)
    cost = find_cost(metric, "metric")
    epsilon = read_temperature(reg, blur, cost)
    sides = read_penalties(unbalanced, reach, unbalanced_type, cost)
    geometries = grid_geometries((source, target), (x, y), cost, debias=debias)
    problem = Problem(geometries[0], source, target, sides, epsilon)
    stopping = read_stopping(a, tol, max_iter, callback, verbose=verbose)
    divergence = _solve(problem, geometries[1:], stopping, _method(problem, mass, geometries[1:]))
    return OTResult(divergence, grids=(size_a, size_b))


def read_backend(backend: str, cost: Cost, given: str) -> Callable[..., Divergence]:
    """How to solve problems between points, by name: a function as those of ``_method``."""
    check_choice("backend", backend, ("online", "multiscale"))
    if backend == "online":
        return partial(solve_divergence, annealing=Annealing())
    if not cost.translation_invariant and cost.lipschitz is None:
        raise ValueError(
            f"backend='multiscale' serves the costs sqeuclidean, euclidean and cityblock, and any LipschitzCost, but "
            f"{given}: choose 'online'."
        )
    return partial(solve_multiscale, settings=Multiscale(width=0.0))


def _solve(
    problem: Problem,
    self_geometries: tuple[Geometry, ...],
    stopping: Stopping,
    method: Callable[..., Divergence],
) -> Divergence:
    pair = (self_geometries[0], self_geometries[1]) if self_geometries else None
    divergence = method(problem, pair, stopping=stopping)
    warn_if_stopped_early(divergence, stopping, stacklevel=3)
    return divergence


def _method(
    problem: Problem, mass: float | None, self_geometries: tuple[Geometry, ...]
) -> Callable[..., Divergence]:
    """How to solve: a function of the problem, of the two geometries of debiasing or None, and of ``stopping``."""
    if mass is None:
        bounds = problem.penalties[0].ratio_bounds, problem.penalties[1].ratio_bounds
        check_compatible_masses((problem.source, problem.target), bounds)
        return partial(solve_divergence, annealing=Annealing())
    check_positive("mass", mass)
    check_given_mass(mass, (problem.source, problem.target))
    if self_geometries or problem.penalties != (Balanced(), Balanced()):
        raise ValueError(f"mass={mass!r} is the mass of a plan: expected unbalanced=None and no debiasing.")
    return lambda problem, _, stopping: solve_given_mass(problem, float(mass), stopping)


def _self_matrices(C: Array, C_aa: Array | None, C_bb: Array | None) -> tuple[Geometry, ...]:
    if (C_aa is None) != (C_bb is None):
        raise ValueError("Debiasing needs both C_aa and C_bb, the costs of each measure against itself.")
    if C_aa is None or C_bb is None:
        return ()
    for name, costs, size in (("C_aa", C_aa, C.shape[-2]), ("C_bb", C_bb, C.shape[-1])):
        check_costs(name, costs)
        check_same_kind(name, costs, "C", C)
        expected = (*C.shape[:-2], size, size)
        if tuple(costs.shape) != tuple(expected):
            raise ValueError(f"{name} has shape {tuple(costs.shape)}: expected {tuple(expected)}.")
    return MatrixGeometry(C_aa), MatrixGeometry(C_bb)
