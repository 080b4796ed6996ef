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
_RIDGE = 1e-10  # of the diagonal
_NEGLIGIBLE = 1e-12  # of the mass of a plan between cells, relative to the mean
_TINY = 1e-30  # instead of no mass at all


@dataclass(frozen=True)
class CellPlan:
    """The mass that a plan moves between cells of two clouds; ``parents`` has the start of larger cells of columns.

    With J the derivative of the update of g, Newton's step for a residual r is the d such that (I - J) d = r. Here, J
    is ``damping`` times the product of two stochastic matrices, those of the plan and of its transposed; their rows and
    columns are those of potentials that move, between which ``mass`` is, where others are at a kink of their penalty.
    """

    mass: csr_array  # (K, L)
    damping: float
    parents: np.ndarray
    sums: tuple[np.ndarray, np.ndarray] | None = None  # (K,), (L,): of all the mass, if others stay

    def correct(self, residual: np.ndarray) -> np.ndarray:
        """What Newton's step adds to a residual, (L,)."""
        columns = self._columns
        centred = self._centred(residual)
        shape = (len(columns), len(columns))
        step, _ = cg(
            LinearOperator(shape, self._apply, dtype=np.float64),
            columns * centred,
            rtol=_ACCURACY,
            maxiter=_ITERATIONS,
            M=LinearOperator(shape, self._precondition, dtype=np.float64),
        )
        return self._centred(step) - centred

    def _centred(self, values: np.ndarray) -> np.ndarray:
        """Without constants: either nothing depends on them, or the loop finds the best one. Kinks hold them."""
        if self.sums is not None:
            return values
        mean: np.ndarray = (self._columns * values).sum() / self._columns.sum()
        return values - mean

    def _apply(self, d: np.ndarray) -> np.ndarray:
        """diag(columns) (I - J), which is symmetric, plus something positive for constants."""
        d = d.ravel()
        columns = self._columns
        seen = self._transposed @ ((self.mass @ d) / self._rows)
        applied: np.ndarray = columns * d - self.damping * seen
        if self.sums is not None:
            return applied
        return applied + columns * (columns * d).sum() / columns.sum()

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
        return _positive(self.mass.sum(1) if self.sums is None else self.sums[0])

    @cached_property
    def _columns(self) -> np.ndarray:
        return _positive(self.mass.sum(0) if self.sums is None else self.sums[1])

    @cached_property
    def _coarse(self) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of the system between larger cells, and how many cells these have."""
        counts = np.diff(np.append(self.parents, len(self._columns)))
        numbers = np.repeat(np.arange(len(counts)), counts)
        pool = csr_array((np.ones(len(numbers)), (np.arange(len(numbers)), numbers)))
        pooled = (self.mass @ pool).toarray()
        columns = np.add.reduceat(self._columns, self.parents)
        # Parts of a plan that no kink holds in place leave constants free: a ridge keeps the inverse finite.
        system = (1 + _RIDGE) * np.diag(columns) - self.damping * (pooled.T / self._rows) @ pooled
        if self.sums is None:
            system += np.outer(columns, columns) / columns.sum()
        return np.linalg.inv(system), counts


def find_damping(problem: Problem) -> float | None:
    """The factor by which two proximal steps shrink a change; None for penalties with kinks, where potentials stay."""
    if any(penalty.slope_rate is None for penalty in problem.penalties):
        return None
    return damping_between_kinks(problem)


def damping_between_kinks(problem: Problem) -> float:
    """The same, where potentials move: those of penalties with kinks are not shrunk."""
    factor = 1.0
    for penalty in problem.penalties:
        factor /= 1 + problem.epsilon * (penalty.slope_rate or 0.0)
    return factor


def _positive(masses: np.ndarray) -> np.ndarray:
    return np.maximum(masses, _NEGLIGIBLE * masses.mean() + _TINY)
