"""Owns problems and extensions without the blocks that do not matter; ignores how the scales follow each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from symbolic_matrices import BlockRanges
from symbolic_matrices.arrays import Array, library_of

from ..geometries import Extension, PointGeometry
from ..problems import Problem, Solution
from .blocks import MOST, Blocks, Pairs, make_blocks
from .cells import Cells, Cloud
from .masses import BlockPlan, estimate_plan
from .pruning import Bound, Ceiling, keep_pairs, known_bound, ranges_of, tangent_ceiling

WORTH_PRUNING = 3e6  # pairs: below, visiting all of them takes less time than choosing some
_TAIL = 8.0  # how much farther plans between blocks are looked at, in units of epsilon
SLACK = 2.0  # how far potentials may move under a mask, in units of epsilon


def masked_problem(
    problem: Problem, cells: tuple[Cells, Cells], guess: Solution, truncation: float
) -> Problem:
    """The same problem between the pairs of blocks that matter for potentials close to a guess."""
    return dense_problem(problem, cells, highest_potentials(guess), truncation + SLACK)


def dense_problem(
    problem: Problem, cells: tuple[Cells, Cells], potentials: tuple[np.ndarray, np.ndarray], truncation: float
) -> Problem:
    """The same problem without the pairs of blocks where the density of the plan is below exp(-truncation)."""
    return restricted_problem(problem, cells, _dense_pairs(problem, cells, potentials, truncation))


def restricted_problem(problem: Problem, cells: tuple[Cells, Cells], pairs: Pairs) -> Problem:
    """The same problem between some pairs of blocks."""
    assert isinstance(problem.geometry, PointGeometry)
    ranges = ranges_of((cells[0].blocks, cells[1].blocks), pairs)
    return replace(problem, geometry=replace(problem.geometry, ranges=ranges))


def plan_between_blocks(
    problem: Problem, cells: tuple[Cells, Cells], guess: Solution, truncation: float
) -> BlockPlan:
    """The mass that the plan of a guess moves from block to block, about, also where there is hardly any."""
    blocks, far = (cells[0].blocks, cells[1].blocks), truncation + _TAIL
    pairs = _dense_pairs(problem, cells, highest_potentials(guess), far)
    return estimate_plan(problem, (guess.f, guess.g), blocks, pairs, far)


def _dense_pairs(
    problem: Problem, cells: tuple[Cells, Cells], potentials: tuple[np.ndarray, np.ndarray], truncation: float
) -> Pairs:
    assert isinstance(problem.geometry, PointGeometry)
    cost = problem.geometry.cost
    blocks = cells[0].blocks, cells[1].blocks
    first, second = (
        known_bound(own, side.level.points, values, cost)
        for own, side, values in zip(blocks, cells, potentials, strict=True)
    )
    return keep_pairs(blocks, (first, second), cost, _floor(problem, truncation))


def highest_potentials(solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """For each side, the larger of a potential and of the softmin: both rows and columns then keep what they need."""
    assert solution.softmins is not None
    to_numpy = library_of(solution.f).to_numpy
    found = [
        np.maximum(to_numpy(potential), to_numpy(softmin))
        for potential, softmin in zip((solution.f, solution.g), solution.softmins, strict=True)
    ]
    return found[0], found[1]


def plain_extensions(problem: Problem, solution: Solution) -> tuple[Extension, Extension]:
    """f and g as functions of the point: the updates of the potentials of the cells on the other side."""
    assert solution.partner is not None
    assert isinstance(problem.geometry, PointGeometry)
    geometry = replace(problem.geometry, ranges=None)
    forward = Extension(geometry, problem.target.log_weights + solution.partner / problem.epsilon)
    if problem.symmetric:
        return forward, forward
    return forward, Extension(geometry.T, problem.source.log_weights + solution.f / problem.epsilon)


def pruned_extensions(
    problem: Problem,
    solution: Solution,
    sides: tuple[tuple[Cells, Cells, Cloud], tuple[Cells, Cells, Cloud]],
    truncation: float | None,
) -> tuple[Extension, Extension]:
    """The same, between smaller cells and the blocks that they feel.

    Each side has the cells of the solution, smaller cells, and their cloud.
    """
    plain = plain_extensions(problem, solution)
    (left, fine_left, cloud), (right, fine_right, other) = sides
    f, g = (library_of(h).to_numpy(h) for h in (solution.partner, solution.f))
    assert solution.softmins is not None
    first = _pruned_extension(problem, plain[0], (left, fine_left, cloud), (right, f), truncation)
    first = _close_to(solution.softmins[0], first, (left, fine_left, cloud))
    if problem.symmetric:
        return first, first
    second = _pruned_extension(problem.T, plain[1], (right, fine_right, other), (left, g), truncation)
    return first, _close_to(solution.softmins[1], second, (right, fine_right, other))


def _close_to(softmin: Array, extension: Extension, side: tuple[Cells, Cells, Cloud]) -> Extension:
    """The same, whose values are about those of the cells that smaller ones are in."""
    if extension.geometry.ranges is None or not extension.geometry.cost.bilinear:
        return extension
    cells, fine, cloud = side
    owners = np.searchsorted(cells.level.starts, fine.level.starts, side="right") - 1
    return replace(extension, near=softmin[cloud.lift_indices(owners)])


def in_given_order(extension: Extension, cloud: Cloud) -> Extension:
    """The same for points in the order in which they were given."""
    if extension.geometry.ranges is None:
        return extension
    order = cloud.hierarchy.order
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return replace(extension, order=cloud.lift_indices(order), ranks=cloud.lift_indices(ranks))


def _pruned_extension(
    problem: Problem,
    plain: Extension,
    side: tuple[Cells, Cells, Cloud],
    columns: tuple[Cells, np.ndarray],
    truncation: float | None,
) -> Extension:
    """An extension to smaller cells, from the cells of the other side and their potential."""
    (coarse, rows, cloud), (cells, potential) = side, columns
    if truncation is None or len(rows.level) * len(cells.level) < WORTH_PRUNING:
        return plain
    cost = plain.geometry.cost
    sides = make_blocks(rows.level, MOST * max(1, len(rows.level) // len(coarse.level))), cells.blocks
    column_bound = known_bound(cells.blocks, cells.level.points, potential, cost)
    bounds = _tangent_bound(problem.epsilon, plain, cloud), column_bound
    ranges = ranges_of(sides, keep_pairs(sides, bounds, cost, _floor(problem, truncation)))
    return replace(plain, geometry=replace(plain.geometry, x=rows.points, ranges=ranges))


def _tangent_bound(epsilon: float, extension: Extension, cloud: Cloud) -> Bound:
    """What bounds an extension by its tangents at the centres of blocks, scale by scale.

    Without the columns that larger blocks do not feel, it is higher, and as concave.
    """

    def bound(blocks: Blocks, others: Blocks, kept: Pairs | None) -> Ceiling:
        geometry, centres = extension.geometry, cloud.lift(blocks.centres)
        if kept is not None:
            assert others.parents is not None
            ranges = BlockRanges.from_pairs(blocks.families, others.parents.ranges, np.stack(kept, 1))
            geometry = replace(geometry, x=centres, ranges=ranges)
        near = replace(extension, geometry=geometry)
        values = near.softmin(epsilon, centres)
        library = library_of(values)
        gradients = None
        if geometry.cost.bilinear:
            with np.errstate(
                invalid="ignore"
            ):  # blocks that feel no other one have no tangents, and need none
                gradients = library.to_numpy(replace(near, values=values).gradient(epsilon, centres))
        return tangent_ceiling(blocks, library.to_numpy(values), gradients, geometry.cost)

    return bound


def _floor(problem: Problem, truncation: float) -> float:
    """The level of f + g - C below which pairs do not count."""
    mass = max(float(problem.source.mass), float(problem.target.mass), 1e-30)
    return -problem.epsilon * (truncation + max(np.log(mass), 0.0))
