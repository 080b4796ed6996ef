"""Owns the record that a backend launches: a plan's sizes and arrays, checked and broadcast beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..arrays import Array, ArrayLibrary
from ..formulas.reductions import Kind
from ..sparsity import BlockRanges


@dataclass(frozen=True)
class Problem:
    """Rows are kept and columns reduced; see :class:`~.planning.Plan`.

    Attributes
    ----------
    arrays : one per variable of the formula, in the order of the variables' indices, each of shape
        (*batch, size, D) with batch dimensions that broadcast to ``batch_shape``; size is 1 for parameters.
    ranges : the pairs that are visited, in each problem of the batch; None for all of them.
    """

    library: ArrayLibrary
    dtype: str
    device: str
    arrays: tuple[Array, ...]
    rows: int
    columns: int
    batch_shape: tuple[int, ...]
    ranges: BlockRanges | None = None

    def allocate(self, kinds: Sequence[Kind], trailing: tuple[int, ...]) -> tuple[Array, ...]:
        """Uninitialised outputs of a reduction, one per kind, of shape (*batch, rows, *trailing)."""
        shape = (*self.batch_shape, self.rows, *trailing)
        dtypes = [self.dtype if kind is Kind.VALUES else "int64" for kind in kinds]
        return tuple([self.library.empty(shape, dtype, self.device) for dtype in dtypes])
