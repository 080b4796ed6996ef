"""Owns the way down the scales, from a few cells to the points; ignores what is done with the solution.

Each stage is a problem between cells, that the Sinkhorn loop solves. Its potentials, as functions of the point, are
where the next stage starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from ..costs import Cost
from ..geometries import Extension, PointGeometry
from ..measures import Measure
from ..sinkhorn import Problem, Solution, Stopping, converge, plan_ratio
from .hierarchy import Hierarchy, Level
from .pruning import Blocks, block_numbers, fitted_ceiling, keep_blocks, make_blocks, tangent_ceiling

_PASSING_ITERATIONS = 100  # at most, for temperatures that others follow
_SLACK = 2.0  # how far potentials may move under a mask, in units of epsilon
_ALMOST = 0.8  # of the number of the smallest cells: scales in between would cost as much as the last
_WORTH_PRUNING = 3e6  # pairs: below, visiting all of them takes less time than choosing some


@dataclass(frozen=True)
class Cells:
    """The cells of one side at one scale, as arrays of the library that reduces."""

    level: Level
    depth: int
    points: Array  # (K, D)
    measure: Measure

    @cached_property
    def numbers(self) -> list[int]:
        return block_numbers(self.level, self.depth)

    @cached_property
    def blocks(self) -> Blocks:
        return make_blocks(self.level, self.numbers)


@dataclass(frozen=True)
class Cloud:
    """A cloud and its cells."""

    hierarchy: Hierarchy
    lift: Callable[[np.ndarray], Array]  # to the library that reduces
    lift_indices: Callable[[np.ndarray], Array]

    def cells(self, number: int) -> Cells:
        return self._lifted(self.hierarchy.level(number))

    @cached_property
    def points(self) -> Cells:
        """The points themselves, in the order of the hierarchy."""
        return self._lifted(self.hierarchy.finest)

    def _lifted(self, level: Level) -> Cells:
        return Cells(level, self.hierarchy.depth, self.lift(level.points), Measure(self.lift(level.weights)))


@dataclass(frozen=True)
class Walk:
    """A problem to solve, its clouds, and how cells are pruned."""

    problem: Problem  # between the points: penalties, epsilon, symmetry
    clouds: tuple[Cloud, Cloud]
    cost: Cost
    truncation: float | None  # None: visit all the pairs
    stopping: Stopping


class Stage(NamedTuple):
    """A solved problem between cells."""

    number: int
    cells: tuple[Cells, Cells]
    problem: Problem
    solution: Solution
    guess: Solution | None  # what the stage before foretold: potentials and value
    is_new: bool  # whether cells are smaller than in the stage before, on some side


class Stages(NamedTuple):
    """The same stage of the problem and of the two symmetric ones."""

    ab: Stage
    aa: Stage
    bb: Stage


class Walks(NamedTuple):
    """The problem and the two symmetric ones, on shared clouds."""

    ab: Walk
    aa: Walk
    bb: Walk

    @property
    def depth(self) -> int:
        return max(cloud.hierarchy.depth for cloud in self.ab.clouds)


def first_stages(walks: Walks, coarse: int) -> Stages:
    """Solve the problems between cells of scale ``coarse`` at the final temperature.

    Cells follow the temperature: their edges double while epsilon^(1/p) does.
    """
    stages = None
    for number in range(max(coarse, walks.depth - 1), coarse - 1, -1):
        factor = 2.0 ** (walks.ab.cost.power * (number - coarse))
        stages = _next_stages(walks, stages, number, walks.ab.problem.epsilon * factor)
    assert stages is not None
    return stages


def refine(walks: Walks, stages: Stages) -> Stages:
    """Solve the same problems between cells half as large, or between the smallest ones once most are alone."""
    sides = zip(walks.ab.clouds, stages.ab.cells, strict=True)
    is_close = all(len(cells.level) > _ALMOST * cloud.hierarchy.most_cells for cloud, cells in sides)
    return _next_stages(walks, stages, 0 if is_close else stages.ab.number - 1, walks.ab.problem.epsilon)


def _next_stages(walks: Walks, stages: Stages | None, number: int, epsilon: float) -> Stages:
    """Solve the symmetric problems first: as their potentials change, so do those of the problem, at first order."""
    aa, bb = (
        _next_stage(walk, stage, number, epsilon)
        for walk, stage in zip(walks[1:], stages[1:] if stages else (None, None), strict=True)
    )
    changes = _change(aa), _change(bb)
    return Stages(_next_stage(walks.ab, stages and stages.ab, number, epsilon, changes), aa, bb)


def _change(stage: Stage) -> Array | None:
    return None if stage.guess is None else stage.solution.f - stage.guess.f


def is_finest(walks: Walks, stages: Stages) -> bool:
    """Whether smaller cells would be the same, or too small to matter."""
    sides = zip(walks.ab.clouds, stages.ab.cells, strict=True)
    return all(len(cells.level) == cloud.hierarchy.most_cells for cloud, cells in sides)


def displacements(stages: Stages, side: int, points: Array, debias: bool) -> Array:
    """Gradients of the potential of one side at any points, for squared distances, without that of the self term."""
    found = _gradient(stages.ab, side, points)
    return found - _gradient(stages[1 + side], 0, points) if debias else found


def _gradient(stage: Stage, side: int, points: Array) -> Array:
    extension, epsilon = _extensions(stage)[side], stage.problem.epsilon
    return replace(extension, values=extension.softmin(epsilon, points)).gradient(epsilon, points)


def extend(walk: Walk, stage: Stage) -> Solution:
    """The potentials of a stage at the points, in the order in which they were given, and the value that they give."""
    points = walk.problem.geometry.tensors
    return _extended(stage, walk.problem, (points[0], points[-1]), _fine_extensions(walk, stage))


def _next_stage(
    walk: Walk,
    stage: Stage | None,
    number: int,
    epsilon: float,
    changes: tuple[Array | None, Array | None] = (None, None),
) -> Stage:
    is_last = epsilon == walk.problem.epsilon
    left, right = (cloud.cells(number) for cloud in walk.clouds)
    if walk.problem.symmetric:
        right = left
    geometry = PointGeometry(left.points, right.points, walk.cost)
    problem = replace(
        walk.problem, geometry=geometry, source=left.measure, target=right.measure, epsilon=epsilon
    )
    done, guess, start = 0, None, None
    if stage is None:
        state = None
    else:
        guess = start = _extended(stage, problem, (left.points, right.points), _extensions(stage))
        if changes[0] is not None and changes[1] is not None:
            start = replace(guess, f=guess.f + changes[0], g=guess.g + changes[1])
        state, done = start.g, stage.solution.n_iter
    stopping = walk.stopping
    if not is_last:
        stopping = replace(stopping, max_iter=min(stopping.max_iter, done + _PASSING_ITERATIONS))
    solution = _solve(walk, (left, right), problem, (state, start), stopping, done)
    is_new = stage is None or stage.problem.geometry.shape != geometry.shape
    return Stage(number, (left, right), problem, solution, guess, is_new)


def _solve(
    walk: Walk,
    cells: tuple[Cells, Cells],
    problem: Problem,
    start: tuple[Array, Solution | None],
    stopping: Stopping,
    done: int,
) -> Solution:
    """Converge under a mask; again under a new one, where potentials have left what it was made for."""
    state, guess = start
    n, m = problem.geometry.shape
    if guess is None or walk.truncation is None or n * m < _WORTH_PRUNING:
        return converge(problem, state, stopping, done)
    while True:
        masked = _masked(walk, cells, problem, guess)
        solution = converge(masked, state, stopping, done)
        moves = [
            _largest_rise(problem.epsilon, old, new)
            for old, new in zip(_tops(problem, guess), _tops(problem, solution), strict=True)
        ]
        if sum(moves) <= _SLACK or solution.n_iter >= stopping.max_iter:
            return solution
        guess, state, done = solution, solution.partner, solution.n_iter
        assert state is not None


def _masked(walk: Walk, cells: tuple[Cells, Cells], problem: Problem, guess: Solution) -> Problem:
    """The same problem between the pairs of blocks that matter for potentials close to a guess."""
    left, right = cells
    tops = _tops(problem, guess)
    ceilings = [
        fitted_ceiling(side.blocks, side.level.points, top, walk.cost)
        for side, top in zip(cells, tops, strict=True)
    ]
    floor = _floor(walk, problem, _SLACK)
    ranges = keep_blocks((left.blocks, right.blocks), (ceilings[0], ceilings[1]), walk.cost, floor)
    geometry = PointGeometry(left.points, right.points, walk.cost, ranges)
    return replace(problem, geometry=geometry)


def _floor(walk: Walk, problem: Problem, slack: float) -> float:
    """The level of f + g - C below which pairs do not count."""
    assert walk.truncation is not None
    mass = max(float(problem.source.mass), float(problem.target.mass), 1e-30)
    return -problem.epsilon * (walk.truncation + max(np.log(mass), 0.0) + slack)


def _tops(problem: Problem, solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """For each side, the larger of a potential and of the softmin: both rows and columns then keep what they need."""
    found = []
    for potential, ratio in ((solution.f, solution.ratio_f), (solution.g, solution.ratio_g)):
        library = library_of(potential)
        softmin = potential - problem.epsilon * library.namespace.log(ratio)
        found.append(np.maximum(library.to_numpy(potential), library.to_numpy(softmin)))
    return found[0], found[1]


def _largest_rise(epsilon: float, old: np.ndarray, new: np.ndarray) -> float:
    return max(0.0, float((new - old).max()) / epsilon)


def _extensions(stage: Stage) -> tuple[Extension, Extension]:
    """f and g as functions of the point: the updates of the potentials of the cells on the other side."""
    problem, solution = stage.problem, stage.solution
    assert solution.partner is not None
    assert isinstance(problem.geometry, PointGeometry)
    geometry = replace(problem.geometry, ranges=None)
    forward = Extension(geometry, problem.target.log_weights + solution.partner / problem.epsilon)
    if problem.symmetric:
        return forward, forward
    return forward, Extension(geometry.T, problem.source.log_weights + solution.f / problem.epsilon)


def _fine_extensions(walk: Walk, stage: Stage) -> tuple[Extension, Extension]:
    """The same, between the points and the blocks of cells that they feel."""
    plain = _extensions(stage)
    f, g = (library_of(h).to_numpy(h) for h in (stage.solution.partner, stage.solution.f))
    left, right = walk.clouds
    first = _pruned_extension(walk, stage.problem, plain[0], (left, stage.cells[1], f))
    if walk.problem.symmetric:
        return first, first
    transposed = stage.problem.T
    return first, _pruned_extension(walk, transposed, plain[1], (right, stage.cells[0], g))


def _pruned_extension(
    walk: Walk, problem: Problem, plain: Extension, sides: tuple[Cloud, Cells, np.ndarray]
) -> Extension:
    """An extension to the points of a cloud, from cells and their potential."""
    cloud, cells, potential = sides
    fine = cloud.points
    if walk.truncation is None or len(fine.level) * len(cells.level) < _WORTH_PRUNING:
        return plain
    rows = make_blocks(fine.level, cells.numbers)
    row_ceiling = tangent_ceiling(rows, _tangents(rows, problem.epsilon, plain, cloud), walk.cost)
    column_ceiling = fitted_ceiling(cells.blocks, cells.level.points, potential, walk.cost)
    floor = _floor(walk, problem, 0.0)
    ranges = keep_blocks((rows, cells.blocks), (row_ceiling, column_ceiling), walk.cost, floor)
    order = cloud.hierarchy.order
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    geometry = replace(plain.geometry, x=fine.points, ranges=ranges)
    return Extension(geometry, plain.exponents, cloud.lift_indices(order), cloud.lift_indices(ranks))


def _tangents(
    blocks: Blocks | None, epsilon: float, extension: Extension, cloud: Cloud
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Values and, for squared distances, gradients of an extension at the centres of blocks, scale by scale."""
    while blocks is not None:
        centres = cloud.lift(blocks.centres)
        values = extension.softmin(epsilon, centres)
        library = library_of(values)
        slopes = None
        if extension.geometry.cost.bilinear:
            slopes = library.to_numpy(replace(extension, values=values).gradient(epsilon, centres))
        yield library.to_numpy(values), slopes
        blocks = blocks.parents


def _extended(
    stage: Stage, fine: Problem, rows: tuple[Array, Array], extensions: tuple[Extension, Extension]
) -> Solution:
    """Potentials on both sides of another problem, and the first-order expansion of its value around this stage.

    The potentials are the gradients of the value with respect to the measures.
    """
    epsilon, coarse = stage.problem.epsilon, stage.solution
    found: list[tuple[Array, Array, Extension]] = []
    for x, extension, penalty in zip(rows, extensions, fine.penalties, strict=True):
        if found and fine.symmetric:
            found = found * 2
            break
        softmin = extension.softmin(epsilon, x)
        potential = penalty.proximal(softmin, epsilon)
        ratio = plan_ratio(potential, softmin, epsilon)
        found.append((potential, ratio, replace(extension, values=softmin)))
    (f, ratio_f, first), (g, ratio_g, second) = found
    value = coarse.value + _gain(fine, (f, g), (ratio_f, ratio_g))
    # What symmetric problems extend is g.
    own = (coarse.g, coarse.ratio_g) if fine.symmetric else (coarse.f, coarse.ratio_f)
    value = value - _gain(stage.problem, (own[0], coarse.g), (own[1], coarse.ratio_g))
    ends = (coarse.error, coarse.n_iter, coarse.status)
    return Solution(f, g, ratio_f, ratio_g, value, *ends, extensions=(first, second))


def _gain(problem: Problem, potentials: tuple[Array, Array], ratios: tuple[Array, Array]) -> Array:
    """What the value of a problem gains from its measures, at fixed potentials on the other side."""
    sides = zip((problem.source, problem.target), problem.penalties, potentials, ratios, strict=True)
    return sum(
        measure.integrate(penalty.dual(potential)) - problem.epsilon * measure.integrate(ratio)
        for measure, penalty, potential, ratio in sides
    )
