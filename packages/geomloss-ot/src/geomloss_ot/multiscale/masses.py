"""Owns the mass that a plan moves between blocks, estimated from a few rows of each; ignores what it is good for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from symbolic_matrices import BlockRanges
from symbolic_matrices.arrays import Array, library_of

from ..geometries import PointGeometry
from ..problems import Problem
from .blocks import Blocks, Pairs

_ROWS = 16  # of each block that are asked, some of them twice in smaller blocks
_MOST = 60.0  # units of epsilon by which potentials may rise: farther, exponentials overflow
_PARTS = 1 << 18  # pairs of one reduction
_MARGIN = 8.0  # what potentials may gain, in units of epsilon, before pairs that are left out matter


@dataclass
class BlockPlan:
    """The mass that a plan moves between pairs of blocks: known at some potentials, and bounded around them.

    Where no potential of a block rises by more than r epsilon, and none of another one by more than s epsilon, the
    mass between them is multiplied by exp(r + s) at most.
    """

    sides: tuple[Blocks, Blocks]
    pairs: Pairs
    masses: np.ndarray  # (number of pairs,)
    epsilon: float
    potentials: tuple[np.ndarray, np.ndarray]
    kept: np.ndarray | None = None  # (number of pairs,): those that were chosen last

    @property
    def matrix(self) -> csr_array:
        return csr_array((self.masses, self.pairs), shape=tuple(len(side.starts) for side in self.sides))

    def heaviest(self, potentials: tuple[np.ndarray, np.ndarray], lost: float) -> Pairs | None:
        """The pairs without which less than a part of the mass is lost, for potentials that still move a little.

        None where those that were chosen before still do. Pairs that were chosen once stay.
        """
        rises = self._rises(potentials)
        risen = self.masses * np.exp(np.minimum(rises[0][self.pairs[0]] + rises[1][self.pairs[1]], _MOST))
        if self.kept is not None and risen[~self.kept].sum() <= lost * self.masses.sum():
            return None
        keep = np.zeros(len(risen), bool) if self.kept is None else self.kept
        for side, numbers in zip(self.sides, self.pairs, strict=True):
            count = len(side.starts)
            fair = np.bincount(numbers, self.masses, count) / np.maximum(
                np.bincount(numbers, minlength=count), 1
            )
            keep = keep | (risen >= lost * math.exp(-_MARGIN) * fair[numbers])
        self.kept = keep
        return self.pairs[0][keep], self.pairs[1][keep]

    def _rises(self, potentials: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """How much the potentials of each block have risen at most, in units of epsilon."""
        first, second = (
            np.maximum.reduceat(new - old, side.starts) / self.epsilon
            for new, old, side in zip(potentials, self.potentials, self.sides, strict=True)
        )
        return first, second


def estimate_plan(
    problem: Problem,
    potentials: tuple[Array, Array],
    sides: tuple[Blocks, Blocks],
    pairs: Pairs,
    truncation: float,
) -> BlockPlan:
    """The mass that the plan of two potentials moves between some pairs of blocks, from a few rows of each block.

    The rows that are not asked may have a density of exp(-truncation).
    """
    rows, columns = sides
    order = np.argsort(pairs[0], kind="stable")
    i, j = (numbers[order] for numbers in pairs)
    asked = rows.starts[:, None] + np.arange(_ROWS) * rows.sizes[:, None] // _ROWS
    parts = (slice(start, start + _PARTS) for start in range(0, len(i), _PARTS))
    shares = [_mean_shares(problem, potentials, asked[i[part]], columns.ranges[j[part]]) for part in parts]
    library = library_of(problem.source.weights)
    row_masses, column_masses = (
        np.add.reduceat(library.to_numpy(measure.weights).astype(np.float64), side.starts)[numbers]
        for measure, side, numbers in ((problem.source, rows, i), (problem.target, columns, j))
    )
    masses = row_masses * np.maximum(np.concatenate(shares), math.exp(-truncation) * column_masses)
    f, g = (library.to_numpy(potential) for potential in potentials)
    return BlockPlan(sides, (i, j), masses, problem.epsilon, (f, g))


def _mean_shares(
    problem: Problem, potentials: tuple[Array, Array], rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Which part of the mass of some rows (B, R) goes to intervals of columns (B, 2): their means (B,).

    One reduction, where each interval gets its own copies of the rows.
    """
    geometry, (f, g) = problem.geometry, potentials
    assert isinstance(geometry, PointGeometry)
    library = library_of(f)
    bounds = _ROWS * np.arange(len(rows) + 1)
    ranges = BlockRanges(np.stack([bounds[:-1], bounds[1:]], 1), np.arange(1, len(rows) + 1), columns)
    copies = library.convert(rows.ravel(), "int64", library.device(f))
    copied = PointGeometry(geometry.x[copies], geometry.y, geometry.cost, ranges)
    sums = copied.apply_plan(problem.epsilon, f[copies], g, problem.target.weights[:, None])
    return library.to_numpy(sums).reshape(-1, _ROWS).astype(np.float64).mean(1)
