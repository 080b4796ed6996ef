"""Owns the Sinkhorn loop: one for all geometries, penalties and batches; ignores gradients and divergences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from .acceleration import Acceleration
from .geometries import Softmins, softmins
from .measures import Measure
from .problems import Problem, Solution, Stopping
from .small_problems import follow_path, patience
from .updates import Step, dual_value, first_state, fixed_point_step, make_solution, report, rounding_error

# Updates at each temperature of a coarser problem, at most. They count as one, in view of what they cost.
_COARSE_ITERATIONS = 100

# How many extrapolations may fail before they start again from nothing.
_RETREATS = 5

# Near the solution, the dual objective is flat up to this relative difference, and tells nothing.
_FLAT = 1e-8

# Iterations before better steps are computed: there may be no need for them.
_PATIENCE = 4


# From potentials (f, g), what maps residuals to steps that take more of the problem into account.
Linearize = Callable[[Array, Array], "Callable[[Array], Array] | None"]


@dataclass(frozen=True)
class Means:
    """What solvers work with: slopes where they are cheap and asked for, better steps where some are known."""

    slopes: bool = False
    linearize: Linearize | None = None


class _Ascent(NamedTuple):
    """What accelerated iterations remember."""

    value: Array  # (...): the highest dual objective
    image: Array  # (..., M): the Sinkhorn update of the state that reached it
    acceleration: Acceleration
    retreats: int = 0  # how many times the objective has been lower since it last rose


def sinkhorn(problem: Problem, schedule: tuple[float, ...], stopping: Stopping) -> Solution:
    """Anneal along ``schedule``, then iterate at its last temperature until the marginals are right.

    One update per temperature (or the solution of a coarser problem), then accelerated ones: what annealing leaves
    behind shrinks too slowly by itself, and a result must depend on the problem, not on the schedule.
    """
    library = library_of(problem.source.weights)
    means = Means(slopes=any(library.needs_gradient(t) for t in problem.geometry.tensors))
    problem = problem.detached()
    if (
        library.name == "torch"
        and problem.geometry.takes_any_library
        and library.device(problem.tensors[0]) == "cpu"
    ):
        # Views of the same memory: between two reductions, NumPy's small operations start in a tenth of the time of
        # PyTorch's, whose threads also wait for the cores that the reductions use.
        hosted = problem.replace(tuple(tensor.numpy() for tensor in problem.tensors))
        return to_tensors(_anneal(hosted, schedule, stopping, means), library.namespace.from_numpy)
    return _anneal(problem, schedule, stopping, means)


def sinkhorn_in_float64(problem: Problem, schedule: tuple[float, ...], stopping: Stopping) -> Solution:
    """The same, in double precision, for problems in float32 whose digits are lost on the way."""
    library, weights = library_of(problem.source.weights), problem.source.weights
    dtype = library.dtype_name(weights)
    wide = problem.detached()
    wide = wide.replace(tuple(library.astype(tensor, "float64") for tensor in wide.tensors))
    found = sinkhorn(wide, schedule, stopping)
    names = ("f", "g", "ratio_f", "ratio_g", "partner")
    arrays = {name: getattr(found, name) for name in names}
    return replace(
        found, **{name: library.astype(array, dtype) for name, array in arrays.items() if array is not None}
    )


def _anneal(problem: Problem, schedule: tuple[float, ...], stopping: Stopping, means: Means) -> Solution:
    steps = schedule[:-1][: max(stopping.max_iter - 1, 0)]
    scales = _scales(problem) if steps else ()
    coarse_stopping = Stopping(stopping.tol, min(stopping.max_iter, _COARSE_ITERATIONS))
    current, state = problem, None
    for iteration, epsilon in enumerate(steps):
        scale = next((scale for scale, resolution in scales if resolution <= epsilon), problem)
        scale = replace(scale, epsilon=epsilon)
        if state is None:
            state = first_state(scale, Softmins(scale.geometry, epsilon))
        elif scale.geometry is not current.geometry:
            state = _refined(replace(current, epsilon=epsilon), scale, state)
        current = scale
        if scale.geometry is problem.geometry:
            step = fixed_point_step(scale, state, Softmins(scale.geometry, epsilon))
            state, error = state + step.residual, step.error
        else:
            # Small problems may as well be solved: what they leave behind shrinks slowly on the large one.
            solution = converge(scale, state, coarse_stopping, 0)
            state, error = solution.g, solution.error
        report(stopping, iteration + 1, epsilon, error)
    if state is not None and current.geometry is not problem.geometry:
        state = _refined(replace(current, epsilon=problem.epsilon), problem, state)
    return converge(problem, state, stopping, len(steps), means)


def _scales(problem: Problem) -> tuple[tuple[Problem, float], ...]:
    """Coarser versions of a problem, the coarsest first, and the lowest temperature that each one can see."""
    found: list[tuple[Problem, float]] = []
    coarsening = problem.geometry.coarsen()
    while coarsening is not None:
        source = Measure(coarsening.pool_rows(problem.source.weights))
        target = Measure(coarsening.pool_columns(problem.target.weights))
        problem = replace(problem, geometry=coarsening.geometry, source=source, target=target)
        found.append((problem, coarsening.resolution))
        coarsening = problem.geometry.coarsen()
    return tuple(reversed(found))


def _refined(coarse: Problem, fine: Problem, state: Array) -> Array:
    """The Sinkhorn update of the fine columns, seen from the coarse rows."""
    f = fixed_point_step(coarse, state, Softmins(coarse.geometry, coarse.epsilon)).f
    geometry = fine.geometry.T.with_columns_of(coarse.geometry.T)
    softmin = geometry.softmin(coarse.epsilon, coarse.source.log_weights + f / coarse.epsilon)
    return fine.penalties[1].proximal(softmin, coarse.epsilon)


def to_tensors(solution: Solution, convert: Callable[[np.ndarray], Array]) -> Solution:
    """A solution in NumPy's arrays, in those of another library."""
    names = ("f", "g", "ratio_f", "ratio_g", "value", "error", "partner")
    arrays = {name: getattr(solution, name) for name in names}
    found = {name: convert(np.asarray(array)) for name, array in arrays.items() if array is not None}
    extensions = solution.extensions
    if extensions is not None:
        extensions = extensions[0].to_tensors(convert), extensions[1].to_tensors(convert)
    slopes = solution.slopes and (convert(solution.slopes[0]), convert(solution.slopes[1]))
    return replace(solution, extensions=extensions, slopes=slopes, **found)


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
        if worst <= max(stopping.tol, floor) or done >= stopping.max_iter:
            break
        if means.linearize is not None and done == start + _PATIENCE:
            direction, ascent = means.linearize(step.f, step.g), None
        if settled:
            break
        if done - start == limit:
            path = follow_path(problem, stopping, done)
            if path is not None:
                found, done, settled = path
                state = found if settled else state
                continue
        move = step.residual if direction is None else direction(step.residual)
        state, ascent = _next_state(problem, (state, step, move), ascent, floor)
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
