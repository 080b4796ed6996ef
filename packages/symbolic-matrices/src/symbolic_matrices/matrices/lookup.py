"""Owns tables: small arrays of numbers that symbolic matrices look up by integer labels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ..arrays import find_library, library_of
from ..errors import ArrayTypeError, ShapeError
from ..formulas.expressions import variable
from ..formulas.operations.indexing import take
from .bindings import bind
from .contexts import context_of
from .lazy_tensor import LazyTensor

MOST_ENTRIES = 1 << 24  # positions that float32 counts exactly


class Table:
    r"""A small table of numbers, for lookups :math:`M_{ij} = T[a_i, b_j]` or :math:`T[a_i]` by integer labels.

    Parameters
    ----------
    array : NumPy, PyTorch or CuPy array of shape (R,) or (R, C)
        The entries. With PyTorch, gradients flow back to them.

    Raises
    ------
    ShapeError
        If the array is empty, has another rank, or more than 2^24 entries.

    Notes
    -----
    ``table[a]`` and ``table[a, b]`` take one label per dimension of the array, each of which is a LazyTensor of
    dimension 1 or an array that broadcasts as in NumPy's own indexing: of shape ``(..., M, 1)`` along i, or
    ``(..., 1, N)`` along j. Labels are integers, of an integer or of a real dtype; reals are rounded. Where a label is
    negative or too large, the value is NaN, and its gradient is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices import Table
    >>> interactions = np.array([[0.0, 1.0], [1.0, 5.0]])
    >>> kinds = np.array([0, 1, 1])
    >>> energy = Table(interactions)[kinds[:, None], kinds[None, :]]
    >>> energy.sum(axis=1)[:, 0]
    array([ 2., 11., 11.])
    """

    def __init__(self, array: Any) -> None:
        library_of(array)
        shape = tuple(array.shape)
        if len(shape) not in (1, 2) or not 0 < math.prod(shape) <= MOST_ENTRIES:
            raise ShapeError(
                f"A table must have shape (R,) or (R, C), and 1 to {MOST_ENTRIES} entries, but has shape {shape}."
            )
        self._shape = shape
        self._entries = LazyTensor(array.reshape(-1))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self._shape

    def __repr__(self) -> str:
        return f"Table of shape {self._shape}"

    def __getitem__(self, labels: Any) -> LazyTensor:
        given = labels if isinstance(labels, tuple) else (labels,)
        if len(given) != len(self._shape):
            raise ShapeError(
                f"A table of shape {self._shape} needs {len(self._shape)} labels but got {len(given)}."
            )
        tensors = [_label(label, position) for position, label in enumerate(given)]
        place = tensors[0]
        if len(tensors) == 2:
            place = tensors[0].round() * self._shape[1] + _existing(tensors[1], self._shape[1])
        return self._entries._apply(take, place)

    __iter__ = None  # a loop over a table would never end


def _label(label: Any, position: int) -> LazyTensor:
    """A label as a LazyTensor of dimension 1."""
    if find_library(label) is not None:
        label = _label_of_array(label)
    elif not isinstance(label, LazyTensor):
        label = LazyTensor(label)
    if label._formula.dim != 1:
        raise ShapeError(f"Label {position} of a table must have dimension 1 but has {label._formula.dim}.")
    return label


def _label_of_array(array: Any) -> LazyTensor:
    library, shape = library_of(array), tuple(array.shape)
    dtype = library.dtype_name(array)
    if dtype.startswith(("complex", "bool")):
        raise ArrayTypeError(f"Labels must be integers but the array of shape {shape} has dtype {dtype}.")
    if len(shape) == 1:
        raise ShapeError(
            f"An array of labels of shape {shape} may vary along i or j: give labels[:, None] or labels[None, :]."
        )
    if dtype.startswith(("int", "uint")):
        array = library.astype(array, "float64")
    if len(shape) == 0:
        return LazyTensor(array)
    binding = replace(bind(array[..., None]), is_flexible=True)  # labels follow the dtype of the data
    formula = variable(0, binding.axis, 1)
    return LazyTensor._make(formula, (binding,), context_of((binding,)))


def _existing(label: LazyTensor, size: int) -> LazyTensor:
    """The rounded label, or NaN where it would run into the neighbouring rows of the table."""
    rounded = label.round()
    exists = (rounded >= 0) & (rounded < size)
    return exists.where(rounded, float("nan"))
