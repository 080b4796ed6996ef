"""Owns plans with the right marginals, which bound the cost of transport from above; ignores how close they have to be.

Between cells, or between the few pairs that potentials tell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..certificates import round_plan
from ..geometries import PointGeometry
from ..multiscale import dense_problem
from ..penalties import Balanced
from ..problems import Problem, Stopping, row_marginal
from ..sinkhorn import converge
from .duals import LowerBound, Side, costs_between, likely_pairs
from .flows import Edges, Flow, count_units, greatest_flow
from .pair import Pair

_PRUNED_PAIRS = 4e6  # from here on, the plan keeps the pairs of density above exp(-_TRUNCATION)
_TRUNCATION = 8.0
_SHARPENING_ITERATIONS = 40
_LEAST_TOLERANCE = 1e-4  # of iterations in float32
_CELLS_PER_BLUR = {1: 8.0, 2: 2.0}  # by the exponent: what cells add is a few percent of what entropy adds
_CELLS_PER_BLUR_OF_FLOWS = 4.0  # which are sharper
_MISSED = 0.1  # of the gap that is allowed: what the missing mass of a plan may cost
_PARTNERS = (6, 12)  # of each point, on both sides, that flows may use
_LEFT = 2e-3  # of the mass: where the partners leave less, others take it
_MUCH = 0.05  # of the mass: where they leave more, potentials are too far off
_OTHERS = 64  # partners among the points that have mass left


class Trial(NamedTuple):
    """What is known when an upper bound is asked for."""

    blur: float
    potentials: tuple[np.ndarray, np.ndarray]  # entropic ones, of the sorted points
    lower: LowerBound
    allowed: float  # gap between the bounds of the cost


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
        (Side(left.points, f), Side(right.points, g)),
        (left.level.weights, right.level.weights),
    )
    a, b, unit = count_units(*weights)
    total, rest = int(a.sum()), Edges(np.arange(len(a)), np.arange(len(b)))
    for count in _PARTNERS:
        flow = greatest_flow(a, b, likely_pairs(pair.cost, sides, rest, count))
        if not _LEFT < 1 - flow.units.sum() / total < _MUCH:
            break
    flows = [flow]
    while sum(int(found.units.sum()) for found in flows) < total:
        a = a - np.bincount(flow.rows, flow.units, len(a)).astype(np.int64)
        b = b - np.bincount(flow.columns, flow.units, len(b)).astype(np.int64)
        rest = Edges(np.flatnonzero(a), np.flatnonzero(b))
        flow = greatest_flow(a, b, likely_pairs(pair.cost, sides, rest, _OTHERS))
        flows.append(flow)
    whole = Flow(*(np.concatenate(parts) for parts in zip(*flows, strict=True)))
    geometry = PointGeometry(left.points, right.points, pair.cost)
    return _flow_cost(geometry, weights, whole, unit) + pair.spread(cells)


def _flow_cost(
    geometry: PointGeometry, weights: tuple[np.ndarray, np.ndarray], flow: Flow, unit: float
) -> float:
    """Of a flow, and of what is less than a unit, which travels as a product measure."""
    masses = unit * flow.units
    ends = zip(weights, (flow.rows, flow.columns), strict=True)
    rests = [np.maximum(own - np.bincount(places, masses, len(own)), 0.0) for own, places in ends]
    rest = _product_cost(geometry, rests[0], rests[1]) / max(float(rests[0].sum()), 1e-300)
    return (
        float(masses @ costs_between(geometry.cost, geometry.x[flow.rows], geometry.y[flow.columns])) + rest
    )
