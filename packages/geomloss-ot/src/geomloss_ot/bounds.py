"""Owns bounds of the cost of transport without entropy, and what proves them; ignores how close they have to be.

Potentials of entropic transport bound the cost from below, once c-transforms have made them satisfy all constraints.
Plans with the right marginals bound it from above: between cells, or between the few pairs that the potentials tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from symbolic_matrices import Vi, Vj
from symbolic_matrices.arrays import Array, library_of

from .annealing import epsilon_schedule
from .certificates import round_plan
from .costs import Cost
from .flows import Edges, Flow, count_units, greatest_flow, join_edges
from .geometries import PointGeometry
from .measures import Measure, middle
from .multiscale import Cells, Cloud, Multiscale, build_hierarchy, dense_problem, solve_multiscale
from .penalties import Balanced
from .sinkhorn import Problem, Stopping, converge, row_marginal, sinkhorn

_POTENTIAL_TOLERANCE, _POTENTIAL_ITERATIONS = 3e-3, 200  # c-transforms repair what is left
_MULTISCALE_PAIRS = 4e6  # from here on, cells first
_PRUNED_PAIRS = 4e6  # from here on, the plan keeps the pairs of density above exp(-_TRUNCATION)
_TRUNCATION = 8.0
_SHARPENING_ITERATIONS = 40
_LEAST_TOLERANCE = 1e-4  # of iterations in float32
_FINEST = 1e-4  # edge of the smallest cells, in units of the largest side of a cloud
_CELLS_PER_BLUR = {1: 8.0, 2: 2.0}  # by the exponent: what cells add is a few percent of what entropy adds
_CELLS_PER_BLUR_OF_FLOWS = 4.0  # which are sharper
_MISSED = 0.1  # of the gap that is allowed: what the missing mass of a plan may cost
_PARTNERS = (6, 12)  # of each point, on both sides, that flows may use
_LEFT = 2e-3  # of the mass: where the partners leave less, others take it
_MUCH = 0.05  # of the mass: where they leave more, potentials are too far off
_OTHERS = 64  # partners among the points that have mass left
_MOST_ASSIGNED = 4000  # points whose best assignment does not take long


@dataclass(frozen=True)
class Pair:
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
    def clouds(self) -> tuple[Cloud, Cloud]:
        to_numpy = library_of(self.x).to_numpy
        x, y = (to_numpy(library_of(z).detach(z)).astype(np.float64) for z in (self.x, self.y))
        a, b = (to_numpy(library_of(m.weights).detach(m.weights)).astype(np.float64) for m in self.measures)
        centre = middle(x, y)
        return _sort_cloud(x - centre, a), _sort_cloud(y - centre, b * (a.sum() / b.sum()))

    @property
    def dim(self) -> int:
        return int(self.x.shape[-1])

    @property
    def diameter(self) -> float:
        """Of a box around both clouds."""
        return float(self.entropic.geometry.cost_bound) ** (1 / self.cost.power)

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The sorted points."""
        left, right = self.clouds
        return left.hierarchy.points, right.hierarchy.points

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of the sorted points."""
        left, right = self.clouds
        return left.hierarchy.weights, right.hierarchy.weights

    def cells(self, edge: float) -> tuple[Cells, Cells]:
        """The cells of both clouds with edges of at most ``edge``."""
        left, right = (cloud.cells(cloud.hierarchy.number_of(edge)) for cloud in self.clouds)
        return left, right

    def pool(self, cells: tuple[Cells, Cells], potentials: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
        """Means over cells of potentials of the sorted points."""
        sides = zip(self.clouds, cells, potentials, strict=True)
        return [cloud.hierarchy.means(side.level, values) for cloud, side, values in sides]

    def spread(self, cells: tuple[Cells, Cells]) -> float:
        """What it costs at most to leave cells in the proportions of their points, rather than from their centroids.

        For squared distances, what it costs: they are the sum of those to the centroids and of those between them.
        """
        sides = zip(self.clouds, cells, strict=True)
        return sum(cloud.hierarchy.spread(side.level, self.cost.power) for cloud, side in sides)

    @property
    def size(self) -> int:
        """Number of pairs."""
        return len(self.x) * len(self.y)


def _sort_cloud(points: np.ndarray, weights: np.ndarray) -> Cloud:
    """A cloud whose cells are NumPy's arrays."""
    span = float(np.ptp(points, axis=0).max())
    hierarchy = build_hierarchy(points, weights, _FINEST * span if span > 0 else 1.0)
    return Cloud(hierarchy, np.asarray, np.asarray)


@dataclass(frozen=True)
class LowerBound:
    """A lower bound of the cost, and the potentials (f, g), of the sorted points, that prove it."""

    value: float
    f: np.ndarray
    g: np.ndarray


class Trial(NamedTuple):
    """What is known when an upper bound is asked for."""

    blur: float
    potentials: tuple[np.ndarray, np.ndarray]  # entropic ones, of the sorted points
    lower: LowerBound
    allowed: float  # gap between the bounds of the cost


def entropic_potentials(pair: Pair, blur: float) -> tuple[np.ndarray, np.ndarray]:
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
        cloud.hierarchy.sorted(to_numpy(values).astype(np.float64))
        for cloud, values in zip(pair.clouds, (solution.f, solution.g), strict=True)
    )
    return f, g


# ---------------------------------------------------------------------------- from below


def lower_bound(pair: Pair, f: np.ndarray) -> LowerBound:
    """The dual value of g_j = min_i C_ij - f_i and f_i = min_j C_ij - g_j, which no plan undercuts."""
    (x, y), (a, b) = pair.points, pair.weights
    g = _c_transform(pair.cost, y, x, f)
    f = _c_transform(pair.cost, x, y, g)
    return LowerBound(float(a @ f + b @ g), f, g)


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


def bound_between_cells(pair: Pair, trial: Trial) -> float:
    """The cost of a plan between cells that are smaller than the blur, rounded to the right marginals."""
    power, blur = pair.cost.power, trial.blur
    left, right = cells = pair.cells(blur / _CELLS_PER_BLUR[power])
    geometry = PointGeometry(left.points, right.points, pair.cost)
    problem = Problem(geometry, left.measure, right.measure, (Balanced(), Balanced()), power * blur**power)
    f, g = pair.pool(cells, trial.potentials)
    if len(f) * len(g) > _PRUNED_PAIRS:
        problem = dense_problem(problem, cells, (f, g), _TRUNCATION)
    a, b = problem.source.weights, problem.target.weights
    # What marginals miss travels at the cost of the product of both measures.
    f, g = _sharpened(problem, g, tol=_MISSED * trial.allowed / _product_cost(geometry, a, b))
    plan = round_plan(problem, (f, g), row_marginal(problem, f, g))
    costs = problem.geometry.apply_plan_cost(problem.epsilon, plan.f, plan.g, b[:, None])[:, 0]
    u, v = plan.rank_one
    completed = float(problem.source.integrate(costs)) + _product_cost(geometry, a * u, b * v)
    return completed + pair.spread(cells)


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


def bound_between_partners(pair: Pair, trial: Trial) -> float:
    """The cost of a plan between the pairs (i, j) of cells where C_ij - f_i - g_j is among the smallest for i or for j.

    What these pairs leave goes to partners among the cells that have some left, until nothing is.
    """
    left, right = cells = pair.cells(trial.blur / _CELLS_PER_BLUR_OF_FLOWS)
    f, g = pair.pool(cells, (trial.lower.f, trial.lower.g))
    sides, weights = (
        (_Side(left.points, f), _Side(right.points, g)),
        (left.level.weights, right.level.weights),
    )
    a, b, unit = count_units(*weights)
    total, rest = int(a.sum()), Edges(np.arange(len(a)), np.arange(len(b)))
    for count in _PARTNERS:
        flow = greatest_flow(a, b, _likely(pair.cost, sides, rest, count))
        if not _LEFT < 1 - flow.units.sum() / total < _MUCH:
            break
    flows = [flow]
    while sum(int(found.units.sum()) for found in flows) < total:
        a = a - np.bincount(flow.rows, flow.units, len(a)).astype(np.int64)
        b = b - np.bincount(flow.columns, flow.units, len(b)).astype(np.int64)
        rest = Edges(np.flatnonzero(a), np.flatnonzero(b))
        flow = greatest_flow(a, b, _likely(pair.cost, sides, rest, _OTHERS))
        flows.append(flow)
    whole = Flow(*(np.concatenate(parts) for parts in zip(*flows, strict=True)))
    geometry = PointGeometry(left.points, right.points, pair.cost)
    return _flow_cost(geometry, weights, whole, unit) + pair.spread(cells)


def bound_by_assignment(pair: Pair, lower: LowerBound) -> float:
    """The cost of the best assignment between likely pairs of small clouds of equal weights; infinity for others."""
    (x, y), (a, b, unit) = pair.points, count_units(*pair.weights)
    n = len(a)
    if n > _MOST_ASSIGNED or n != len(b) or not bool((a == 1).all() and (b == 1).all()):
        return math.inf
    sides, everything = (_Side(x, lower.f), _Side(y, lower.g)), np.arange(n)
    geometry = PointGeometry(x, y, pair.cost)
    for count in (_PARTNERS[-1], _OTHERS):
        rows, columns = _likely(pair.cost, sides, Edges(everything, everything), count)
        costs = _between(pair.cost, x[rows], y[columns])
        # Explicit zeros are no edges: reduced costs are not negative, and leave the best assignment as it is.
        reduced = np.maximum(costs - lower.f[rows] - lower.g[columns], 0.0)
        graph = csr_array((reduced + max(float(reduced.max()), 1e-300) * 1e-9, (rows, columns)), shape=(n, n))
        try:
            i, j = min_weight_full_bipartite_matching(graph)
        except ValueError:  # some points have no partner among these pairs
            continue
        return _flow_cost(geometry, pair.weights, Flow(i, j, np.ones(n, np.int64)), unit)
    return math.inf


class _Side(NamedTuple):
    """Points and their potential."""

    points: np.ndarray
    potential: np.ndarray


def _likely(cost: Cost, sides: tuple[_Side, _Side], among: Edges, count: int) -> Edges:
    """The pairs of the smallest C_ij - f_i - g_j, ``count`` for each of the given rows and columns, or all of them."""
    (rows, columns), (left, right) = among, sides
    x, y = left.points[rows], right.points[columns]
    forward = _nearest(cost, x, y, right.potential[columns], min(count, len(columns)))
    backward = _nearest(cost, y, x, left.potential[rows], min(count, len(rows)))
    first = Edges(rows.repeat(forward.shape[1]), columns[forward].ravel())
    second = Edges(rows[backward].ravel(), columns.repeat(backward.shape[1]))
    return join_edges(first, second, len(right.points))


def _flow_cost(
    geometry: PointGeometry, weights: tuple[np.ndarray, np.ndarray], flow: Flow, unit: float
) -> float:
    """Of a flow, and of what is less than a unit, which travels as a product measure."""
    masses = unit * flow.units
    ends = zip(weights, (flow.rows, flow.columns), strict=True)
    rests = [np.maximum(own - np.bincount(places, masses, len(own)), 0.0) for own, places in ends]
    rest = _product_cost(geometry, rests[0], rests[1]) / max(float(rests[0].sum()), 1e-300)
    return float(masses @ _between(geometry.cost, geometry.x[flow.rows], geometry.y[flow.columns])) + rest
