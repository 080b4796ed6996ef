"""Owns the Sinkhorn loop at one temperature, for all geometries, penalties and batches; ignores how it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from .acceleration import Acceleration
from .geometries import softmins
from .problems import Problem, Solution, Stopping
from .small_problems import follow_path, patience
from .updates import Step, dual_value, first_state, fixed_point_step, make_solution, report, rounding_error

# How many extrapolations may fail before they start again from nothing.
_RETREATS = 5

# Near the solution, the dual objective is flat up to this relative difference, and tells nothing.
_FLAT = 1e-8

# Iterations before better steps are computed, unless they are known before: there may be no need for them.
_PATIENCE = 4


# From potentials (f, g), what maps residuals to steps that take more of the problem into account.
Linearize = Callable[[Array, Array], "Callable[[Array], Array] | None"]

# From potentials (f, g), the problem between the pairs that now matter; None: those that were chosen last still do.
Restrict = Callable[[Array, Array], "Problem | None"]


@dataclass(frozen=True)
class Means:
    """What solvers work with: slopes where they are cheap and asked for, better steps and fewer pairs where known."""

    slopes: bool = False
    linearize: Linearize | None = None
    patience: int = _PATIENCE
    restrict: Restrict | None = None


class _Ascent(NamedTuple):
    """What accelerated iterations remember."""

    value: Array  # (...): the highest dual objective
    image: Array  # (..., M): the Sinkhorn update of the state that reached it
    acceleration: Acceleration
    retreats: int = 0  # how many times the objective has been lower since it last rose


def to_tensors(solution: Solution, convert: Callable[[np.ndarray], Array]) -> Solution:
    """A solution in NumPy's arrays, in those of another library."""
    names = ("f", "g", "ratio_f", "ratio_g", "value", "error", "partner")
    arrays = {name: getattr(solution, name) for name in names}
    found = {name: convert(np.asarray(array)) for name, array in arrays.items() if array is not None}
    extensions = solution.extensions
    if extensions is not None:
        extensions = extensions[0].to_tensors(convert), extensions[1].to_tensors(convert)
    slopes = solution.slopes and (convert(solution.slopes[0]), convert(solution.slopes[1]))
    softmins = solution.softmins and (convert(solution.softmins[0]), convert(solution.softmins[1]))
    return replace(solution, extensions=extensions, slopes=slopes, softmins=softmins, **found)


def converge(
    problem: Problem, state: Array | None, stopping: Stopping, done: int, means: Means | None = None
) -> Solution:
    """Accelerated fixed-point iterations at the final temperature."""
    means = means or Means()
    repeated = softmins(problem.geometry, problem.epsilon, symmetric=problem.symmetric)
    if state is None:
        state = first_state(problem, repeated)
    ascent, floor = None, rounding_error(problem, state)
    direction, start, limit, settled = None, done, patience(problem), False
    while True:
        step = fixed_point_step(problem, state, repeated)
        done += 1
        report(stopping, done, problem.epsilon, step.error)
        if not problem.conserves_mass:  # potentials are of the size of the penalties where masses differ
            floor = rounding_error(problem, step.g)
        # Where no digit of a potential is of the order of the temperature, steps of zero mean nothing.
        if floor >= 1:
            step = step._replace(error=library_of(state).namespace.ones_like(step.error))
        worst = float(step.error.max())
        restricted = means.restrict(step.f, step.g) if means.restrict is not None else None
        if done >= stopping.max_iter or (restricted is None and worst <= max(stopping.tol, floor)):
            break
        if means.linearize is not None and done == start + means.patience:
            direction, ascent = means.linearize(step.f, step.g), None
        if settled:
            break
        if done - start == limit and done + 1 < stopping.max_iter:  # room for it, and for a last update here
            path = follow_path(problem, stopping, done)
            if path is not None:
                found, done, settled = path
                state = found if settled else state
                continue
        move = step.residual if direction is None else direction(step.residual)
        state, ascent = _next_state(problem, (state, step, move), ascent, floor)
        if restricted is not None:
            problem, ascent = restricted, ascent._replace(value=ascent.value - problem.epsilon)
            repeated.close()
            repeated = softmins(problem.geometry, problem.epsilon, symmetric=problem.symmetric)
    status = "converged" if worst <= stopping.tol else "rounding" if worst <= floor or settled else "max_iter"
    solution = make_solution(problem, step, done, status)
    if means.slopes:
        exponents = (
            measure.log_weights + potential / problem.epsilon
            for measure, potential in ((problem.source, solution.f), (problem.target, solution.g))
        )
        solution = replace(solution, slopes=repeated.slopes(*exponents))
    repeated.close()
    return solution


def _next_state(
    problem: Problem, point: tuple[Array, Step, Array], ascent: _Ascent | None, floor: float
) -> tuple[Array, _Ascent]:
    """An extrapolation of the past states, or, where the last one went too far, half the way back.

    Extrapolations overshoot far from the solution, between masses that hardly feel each other; the dual objective,
    which Sinkhorn updates never decrease, tells.
    """
    state, step, move = point
    xp = library_of(state).namespace
    value, image = dual_value(problem, step), state + step.residual
    if ascent is None:
        ascent = _Ascent(value, image, Acceleration(problem.target.weights))
    higher = value >= ascent.value - problem.epsilon * floor - _FLAT * abs(ascent.value)
    rises = bool((value > ascent.value + _FLAT * abs(ascent.value)).any())
    retreats = 0 if rises else ascent.retreats
    if not bool(higher.all()):
        ascent.acceleration.forget()
        retreats += 1
    value, image = xp.where(higher, value, ascent.value), xp.where(higher[..., None], image, ascent.image)
    ascent = ascent._replace(value=value, image=image, retreats=retreats)
    if retreats > _RETREATS:
        # Extrapolations lead nowhere: take the update of the best state, and start again.
        ascent.acceleration.forget()
        return image, ascent._replace(retreats=0)
    bold = ascent.acceleration.extrapolate(state, move)
    # Extrapolations go anywhere: where the domain of the dual holds them in place, take the Sinkhorn update.
    bold = problem.penalties[1].project(bold)
    bold = xp.where((bold == state).all(-1)[..., None], state + step.residual, bold)
    return xp.where(higher[..., None], bold, (state + ascent.image) / 2), ascent
