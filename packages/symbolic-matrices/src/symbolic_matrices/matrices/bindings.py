"""Owns what the variables of a formula stand for: arrays, numbers or placeholders, validated once, here."""

from __future__ import annotations

import enum
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import (
    COMPUTED_IN,
    NUMPY,
    REAL_TYPES,
    Array,
    ArrayLibrary,
    find_library,
    is_symbolic_number,
    library_of,
)
from ..errors import ArrayTypeError, AxisError, ShapeError
from ..formulas.expressions import Axis

AXES = (Axis.I, Axis.J, Axis.PARAMETER)


@dataclass(frozen=True)
class Placeholder:
    """Stands for entry number ``position`` of the arguments of a symbolic reduction."""

    position: int


class Positions(enum.Enum):
    """Stands for the positions 0, 1, 2... along an axis: a size, and no data."""

    ALL = "all"


@dataclass(frozen=True, eq=False)
class Binding:
    """One variable and its data.

    Attributes
    ----------
    value : array of shape (*batch, size, D), a number, a placeholder, or the positions along an axis.
    size : length of the axis; None for placeholders, and for positions along an axis whose length others tell.
    given : the shape that the user gave, for messages.
    dtype : that of the variable; under PyTorch's autocast, it may be wider than that of the array, ``stored_dtype``.
    is_flexible : whether the value follows the dtype, device and library of the others (numbers, 0-D and 1-D arrays).
    """

    value: Any
    axis: Axis
    dim: int
    size: int | None
    given: tuple[int, ...]
    batch_shape: tuple[int, ...] = ()
    library: ArrayLibrary | None = None
    dtype: str = ""
    device: str = ""
    is_flexible: bool = False
    stored_dtype: str = ""

    def is_same_as(self, other: Binding) -> bool:
        """Whether both read the same data, so that one variable suffices."""
        if self is other or self.value is not other.value:
            return self is other
        if not (self.is_data or isinstance(self.value, Positions)):
            return False
        key, other_key = ((b.axis, b.size, b.library, b.dtype, b.device) for b in (self, other))
        return key == other_key

    @property
    def is_data(self) -> bool:
        """Whether the value is an array."""
        return self.library is not None and not isinstance(self.value, Positions)

    def describe(self) -> str:
        role = {Axis.I: "i-variable", Axis.J: "j-variable"}.get(self.axis, "parameter")
        if isinstance(self.value, Placeholder):
            return f"{role} {self.value.position}: placeholder of dimension {self.dim}"
        if isinstance(self.value, Positions):
            return f"positions along {self.axis.letter}, {'any number' if self.size is None else self.size} of them"
        if self.library is None:
            return f"{role}: number {self.value}"
        return f"{role}: {self.library.name} array of shape {self.given}, {self.dtype}, on {self.device}"


def describe_all(bindings: Iterable[Binding]) -> str:
    return "\n".join(f"  - {binding.describe()}" for binding in bindings)


def bind(value: Any, axis: int | None = None) -> Binding:
    """Find the role of a user's value: see :class:`~.lazy_tensor.LazyTensor` for the rules."""
    if axis is not None and not (isinstance(axis, int) and 0 <= axis <= 2):
        raise AxisError(f"axis must be 0 (x_i), 1 (y_j) or 2 (parameter) but got {axis!r}.")
    library = find_library(value)
    if library is not None:
        return _bind_array(library.usable(value), axis, library)
    if isinstance(value, numbers.Real):
        return bind_number(float(value))
    if is_symbolic_number(value):
        return bind_number(value)
    if isinstance(value, (list, tuple)):
        return _bind_array(_from_sequence(value), axis, NUMPY)
    raise ArrayTypeError(
        f"A LazyTensor is made of a NumPy, PyTorch or CuPy array, a number or a list of numbers, "
        f"but got {type(value).__module__}.{type(value).__qualname__}."
    )


def bind_number(value: Any) -> Binding:
    """A number, or what a compiler of PyTorch passes in its place."""
    return Binding(value, Axis.PARAMETER, 1, 1, (), is_flexible=True)


def is_complex(value: Any) -> bool:
    """Whether a user's value holds complex numbers."""
    library = find_library(value)
    if library is not None:
        return library.dtype_name(value).startswith("complex")
    if isinstance(value, (list, tuple)):
        return any(map(is_complex, value))
    return isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real)


def bind_complex(value: Any, axis: int | None = None) -> Binding:
    """The same for complex numbers, which are read as pairs of real ones."""
    array = value if find_library(value) is not None else np.asarray(value, "complex128")
    library, shape = library_of(array), tuple(array.shape)
    if library.dtype_name(array) not in ("complex64", "complex128"):
        raise ArrayTypeError(
            f"A complex variable must be complex64 or complex128 but got a {library.name} array of shape {shape} and "
            f"dtype {library.dtype_name(array)}."
        )
    pairs = library.as_pairs(library.usable(array) if shape else array.reshape(1))
    return replace(bind(pairs, axis), given=shape)


def _from_sequence(value: list[Any] | tuple[Any, ...]) -> Array:
    try:
        return np.asarray(value, dtype="float64")
    except (TypeError, ValueError) as error:
        raise ArrayTypeError(
            f"A list given to a LazyTensor must hold real numbers only but got {value!r}."
        ) from error


def _bind_array(value: Array, axis: int | None, library: ArrayLibrary) -> Binding:
    shape = tuple(value.shape)
    if len(shape) < 2 and axis in (None, 2):
        dtype = library.variable_dtype(value)
        _check_numbers(dtype, shape, library)
        flat = value.reshape(1, -1)
        dim = _checked_dim(flat.shape, shape)
        stored, device = library.dtype_name(value), library.device(value)
        return Binding(flat, Axis.PARAMETER, dim, 1, shape, (), library, dtype, device, True, stored)
    return _bind_data(*_normalise(value, shape, axis), shape, library)


def _dtypes(value: Array, shape: tuple[int, ...], library: ArrayLibrary) -> tuple[str, str]:
    """The dtype of an array and the one that it has as a variable."""
    stored = library.dtype_name(value)
    dtype = stored if stored in REAL_TYPES else library.variable_dtype(value)
    if dtype not in COMPUTED_IN:
        raise ArrayTypeError(
            f"A variable must be one of {', '.join(COMPUTED_IN)} but got a {library.name} array of shape {shape} "
            f"and dtype {dtype}; convert it first."
        )
    return stored, dtype


def _bind_data(array: Array, role: Axis, given: tuple[int, ...], library: ArrayLibrary) -> Binding:
    """An array of shape (*batch, size, D) whose role is known."""
    stored, dtype = _dtypes(array, given, library)
    *batch, size, _ = shape = tuple(array.shape)
    return Binding(
        array, role, _checked_dim(shape, given), size, given, tuple(batch), library, dtype, library.device(array),
        False, stored,
    )  # fmt: skip


def _check_numbers(dtype: str, shape: tuple[int, ...], library: ArrayLibrary) -> None:
    if not dtype.startswith(("bool", "int", "uint", "float", "bfloat")):
        raise ArrayTypeError(
            f"A parameter must hold real numbers but got a {library.name} array of shape {shape} and dtype {dtype}."
        )


def _checked_dim(shape: Sequence[int], given: tuple[int, ...]) -> int:
    """The number of components, which is compiled in; sizes are not."""
    dim = int(shape[-1])
    if dim == 0:
        raise ShapeError(f"The vector dimension D must be at least 1 but the array has shape {given}.")
    return dim


def _normalise(value: Array, shape: tuple[int, ...], axis: int | None) -> tuple[Array, Axis]:
    """Drop the axis along which an array does not vary: (..., M, 1, D) -> (..., M, D)."""
    if axis is not None:
        if len(shape) != 2 or (axis == 2 and shape[0] != 1):
            expected = "(1, D)" if axis == 2 else "(size, D)"
            raise ShapeError(f"With axis={axis}, an array must have shape {expected} but got {shape}.")
        return value, AXES[axis]
    if len(shape) == 2:
        raise AxisError(
            f"A 2-D array of shape {shape} may be x_i or y_j: say which with axis=0 or axis=1 (or Vi, Vj), "
            "or give it as x[:, None, :] or y[None, :, :]."
        )
    rows, columns = shape[-3:-1]
    if columns == 1:
        return value.squeeze(-2), Axis.PARAMETER if rows == 1 else Axis.I
    if rows == 1:
        return value.squeeze(-3), Axis.J
    raise ShapeError(
        f"An array of shape {shape} varies along both i and j: expected (..., M, 1, D) for x_i, (..., 1, N, D) for y_j "
        "or (..., 1, 1, D) for a parameter. A dense matrix is no symbolic one; work with it directly."
    )


def placeholder(position: int, dim: int, axis: int) -> Binding:
    """A variable without data."""
    if dim < 1 or position < 0:
        raise ShapeError(
            f"A placeholder needs an index >= 0 and a dimension >= 1 but got {position} and {dim}."
        )
    return Binding(Placeholder(position), AXES[axis], dim, None, ())


def fill(binding: Binding, arguments: tuple[Any, ...]) -> Binding:
    """Replace a placeholder by the argument that it stands for."""
    if not isinstance(binding.value, Placeholder):
        return binding
    position = binding.value.position
    if position >= len(arguments):
        raise ShapeError(
            f"The formula needs argument number {position} but only {len(arguments)} were given."
        )
    given = _bind_argument(arguments[position], binding.axis)
    if given.dim != binding.dim:
        raise ShapeError(
            f"Argument {position} must have dimension {binding.dim} ({binding.describe()}) but has shape {given.given}."
        )
    return given


def _bind_argument(value: Any, axis: Axis) -> Binding:
    """An argument has shape (*batch, size, D), or that of a parameter."""
    library = find_library(value)
    if axis is Axis.PARAMETER and (library is None or len(value.shape) < 2):
        return bind(value)
    if library is None or len(value.shape) < 2:
        shape = getattr(value, "shape", type(value).__qualname__)
        raise ShapeError(
            f"An argument along {axis.letter} must be an array of shape (..., size, D) but got {shape}."
        )
    if axis is Axis.PARAMETER and value.shape[-2] != 1:
        raise ShapeError(f"A parameter must have shape (..., 1, D) but got {tuple(value.shape)}.")
    return bind_along(value, axis, library)


def bind_along(value: Array, axis: Axis, library: ArrayLibrary) -> Binding:
    """An array of shape (*batch, size, D) that varies along a known axis."""
    return _bind_data(library.usable(value), axis, tuple(value.shape), library)
