"""Owns the pairs of points that a plan of given potentials may use; ignores how potentials are found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..geometries import PointGeometry
from ..measures import Measure
from ..sinkhorn import Problem
from .hierarchy import Hierarchy, build_hierarchy
from .pruning import Blocks, block_numbers, fitted_ceiling, keep_blocks, make_blocks

_CELL = 1e-3  # edge of the smallest cells, in units of the largest side of a cloud


@dataclass(frozen=True)
class SortedCloud:
    """A cloud of NumPy's points whose neighbours stand side by side, and the boxes around them."""

    hierarchy: Hierarchy
    blocks: Blocks

    @property
    def points(self) -> np.ndarray:
        return self.hierarchy.points

    @property
    def measure(self) -> Measure:
        return Measure(self.hierarchy.weights)

    def sorted(self, values: np.ndarray) -> np.ndarray:
        """Values (N, ...) of the points, in their order here."""
        return values[self.hierarchy.order]


def sort_cloud(points: np.ndarray, weights: np.ndarray) -> SortedCloud:
    """Sort points (N, D) of weights (N,) by cells."""
    span = float(np.ptp(points, axis=0).max())
    hierarchy = build_hierarchy(points, weights, _CELL * span if span > 0 else 1.0)
    level = hierarchy.finest
    return SortedCloud(hierarchy, make_blocks(level, block_numbers(level, hierarchy.depth)))


def keep_dense_pairs(
    problem: Problem,
    clouds: tuple[SortedCloud, SortedCloud],
    potentials: tuple[np.ndarray, np.ndarray],
    truncation: float,
) -> Problem:
    """A problem between sorted clouds, without the pairs where the density of the plan is below exp(-truncation).

    ``problem`` gives the cost, the penalties and the temperature; ``potentials`` are those of the sorted points.
    """
    geometry = problem.geometry
    assert isinstance(geometry, PointGeometry)
    cost, (left, right) = geometry.cost, clouds
    ceilings = [
        fitted_ceiling(cloud.blocks, cloud.points, values, cost)
        for cloud, values in zip(clouds, potentials, strict=True)
    ]
    ranges = keep_blocks(
        (left.blocks, right.blocks), (ceilings[0], ceilings[1]), cost, -problem.epsilon * truncation
    )
    kept = PointGeometry(left.points, right.points, cost, ranges)
    return replace(problem, geometry=kept, source=left.measure, target=right.measure)
