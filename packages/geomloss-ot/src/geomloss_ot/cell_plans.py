"""Owns Newton's steps between the cells of two clouds, for errors that are smooth; ignores where cells come from.

Sinkhorn updates shrink at once the errors that vary over a blur, and smooth ones slowly. Smooth errors are the same
everywhere in a cell of a few blurs: between such cells, the derivative of the update is a small matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, cg

from .problems import Problem

LONGEST = 2.0  # step, in units of epsilon: beyond, exponentials are far from linear
_ITERATIONS = 30  # of conjugate gradient, and
_ACCURACY = 0.03  # what they may leave of a residual
_NEGLIGIBLE = 1e-12  # of the mass of a plan between cells, relative to the mean


@dataclass(frozen=True)
class CellPlan:
    """The mass that a plan moves between cells of two clouds; ``parents`` has the start of larger cells of columns.

    With J the derivative of the update of g, Newton's step for a residual r is the d such that (I - J) d = r. Here, J
    is ``damping`` times the product of two stochastic matrices, those of the plan and of its transposed.
    """

    mass: csr_array  # (K, L)
    damping: float
    parents: np.ndarray

    def correct(self, residual: np.ndarray) -> np.ndarray:
        """What Newton's step adds to a residual, (L,)."""
        columns, total = self._columns, self._columns.sum()
        # Constants are left out: either nothing depends on them, or the loop finds the best one.
        centred = residual - (columns * residual).sum() / total
        shape = (len(columns), len(columns))
        step, _ = cg(
            LinearOperator(shape, self._apply, dtype=np.float64),
            columns * centred,
            rtol=_ACCURACY,
            maxiter=_ITERATIONS,
            M=LinearOperator(shape, self._precondition, dtype=np.float64),
        )
        return step - (columns * step).sum() / total - centred

    def _apply(self, d: np.ndarray) -> np.ndarray:
        """diag(columns) (I - J), which is symmetric, plus something positive for constants."""
        d = d.ravel()
        columns = self._columns
        seen = self._transposed @ ((self.mass @ d) / self._rows)
        return columns * (d + (columns * d).sum() / columns.sum()) - self.damping * seen

    def _precondition(self, r: np.ndarray) -> np.ndarray:
        """The exact solution between larger cells, and the inverse of the diagonal for what they do not see."""
        r = r.ravel()
        inverse, counts = self._coarse
        # Not by a library of linear algebra: its threads would wait for the cores of the reductions.
        coarse = np.einsum("ij,j->i", inverse, np.add.reduceat(r, self.parents))
        return coarse if len(coarse) == len(r) else np.repeat(coarse, counts) + r / self._columns

    @cached_property
    def _transposed(self) -> csr_array:
        return self.mass.T.tocsr()

    @cached_property
    def _rows(self) -> np.ndarray:
        return _positive(self.mass.sum(1))

    @cached_property
    def _columns(self) -> np.ndarray:
        return _positive(self.mass.sum(0))

    @cached_property
    def _coarse(self) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of the system between larger cells, and how many cells these have."""
        counts = np.diff(np.append(self.parents, len(self._columns)))
        numbers = np.repeat(np.arange(len(counts)), counts)
        pool = csr_array((np.ones(len(numbers)), (np.arange(len(numbers)), numbers)))
        pooled = (self.mass @ pool).toarray()
        columns = np.add.reduceat(self._columns, self.parents)
        system = np.diag(columns) - self.damping * (pooled.T / self._rows) @ pooled
        return np.linalg.inv(system + np.outer(columns, columns) / columns.sum()), counts


def find_damping(problem: Problem) -> float | None:
    """The factor by which two proximal steps shrink a change; None for penalties with kinks, where potentials stay."""
    rates = [penalty.slope_rate for penalty in problem.penalties]
    if rates[0] is None or rates[1] is None:
        return None
    return 1 / ((1 + problem.epsilon * rates[0]) * (1 + problem.epsilon * rates[1]))


def _positive(masses: np.ndarray) -> np.ndarray:
    return np.maximum(masses, _NEGLIGIBLE * masses.mean())
