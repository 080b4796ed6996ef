"""Owns the functional interface: names, defaults and conventions of arguments; ignores algorithms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symbolic_matrices.arrays import Array, library_of

from .costs import Cost, find_cost
from .divergences import Annealing, Divergence, solve_divergence, warn_if_stopped_early
from .geometries import Geometry, MatrixGeometry, PointGeometry
from .measures import (
    Measure,
    check_equal_masses,
    check_points,
    check_same_kind,
    check_weights,
    middle,
    uniform_weights,
)
from .penalties import Penalty, find_penalty
from .results import OTResult
from .sinkhorn import Problem, Progress, Stopping

DEFAULT_TOLERANCES = {"float32": 1e-4, "float64": 1e-5}


def solve_sample(
    X_a: Array,
    X_b: Array,
    a: Array | None = None,
    b: Array | None = None,
    metric: str | Callable[[Any, Any], Any] = "sqeuclidean",
    reg: float | None = None,
    unbalanced: float | tuple[float | None, float | None] | None = None,
    *,
    blur: float | None = None,
    reach: float | tuple[float | None, float | None] | None = None,
    debias: bool = False,
    lazy: bool = True,
    max_iter: int = 1000,
    tol: float | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> OTResult:
    r"""Entropic optimal transport between two point clouds.

    .. math::
        \min_{P \ge 0} \sum_{ij} P_{ij} C(x_i, y_j) + \varepsilon\, \mathrm{KL}(P | a b^\top)
        + \rho_a \mathrm{KL}(P 1 | a) + \rho_b \mathrm{KL}(P^\top 1 | b)

    where the two last terms are constraints if ``unbalanced`` is None, and KL(p | q) = sum p log(p / q) - p + q. The
    cost is :math:`|x - y|^2`, **not halved** (``SamplesLoss`` halves it).

    Parameters
    ----------
    X_a, X_b
        Points, (N, D) and (M, D), or batches (B, N, D) and (B, M, D): NumPy, PyTorch or CuPy, float32 or float64.
    a, b
        Non-negative weights, (N,) and (M,), or (B, N) and (B, M). Default: 1/N and 1/M.
    metric
        ``"sqeuclidean"``, ``"euclidean"``, ``"cosine"``, or a function of two LazyTensors ``x_i`` and ``y_j`` that
        returns a scalar formula (with ``lazy=False``, of the two arrays, that returns the (N, M) costs).
    reg
        epsilon, in the units of the cost.
    unbalanced
        rho, in the units of the cost; a pair for one value per side. None: mass is conserved.
    blur, reach
        The same as distances: epsilon = 2 blur^2 and rho = 2 reach^2 (blur and reach for ``"euclidean"``).
        Give ``reg`` or ``blur``, not both.
    debias
        Whether ``value`` is the Sinkhorn divergence OT(a, b) - OT(a, a)/2 - OT(b, b)/2 (+ epsilon (m_a - m_b)^2 / 2).
    lazy
        Never store the N x M costs. False is for small problems and costs that only exist as arrays.
    max_iter
        Largest number of iterations, annealing included.
    tol
        The relative L1 error of the marginals at which to stop. Default: 1e-5 in float64, 1e-4 in float32.
    callback
        Called with the ``Progress`` of each iteration.

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
    Sejourne et al., *Sinkhorn divergences for unbalanced optimal transport*, arXiv 1910.12958.

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
    _check_clouds(X_a, X_b, ("X_a", "X_b"))
    cost = find_cost(metric, "metric")
    epsilon = _temperature(reg, blur, cost)
    penalties = _penalties(unbalanced, reach, cost)
    source, target = _measures((X_a, X_b), (a, b))
    centre = middle(X_a, X_b) if cost.translation_invariant else None
    geometries = point_geometries(X_a, X_b, cost, centre, lazy=lazy, debias=debias)
    problem = Problem(geometries[0], source, target, penalties, epsilon)
    divergence = _solve(problem, geometries[1:], _stopping(X_a, tol, max_iter, callback))
    return OTResult(divergence, centre)


def solve(
    C: Array,
    a: Array | None = None,
    b: Array | None = None,
    reg: float | None = None,
    unbalanced: float | tuple[float | None, float | None] | None = None,
    *,
    C_aa: Array | None = None,
    C_bb: Array | None = None,
    max_iter: int = 1000,
    tol: float | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> OTResult:
    r"""Entropic optimal transport for an explicit cost matrix.

    Solves the problem of :func:`solve_sample`, with the costs ``C`` (N, M) or (B, N, M). The value is debiased if the
    costs ``C_aa`` (N, N) and ``C_bb`` (M, M) of each measure against itself are given.

    Raises
    ------
    ValueError
        As :func:`solve_sample`.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import solve
    >>> result = solve(np.array([[0.0, 1.0], [1.0, 0.0]]), reg=0.1)
    >>> result.plan.round(3)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    check_points("C", C)
    epsilon = _temperature(reg, None, None)
    penalties = _penalties(unbalanced, None, None)
    swapped = library_of(C).namespace.swapaxes(C, -1, -2)
    source, target = _measures((C, swapped), (a, b))
    self_geometries = _self_matrices(C, C_aa, C_bb)
    problem = Problem(MatrixGeometry(C), source, target, penalties, epsilon)
    return OTResult(_solve(problem, self_geometries, _stopping(C, tol, max_iter, callback)))


def point_geometries(
    x: Array, y: Array, cost: Cost, centre: Array | None, *, lazy: bool, debias: bool
) -> tuple[Geometry, ...]:
    """The costs from x to y and, if debiased, from x to x and from y to y, once ``centre`` is subtracted."""
    if centre is not None:
        x, y = x - centre, y - centre
    pairs = ((x, y), (x, x), (y, y)) if debias else ((x, y),)
    if lazy:
        return tuple(PointGeometry(p, q, cost) for p, q in pairs)
    power = cost.degree or 2
    return tuple(MatrixGeometry(cost.coefficient * cost.dense(p, q), power) for p, q in pairs)


def check_positive(name: str, value: float) -> None:
    """Raise a ValueError unless the parameter is positive: NaN is not."""
    if not value > 0:
        raise ValueError(f"{name}={value!r}: expected a positive number.")


def _solve(problem: Problem, self_geometries: tuple[Geometry, ...], stopping: Stopping) -> Divergence:
    if problem.conserves_mass:
        check_equal_masses(problem.source, problem.target)
    pair = (self_geometries[0], self_geometries[1]) if self_geometries else None
    divergence = solve_divergence(problem, pair, Annealing(), stopping)
    warn_if_stopped_early(divergence, stopping, stacklevel=3)
    return divergence


def _check_clouds(x: Array, y: Array, names: tuple[str, str]) -> None:
    check_points(names[0], x)
    check_points(names[1], y)
    check_same_kind(names[1], y, names[0], x)
    if tuple(x.shape[:-2]) != tuple(y.shape[:-2]) or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"{names[0]} and {names[1]} have shapes {tuple(x.shape)} and {tuple(y.shape)}: expected (N, D) and (M, D), "
            "or (B, N, D) and (B, M, D), with the same B and D."
        )


def _measures(
    rows: tuple[Array, Array], weights: tuple[Array | None, Array | None]
) -> tuple[Measure, Measure]:
    measures = []
    for name, array, given in zip(("a", "b"), rows, weights, strict=True):
        if given is None:
            given = uniform_weights(array)
        check_weights(name, given, tuple(array.shape[:-1]), array)
        measures.append(Measure(given))
    return measures[0], measures[1]


def _temperature(reg: float | None, blur: float | None, cost: Cost | None) -> float:
    if (reg is None) == (blur is None):
        options = "reg" if cost is None else "reg (in units of the cost) or blur (a distance)"
        raise ValueError(f"reg={reg!r}, blur={blur!r}: expected exactly one temperature, as {options}.")
    if reg is not None:
        check_positive("reg", reg)
        return float(reg)
    assert blur is not None
    check_positive("blur", blur)
    return _in_cost_units(blur, cost)


def _penalties(
    unbalanced: float | tuple[float | None, float | None] | None,
    reach: float | tuple[float | None, float | None] | None,
    cost: Cost | None,
) -> tuple[Penalty, Penalty]:
    if unbalanced is not None and reach is not None:
        raise ValueError(f"unbalanced={unbalanced!r}, reach={reach!r}: give only one of them.")
    name, given = ("unbalanced", unbalanced) if reach is None else ("reach", reach)
    pair = given if isinstance(given, tuple) else (given, given)
    if len(pair) != 2:
        raise ValueError(f"{name}={given!r}: expected a number, None, or a pair of them, one per side.")
    for value in pair:
        if value is not None:
            check_positive(name, value)
    if reach is not None:
        pair = (_optional_cost_units(pair[0], cost), _optional_cost_units(pair[1], cost))
    return find_penalty(pair[0]), find_penalty(pair[1])


def _optional_cost_units(distance: float | None, cost: Cost | None) -> float | None:
    return None if distance is None else _in_cost_units(distance, cost)


def _in_cost_units(distance: float, cost: Cost | None) -> float:
    """2 distance^2 for squared distances and for costs of unknown degree; the distance itself for degree one."""
    if cost is not None and cost.degree == 1:
        return float(distance)
    return 2.0 * float(distance) ** 2


def _self_matrices(C: Array, C_aa: Array | None, C_bb: Array | None) -> tuple[Geometry, ...]:
    if (C_aa is None) != (C_bb is None):
        raise ValueError("Debiasing needs both C_aa and C_bb, the costs of each measure against itself.")
    if C_aa is None or C_bb is None:
        return ()
    for name, costs, size in (("C_aa", C_aa, C.shape[-2]), ("C_bb", C_bb, C.shape[-1])):
        check_points(name, costs)
        check_same_kind(name, costs, "C", C)
        expected = (*C.shape[:-2], size, size)
        if tuple(costs.shape) != tuple(expected):
            raise ValueError(f"{name} has shape {tuple(costs.shape)}: expected {tuple(expected)}.")
    return MatrixGeometry(C_aa), MatrixGeometry(C_bb)


def _stopping(
    like: Array, tol: float | None, max_iter: int, callback: Callable[[Progress], None] | None
) -> Stopping:
    if tol is None:
        tol = DEFAULT_TOLERANCES[library_of(like).dtype_name(like)]
    check_positive("tol", tol)
    if max_iter < 1:
        raise ValueError(f"max_iter={max_iter!r}: expected at least one iteration.")
    return Stopping(tol, max_iter, callback)
