"""Owns the proof that a solution is right: marginal errors and duality gap; ignores how the solution was found."""

from __future__ import annotations

import math
from dataclasses import dataclass

from symbolic_matrices.arrays import Array, library_of

from .geometries import PointGeometry
from .measures import Measure
from .penalties import Penalty
from .problems import Problem, Solution, row_marginal

_SLACK = 100  # rounding errors of a sum of masses, in units of machine precision


@dataclass(frozen=True)
class Certificate:
    """What proves that a result is right: numbers that vanish at the optimum, one per problem of the batch.

    Attributes
    ----------
    marginal_error_a, marginal_error_b
        L1 distance between the marginal of the plan and the one that optimality asks for (the given measure where
        mass is conserved), divided by the mass of the latter.
    duality_gap
        Primal value of a plan minus dual value: the optimal value lies in this interval above ours. Where mass is
        conserved, bounded or given, the plan is first rounded to one with the right marginals, so that the bound is
        rigorous (Altschuler, Weed and Rigollet, arXiv 1705.09634).
    """

    marginal_error_a: Array
    marginal_error_b: Array
    duality_gap: Array


@dataclass(frozen=True)
class RoundedPlan:
    """a_i b_j (exp((f_i + g_j - C_ij) / epsilon) + u_i v_j), with its marginals."""

    f: Array
    g: Array
    rank_one: tuple[Array, Array]  # u and v
    rows: Array
    columns: Array


def certify(problem: Problem, solution: Solution, skipped: float = 0.0) -> Certificate:
    """Measure a solution of a problem on detached arrays: five reductions.

    Where these skip pairs, rows and columns hold at most ``skipped`` times their weights there: errors count all of it.
    """
    f, g = solution.f, solution.g
    penalty_a, penalty_b = problem.penalties
    rows, columns = row_marginal(problem, f, g), row_marginal(problem.T, g, f)
    plan = round_plan(problem, (f, g), rows)
    wanted = _wanted(penalty_a, problem.source, f, rows), _wanted(penalty_b, problem.target, g, columns)
    more = [
        skipped * one.mass / w.sum(-1)
        for one, w in zip((problem.source, problem.target), wanted, strict=True)
    ]
    primal = _primal_value(problem, plan, is_partial=skipped > 0)
    return Certificate(
        _relative_error(rows, wanted[0]) + more[0],
        _relative_error(columns, wanted[1]) + more[1],
        primal - solution.value + problem.epsilon * skipped * problem.source.mass,
    )


def round_plan(problem: Problem, potentials: tuple[Array, Array], rows: Array) -> RoundedPlan:
    """A plan close to that of some potentials, of row sums ``rows``, whose marginals (and mass, if given) are allowed.

    Rows, then columns, are reduced to their largest mass; a product measure brings what is then missing.
    """
    (f, g), source, target = potentials, problem.source, problem.target
    bounds_a, bounds_b = (penalty.ratio_bounds for penalty in problem.penalties)
    f = f + problem.epsilon * _log_reduction(bounds_a[1], source, rows)
    columns = row_marginal(problem.T, g, f)
    g = g + problem.epsilon * _log_reduction(bounds_b[1], target, columns)
    plan = _completable(problem, f, g)
    f, g, rows, columns = plan.f, plan.g, plan.rows, plan.columns
    lacks = _lack(bounds_a[0], source, rows), _lack(bounds_b[0], target, columns)
    xp = library_of(f).namespace
    total = xp.maximum(lacks[0].sum(-1), lacks[1].sum(-1))[..., None]
    if problem.given_mass is not None:
        total = xp.clip(problem.given_mass.mass - rows.sum(-1)[..., None], 0.0, None)
    more_a = _filled(lacks[0], total, bounds_a[1], source, rows)
    more_b = _filled(lacks[1], total, bounds_b[1], target, columns)
    u, v = _quotient(more_a, source.weights), _quotient(more_b, target.weights * total)
    return RoundedPlan(f, g, (u, v), rows + more_a, columns + more_b)


def _completable(problem: Problem, f: Array, g: Array) -> RoundedPlan:
    """A part of the plan of f and g that leaves enough room: what columns lack must fit in the rows, and vice versa.

    Where the bounds of both sides hardly overlap, what exceeds the lower bound of a column leaves it, in proportion.
    """
    (low_a, high_a), (low_b, high_b) = (penalty.ratio_bounds for penalty in problem.penalties)
    rows, columns = row_marginal(problem, f, g), row_marginal(problem.T, g, f)
    shrink = _log_shrink(low_b, problem.target, columns, _limit(problem, high_a, problem.source))
    if bool((shrink < 0).any()):
        g = g + problem.epsilon * shrink
        rows, columns = row_marginal(problem, f, g), row_marginal(problem.T, g, f)
    shrink = _log_shrink(low_a, problem.source, rows, _limit(problem, high_b, problem.target))
    if bool((shrink < 0).any()):
        f = f + problem.epsilon * shrink
        rows, columns = row_marginal(problem, f, g), row_marginal(problem.T, g, f)
    zeros = tuple(library_of(w).namespace.zeros_like(w) for w in (f, g))
    return RoundedPlan(f, g, (zeros[0], zeros[1]), rows, columns)


def _limit(problem: Problem, high: float, measure: Measure) -> Array:
    """The largest mass that a plan may have, in view of one side."""
    mass = measure.weights.sum(-1)
    if problem.given_mass is not None:
        return 0.0 * mass + problem.given_mass.mass
    return high * mass


def _log_shrink(low: float, target: Measure, marginal: Array, limit: Array) -> Array:
    """Logarithm of what brings the mass of a marginal, once completed up to ``low`` times its target, below a limit."""
    xp = library_of(marginal).namespace
    excess = xp.clip(marginal - low * target.weights, 0.0, None)
    completed = (excess + low * target.weights).sum(-1)
    slack = _SLACK * float(xp.finfo(marginal.dtype).eps) * completed
    too_much = xp.where(completed > limit + slack, completed - limit, 0.0)
    share = xp.clip(_quotient(too_much, excess.sum(-1)), None, 1.0)[..., None]
    return _log_ratio(marginal - share * excess, marginal)


def _log_reduction(bound: float, target: Measure, marginal: Array) -> Array:
    """Logarithm of what brings a marginal below ``bound`` times its target."""
    xp = library_of(marginal).namespace
    if bound == math.inf:
        return xp.zeros_like(marginal)
    return xp.clip(_log_ratio(bound * target.weights, marginal), None, 0.0)


def _lack(bound: float, target: Measure, marginal: Array) -> Array:
    return library_of(marginal).namespace.clip(bound * target.weights - marginal, 0.0, None)


def _filled(lack: Array, total: Array, bound: float, target: Measure, marginal: Array) -> Array:
    """``lack``, completed up to ``total`` where the marginal is the furthest from its upper bound."""
    xp = library_of(marginal).namespace
    room = target.weights
    if bound != math.inf:
        room = xp.clip(bound * target.weights - marginal - lack, 0.0, None)
    return lack + (total - lack.sum(-1)[..., None]) * _quotient(room, room.sum(-1)[..., None])


def _primal_value(problem: Problem, plan: RoundedPlan, *, is_partial: bool) -> Array:
    """``is_partial``: some pairs are not visited, where the plan is a product measure."""
    (penalty_a, penalty_b), rank_one = problem.penalties, (*plan.rank_one, problem.target.weights)
    inner = problem.geometry.primal_density(problem.epsilon, plan.f, plan.g, rank_one)
    if is_partial:
        assert isinstance(problem.geometry, PointGeometry)
        inner = inner + problem.geometry.skipped_density(problem.epsilon, rank_one)
    return (
        problem.source.integrate(inner)
        + _penalty(penalty_a, problem.source, plan.rows)
        + _penalty(penalty_b, problem.target, plan.columns)
        - problem.unpaid
    )


def _penalty(penalty: Penalty, target: Measure, marginal: Array) -> Array:
    return target.integrate(penalty.primal(_quotient(marginal, target.weights)))


def _wanted(penalty: Penalty, target: Measure, potential: Array, marginal: Array) -> Array:
    """The marginal that optimality asks for."""
    return target.weights * penalty.nearest_slope(potential, _quotient(marginal, target.weights))


def _log_ratio(wanted: Array, actual: Array) -> Array:
    """log(wanted / actual), and 0 at points of weight zero."""
    xp = library_of(wanted).namespace
    positive = (wanted > 0) & (actual > 0)
    return xp.log(xp.where(positive, wanted, 1.0) / xp.where(positive, actual, 1.0))


def _quotient(numerator: Array, denominator: Array) -> Array:
    """The ratio, and 0 where the denominator is."""
    xp = library_of(numerator).namespace
    positive = denominator > 0
    return xp.where(positive, numerator / xp.where(positive, denominator, 1.0), 0.0)


def _relative_error(actual: Array, wanted: Array) -> Array:
    one = library_of(actual).namespace.ones_like(actual)
    return Measure(abs(actual - wanted)).integrate(one) / Measure(wanted).integrate(one)
