"""Owns how one problem between cells is solved under masks; ignores which problems follow each other.

Most iterations visit the few pairs of blocks that hold the mass, as far as some rows tell; the last ones visit all the
pairs that are not proved to be negligible, until these agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from symbolic_matrices.arrays import Array, library_of

from ..problems import Problem, Progress, Solution, Stopping
from ..sinkhorn import Means, converge
from .cells import Cells
from .correction import linearize
from .masks import (
    SLACK,
    WORTH_PRUNING,
    highest_potentials,
    masked_problem,
    plan_between_blocks,
    restricted_problem,
)
from .masses import BlockPlan

_FIRST = 4  # iterations before masses are estimated, where potentials come from another temperature
_PATIENCE = 1  # iterations before Newton's steps
_SPELL = 100  # iterations between few pairs, at most
_LOST = 0.125  # of the tolerance: the mass that iterations between few pairs may do without


@dataclass(frozen=True)
class Course:
    """From where to where a problem between cells is solved."""

    stopping: Stopping
    done: int  # iterations before
    state: Array | None
    guess: Solution | None  # potentials that the solution is close to
    is_near: bool  # the guess was made for this temperature
    is_last: bool  # the solution is not only where another problem starts

    def after(self, solution: Solution) -> Course:
        return replace(self, done=solution.n_iter, state=solution.partner, guess=solution)


def solve_between_cells(
    problem: Problem, cells: tuple[Cells, Cells], course: Course, truncation: float | None
) -> Solution:
    """Converge between all the pairs, or between fewer and fewer of them where there are many."""
    n, m = problem.geometry.shape
    if course.guess is None or truncation is None or n * m < WORTH_PRUNING:
        return converge(problem, course.state, course.stopping, course.done)
    if not problem.symmetric:  # symmetric problems take too few iterations
        stopping = course.stopping
        if not course.is_near:
            few = replace(stopping, max_iter=min(stopping.max_iter, course.done + _FIRST))
            masked = masked_problem(problem, cells, course.guess, truncation)
            course = course.after(converge(masked, course.state, few, course.done))
        solution = _solve_between_few(problem, cells, course, truncation)
        if solution is None:
            course = replace(course, done=min(course.done + _SPELL, stopping.max_iter))
        elif not course.is_last and solution.status != "max_iter":
            return solution
        else:
            course = course.after(solution)
    return _solve_under_proof(problem, cells, course, truncation)


def _solve_between_few(
    problem: Problem, cells: tuple[Cells, Cells], course: Course, truncation: float
) -> Solution | None:
    """Converge between the pairs of blocks that hold the mass; None where errors have grown.

    No plan between few pairs may have the marginals that are asked for.
    """
    assert course.guess is not None
    plan = plan_between_blocks(problem, cells, course.guess, truncation)
    heaviest = _Heaviest(problem, cells, plan, _LOST * course.stopping.tol)
    steps = linearize(problem, cells, plan.matrix) if course.is_near else None
    means = Means(linearize=steps, patience=_PATIENCE, restrict=heaviest)
    errors: list[float] = []

    def report(progress: Progress) -> None:
        errors.append(progress.marginal_error)
        if course.stopping.callback is not None:
            course.stopping.callback(progress)

    most = min(course.stopping.max_iter, course.done + _SPELL)
    spell = replace(course.stopping, max_iter=most, callback=report)
    solution = converge(heaviest.first(course.guess), course.state, spell, course.done, means)
    has_failed = solution.status == "max_iter" and not errors[-1] < errors[0]
    return None if has_failed else solution


@dataclass(frozen=True)
class _Heaviest:
    """A problem between the pairs of blocks that hold the mass, while potentials move."""

    problem: Problem
    cells: tuple[Cells, Cells]
    plan: BlockPlan
    lost: float

    def __call__(self, f: Array, g: Array) -> Problem | None:
        pairs = self.plan.heaviest((library_of(f).to_numpy(f), library_of(g).to_numpy(g)), self.lost)
        return None if pairs is None else restricted_problem(self.problem, self.cells, pairs)

    def first(self, guess: Solution) -> Problem:
        problem = self(guess.f, guess.g)
        assert problem is not None
        return problem


def _solve_under_proof(
    problem: Problem, cells: tuple[Cells, Cells], course: Course, truncation: float
) -> Solution:
    """Converge under a mask; again under a new one, where potentials have left what it was made for."""
    while True:
        assert course.guess is not None
        masked = masked_problem(problem, cells, course.guess, truncation)
        solution = converge(masked, course.state, course.stopping, course.done)
        moves = [
            max(0.0, float((new - old).max()) / problem.epsilon)
            for old, new in zip(highest_potentials(course.guess), highest_potentials(solution), strict=True)
        ]
        if sum(moves) <= SLACK or solution.n_iter >= course.stopping.max_iter:
            return solution
        course = course.after(solution)
