"""Owns one Sinkhorn update of a problem and what it tells; ignores how updates follow each other."""

from __future__ import annotations

from typing import NamedTuple

from symbolic_matrices.arrays import Array, library_of

from .geometries import Softmins
from .problems import Problem, Progress, Solution, Stopping
from .translations import best_translation

# Rounding leaves a marginal error of about machine precision * (1 + this number * largest cost / epsilon).
_ROUNDING = 0.25


class Step(NamedTuple):
    """One application of the fixed-point map: ``state`` is f for symmetric problems and g for others."""

    f: Array
    g: Array
    partner: Array  # (..., M): what f is the Sinkhorn update of; f itself in symmetric problems
    ratio_f: Array
    ratio_g: Array
    residual: Array  # map(state) - state
    error: Array
    softmins: tuple[Array, Array]  # what f and g are the proximal steps of


def first_state(problem: Problem, softmins: Softmins) -> Array:
    """Where iterations start: zero, or the potential of very large temperatures if the problem is symmetric."""
    if not problem.symmetric:
        return library_of(problem.target.weights).namespace.zeros_like(problem.target.weights)
    return problem.penalties[1].proximal(softmins.over_rows(problem.source.log_weights), problem.epsilon) / 2


def fixed_point_step(problem: Problem, state: Array, softmins: Softmins) -> Step:
    """f from g, then g from the new f; in the symmetric case, the average of f and its update."""
    epsilon, (penalty_a, penalty_b) = problem.epsilon, problem.penalties
    softmin_f = softmins.over_columns(problem.target.log_weights + state / epsilon)
    f, softmin_g, partner = state, softmin_f, state
    if not problem.symmetric:
        f = penalty_a.proximal(softmin_f, epsilon)
        shift = best_translation((problem.source, penalty_a, f), (problem.target, penalty_b, state))
        # Proximal steps stay at the kinks of the penalty: translate what they start from.
        softmin_f, partner = softmin_f + shift, state - shift
        f = penalty_a.proximal(softmin_f, epsilon)
        softmin_g = softmins.over_rows(problem.source.log_weights + f / epsilon)
    g = penalty_b.proximal(softmin_g, epsilon)
    ratio_f, ratio_g = plan_ratio(f, softmin_f, epsilon), plan_ratio(g, softmin_g, epsilon)
    # Relative L1 distance between the marginal of the plan of f and its partner and the one that the penalty asks for.
    difference = abs(plan_ratio(partner, softmin_g, epsilon) - ratio_g)
    error = problem.target.integrate(difference) / problem.target.integrate(ratio_g)
    residual = (g - state) / 2 if problem.symmetric else g - state
    return Step(f, g, partner, ratio_f, ratio_g, residual, error, (softmin_f, softmin_g))


def plan_ratio(potential: Array, softmin: Array, epsilon: float) -> Array:
    """Marginal of the plan over the weights. The bound keeps a wild extrapolation from overflowing."""
    xp = library_of(potential).namespace
    if potential is softmin:  # balanced transport
        return xp.ones_like(potential)
    return xp.exp(xp.clip((potential - softmin) / epsilon, -80.0, 80.0))


def dual_value(problem: Problem, step: Step) -> Array:
    """The dual objective, in float64. Since g is an exact proximal step, the mass of the plan needs no reduction."""
    source, target = problem.source, problem.target
    penalty_a, penalty_b = problem.penalties
    gain = source.integrate(penalty_a.dual(step.f)) + target.integrate(penalty_b.dual(step.g))
    return gain - problem.epsilon * (target.integrate(step.ratio_g) - source.mass * target.mass)


def make_solution(problem: Problem, step: Step, n_iter: int, status: str) -> Solution:
    f, g, partner, value = step.f, step.g, step.partner, dual_value(problem, step)
    softmins = step.softmins
    if problem.conserves_mass and not problem.symmetric:
        # Constants move freely between f and g: give both potentials the same mean.
        source, target = problem.source, problem.target
        shift = (source.integrate(f) - target.integrate(g)) / (source.mass + target.mass)
        shift = library_of(f).astype(shift, library_of(f).dtype_name(f))[..., None]
        f, g, partner = f - shift, g + shift, partner + shift
        softmins = f, g
    ends = (step.error, n_iter, status)
    return Solution(f, g, step.ratio_f, step.ratio_g, value, *ends, partner=partner, softmins=softmins)


def rounding_error(problem: Problem, potential: Array) -> float:
    """The marginal error below which this precision cannot go."""
    library = library_of(problem.source.weights)
    digits = float(library.namespace.finfo(problem.source.weights.dtype).eps)
    largest = problem.geometry.cost_bound
    if not problem.conserves_mass:
        largest = max(largest, float(abs(potential).max()))
    return digits * (1 + _ROUNDING * largest / problem.epsilon)


def report(stopping: Stopping, iteration: int, epsilon: float, error: Array) -> None:
    if stopping.callback is not None:
        stopping.callback(Progress(iteration, epsilon, float(error.max())))
