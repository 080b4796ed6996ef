"""Owns the way down the scales, from a few cells to the points; ignores what is done with the solution.

Each stage is a problem between cells, that the Sinkhorn loop solves. Its potentials, as functions of the point, are
where the next stage starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from symbolic_matrices.arrays import Array

from ..costs import Cost
from ..geometries import Extension, PointGeometry
from ..problems import Problem, Solution, Stopping
from ..updates import plan_ratio
from .cells import Cells, Cloud
from .converging import Course, solve_between_cells
from .masks import in_given_order, plain_extensions, pruned_extensions

_PASSING_ITERATIONS = 100  # at most, for temperatures that others follow
_PASSING_TOLERANCE = 1e-2  # at most, of the marginals of cells that others follow, which bring larger errors
_LOOSER = 10.0  # than the last tolerance, there
_ALMOST = 0.8  # of the number of the smallest cells: scales in between would cost as much as the last


@dataclass(frozen=True)
class Walk:
    """A problem to solve, its clouds, and how cells are pruned."""

    problem: Problem  # between the points: penalties, epsilon, symmetry
    clouds: tuple[Cloud, Cloud]
    cost: Cost
    truncation: float | None  # None: visit all the pairs
    stopping: Stopping
    last: int  # the first scale that may be the last one

    def stopping_at(self, number: int, epsilon: float, done: int) -> Stopping:
        """When to leave a stage, after ``done`` iterations in those before."""
        finest = all(cloud.is_finest(number) for cloud in self.clouds)
        stopping = self.stopping
        if epsilon != self.problem.epsilon:
            stopping = replace(stopping, max_iter=min(stopping.max_iter, done + _PASSING_ITERATIONS))
        elif finest or number <= self.last:
            return stopping
        return replace(stopping, tol=max(stopping.tol, min(_LOOSER * stopping.tol, _PASSING_TOLERANCE)))


class Stage(NamedTuple):
    """A solved problem between cells."""

    number: int
    cells: tuple[Cells, Cells]
    problem: Problem
    solution: Solution
    guess: Solution | None  # what the stage before foretold: potentials and value
    is_new: bool  # whether cells are smaller than in the stage before, on some side


class Stages(NamedTuple):
    """The same stage of the problem and of the two symmetric ones, where these are solved."""

    ab: Stage
    aa: Stage | None = None
    bb: Stage | None = None


class Walks(NamedTuple):
    """The problem and, for debiased divergences, the two symmetric ones, on shared clouds."""

    ab: Walk
    aa: Walk | None = None
    bb: Walk | None = None

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
    number = stages.ab.number - 1
    clouds = (cloud.hierarchy for cloud in walks.ab.clouds)
    is_close = all(cloud.count(number) > _ALMOST * cloud.most_cells for cloud in clouds)
    return _next_stages(walks, stages, 0 if is_close else number, walks.ab.problem.epsilon)


def _next_stages(walks: Walks, stages: Stages | None, number: int, epsilon: float) -> Stages:
    """Solve the symmetric problems first: as their potentials change, so do those of the problem, at first order."""
    aa, bb = (
        None if walk is None else _next_stage(walk, stage, number, epsilon)
        for walk, stage in ((walks.aa, stages and stages.aa), (walks.bb, stages and stages.bb))
    )
    changes = _change(aa), _change(bb)
    return Stages(_next_stage(walks.ab, stages and stages.ab, number, epsilon, changes), aa, bb)


def _change(stage: Stage | None) -> Array | None:
    return None if stage is None or stage.guess is None else stage.solution.f - stage.guess.f


def is_finest(walks: Walks, stages: Stages) -> bool:
    """Whether smaller cells would be the same, or too small to matter."""
    return all(cloud.is_finest(stages.ab.number) for cloud in walks.ab.clouds)


def displacements(stages: Stages, side: int, points: Array) -> Array:
    """Gradients of the potential of one side at any points, for squared distances, without that of the self term."""
    found, own = _gradient(stages.ab, side, points), (stages.aa, stages.bb)[side]
    return found if own is None else found - _gradient(own, 0, points)


def _gradient(stage: Stage, side: int, points: Array) -> Array:
    epsilon = stage.problem.epsilon
    extension = plain_extensions(stage.problem, stage.solution)[side]
    return replace(extension, values=extension.softmin(epsilon, points)).gradient(epsilon, points)


def extend(walk: Walk, stage: Stage, *, with_slopes: bool) -> Solution:
    """The potentials of a stage at the points, in the order in which they were given, and the value that they give.

    ``with_slopes``: their derivatives are wanted too.
    """
    points = walk.problem.geometry.tensors
    sides = walk.clouds[0].points, walk.clouds[1].points
    has_shared = any(len(cells.level) < len(own.level) for cells, own in zip(stage.cells, sides, strict=True))
    is_repeated = has_shared and not walk.cost.bilinear
    if is_repeated:
        stage = stage_of_points(walk, stage, sides)
    left, right = _extensions(walk, stage, sides)
    given = in_given_order(left, walk.clouds[0]), in_given_order(right, walk.clouds[1])
    found = _extended(stage, walk.problem, (points[0], points[-1]), given, with_slopes=with_slopes)
    # Expansions are right where potentials are optimal: a second one would add errors of first order.
    return replace(found, value=stage.solution.value) if is_repeated else found


def stage_of_points(walk: Walk, stage: Stage, sides: tuple[Cells, Cells]) -> Stage:
    """The points themselves as cells, with the potentials that those of a stage extend to.

    Distances have a kink: points that share a cell feel each other, not its centroid.
    """
    left, right = sides[0], sides[0] if walk.problem.symmetric else sides[1]
    geometry = PointGeometry(left.points, right.points, walk.cost)
    problem = replace(walk.problem, geometry=geometry, source=left.measure, target=right.measure)
    extensions = _extensions(walk, stage, (left, right))
    found = _extended(stage, problem, (left.points, right.points), extensions)
    return Stage(-1, (left, right), problem, replace(found, partner=found.g), None, is_new=True)


def _extensions(walk: Walk, stage: Stage, fine: tuple[Cells, Cells]) -> tuple[Extension, Extension]:
    (left, right), (cloud, other) = stage.cells, walk.clouds
    sides = (left, fine[0], cloud), (right, fine[1], other)
    return pruned_extensions(stage.problem, stage.solution, sides, walk.truncation)


def _next_stage(
    walk: Walk,
    stage: Stage | None,
    number: int,
    epsilon: float,
    changes: tuple[Array | None, Array | None] = (None, None),
) -> Stage:
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
        extensions = _extensions(walk, stage, (left, right))
        guess = start = _extended(stage, problem, (left.points, right.points), extensions)
        if changes[0] is not None and changes[1] is not None:
            start = replace(guess, f=guess.f + changes[0], g=guess.g + changes[1])
        state, done = start.g, stage.solution.n_iter
    stopping = walk.stopping_at(number, epsilon, done)
    is_near = stage is not None and stage.problem.epsilon == epsilon
    is_last = stopping.tol == walk.stopping.tol and epsilon == walk.problem.epsilon
    course = Course(stopping, done, state, start, is_near, is_last)
    solution = solve_between_cells(problem, (left, right), course, walk.truncation)
    is_new = stage is None or stage.problem.geometry.shape != geometry.shape
    return Stage(number, (left, right), problem, solution, guess, is_new)


def _extended(
    stage: Stage,
    fine: Problem,
    rows: tuple[Array, Array],
    extensions: tuple[Extension, Extension],
    *,
    with_slopes: bool = False,
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
        known = extension.evaluate(epsilon, x, with_slopes=with_slopes)
        assert known.values is not None
        potential = penalty.proximal(known.values, epsilon)
        found.append((potential, plan_ratio(potential, known.values, epsilon), known))
    (f, ratio_f, first), (g, ratio_g, second) = found
    value = coarse.value + _gain(fine, (f, g), (ratio_f, ratio_g))
    # What symmetric problems extend is g.
    own = (coarse.g, coarse.ratio_g) if fine.symmetric else (coarse.f, coarse.ratio_f)
    value = value - _gain(stage.problem, (own[0], coarse.g), (own[1], coarse.ratio_g))
    ends = (coarse.error, coarse.n_iter, coarse.status)
    assert first.values is not None
    assert second.values is not None
    softmins = first.values, second.values
    return Solution(f, g, ratio_f, ratio_g, value, *ends, softmins=softmins, extensions=(first, second))


def _gain(problem: Problem, potentials: tuple[Array, Array], ratios: tuple[Array, Array]) -> Array:
    """What the value of a problem gains from its measures, at fixed potentials on the other side."""
    sides = zip((problem.source, problem.target), problem.penalties, potentials, ratios, strict=True)
    return sum(
        measure.integrate(penalty.dual(potential)) - problem.epsilon * measure.integrate(ratio)
        for measure, penalty, potential, ratio in sides
    )
