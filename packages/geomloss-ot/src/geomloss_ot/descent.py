"""Owns the way down the temperatures, on coarser problems while these can tell; ignores how iterations converge."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from symbolic_matrices.arrays import Array, library_of

from .cell_plans import LONGEST, CellPlan, find_damping
from .geometries import Softmins
from .measures import Measure
from .problems import Problem, Solution, Stopping
from .sinkhorn import Linearize, Means, converge, to_tensors
from .updates import first_state, fixed_point_step, report

# Updates at each temperature of a coarser problem, at most. They count as one, in view of what they cost.
_COARSE_ITERATIONS = 100

# Entries of a coarse plan that is stored, at most; the least density of those that count; and the cells that are
# taken together, in the order in which they are numbered, where systems between them are inverted.
_MOST_ENTRIES = 2_000_000
_DENSE_ENOUGH = 1e-3
_TOGETHER = 4

# Single updates lag behind the temperature: they start this much further, in units of the last change.
_FURTHER = 0.5

# What is left of a change, at most, for the next one to be foretold too.
_UNFORESEEN = 0.5


class _Scale(NamedTuple):
    """One version of a problem, the lowest temperature that it can see, and how values reach finer columns."""

    problem: Problem
    resolution: float
    spread: Callable[[Array], Array] | None = None  # to the columns of the next finer scale
    pool: Callable[[Array], Array] | None = None  # sums over these columns


class _Lesson(NamedTuple):
    """What the solution of a scale changed of the potential that the scale before foretold, per unit of temperature.

    Entropic potentials are those of temperature zero, plus something about proportional to the temperature, and smooth
    where measures are: what changed once foretells what will change next, if it would have foretold itself. Source:
    Chizat et al., *Faster Wasserstein distance estimation with the Sinkhorn divergence* (2020), for values.
    """

    slope: Array  # (..., M)
    scale: int
    holds: bool  # whether the lesson before foretold this change


class _Place(NamedTuple):
    """Where a problem is on its way: the potential of columns at a scale, solved or updated at a temperature."""

    scale: int
    epsilon: float
    state: Array  # (..., M)
    rows: Array | None = None  # (..., N): the potential of rows that ``state`` comes from, in solved problems
    lesson: _Lesson | None = None
    trend: Array | None = (
        None  # (..., M): what the last temperature changed, in problems that are only updated
    )


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
    converted = {name: library.astype(array, dtype) for name, array in arrays.items() if array is not None}
    return replace(found, softmins=None, **converted)


def _anneal(problem: Problem, schedule: tuple[float, ...], stopping: Stopping, means: Means) -> Solution:
    scales = _scales(problem) if stopping.max_iter > 1 else (_Scale(problem, 0.0),)
    finest = len(scales) - 1
    place: _Place | None = None
    done = 0
    for epsilon in schedule[: max(stopping.max_iter - 1, 0)]:
        number = next(k for k, scale in enumerate(scales) if scale.resolution <= epsilon)
        if number == finest and epsilon == problem.epsilon:
            break
        place, error = _next_place(scales, number, epsilon, place, stopping)
        done += 1
        report(stopping, done, epsilon, error)
    state = None
    if place is not None:
        state = _arrive(scales, finest, problem.epsilon, place)
        means = replace(means, linearize=_coarse_steps(scales, place), patience=1)
    return converge(problem, state, stopping, done, means)


def _scales(problem: Problem) -> tuple[_Scale, ...]:
    """Coarser versions of a problem, the coarsest first, and the problem itself, which sees all temperatures."""
    found = [_Scale(problem, 0.0)]
    coarsening = problem.geometry.coarsen()
    while coarsening is not None:
        source = Measure(coarsening.pool_rows(problem.source.weights))
        target = Measure(coarsening.pool_columns(problem.target.weights))
        problem = replace(problem, geometry=coarsening.geometry, source=source, target=target)
        found.append(
            _Scale(problem, coarsening.resolution, coarsening.spread_columns, coarsening.pool_columns)
        )
        coarsening = problem.geometry.coarsen()
    return tuple(reversed(found))


def _next_place(
    scales: tuple[_Scale, ...], number: int, epsilon: float, place: _Place | None, stopping: Stopping
) -> tuple[_Place, Array]:
    """Go to a temperature, at the scale that can tell; also the marginal error that is left."""
    problem = replace(scales[number].problem, epsilon=epsilon)
    if place is None:
        state = first_state(problem, Softmins(problem.geometry, epsilon))
    else:
        state = _arrive(scales, number, epsilon, place)
    if number == len(scales) - 1:
        step = fixed_point_step(problem, state, Softmins(problem.geometry, epsilon))
        state = state + step.residual
        trend = state - place.state if place is not None and place.scale == number else None
        return _Place(number, epsilon, state, trend=trend), step.error
    # Small problems may as well be solved: what they leave behind shrinks slowly on the large one.
    coarse_stopping = Stopping(stopping.tol, min(stopping.max_iter, _COARSE_ITERATIONS))
    solution = converge(problem, state, coarse_stopping, 0)
    lesson = None if place is None else place.lesson
    if place is not None and place.scale != number and place.epsilon > epsilon:
        lesson = _learn(scales, number, epsilon, place, solution.g)
    return _Place(number, epsilon, solution.g, solution.f, lesson), solution.error


def _arrive(scales: tuple[_Scale, ...], number: int, epsilon: float, place: _Place) -> Array:
    """The potential to start from at a scale and a temperature, from that of a place."""
    if place.scale == number:
        if place.trend is None:
            return place.state
        return scales[number].problem.penalties[1].project(place.state + _FURTHER * place.trend)
    foretold = _refined(scales, number, place)
    if place.lesson is None or not place.lesson.holds:
        return foretold
    change = _foretell(scales, number, place.lesson, place.epsilon - epsilon)
    return scales[number].problem.penalties[1].project(foretold + change)


def _refined(scales: tuple[_Scale, ...], number: int, place: _Place) -> Array:
    """The Sinkhorn update of the columns of a scale, seen from the rows of a coarser one."""
    assert place.rows is not None
    coarse, fine = scales[place.scale].problem, scales[number].problem
    # At the temperature of the coarser problem: lower ones see its pixels.
    geometry = fine.geometry.T.with_columns_of(coarse.geometry.T)
    softmin = geometry.softmin(place.epsilon, coarse.source.log_weights + place.rows / place.epsilon)
    return fine.penalties[1].proximal(softmin, place.epsilon)


def _foretell(scales: tuple[_Scale, ...], number: int, lesson: _Lesson, drop: float) -> Array:
    """The change of the potential at a scale, once the temperature has dropped."""
    change = drop * lesson.slope
    for scale in scales[lesson.scale : number]:
        assert scale.spread is not None
        change = scale.spread(change)
    return change


def _coarse_steps(scales: tuple[_Scale, ...], place: _Place) -> Linearize | None:
    """Newton's steps of the last scale before the finest one, if it was solved at the same temperature."""
    coarse, fine = scales[place.scale], scales[-1].problem
    damping, shape = find_damping(fine), coarse.problem.geometry.shape
    at_last = place.scale == len(scales) - 2 and place.epsilon == fine.epsilon and not fine.symmetric
    if not at_last or damping is None or len(shape) > 2 or math.prod(shape) > _MOST_ENTRIES:
        return None
    source, target = coarse.problem.source.weights, coarse.problem.target.weights
    if library_of(target).name != "numpy" or place.rows is None:
        return None
    density = coarse.problem.geometry.density(place.epsilon, place.rows, place.state)
    mass = np.where(density > _DENSE_ENOUGH, source[:, None] * density * target, 0.0)
    plan = CellPlan(csr_array(mass, dtype=np.float64), damping, np.arange(0, shape[1], _TOGETHER))
    weights = np.where(target > 0, target, 1.0)

    def correct(residual: Array) -> Array:
        assert coarse.pool is not None
        assert coarse.spread is not None
        more = plan.correct(coarse.pool(fine.target.weights * residual).astype(np.float64) / weights)
        more *= LONGEST * fine.epsilon / max(float(abs(more).max()), LONGEST * fine.epsilon)
        return residual + coarse.spread(more).astype(residual.dtype)

    return lambda f, g: correct


def _learn(scales: tuple[_Scale, ...], number: int, epsilon: float, place: _Place, solved: Array) -> _Lesson:
    """The lesson of a solved scale, which judges the one before."""
    drop, target = place.epsilon - epsilon, scales[number].problem.target
    change = solved - _refined(scales, number, place)
    holds = False
    if place.lesson is not None:
        left = change - _foretell(scales, number, place.lesson, drop)
        holds = float(_spread_of(target, left).max()) <= _UNFORESEEN * float(_spread_of(target, change).max())
    return _Lesson(change / drop, number, holds)


def _spread_of(measure: Measure, values: Array) -> Array:
    """Standard deviation under a measure, times the square root of its mass: constants mean nothing."""
    mean = measure.integrate(values) / measure.mass
    return (measure.integrate(values * values) - measure.mass * mean * mean).clip(0.0, None) ** 0.5
