"""Owns the cells of clouds and the pairs of them that a plan may use; ignores how potentials are found."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..geometries import PointGeometry
from ..measures import Measure
from ..sinkhorn import Problem
from .hierarchy import Hierarchy, Level, build_hierarchy
from .pruning import Blocks, block_numbers, fitted_ceiling, keep_blocks, make_blocks

_FINEST = 1e-4  # edge of the smallest cells, in units of the largest side of a cloud


@dataclass(frozen=True)
class CloudCells:
    """The cells of a cloud at one scale: NumPy arrays, neighbours side by side."""

    hierarchy: Hierarchy
    level: Level

    @property
    def points(self) -> np.ndarray:
        """Weighted centroids (K, D)."""
        return self.level.points

    @property
    def measure(self) -> Measure:
        return Measure(self.level.weights)

    @cached_property
    def blocks(self) -> Blocks:
        """Boxes around neighbours."""
        return make_blocks(self.level, block_numbers(self.level, self.hierarchy.depth))

    def pool(self, values: np.ndarray) -> np.ndarray:
        """Means (K,) of the values (N,) of the sorted points; plain ones, as cells may have no mass."""
        sizes = np.diff(np.append(self.level.starts, len(values)))
        means: np.ndarray = np.add.reduceat(values, self.level.starts) / sizes
        return means

    def spread(self, power: int) -> float:
        """The cost of moving all the mass to the centroids: sum_i w_i |x_i - c|^p over the points."""
        sizes = np.diff(np.append(self.level.starts, len(self.hierarchy.points)))
        offsets = self.hierarchy.points - np.repeat(self.points, sizes, axis=0)
        return float(self.hierarchy.weights @ (offsets**2).sum(-1) ** (power / 2))


@dataclass(frozen=True)
class SortedCloud:
    """A cloud of NumPy's points whose neighbours stand side by side."""

    hierarchy: Hierarchy

    @property
    def points(self) -> np.ndarray:
        return self.hierarchy.points

    @property
    def measure(self) -> Measure:
        return Measure(self.hierarchy.weights)

    def sorted(self, values: np.ndarray) -> np.ndarray:
        """Values (N, ...) of the points, in their order here."""
        return values[self.hierarchy.order]

    def cells(self, edge: float) -> CloudCells:
        """The largest cells whose edge is at most ``edge``, or the smallest ones there are."""
        number = max(0, math.floor(math.log2(edge / self.hierarchy.width)))
        return CloudCells(self.hierarchy, self.hierarchy.level(number))


def sort_cloud(points: np.ndarray, weights: np.ndarray) -> SortedCloud:
    """Sort points (N, D) of weights (N,) by cells."""
    span = float(np.ptp(points, axis=0).max())
    return SortedCloud(build_hierarchy(points, weights, _FINEST * span if span > 0 else 1.0))


def keep_dense_pairs(
    problem: Problem,
    sides: tuple[CloudCells, CloudCells],
    potentials: tuple[np.ndarray, np.ndarray],
    truncation: float,
) -> Problem:
    """A problem between cells, without the pairs where the density of the plan is below exp(-truncation)."""
    geometry = problem.geometry
    assert isinstance(geometry, PointGeometry)
    ceilings = [
        fitted_ceiling(side.blocks, side.points, values, geometry.cost)
        for side, values in zip(sides, potentials, strict=True)
    ]
    blocks, floor = (sides[0].blocks, sides[1].blocks), -problem.epsilon * truncation
    ranges = keep_blocks(blocks, (ceilings[0], ceilings[1]), geometry.cost, floor)
    return replace(problem, geometry=replace(geometry, ranges=ranges))
