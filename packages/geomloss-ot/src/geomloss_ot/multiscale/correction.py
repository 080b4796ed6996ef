"""Owns the correction of smooth errors by Newton steps between cells; ignores how iterations proceed.

Sinkhorn updates shrink at once the errors that vary over a blur, and smooth ones slowly. Smooth errors are the same
everywhere in a cell of a few blurs: between such cells, the derivative of the update is a small matrix.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array

from symbolic_matrices.arrays import Array, library_of

from ..cell_plans import LONGEST, CellPlan, damping_between_kinks
from ..penalties import Penalty
from ..problems import Problem
from ..sinkhorn import Linearize
from .blocks import Blocks
from .cells import Cells

_ENTRIES = 16  # per cell, on average, but for
_FEWEST, _MOST = 600, 4096  # cells
_DIRECT = 256  # larger cells: their system is inverted


def linearize(problem: Problem, cells: tuple[Cells, Cells], masses: csr_array) -> Linearize | None:
    """Newton's steps between the cells of a scale; None where there are none of a useful size.

    ``masses`` (K, L) is what the plan moves between the blocks of both sides. Where penalties have kinks, steps are
    semi-smooth: potentials that are at a kink stay there.
    """
    number, parent = (_scale(cells, most) for most in (_most_cells(cells), _DIRECT))
    if number is None or parent is None:
        return None
    pools = _pool(_groups(cells[0], number)), _pool(_groups(cells[1], number))
    starts = cells[1].blocks.starts[_firsts(_groups(cells[1], number))]
    parents = _firsts(_owners(cells[1].level.starts_of(parent), starts))
    damping = damping_between_kinks(problem)

    def steps(f: Array, g: Array) -> Callable[[Array], Array]:
        moving = _moving(problem.penalties[0], f), _moving(problem.penalties[1], g)
        pooled, sums = (pools[0].T @ masses @ pools[1]).tocsr(), None
        if not all(one.all() for one in moving):
            sums = pooled.sum(1), pooled.sum(0)
            shares = [_means(one, side.blocks) for one, side in zip(moving, cells, strict=True)]
            kept = masses.multiply(shares[0][:, None]).multiply(shares[1]).tocsr()
            pooled = (pools[0].T @ kept @ pools[1]).tocsr()
        return _corrector(CellPlan(pooled, damping, parents, sums), problem, starts, moving[1])

    return steps


def _moving(penalty: Penalty, potential: Array) -> np.ndarray:
    """Whether a small change of the softmin changes the potential."""
    if penalty.slope_rate is not None:
        return np.ones(potential.shape, bool)
    curvature: np.ndarray = library_of(potential).to_numpy(penalty.dual_curvature(potential))
    return np.isfinite(curvature)


def _means(values: np.ndarray, blocks: Blocks) -> np.ndarray:
    """Means over the entries of each block."""
    means: np.ndarray = np.add.reduceat(values.astype(np.float64), blocks.starts) / blocks.sizes
    return means


def _most_cells(cells: tuple[Cells, Cells]) -> int:
    entries = max(len(side.level) for side in cells)
    return max(_FEWEST, min(_MOST, entries // _ENTRIES))


def _scale(cells: tuple[Cells, Cells], most: int) -> int | None:
    """The finest scale with at most so many cells on each side, if there is one."""
    number, depth = cells[0].level.number, max(side.level.largest_split for side in cells)
    while max(len(side.level.starts_of(number)) for side in cells) > most:
        if number >= depth:
            return None
        number += 1
    return number


def _groups(side: Cells, number: int) -> np.ndarray:
    """The cell of a scale where each block starts."""
    return _owners(side.level.starts_of(number), side.blocks.starts)


def _owners(starts: np.ndarray, entries: np.ndarray) -> np.ndarray:
    return np.searchsorted(starts, entries, side="right") - 1


def _firsts(groups: np.ndarray) -> np.ndarray:
    """Where groups of neighbours start."""
    return np.flatnonzero(np.diff(groups, prepend=-1))


def _pool(groups: np.ndarray) -> csr_array:
    """The matrix that sums over groups of neighbours: (number of blocks, number of groups)."""
    numbers = np.cumsum(np.diff(groups, prepend=-1) > 0) - 1
    return csr_array((np.ones(len(groups)), (np.arange(len(groups)), numbers)))


def _corrector(
    plan: CellPlan, problem: Problem, starts: np.ndarray, moving: np.ndarray
) -> Callable[[Array], Array]:
    """What maps residuals at the columns of a problem, some of which move, to better steps; cells have starts."""
    library = library_of(problem.target.weights)
    longest = LONGEST * problem.epsilon
    masses = moving * library.to_numpy(problem.target.weights).astype(np.float64)
    sizes = np.diff(np.append(starts, len(masses)))
    empty = np.add.reduceat(masses, starts) <= 0
    # Cells without mass follow the mean of their entries.
    masses = np.where(np.repeat(empty, sizes), 1.0, masses)
    pooled = np.add.reduceat(masses, starts)

    def correct(residual: Array) -> Array:
        fine = library.to_numpy(residual)
        with np.errstate(all="ignore"):
            more = plan.correct(np.add.reduceat(masses * fine, starts) / pooled)
        if not np.isfinite(more).all():
            return residual  # masses that are far from any plan's
        more *= longest / max(float(abs(more).max()), longest)
        found = fine + moving * np.repeat(more, sizes).astype(fine.dtype)
        return library.convert(found, library.dtype_name(residual), library.device(residual))

    return correct
