"""Owns the proof that a solution is right: marginal errors and duality gap; ignores how the solution was found."""

from __future__ import annotations

from dataclasses import dataclass, replace

from symbolic_matrices.arrays import Array, library_of

from .measures import Measure
from .penalties import Penalty
from .sinkhorn import Problem, Solution, row_marginal


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
        conserved, the plan is first rounded to one with the right marginals, so that the bound is rigorous (Altschuler,
        Weed and Rigollet, arXiv 1705.09634).
    """

    marginal_error_a: Array
    marginal_error_b: Array
    duality_gap: Array


@dataclass(frozen=True)
class _Plan:
    """a_i b_j (exp((f_i + g_j - C_ij) / epsilon) + u_i v_j), with its marginals."""

    f: Array
    g: Array
    rank_one: tuple[Array, Array]
    rows: Array
    columns: Array


def certify(problem: Problem, solution: Solution) -> Certificate:
    """Measure a solution of a problem on detached arrays: five reductions."""
    f, g = solution.f, solution.g
    penalty_a, penalty_b = problem.penalties
    rows, columns = row_marginal(problem, f, g), row_marginal(problem.T, g, f)
    zeros = tuple(library_of(w).namespace.zeros_like(w) for w in (f, g))
    plan = _feasible(problem, _Plan(f, g, (zeros[0], zeros[1]), rows, columns))
    return Certificate(
        _relative_error(rows, problem.source.weights * penalty_a.dual_slope(f)),
        _relative_error(columns, problem.target.weights * penalty_b.dual_slope(g)),
        _primal_value(problem, plan) - solution.value,
    )


def _feasible(problem: Problem, plan: _Plan) -> _Plan:
    """A plan close to the given one, whose marginals are exact where mass is conserved."""
    conserved = [penalty.conserves_mass for penalty in problem.penalties]
    if conserved == [True, True]:
        return _rounded(problem, plan)
    if conserved == [True, False]:
        return _rescaled(problem, plan)
    if conserved == [False, True]:
        swapped = _Plan(plan.g, plan.f, plan.rank_one[::-1], plan.columns, plan.rows)
        fixed = _rescaled(problem.T, swapped)
        return _Plan(fixed.g, fixed.f, fixed.rank_one[::-1], fixed.columns, fixed.rows)
    return plan


def _rescaled(problem: Problem, plan: _Plan) -> _Plan:
    """Rows multiplied by what they lack."""
    f = plan.f + problem.epsilon * _log_ratio(problem.source.weights, plan.rows)
    return replace(plan, f=f, rows=problem.source.weights, columns=row_marginal(problem.T, plan.g, f))


def _rounded(problem: Problem, plan: _Plan) -> _Plan:
    """Rows, then columns, reduced to their target mass; a product measure brings what is then missing."""
    epsilon = problem.epsilon
    a, b = problem.source.weights, problem.target.weights
    xp = library_of(a).namespace
    f = plan.f + epsilon * xp.clip(_log_ratio(a, plan.rows), None, 0.0)
    columns = row_marginal(problem.T, plan.g, f)
    g = plan.g + epsilon * xp.clip(_log_ratio(b, columns), None, 0.0)
    missing_a = xp.clip(a - row_marginal(problem, f, g), 0.0, None)
    missing_b = xp.clip(b - columns, 0.0, None)
    total = missing_b.sum(-1)[..., None]
    u, v = _quotient(missing_a, a), _quotient(missing_b, b * total)
    return _Plan(f, g, (u, v), a, b)


def _primal_value(problem: Problem, plan: _Plan) -> Array:
    penalty_a, penalty_b = problem.penalties
    inner = problem.geometry.primal_density(
        problem.epsilon, plan.f, plan.g, (*plan.rank_one, problem.target.weights)
    )
    return (
        problem.source.integrate(inner)
        + _penalty(penalty_a, problem.source, plan.rows)
        + _penalty(penalty_b, problem.target, plan.columns)
    )


def _penalty(penalty: Penalty, target: Measure, marginal: Array) -> Array:
    return target.integrate(penalty.primal(_quotient(marginal, target.weights)))


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
