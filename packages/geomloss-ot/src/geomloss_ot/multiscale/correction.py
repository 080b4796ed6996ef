"""Owns the correction of smooth errors by Newton steps between cells; ignores how iterations proceed.

Sinkhorn updates shrink at once the errors that vary over a blur, and smooth ones slowly. Smooth errors are the same
everywhere in a cell of a few blurs: between such cells, the derivative of the update is a small matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

from symbolic_matrices import BlockRanges
from symbolic_matrices.arrays import Array, library_of

from ..cell_plans import LONGEST, CellPlan, find_damping
from ..geometries import PointGeometry
from ..problems import Problem
from ..sinkhorn import Linearize
from .cells import Cells
from .masks import kept_pairs
from .pruning import Blocks, make_blocks

_ENTRIES = 16  # per cell, on average, but for
_FEWEST, _MOST = 600, 4096  # cells
_DIRECT = 256  # larger cells: their system is inverted
_TRUNCATION = 6.0  # pairs of blocks whose density is below exp(-6) do not count
_COPIES = 1 << 22  # rows of one reduction


def linearize(problem: Problem, cells: tuple[Cells, Cells]) -> Linearize | None:
    """Newton's steps between the cells of a scale; None for penalties with kinks, where potentials stay put."""
    damping = find_damping(problem)
    number, parent = (_scale(cells, most) for most in (_most_cells(cells), _DIRECT))
    if damping is None or number is None or parent is None:
        return None
    depth = max(side.depth for side in cells)
    left, right = (make_blocks(side.level, list(range(number, depth, 2)) or [depth]) for side in cells)
    parents = np.searchsorted(right.starts, cells[1].level.starts_of(parent))

    def steps(f: Array, g: Array) -> Callable[[Array], Array]:
        values = library_of(f).to_numpy(f), library_of(g).to_numpy(g)
        ranges = kept_pairs(problem, cells, ((left, right), values), _TRUNCATION)
        mass = _mass_between_cells(problem, (f, g), (left, right), ranges)
        return _corrector(CellPlan(mass, damping, parents), problem, right)

    return steps


def _most_cells(cells: tuple[Cells, Cells]) -> int:
    entries = max(len(side.level) for side in cells)
    return max(_FEWEST, min(_MOST, entries // _ENTRIES))


def _scale(cells: tuple[Cells, Cells], most: int) -> int | None:
    """The finest scale with at most so many cells on each side, if there is one."""
    number, depth = cells[0].level.number, max(side.depth for side in cells)
    while max(len(side.level.starts_of(number)) for side in cells) > most:
        if number >= depth:
            return None
        number += 1
    return number


def _corrector(plan: CellPlan, problem: Problem, blocks: Blocks) -> Callable[[Array], Array]:
    """What maps residuals at the columns of a problem to better steps."""
    library, starts = library_of(problem.target.weights), blocks.starts
    longest = LONGEST * problem.epsilon
    masses = library.to_numpy(problem.target.weights).astype(np.float64)
    empty = np.add.reduceat(masses, starts) <= 0
    # Cells without mass follow the mean of their entries.
    masses = np.where(np.repeat(empty, blocks.sizes), 1.0, masses)
    pooled = np.add.reduceat(masses, starts)

    def correct(residual: Array) -> Array:
        fine = library.to_numpy(residual)
        more = plan.correct(np.add.reduceat(masses * fine, starts) / pooled)
        more *= longest / max(float(abs(more).max()), longest)
        found = fine + np.repeat(more, blocks.sizes).astype(fine.dtype)
        return library.convert(found, library.dtype_name(residual), library.device(residual))

    return correct


def _mass_between_cells(
    problem: Problem, potentials: tuple[Array, Array], sides: tuple[Blocks, Blocks], ranges: BlockRanges
) -> csr_array:
    """The mass that the plan of two potentials moves from block to block, for some pairs of them."""
    i = np.repeat(np.arange(len(ranges.slices)), np.diff(ranges.slices, prepend=0))
    columns = ranges.column_ranges
    together = np.cumsum(sides[0].sizes[i]) // _COPIES
    parts = np.flatnonzero(np.diff(together, prepend=-1))
    masses = [
        _block_masses(problem, potentials, (ranges.row_ranges[i[start:stop]], columns[start:stop]))
        for start, stop in zip(parts, [*parts[1:], len(i)], strict=True)
    ]
    j = np.searchsorted(sides[1].starts, columns[:, 0])
    shape = len(sides[0].starts), len(sides[1].starts)
    return csr_array((np.concatenate(masses), (i, j)), shape=shape)


def _block_masses(
    problem: Problem, potentials: tuple[Array, Array], blocks: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """The mass of the plan in blocks of rows and columns, by one reduction: each block gets a copy of its rows."""
    geometry, (f, g), (low, high) = problem.geometry, potentials, blocks[0].T
    assert isinstance(geometry, PointGeometry)
    library = library_of(f)
    stops = np.cumsum(high - low)
    starts = stops - (high - low)
    copies = np.arange(stops[-1]) + np.repeat(low - starts, high - low)
    ranges = BlockRanges(np.stack([starts, stops], 1), np.arange(1, len(low) + 1), blocks[1])
    rows = library.convert(copies, "int64", library.device(f))
    copied = PointGeometry(geometry.x[rows], geometry.y, geometry.cost, ranges)
    sums = copied.apply_plan(problem.epsilon, f[rows], g, problem.target.weights[:, None])[:, 0]
    masses = library.to_numpy(sums * problem.source.weights[rows]).astype(np.float64)
    return np.add.reduceat(masses, starts)
