"""Owns exact transport between two clouds, by linear programs over few of the pairs; ignores what they start from.

Optimal plans use pairs where the constraints f_i + g_j <= C_ij of the potentials are tight. A linear program that knows
only the pairs that are nearly tight for good potentials finds better ones; the pairs whose constraints these violate
join the program, until there are none. Masses that find no place among the known pairs stay, at a high price.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csc_array, csr_array

from .duals import LowerBound, Side, costs_between, likely_pairs, lower_bound
from .flows import Edges, couple_in_order, join_edges
from .pair import Pair

_PARTNERS = {1: 12, 2: 6}  # of each point, on both sides, that programs start with
_MOST_PROGRAMS = 30
_PRICE, _DEARER = 100.0, 10.0  # of mass that stays, in units of the largest reduced cost; how it rises
_TIGHT = 1e-10  # constraints, in units of the mean reduced cost of the first pairs
_FEASIBLE = 1e-10  # masses, in units of the mean weight, and constraints, in units of the mean reduced cost
_STAYS = 1e-6  # mass that is more than rounding, in units of the mean weight


class ExactPlan(NamedTuple):
    """Potentials and a plan (N, M) between the sorted points, whose values agree up to rounding."""

    lower: LowerBound
    upper: float
    plan: csr_array


class _Program(NamedTuple):
    """The solution of a program: potentials, and the masses that travel along its edges."""

    f: np.ndarray
    g: np.ndarray
    masses: np.ndarray
    stays: bool  # whether some mass found no place


def transport_exactly(pair: Pair, start: LowerBound) -> ExactPlan:
    """The optimal plan, from potentials that are close to optimal; or the best one after many programs."""
    count = _PARTNERS[pair.cost.power]
    best = ExactPlan(start, np.inf, csr_array(pair.shape))
    potentials, price = (start.f, start.g), _PRICE
    edges = _candidates(pair, potentials, count)
    scale = float(np.mean(_reduced_costs(pair, edges, potentials)))
    for _ in range(_MOST_PROGRAMS):
        program = _solve(pair, edges, potentials, price)
        potentials = program.f, program.g
        best = _better(pair, best, edges, program)
        if best.upper - best.lower.value <= pair.rounding:
            break
        more = _candidates(pair, potentials, count)
        violated = _reduced_costs(pair, more, potentials) < -_TIGHT * scale
        if not violated.any() and not program.stays:
            break
        edges = join_edges(edges, Edges(more.rows[violated], more.columns[violated]), pair.shape[1])
        if program.stays:  # among neighbours that are nearly equal, potentials rise by the price and no more
            price *= _DEARER
    return best


def _candidates(pair: Pair, potentials: tuple[np.ndarray, np.ndarray], count: int) -> Edges:
    """The pairs that are closest to violating their constraints, or violate them most."""
    x, y = pair.points
    every = Edges(np.arange(len(x)), np.arange(len(y)))
    return likely_pairs(pair.cost, (Side(x, potentials[0]), Side(y, potentials[1])), every, count)


def _reduced_costs(pair: Pair, edges: Edges, potentials: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    (x, y), (f, g) = pair.points, potentials
    return costs_between(pair.cost, x[edges.rows], y[edges.columns]) - f[edges.rows] - g[edges.columns]


def _solve(pair: Pair, edges: Edges, potentials: tuple[np.ndarray, np.ndarray], price: float) -> _Program:
    """Minimise the cost of masses along edges, and the price of those that stay where they are.

    Reduced costs and weights of the order of one keep the tolerances of the solver meaningful.
    """
    (a, b), (f, g) = pair.weights, potentials
    n, m, count = len(a), len(b), len(edges.rows)
    reduced = _reduced_costs(pair, edges, potentials)
    unit_cost = max(float(abs(reduced).mean()), pair.rounding)
    unit_mass = float(a.sum()) / max(n, m)
    # One equation per point; one unknown per edge, then one per point for the mass that stays.
    equations = np.concatenate([edges.rows, n + edges.columns, np.arange(n + m)])
    unknowns = np.concatenate([np.arange(count), np.arange(count), count + np.arange(n + m)])
    stays = np.full(n + m, price * max(float(abs(reduced).max()) / unit_cost, 1.0))
    found = linprog(
        np.concatenate([reduced / unit_cost, stays]),
        A_eq=csc_array((np.ones(len(equations)), (equations, unknowns)), shape=(n + m, count + n + m)),
        b_eq=np.concatenate([a, b]) / unit_mass,
        method="highs-ds",
        options={"primal_feasibility_tolerance": _FEASIBLE, "dual_feasibility_tolerance": _FEASIBLE},
    )
    if found.x is None:
        raise RuntimeError(f"SciPy's linear program between {n} and {m} points failed: {found.message}")
    steps = unit_cost * found.eqlin.marginals
    f, g = f + steps[:n], g + steps[n:]
    shift = (a @ f - b @ g) / (a.sum() + b.sum())  # constants move freely: keep them small
    masses = unit_mass * np.maximum(found.x[:count], 0.0)
    return _Program(f - shift, g + shift, masses, bool(found.x[count:].sum() > _STAYS))


def _better(pair: Pair, best: ExactPlan, edges: Edges, program: _Program) -> ExactPlan:
    """The best bounds so far, with those that a program proves."""
    lower = max(best.lower, lower_bound(pair, program.f), key=lambda found: found.value)
    x, y = pair.points
    plan = _completed(coo_array((program.masses, edges), shape=pair.shape).tocsr(), pair.weights)
    pairs = plan.tocoo()
    upper = float(pairs.data @ costs_between(pair.cost, x[pairs.row], y[pairs.col]))
    return ExactPlan(lower, upper, plan) if upper < best.upper else best._replace(lower=lower)


def _completed(plan: csr_array, weights: tuple[np.ndarray, np.ndarray]) -> csr_array:
    """A plan with the right marginals: rows and columns give up what they have too much; what is missing follows."""
    a, b = weights
    plan = csr_array(plan * _excess(plan.sum(1), a)[:, None])
    plan = csr_array(plan * _excess(plan.sum(0), b))
    more = couple_in_order(np.maximum(a - plan.sum(1), 0.0), np.maximum(b - plan.sum(0), 0.0))
    whole = csr_array(plan + coo_array((more.units, (more.rows, more.columns)), shape=plan.shape))
    whole.eliminate_zeros()
    return whole


def _excess(masses: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.minimum(1.0, weights / np.maximum(masses, np.finfo(float).tiny))
