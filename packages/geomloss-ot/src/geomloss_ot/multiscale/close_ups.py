"""Owns what second derivatives see of problems solved by cells: points, without the pairs that hold next to no mass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from symbolic_matrices.arrays import Array

from ..problems import CloseUp, Problem, Solution
from ..sinkhorn import to_tensors
from .converging import Course, solve_between_cells
from .masks import WORTH_PRUNING, dense_problem, highest_potentials
from .walk import Stage, Walk, stage_of_points

Convert: TypeAlias = "Callable[[np.ndarray], Array]"


def look_closely(walk: Walk, stage: Stage, convert: Convert | None) -> CloseUp:
    """Solve the problem between the points themselves, from the potentials of a stage.

    Second derivatives solve linear systems whose solutions amplify what cells leave out. ``convert`` brings NumPy's
    arrays to the library of the problem, if that is another one.
    """
    sides = walk.clouds[0].points, walk.clouds[1].points
    start = stage_of_points(walk, stage, sides)
    stopping = replace(walk.stopping, max_iter=start.solution.n_iter + walk.stopping.max_iter, callback=None)
    guess = start.solution
    course = Course(stopping, guess.n_iter, guess.partner, guess, is_near=True, is_last=True)
    solution = solve_between_cells(start.problem, start.cells, course, walk.truncation)
    problem, orders = _without_light_pairs(walk, start, solution), _orders(walk)
    if convert is None:
        return CloseUp(problem, solution, orders)
    problem = problem.replace(tuple(convert(array) for array in problem.tensors))
    return CloseUp(problem, to_tensors(solution, convert), (convert(orders[0]), convert(orders[1])))


def _without_light_pairs(walk: Walk, stage: Stage, solution: Solution) -> Problem:
    n, m = stage.problem.geometry.shape
    if walk.truncation is None or n * m < WORTH_PRUNING:
        return stage.problem
    return dense_problem(stage.problem, stage.cells, highest_potentials(solution), walk.truncation)


def _orders(walk: Walk) -> tuple[Array, Array]:
    """The numbers of the points of both sides, in the order of the hierarchies."""
    first, second = (cloud.lift_indices(cloud.hierarchy.order) for cloud in walk.clouds)
    return first, second
