"""Owns a pair of clouds, as bounds of the cost of transport see it, and its entropic potentials; ignores bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from ..annealing import epsilon_schedule
from ..costs import Cost
from ..geometries import PointGeometry
from ..measures import Measure, box_sides, middle
from ..multiscale import Cells, Cloud, Multiscale, build_hierarchy, solve_multiscale
from ..penalties import Balanced
from ..problems import Problem, Stopping
from ..sinkhorn import sinkhorn

_POTENTIAL_TOLERANCE, _POTENTIAL_ITERATIONS = 3e-3, 200  # c-transforms repair what is left
_MULTISCALE_PAIRS = 4e6  # from here on, cells first
_ROUNDING = 1e-12  # of the largest cost
_FINEST = 1e-4  # edge of the smallest cells, in units of the largest side of a cloud


@dataclass(frozen=True)
class Pair:
    """Two clouds (N, D) and (M, D) and their measures, as given; sorted and centred in float64 for the bounds."""

    x: Array
    y: Array
    measures: tuple[Measure, Measure]
    cost: Cost

    @cached_property
    def entropic(self) -> Problem:
        """The problem of the solver, at any temperature: in float32, as bounds repair its potentials.

        Lengths are in units of the diameter, masses in units of their sum.
        """
        library = library_of(self.x)
        centre = middle(self.x, self.y)
        x, y = ((library.detach(cloud) - centre) / self.diameter for cloud in (self.x, self.y))
        a, b = (library.detach(measure.weights / measure.mass) for measure in self.measures)
        x, y, a, b = (library.astype(array, "float32") for array in (x, y, a, b))
        return Problem(PointGeometry(x, y, self.cost), Measure(a), Measure(b), (Balanced(), Balanced()), 1.0)

    @cached_property
    def clouds(self) -> tuple[Cloud, Cloud]:
        to_numpy = library_of(self.x).to_numpy
        x, y = (to_numpy(library_of(z).detach(z)).astype(np.float64) for z in (self.x, self.y))
        a, b = (to_numpy(library_of(m.weights).detach(m.weights)).astype(np.float64) for m in self.measures)
        centre = middle(x, y)
        return _sort_cloud(x - centre, a), _sort_cloud(y - centre, b * (a.sum() / b.sum()))

    @property
    def dim(self) -> int:
        return int(self.x.shape[-1])

    @cached_property
    def diameter(self) -> float:
        """Of a box around both clouds."""
        return float(np.linalg.norm(box_sides(*self.points)))

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

    @property
    def size(self) -> int:
        """Number of pairs."""
        return len(self.x) * len(self.y)


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
    if pair.size > _MULTISCALE_PAIRS:
        solution = solve_multiscale(problem, None, Multiscale(), stopping).ab.solution
    else:
        schedule = epsilon_schedule(problem.geometry.cost_bound, problem.epsilon, 0.5**power)
        solution = sinkhorn(problem, schedule, stopping)
    to_numpy = library_of(pair.x).to_numpy
    f, g = (
        cloud.hierarchy.sorted(to_numpy(values).astype(np.float64) * unit**power)
        for cloud, values in zip(pair.clouds, (solution.f, solution.g), strict=True)
    )
    return f, g
