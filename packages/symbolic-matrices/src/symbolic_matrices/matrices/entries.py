"""Owns the entries of a symbolic matrix as arrays: all of them, those of some rows, those of the diagonal.

Each is the reduction of another formula over an axis with one entry, on the same data, so that kernels compute it and
its derivatives are those of any reduction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import Array, ArrayLibrary, find_library
from ..errors import ArrayTypeError, EntryError, ShapeError
from ..formulas.expressions import Axis, Index, Node, Variable, rebuild, topological, variable
from .bindings import Binding, Placeholder, describe_all
from .contexts import Context, context_of, positions, resolve

FEW = 32  # columns: where there are fewer, rows run along them instead


@dataclass(frozen=True)
class Formula:
    """A formula with its data."""

    node: Node
    bindings: tuple[Binding, ...]

    @property
    def context(self) -> Context:
        return context_of(self.bindings)


def check_data(bindings: tuple[Binding, ...], context: Context, task: str) -> ArrayLibrary:
    """The library of the data, which there must be."""
    if any(isinstance(b.value, Placeholder) for b in bindings):
        raise ShapeError(f"{task} needs data, but the formula has placeholders:\n{describe_all(bindings)}")
    if context.library is None:
        raise ArrayTypeError(f"{task} needs at least one array, but this formula holds numbers only.")
    return context.library


def with_data(node: Node, bindings: tuple[Binding, ...], context: Context, task: str) -> Formula:
    """The formula with everything that varies along an axis as data, its positions i and j too."""
    library = check_data(bindings, context, task)
    if context.ranges is not None:
        raise ShapeError(f"{task} of a block-sparse matrix is not defined; set its ranges to None first.")
    filled = [_filled(b, context) for b in bindings]
    places = {
        leaf: len(filled) + k for k, leaf in enumerate(n for n in topological(node) if isinstance(n, Index))
    }
    for leaf in places:
        size = (context.rows if leaf.axes is Axis.I else context.columns) or 1
        numbers = library.astype(library.integers(0, size, context.device), context.computed_in)[:, None]
        filled.append(_filled(replace(positions(leaf.axes, size, context), value=numbers), context))
    moved = rebuild(node, lambda n: variable(places[n], n.axes, 1) if n in places else n)
    return Formula(moved, tuple(filled))


def _filled(binding: Binding, context: Context) -> Binding:
    """A binding with the array that kernels read."""
    if binding.library is None:
        return binding
    filled = replace(
        binding,
        value=resolve(binding, context),
        library=context.library,
        dtype=context.dtype,
        stored_dtype=context.computed_in,
        device=context.device,
    )
    # no formula reads positions any more
    return filled if binding.is_data else replace(filled, axis=Axis.PARAMETER, size=1)


def all_entries(formula: Formula) -> Formula:
    """The entries as batches: i becomes the last batch dimension, j runs along the rows."""

    def moved(b: Binding) -> Binding:
        if b.library is None or (b.axis is Axis.PARAMETER and not b.batch_shape):
            return b
        value = b.value[..., :, None, :] if b.axis is Axis.I else b.value[..., None, :, :]
        batch_shape, size = tuple(value.shape[:-2]), value.shape[-2]
        return replace(b, value=value, axis=_AS_BATCHES[b.axis], size=size, batch_shape=batch_shape)

    return _move(formula, _AS_BATCHES, moved)


def diagonal(formula: Formula) -> Formula:
    """The entries i = j, one per row."""
    return _move(formula, _AS_ROWS, lambda b: replace(b, axis=_AS_ROWS[b.axis]))


_AS_BATCHES = {Axis.I: Axis.PARAMETER, Axis.J: Axis.I, Axis.PARAMETER: Axis.PARAMETER}
_AS_ROWS = {Axis.I: Axis.I, Axis.J: Axis.I, Axis.PARAMETER: Axis.PARAMETER}


def _move(formula: Formula, axes: Mapping[Axis, Axis], move: Callable[[Binding], Binding]) -> Formula:
    node = rebuild(
        formula.node, lambda n: variable(n.index, axes[n.axes], n.dim) if isinstance(n, Variable) else n
    )
    return Formula(node, tuple(move(binding) for binding in formula.bindings))


def some_rows(formula: Formula, rows: slice | Array) -> Formula:
    """The same matrix with some of its rows."""

    def moved(b: Binding) -> Binding:
        if b.axis is not Axis.I:
            return b
        value = b.value[..., rows, :]
        return replace(b, value=value, size=value.shape[-2])

    return Formula(formula.node, tuple(moved(binding) for binding in formula.bindings))


def with_batch_axis(bindings: tuple[Binding, ...]) -> tuple[Binding, ...]:
    """Data that broadcast along one more batch dimension, the last."""

    def moved(b: Binding) -> Binding:
        if not b.batch_shape:
            return b
        return replace(b, value=b.value[..., None, :, :], batch_shape=(*b.batch_shape, 1))

    return tuple(moved(binding) for binding in bindings)


@dataclass(frozen=True)
class Rows:
    """Rows that a user asks for.

    Attributes
    ----------
    key : a slice or an array of positions, which picks them from data.
    count : how many there are.
    is_one : whether a single number was given, so that its axis vanishes.
    """

    key: Any
    count: int
    is_one: bool


def find_rows(key: Any, size: int, library: ArrayLibrary, device: str) -> Rows:
    """Check rows given as a number, a slice, a mask or positions, of a matrix with ``size`` rows."""
    if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
        if not -size <= key < size:
            raise EntryError(f"K[{key}]: the matrix has {size} rows, numbered 0 to {size - 1}.")
        return Rows(slice(int(key) % size, int(key) % size + 1), 1, True)
    if isinstance(key, slice):
        chosen = range(size)[key]
        if chosen.step > 0:
            return Rows(key, len(chosen), False)
        key = list(chosen)
    places = _as_positions(key, size, library, device)
    return Rows(places, int(places.shape[0]), False)


def _as_positions(key: Any, size: int, library: ArrayLibrary, device: str) -> Array:
    if find_library(key) is not library:
        host = np.asarray(key, dtype="int64" if isinstance(key, list) and not key else None)
        if host.dtype.kind not in "biu":
            raise _no_rows(key, size)
        key = library.convert(host, "bool" if host.dtype.kind == "b" else "int64", device)
    if len(key.shape) != 1 or not library.dtype_name(key).startswith(("bool", "int", "uint")):
        raise _no_rows(key, size)
    try:
        places = library.integers(0, size, device)[key]
    except (IndexError, RuntimeError) as error:
        raise EntryError(f"K[rows]: {error}; the matrix has {size} rows.") from error
    return places


def _no_rows(key: Any, size: int) -> EntryError:
    return EntryError(
        f"K[rows] takes a number, a slice, a mask of {size} rows or a 1-D array of integers, and K[..., k] components; "
        f"but got {key!r}."
    )
