"""Owns Wasserstein distances between clouds, without entropy, up to a stated error that is proved; ignores gradients.

Entropic transport gives potentials and a plan. The double c-transform of the potentials bounds the distance from below,
with an error of second order; the plan, rounded to the right marginals, from above. The temperature decreases until
both are close.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from symbolic_matrices import Vi, Vj
from symbolic_matrices.arrays import Array, library_of

from .annealing import epsilon_schedule
from .arguments import check_choice, check_clouds, check_positive, read_measures
from .certificates import round_plan
from .costs import EUCLIDEAN, SQEUCLIDEAN, Cost
from .geometries import PointGeometry
from .measures import Measure, check_compatible_masses, middle
from .multiscale import Multiscale, SortedCloud, keep_dense_pairs, solve_multiscale, sort_cloud
from .penalties import Balanced
from .sinkhorn import Problem, Stopping, converge, row_marginal, sinkhorn

_FIRST_BLUR = 1 / 16  # in units of the diameter
_MOST_ROUNDS = 8
_LEAST_STEP, _LARGEST_STEP = 1.5, 8.0  # ratios between the blurs of two rounds
_AIM = 0.8  # of the gap that is allowed: what a round aims at
_POTENTIAL_TOLERANCE, _POTENTIAL_ITERATIONS = 3e-3, 200  # c-transforms repair what is left
_MULTISCALE_PAIRS = 4e6  # from here on, cells first
_PRUNED_PAIRS = 4e6  # from here on, the plan keeps the pairs of density above exp(-_TRUNCATION)
_TRUNCATION = 8.0
_SHARPENING_ITERATIONS = 40
_LEAST_TOLERANCE = 1e-4  # of iterations in float32
_CELLS_PER_BLUR = {1: 8.0, 2: 2.0}  # by the exponent: what cells add is a few percent of what entropy adds
_MISSED = 0.1  # of the gap that is allowed: what the missing mass of a plan may cost
_MOST_ASSIGNED = 4000  # points that are assigned exactly where entropic plans are not sharp enough
_LIKELY = (12, 48)  # partners of each point, on both sides, for assignments


@dataclass(frozen=True)
class WassersteinDistance:
    """A Wasserstein distance, between two bounds that are proved up to the rounding of float64.

    Attributes
    ----------
    lower
        The value of ``potentials``, to the power 1 / p: at most the distance, and its best estimate.
    upper
        The cost of a plan with the right marginals, to the power 1 / p: at least the distance.
    potentials
        f (N,) and g (M,), with f_i + g_j <= |x_i - y_j|^p for all pairs: float64, of the kind of the points.
    p
        Exponent of the distances.
    blur
        Of the last entropic problem, as a distance: its plan is sharp up to that.
    status
        ``"converged"``, or ``"gap"`` if the bounds are further apart than ``accuracy`` asked for.
    """

    lower: float
    upper: float
    potentials: tuple[Array, Array]
    p: int
    blur: float
    status: str

    @property
    def value(self) -> float:
        """The estimate of the distance: ``lower``, whose error is of second order in the temperature."""
        return self.lower

    def __float__(self) -> float:
        return self.value


def wasserstein_distance(
    X_a: Array,
    X_b: Array,
    a: Array | None = None,
    b: Array | None = None,
    p: int = 2,
    *,
    accuracy: float = 1e-2,
) -> WassersteinDistance:
    r"""Wasserstein distance between two point clouds, without entropy, between proved bounds.

    .. math::
        W_p(a, b) = \Big( \min_{P \ge 0,\ P 1 = a,\ P^\top 1 = b} \sum_{ij} P_{ij} |x_i - y_j|^p \Big)^{1/p}

    Parameters
    ----------
    X_a, X_b
        Points, (N, D) and (M, D): NumPy, PyTorch or CuPy, float32 or float64. Bounds are computed in float64.
    a, b
        Non-negative weights, (N,) and (M,), of equal masses. Default: 1/N and 1/M.
    p
        1 or 2.
    accuracy
        Largest ratio ``upper / lower - 1``. Time grows as it decreases, since the plan must be as sharp.

    Returns
    -------
    WassersteinDistance
        The distance, its bounds and the potentials that prove the lower one.

    Raises
    ------
    ValueError
        For wrong shapes, unequal masses, non-finite points, negative weights, mixed libraries, dtypes or devices, and
        parameters out of range.

    Warns
    -----
    UserWarning
        If the bounds could not be brought as close as ``accuracy`` asks for: where the distance is much smaller than
        the distance between neighbours, for instance.

    Notes
    -----
    For p = 2, c-transforms are searches for nearest neighbours in dimension D + 1, that visit few of the pairs; for
    p = 1, they visit all of them. Where entropic plans are not sharp enough, and both clouds have the same number of
    points (at most 4000) of equal weights, the upper bound comes from SciPy's sparse assignment. Sources: Peyre and
    Cuturi, *Computational optimal transport* (2019), sections 4.4 and 5.1, for bounds by c-transforms; Altschuler, Weed
    and Rigollet, arXiv 1705.09634, for rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import wasserstein_distance
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> found = wasserstein_distance(x, 2 * x + [3.0, 4.0], accuracy=1e-2)
    >>> exact = np.sqrt(((x + [3.0, 4.0]) ** 2).sum(-1).mean())  # the gradient of a convex function is optimal
    >>> bool(found.lower <= exact * (1 + 1e-12)), bool(exact <= found.upper)
    (True, True)
    >>> bool(found.upper <= 1.01 * found.lower)
    True
    """
    check_clouds(X_a, X_b, ("X_a", "X_b"))
    if X_a.ndim > 2:
        raise ValueError(f"X_a has shape {tuple(X_a.shape)}: expected one cloud (N, D); loop over the batch.")
    check_choice("p", p, (1, 2))
    check_positive("accuracy", accuracy)
    measures = read_measures((X_a, X_b), (a, b))
    check_compatible_masses(measures, ((1.0, 1.0), (1.0, 1.0)))
    pair = _Pair(X_a, X_b, measures, EUCLIDEAN if p == 1 else SQEUCLIDEAN)
    found = _narrow(pair, accuracy)
    if found.status == "gap":
        warnings.warn(
            f"The Wasserstein distance lies between {found.lower:.6g} and {found.upper:.6g}, further apart than "
            f"accuracy={accuracy:g}: accept it, or ask an exact solver for the plan.",
            stacklevel=2,
        )
    return found


@dataclass(frozen=True)
class _Pair:
    """Two clouds (N, D) and (M, D) and their measures, as given; sorted and centred in float64 for the bounds."""

    x: Array
    y: Array
    measures: tuple[Measure, Measure]
    cost: Cost

    @cached_property
    def entropic(self) -> Problem:
        """The problem of the solver, at any temperature."""
        library = library_of(self.x)
        centre = middle(self.x, self.y)
        x, y = (library.detach(cloud) - centre for cloud in (self.x, self.y))
        a, b = (Measure(library.detach(measure.weights)) for measure in self.measures)
        return Problem(PointGeometry(x, y, self.cost), a, b, (Balanced(), Balanced()), 1.0)

    @cached_property
    def clouds(self) -> tuple[SortedCloud, SortedCloud]:
        to_numpy = library_of(self.x).to_numpy
        x, y = (to_numpy(library_of(z).detach(z)).astype(np.float64) for z in (self.x, self.y))
        a, b = (to_numpy(library_of(m.weights).detach(m.weights)).astype(np.float64) for m in self.measures)
        centre = middle(x, y)
        return sort_cloud(x - centre, a), sort_cloud(y - centre, b * (a.sum() / b.sum()))

    @property
    def dim(self) -> int:
        return int(self.x.shape[-1])

    @property
    def size(self) -> int:
        """Number of pairs."""
        return len(self.x) * len(self.y)


@dataclass(frozen=True)
class _LowerBound:
    """A lower bound of the cost, and the potentials (f, g), of the sorted points, that prove it."""

    value: float
    f: np.ndarray
    g: np.ndarray


def _narrow(pair: _Pair, accuracy: float) -> WassersteinDistance:
    """Decrease the temperature until the bounds are close."""
    power = pair.cost.power
    blur = _FIRST_BLUR * float(pair.entropic.geometry.cost_bound) ** (1 / power)
    if blur == 0:  # all the points are the same
        zeros = (np.zeros(len(cloud.points)) for cloud in pair.clouds)
        return _finished(pair, _LowerBound(0.0, *zeros), 0.0, 0.0, "converged")
    bound = _lower_bound(pair, _entropic_potentials(pair, blur)[0])
    upper, gap = math.inf, _expected_gap(pair, blur)
    for _ in range(_MOST_ROUNDS):
        allowed = _allowed_gap(bound.value, accuracy, power)
        step = (gap / (_AIM * allowed)) ** (1 / power) if allowed > 0 else math.inf
        blur /= min(max(step, _LEAST_STEP), _LARGEST_STEP)
        potentials = _entropic_potentials(pair, blur)
        bound = max(bound, _lower_bound(pair, potentials[0]), key=lambda found: found.value)
        allowed = _allowed_gap(bound.value, accuracy, power)
        found = _upper_bound(pair, blur, potentials, allowed)
        is_sharper = found < upper
        upper = found if is_sharper else upper
        gap = upper - bound.value
        if gap <= allowed:
            return _finished(pair, bound, upper, blur, "converged")
        if not is_sharper:  # such temperatures take more iterations than there are
            break
    upper = min(upper, _assigned(pair, bound))
    is_close = upper - bound.value <= _allowed_gap(bound.value, accuracy, power)
    return _finished(pair, bound, upper, blur, "converged" if is_close else "gap")


def _expected_gap(pair: _Pair, blur: float) -> float:
    """What entropy adds to the cost of a plan around a map: its density is about exp(-|x - y|^p / epsilon)."""
    return float(pair.dim * blur**pair.cost.power)


def _allowed_gap(lower: float, accuracy: float, power: int) -> float:
    """Between the bounds of the cost, for distances that differ by a factor 1 + accuracy."""
    return max(lower, 0.0) * ((1 + accuracy) ** power - 1)


def _finished(pair: _Pair, bound: _LowerBound, upper: float, blur: float, status: str) -> WassersteinDistance:
    power, library = pair.cost.power, library_of(pair.x)
    potentials = (
        library.convert(cloud.hierarchy.unsorted(values), "float64", library.device(pair.x))
        for cloud, values in zip(pair.clouds, (bound.f, bound.g), strict=True)
    )
    lower, upper = (max(value, 0.0) ** (1 / power) for value in (bound.value, upper))
    f, g = potentials
    return WassersteinDistance(lower, upper, (f, g), power, blur, status)


def _entropic_potentials(pair: _Pair, blur: float) -> tuple[np.ndarray, np.ndarray]:
    """Potentials of the sorted points, right to a few percent of the marginals."""
    power = pair.cost.power
    problem = replace(pair.entropic, epsilon=power * blur**power)
    stopping = Stopping(_POTENTIAL_TOLERANCE, _POTENTIAL_ITERATIONS)
    if pair.size > _MULTISCALE_PAIRS:
        solution = solve_multiscale(problem, None, Multiscale(), stopping).ab.solution
    else:
        schedule = epsilon_schedule(problem.geometry.cost_bound, problem.epsilon, 0.5**power)
        solution = sinkhorn(problem, schedule, stopping)
    to_numpy = library_of(pair.x).to_numpy
    f, g = (
        cloud.sorted(to_numpy(values).astype(np.float64))
        for cloud, values in zip(pair.clouds, (solution.f, solution.g), strict=True)
    )
    return f, g


# ---------------------------------------------------------------------------- from below


def _lower_bound(pair: _Pair, f: np.ndarray) -> _LowerBound:
    """The dual value of g_j = min_i C_ij - f_i and f_i = min_j C_ij - g_j, which no plan undercuts."""
    left, right = pair.clouds
    g = _c_transform(pair.cost, right.points, left.points, f)
    f = _c_transform(pair.cost, left.points, right.points, g)
    return _LowerBound(float(left.measure.integrate(f) + right.measure.integrate(g)), f, g)


def _c_transform(cost: Cost, x: np.ndarray, y: np.ndarray, g: np.ndarray) -> np.ndarray:
    """min_j C(x_i, y_j) - g_j."""
    nearest = _nearest(cost, x, y, g, 1)[:, 0]
    return _between(cost, x, y[nearest]) - g[nearest]


def _nearest(cost: Cost, x: np.ndarray, y: np.ndarray, g: np.ndarray, count: int) -> np.ndarray:
    """The columns of the smallest C(x_i, y_j) - g_j: (N, count).

    For squared distances, these are the nearest neighbours of (x, 0) among (y, (max g - g)^(1/2)).
    """
    if cost.power == 1:
        formula = cost.formula(Vi(x), Vj(y)) - Vj(g[:, None])
    else:
        height = np.sqrt(g.max() - g)[:, None]
        formula = Vi(np.concatenate([x, np.zeros_like(x[:, :1])], 1)).sqdist(
            Vj(np.concatenate([y, height], 1))
        )
    found: np.ndarray = formula.argKmin(count, axis=1)
    return found


def _between(cost: Cost, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Costs of pairs of points (K, D)."""
    squared = ((x - y) ** 2).sum(-1)
    return np.sqrt(squared) if cost.power == 1 else squared


# ---------------------------------------------------------------------------- from above


def _upper_bound(
    pair: _Pair, blur: float, potentials: tuple[np.ndarray, np.ndarray], allowed: float
) -> float:
    """The cost of a plan between cells that are smaller than the blur, rounded to the right marginals.

    The mass of a cell leaves it in the proportions of its points. For squared distances, what this costs is the spread
    of the cells around their centroids; for distances, at most that.
    """
    power = pair.cost.power
    left, right = (cloud.cells(blur / _CELLS_PER_BLUR[power]) for cloud in pair.clouds)
    geometry = PointGeometry(left.points, right.points, pair.cost)
    problem = Problem(geometry, left.measure, right.measure, (Balanced(), Balanced()), power * blur**power)
    f, g = left.pool(potentials[0]), right.pool(potentials[1])
    if len(f) * len(g) > _PRUNED_PAIRS:
        problem = keep_dense_pairs(problem, (left, right), (f, g), _TRUNCATION)
    a, b = problem.source.weights, problem.target.weights
    # What marginals miss travels at the cost of the product of both measures.
    f, g = _sharpened(problem, g, tol=_MISSED * allowed / _product_cost(geometry, a, b))
    plan = round_plan(problem, (f, g), row_marginal(problem, f, g))
    costs = problem.geometry.apply_plan_cost(problem.epsilon, plan.f, plan.g, b[:, None])[:, 0]
    u, v = plan.rank_one
    completed = float(problem.source.integrate(costs)) + _product_cost(geometry, a * u, b * v)
    return completed + left.spread(power) + right.spread(power)


def _sharpened(problem: Problem, g: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
    """Potentials whose marginals are right to ``tol``, if a few iterations get there."""
    dtype = np.float32 if tol > _LEAST_TOLERANCE else np.float64
    in_dtype = problem.replace(tuple(tensor.astype(dtype) for tensor in problem.tensors))
    solution = converge(in_dtype, g.astype(dtype), Stopping(tol, _SHARPENING_ITERATIONS), 0)
    return solution.f.astype(np.float64), solution.g.astype(np.float64)


def _product_cost(geometry: Any, u: np.ndarray, v: np.ndarray) -> float:
    """The cost of the plan u v^T, or, for distances, that of its way through the origin."""
    squares = [(z**2).sum(-1) for z in (geometry.x, geometry.y)]
    if geometry.cost.power == 1:
        return float(u @ np.sqrt(squares[0]) * v.sum() + u.sum() * (v @ np.sqrt(squares[1])))
    return float(
        u @ squares[0] * v.sum() + u.sum() * (v @ squares[1]) - 2 * (u @ geometry.x) @ (v @ geometry.y)
    )


def _assigned(pair: _Pair, bound: _LowerBound) -> float:
    """The cost of the best assignment among the pairs that the bound makes likely; infinity where there is none."""
    left, right = pair.clouds
    n = len(left.points)
    same = all(bool((m.weights == left.measure.weights[0]).all()) for m in (left.measure, right.measure))
    if n != len(right.points) or n > _MOST_ASSIGNED or not same:
        return math.inf
    for count in _LIKELY:
        count = min(count, n)
        columns = _nearest(pair.cost, left.points, right.points, bound.g, count)
        rows = _nearest(pair.cost, right.points, left.points, bound.f, count)
        one = np.arange(n).repeat(count)
        i, j = np.concatenate([one, rows.ravel()]), np.concatenate([columns.ravel(), one])
        i, j = np.divmod(np.unique(i * n + j), n)
        costs = _between(pair.cost, left.points[i], right.points[j])
        # Explicit zeros are no edges: reduced costs are not negative, and leave the best assignment as it is.
        reduced = np.maximum(costs - bound.f[i] - bound.g[j], 0.0)
        edges = csr_array((reduced + max(float(reduced.max()), 1.0) * 1e-9, (i, j)), shape=(n, n))
        try:
            best = min_weight_full_bipartite_matching(edges)
        except ValueError:  # some points have no partner among these pairs
            continue
        return float(_between(pair.cost, left.points[best[0]], right.points[best[1]]) @ left.measure.weights)
    return math.inf
