"""Owns the positions i and j as symbolic matrices, so that masks and lookups are formulas."""

from __future__ import annotations

import operator
from typing import Any

from ..arrays import is_symbolic_number, is_tracing
from ..formulas.expressions import Axis, index
from .contexts import Context, context_of, positions
from .lazy_tensor import LazyTensor


def row_index(size: Any) -> LazyTensor:
    r"""The number of the row, :math:`M_{ij} = i`, from 0.

    Comparisons of positions are masks: 1 where they hold, 0 elsewhere.

    Parameters
    ----------
    size : int or LazyTensor
        How many rows there are, or a symbolic matrix with the same rows, library, dtype and device. Combined with data,
        positions follow their library, dtype and device; with nothing else, they are NumPy's float64.

    Raises
    ------
    ShapeError
        If ``size`` is negative, or if other variables of the formula have another length.
    ArrayTypeError
        If there are more positions than the dtype of the formula counts exactly: 2^24 in float32 and in half
        precision, 2^53 in float64.

    Examples
    --------
    The Gaussian matrix of a cloud with itself, without its diagonal:

    >>> import numpy as np
    >>> from symbolic_matrices import Vi, Vj, column_index, row_index
    >>> x = np.array([[0.0], [1.0], [3.0]])
    >>> K = (-Vi(x).sqdist(Vj(x))).exp()
    >>> i, j = row_index(K), column_index(K)
    >>> ((i != j) * K).sum(axis=1).round(3)[:, 0]
    array([0.368, 0.386, 0.018])

    Triangles and bands: ``(j <= i) * K`` and ``(abs(i - j) < 2) * K``.

    >>> ((j <= i) * 1.0).sum(axis=1)[:, 0]
    array([1., 2., 3.])
    """
    return _positions(Axis.I, size)


def column_index(size: Any) -> LazyTensor:
    r"""The number of the column, :math:`M_{ij} = j`, from 0. See :func:`row_index`."""
    return _positions(Axis.J, size)


def indices(rows: Any, columns: Any) -> tuple[LazyTensor, LazyTensor]:
    """The positions i and j of a matrix with so many rows and columns. See :func:`row_index`.

    Examples
    --------
    >>> from symbolic_matrices import indices
    >>> i, j = indices(3, 4)
    >>> (i - j).sum(axis=1)[:, 0]
    array([-6., -2.,  2.])
    """
    return row_index(rows), column_index(columns)


def _positions(axis: Axis, size: Any) -> LazyTensor:
    if is_tracing():
        return LazyTensor._deferred.made_by("row_index" if axis is Axis.I else "column_index", size)
    if isinstance(size, LazyTensor):
        like = size._context
        count = like.rows if axis is Axis.I else like.columns
    else:
        like, count = Context(), size if is_symbolic_number(size) else operator.index(size)
    bindings = (positions(axis, count, like),)
    return LazyTensor._make(index(axis), bindings, context_of(bindings))
