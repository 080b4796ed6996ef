"""Owns a pair of clouds, as bounds of the cost of transport see it, and its entropic potentials; ignores bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from ..annealing import epsilon_schedule
from ..costs import Cost
from ..descent import sinkhorn
from ..geometries import PointGeometry
from ..measures import Measure, box_sides, middle
from ..multiscale import Cells, Cloud, Multiscale, build_hierarchy, solve_multiscale
from ..penalties import Balanced
from ..problems import Problem, Stopping
from .merging import Merged

_POTENTIAL_TOLERANCE, _POTENTIAL_ITERATIONS = 3e-3, 200  # c-transforms repair what is left
_MULTISCALE_PAIRS = 4e6  # from here on, cells first
_ROUNDING = 1e-12  # of the largest cost
_FINEST = 1e-4  # edge of the smallest cells, in units of the largest side of a cloud


@dataclass(frozen=True)
class Pair:
    """Two clouds (N, D) and (M, D) without repetitions, their weights, and a cost; in float64, for the bounds.

    ``lift`` brings arrays to the library and to the device that solve entropic problems.
    """

    sides: tuple[Merged, Merged]
    cost: Cost
    lift: Callable[[np.ndarray], Array]

    @cached_property
    def entropic(self) -> Problem:
        """The problem of the solver, at any temperature: in float32, as bounds repair its potentials.

        Lengths are in units of the diameter, masses in units of their sum.
        """
        left, right = self.sides
        x, y = (self._lifted((side.points - self._centre) / self.diameter) for side in self.sides)
        a, b = (Measure(self._lifted(side.weights / side.weights.sum())) for side in (left, right))
        return Problem(PointGeometry(x, y, self.cost), a, b, (Balanced(), Balanced()), 1.0)

    def _lifted(self, array: np.ndarray) -> Array:
        return self.lift(array.astype(np.float32))

    @cached_property
    def clouds(self) -> tuple[Cloud, Cloud]:
        """The clouds around the origin, of equal masses, and their cells."""
        left, right = self.sides
        ratio = left.weights.sum() / right.weights.sum()
        return (
            _sort_cloud(left.points - self._centre, left.weights),
            _sort_cloud(right.points - self._centre, right.weights * ratio),
        )

    @cached_property
    def _centre(self) -> np.ndarray:
        found: np.ndarray = middle(self.sides[0].points, self.sides[1].points)
        return found

    @property
    def dim(self) -> int:
        return int(self.sides[0].points.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.sides[0].points), len(self.sides[1].points)

    @cached_property
    def diameter(self) -> float:
        """Of a box around both clouds."""
        return float(np.linalg.norm(box_sides(*(side.points for side in self.sides))))

    @property
    def rounding(self) -> float:
        """A cost that is too small to matter beside that of the longest way."""
        return _ROUNDING * self.diameter**self.cost.power

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The sorted points."""
        left, right = self.clouds
        return left.hierarchy.points, right.hierarchy.points

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of the sorted points."""
        left, right = self.clouds
        return left.hierarchy.weights, right.hierarchy.weights

    def thinned(self, most: int) -> Pair:
        """About the same pair, with at most so many points on each side, which stand for their neighbours."""
        left, right = (_thin(cloud, most) for cloud in self.clouds)
        return Pair((left, right), self.cost, self.lift)

    def cells(self, edge: float) -> tuple[Cells, Cells]:
        """The cells of both clouds with edges of at most ``edge``."""
        left, right = (cloud.cells(cloud.hierarchy.number_of(edge)) for cloud in self.clouds)
        return left, right

    def pool(self, cells: tuple[Cells, Cells], potentials: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
        """Means over cells of potentials of the sorted points."""
        sides = zip(self.clouds, cells, potentials, strict=True)
        return [cloud.hierarchy.means(side.level, values) for cloud, side, values in sides]

    def spread(self, cells: tuple[Cells, Cells]) -> float:
        """What it costs at most to leave cells in the proportions of their points, rather than from their centroids.

        For squared distances, what it costs: they are the sum of those to the centroids and of those between them.
        """
        sides = zip(self.clouds, cells, strict=True)
        return sum(cloud.hierarchy.spread(side.level, self.cost.power) for cloud, side in sides)


def _thin(cloud: Cloud, most: int) -> Merged:
    points, weights = cloud.hierarchy.points, cloud.hierarchy.weights
    starts = np.arange(0, len(points), -(-len(points) // most))
    return Merged(points[starts], np.add.reduceat(weights, starts), np.arange(len(starts)))


def _sort_cloud(points: np.ndarray, weights: np.ndarray) -> Cloud:
    """A cloud whose cells are NumPy's arrays."""
    span = float(np.ptp(points, axis=0).max())
    hierarchy = build_hierarchy(points, weights, _FINEST * span if span > 0 else 1.0)
    return Cloud(hierarchy, np.asarray, np.asarray)


def entropic_potentials(pair: Pair, blur: float) -> tuple[np.ndarray, np.ndarray]:
    """Potentials of the sorted points, right to a few percent of the marginals."""
    power, unit = pair.cost.power, pair.diameter
    problem = replace(pair.entropic, epsilon=power * (blur / unit) ** power)
    stopping = Stopping(_POTENTIAL_TOLERANCE, _POTENTIAL_ITERATIONS)
    if math.prod(pair.shape) > _MULTISCALE_PAIRS:
        solution = solve_multiscale(problem, None, Multiscale(), stopping).ab.solution
    else:
        schedule = epsilon_schedule(problem.geometry.cost_bound, problem.epsilon, 0.5**power)
        solution = sinkhorn(problem, schedule, stopping)
    to_numpy = library_of(solution.f).to_numpy
    f, g = (
        cloud.hierarchy.sorted(to_numpy(values).astype(np.float64) * unit**power)
        for cloud, values in zip(pair.clouds, (solution.f, solution.g), strict=True)
    )
    return f, g
