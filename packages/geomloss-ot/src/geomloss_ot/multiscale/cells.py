"""Owns the cells of a cloud as arrays of the library that reduces; ignores transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from symbolic_matrices.arrays import Array

from ..measures import Measure
from .blocks import MOST, Blocks, make_blocks
from .hierarchy import Hierarchy, Level


@dataclass(frozen=True)
class Cells:
    """The cells of one side at one scale, as arrays of the library that reduces."""

    level: Level
    points: Array  # (K, D)
    measure: Measure

    @cached_property
    def blocks(self) -> Blocks:
        return make_blocks(self.level, MOST)


@dataclass(frozen=True)
class Cloud:
    """A cloud and its cells."""

    hierarchy: Hierarchy
    lift: Callable[[np.ndarray], Array]  # to the library that reduces
    lift_indices: Callable[[np.ndarray], Array]

    def is_finest(self, number: int) -> bool:
        """Whether a scale has as many cells as the finest one."""
        return self.hierarchy.count(number) == self.hierarchy.most_cells

    def cells(self, number: int) -> Cells:
        """The cells of one scale; those of the last call are kept, for the problems that share the cloud."""
        if number not in self._latest:
            self._latest.clear()
            self._latest[number] = self._lifted(self.hierarchy.level(number))
        return self._latest[number]

    @cached_property
    def _latest(self) -> dict[int, Cells]:
        return {}

    @cached_property
    def points(self) -> Cells:
        """The points themselves, in the order of the hierarchy."""
        return self._lifted(self.hierarchy.finest)

    def _lifted(self, level: Level) -> Cells:
        return Cells(level, self.lift(level.points), Measure(self.lift(level.weights)))
