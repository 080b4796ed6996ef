"""Owns certificates of large clouds, from the pairs that are not proved negligible; ignores how these are shown."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from ..certificates import Certificate, certify
from ..geometries import PointGeometry
from ..problems import Problem, Solution
from .cells import Cloud
from .hierarchy import build_hierarchy
from .masks import dense_problem

_MANY_PAIRS = 2.5e7  # where visiting all of them takes longer than choosing some
_TRUNCATION = 16.0  # pairs of a density below exp(-16) are skipped, and counted as if they had it
_FINEST = 1e-3  # edge of the smallest cells, in units of the largest side of a cloud


def certify_points(problem: Problem, solution: Solution) -> Certificate:
    """Measure a solution between points: for many pairs and squared distances, without those of low density."""
    geometry = problem.geometry
    is_large = len(geometry.shape) == 2 and math.prod(geometry.shape) > _MANY_PAIRS
    if not is_large or not isinstance(geometry, PointGeometry) or not geometry.cost.bilinear:
        return certify(problem, solution)
    clouds = tuple(
        _sort(points, measure.weights)
        for points, measure in ((geometry.x, problem.source), (geometry.y, problem.target))
    )
    cells = clouds[0].points, clouds[1].points
    orders = [cloud.lift_indices(cloud.hierarchy.order) for cloud in clouds]
    f, g = solution.f[orders[0]], solution.g[orders[1]]
    points = PointGeometry(cells[0].points, cells[1].points, geometry.cost)
    ordered = replace(
        problem, geometry=points, source=cells[0].measure, target=cells[1].measure, symmetric=False
    )
    to_numpy = library_of(f).to_numpy
    masked = dense_problem(ordered, cells, (to_numpy(f), to_numpy(g)), _TRUNCATION)
    return certify(masked, replace(solution, f=f, g=g), math.exp(-_TRUNCATION))


def _sort(points: Array, weights: Array) -> Cloud:
    """The same points, neighbours side by side, as arrays of their library."""
    library, (dtype, device) = (
        library_of(points),
        (library_of(points).dtype_name(points), library_of(points).device(points)),
    )
    arrays = library.to_numpy(points), library.to_numpy(weights)
    span = float(np.ptp(arrays[0], axis=0).max())
    hierarchy = build_hierarchy(*arrays, _FINEST * span if span > 0 else 1.0)
    return Cloud(
        hierarchy,
        lambda array: library.convert(array, dtype, device),
        lambda array: library.convert(array, "int64", device),
    )
