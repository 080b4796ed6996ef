"""Owns batches as the problems that they are made of, one after the other; ignores how these are solved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from .geometries import Geometry, MatrixGeometry, PointGeometry, RaggedGeometry, pad
from .measures import Measure
from .problems import Problem, Solution


def problems_of(problem: Problem) -> list[Problem]:
    """The problems of a batch between clouds, in C order."""
    geometry = problem.geometry
    *batch, n, m = geometry.shape
    found = []
    for index in np.ndindex(*batch):
        sizes = n, m
        if isinstance(geometry, RaggedGeometry):
            sizes = int(geometry.row_mask[index].sum()), int(geometry.column_mask[index].sum())
        found.append(one_problem(problem, index, sizes))
    return found


def one_problem(problem: Problem, index: tuple[int, ...], sizes: tuple[int, int]) -> Problem:
    """One problem of a batch, whose points are the first ones of its rows and columns."""
    source = Measure(problem.source.weights[index][: sizes[0]])
    target = source if problem.symmetric else Measure(problem.target.weights[index][: sizes[1]])
    return replace(
        problem, geometry=_geometry_of(problem.geometry, index, sizes), source=source, target=target
    )


def _geometry_of(geometry: Geometry, index: tuple[int, ...], sizes: tuple[int, int]) -> Geometry:
    """The cost of one problem of a batch."""
    if isinstance(geometry, MatrixGeometry):
        return MatrixGeometry(geometry.costs[index][: sizes[0], : sizes[1]], geometry.annealing_power)
    if isinstance(geometry, RaggedGeometry):
        starts = [int(mask[: index[0]].sum()) for mask in (geometry.row_mask, geometry.column_mask)]
        flat = geometry.flat
        x = flat.x[starts[0] : starts[0] + sizes[0]]
        y = x if flat.x is flat.y else flat.y[starts[1] : starts[1] + sizes[1]]
        return PointGeometry(x, y, flat.cost)
    assert isinstance(geometry, PointGeometry)
    x = geometry.x[index]
    return PointGeometry(x, x if geometry.x is geometry.y else geometry.y[index], geometry.cost)


def join_values(problem: Problem, values: Sequence[Array]) -> Array:
    """One number per problem, as an array of the shape of the batch."""
    xp = library_of(problem.source.weights).namespace
    return xp.stack(list(values)).reshape(problem.geometry.shape[:-2])


def join_sides(problem: Problem, sides: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Values at the rows (N_k,) and at the columns (M_k,) of each problem, as arrays (..., N) and (..., M)."""
    geometry, (rows, columns) = problem.geometry, zip(*sides, strict=True)
    xp = library_of(problem.source.weights).namespace
    if isinstance(geometry, RaggedGeometry):
        masks = geometry.row_mask, geometry.column_mask
        return pad(xp.concatenate(list(rows)), masks[0]), pad(xp.concatenate(list(columns)), masks[1])
    batch = geometry.shape[:-2]
    f, g = (xp.stack(list(side)) for side in (rows, columns))
    return f.reshape(*batch, -1), g.reshape(*batch, -1)


def join_solutions(problem: Problem, solutions: Sequence[Solution]) -> Solution:
    """The solution of a batch, from those of its problems; iterations and status are those of the slowest one."""
    f, g = join_sides(problem, [(one.f, one.g) for one in solutions])
    ratio_f, ratio_g = join_sides(problem, [(one.ratio_f, one.ratio_g) for one in solutions])
    value, error = (
        join_values(problem, [getattr(one, name) for one in solutions]) for name in ("value", "error")
    )
    slowest = max(one.n_iter for one in solutions)
    return Solution(f, g, ratio_f, ratio_g, value, error, slowest, worst_status(solutions))


def worst_status(solutions: Sequence[Solution]) -> str:
    """The status of several problems: that of the one which ended worst."""
    statuses = {solution.status for solution in solutions}
    return next(status for status in ("max_iter", "rounding", "converged") if status in statuses)
