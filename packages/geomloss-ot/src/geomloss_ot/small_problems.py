"""Owns small problems that Sinkhorn's updates hardly move: Newton's steps along a path of temperatures."""

from __future__ import annotations

import math
from dataclasses import replace

from symbolic_matrices.arrays import Array, library_of

from .annealing import epsilon_schedule
from .geometries import MatrixGeometry, Softmins
from .newton import NewtonAscent, Quadratic
from .problems import Problem, Stopping
from .updates import Step, first_state, fixed_point_step, report, rounding_error

_MOST_COLUMNS = 1024
_MOST_ENTRIES = 1 << 20  # of all the plans of a batch
_SLOW = (
    50  # updates, and one more per column: what a step of Newton costs grows faster than what an update does
)
_RATIO = 0.5  # of two temperatures
_HIGHEST = 0.5  # temperature, in units of the largest cost: there, a few updates solve the problem
_LARGEST = 80.0  # its exponential is finite in float32
_FLAT = 1e-12  # relative difference between values of the dual objective that means nothing


def patience(problem: Problem) -> float:
    """How many updates to try at the final temperature before :func:`follow_path`; infinite for large problems."""
    shape = problem.geometry.shape
    is_small = max(shape[-2:]) <= _MOST_COLUMNS and math.prod(shape) <= _MOST_ENTRIES
    # Symmetric problems converge fast.
    return _SLOW + shape[-1] if is_small and not problem.symmetric else math.inf


def follow_path(problem: Problem, stopping: Stopping, done: int) -> tuple[Array, int, bool] | None:
    """A state, the number of iterations, ``done`` before this call included, and whether the state is the solution.

    Where the plan falls apart into blocks that hardly exchange mass, nothing tells updates at a low temperature how
    high the potentials of one block are relative to another; at a high temperature, all the blocks feel each other.
    Each problem of the path is solved to the end, and starts on the straight line through the potentials of the last
    two, which are smooth functions of the temperature. In float64; None if the costs are only known as a formula.
    """
    weights = problem.source.weights
    library = library_of(weights)
    wide = problem.replace(tuple(library.astype(tensor, "float64") for tensor in problem.tensors))
    costs = wide.geometry.dense_costs(wide.source.weights)
    if costs is None:
        return None
    wide = replace(wide, geometry=MatrixGeometry(costs))
    # The last iteration is in the precision of the problem.
    stopping = replace(stopping, max_iter=stopping.max_iter - 1)
    states: list[tuple[float, Array]] = []
    settled = False
    for epsilon in epsilon_schedule(_HIGHEST * wide.geometry.cost_bound, problem.epsilon, _RATIO):
        if done >= stopping.max_iter:
            settled = False
            break
        part = replace(wide, epsilon=epsilon)
        state, done, settled = _solve(part, _first_guess(part, states), stopping, done)
        states.append((epsilon, state))
        if not settled:
            break
    return library.astype(states[-1][1], library.dtype_name(weights)), done, settled


def _first_guess(problem: Problem, states: list[tuple[float, Array]]) -> Array:
    if not states:
        return first_state(problem, Softmins(problem.geometry, problem.epsilon))
    epsilon, state = states[-1]
    if len(states) == 1:
        return state
    before, last = states[-2]
    slope = (problem.epsilon - epsilon) / (epsilon - before)
    return problem.penalties[1].move(state, state + slope * (state - last))


def _solve(problem: Problem, state: Array, stopping: Stopping, done: int) -> tuple[Array, int, bool]:
    """The solution at one temperature, by Newton's steps; False if iterations ran out."""
    softmins = Softmins(problem.geometry, problem.epsilon)
    newton = NewtonAscent(problem.epsilon, problem.penalties[1].move)
    while True:
        step = fixed_point_step(problem, state, softmins)
        done += 1
        report(stopping, done, problem.epsilon, step.error)
        floor = rounding_error(problem, step.g)
        settled = float(step.error.max()) <= max(stopping.tol, floor)
        if settled or done >= stopping.max_iter:
            return step.partner, done, settled
        state = _next_state(problem, step, newton, floor)


def _next_state(problem: Problem, step: Step, newton: NewtonAscent, floor: float) -> Array:
    xp, epsilon, g = library_of(step.g).namespace, problem.epsilon, step.partner
    source, target = problem.source, problem.target
    penalty_a, penalty_b = problem.penalties
    a, b = source.weights, target.weights
    # Column sums of the plan of f and g, over b. The bound keeps long steps from overflowing.
    ratio = step.ratio_g * xp.exp(xp.clip((g - step.g) / epsilon, None, _LARGEST))
    gain = source.integrate(penalty_a.dual(step.f)) + target.integrate(penalty_b.dual(g))
    value = gain - epsilon * (target.integrate(ratio) - source.mass * target.mass)

    def expand() -> Quadratic:
        plan = a[..., :, None] * problem.geometry.density(epsilon, step.f, g) * b[..., None, :]
        rows, columns = plan.sum(-1), plan.sum(-2)
        gradient = b * penalty_b.nearest_slope(g, ratio) - columns
        if problem.conserves_mass:  # up to rounding errors, which no curvature holds back
            gradient = gradient - columns * (gradient.sum(-1) / columns.sum(-1))[..., None]
        # Where the update leads to a kink, so does Newton's step; points without mass go nowhere.
        curvatures = penalty_a.dual_curvature(step.f), penalty_b.dual_curvature(step.g)
        added_a, added_b = (
            epsilon * w * xp.where(w > 0, c, 0.0) for w, c in zip((a, b), curvatures, strict=True)
        )
        return Quadratic(plan, rows - added_a, columns - added_b, epsilon * gradient)

    slack = epsilon * floor + _FLAT * abs(value)
    bold = newton.next_state(value, slack, (g, step.g), expand)
    # A step that goes nowhere is the end: take the Sinkhorn update.
    return xp.where((bold == g).all(-1)[..., None], step.g, bold)
