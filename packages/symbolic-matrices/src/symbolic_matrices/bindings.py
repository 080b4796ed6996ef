"""Owns what the variables of a formula stand for: arrays, numbers or placeholders, validated once, here."""

from __future__ import annotations

import enum
import numbers
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .arrays import COMPUTED_IN, NUMPY, Array, ArrayLibrary, find_library, is_symbolic_number, library_of
from .errors import ArrayTypeError, AxisError, ShapeError
from .expressions import Axis
from .sparsity import BlockRanges

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
        if self is other or not (self.is_data or isinstance(self.value, Positions)):
            return self is other
        key, other_key = ((b.axis, b.size, b.library, b.dtype, b.device) for b in (self, other))
        return self.value is other.value and key == other_key

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
    if isinstance(value, numbers.Real) and not isinstance(value, np.ndarray):
        return Binding(float(value), Axis.PARAMETER, 1, 1, (), is_flexible=True)
    if is_symbolic_number(value):
        return Binding(value, Axis.PARAMETER, 1, 1, (), is_flexible=True)
    if isinstance(value, (list, tuple)):
        value = _from_sequence(value)
    library = find_library(value)
    if library is None:
        raise ArrayTypeError(
            f"A LazyTensor is made of a NumPy, PyTorch or CuPy array, a number or a list of numbers, "
            f"but got {type(value).__module__}.{type(value).__qualname__}."
        )
    return _bind_array(library.usable(value), axis, library)


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
    stored, dtype, device = library.dtype_name(value), library.variable_dtype(value), library.device(value)
    if len(shape) < 2 and axis in (None, 2):
        _check_numbers(dtype, shape, library)
        flat = value.reshape(1, -1)
        _check_dim(flat, shape)
        dim = int(flat.shape[1])
        return Binding(flat, Axis.PARAMETER, dim, 1, shape, (), library, dtype, device, True, stored)
    if dtype not in COMPUTED_IN:
        raise ArrayTypeError(
            f"A variable must be one of {', '.join(COMPUTED_IN)} but got a {library.name} array of shape {shape} "
            f"and dtype {dtype}; convert it first."
        )
    array, role = _normalise(value, shape, axis)
    _check_dim(array, shape)
    size = array.shape[-2] if role is not Axis.PARAMETER else 1
    batch_shape, dim = (
        tuple(array.shape[:-2]),
        int(array.shape[-1]),
    )  # dimensions are compiled in, sizes are not
    return Binding(array, role, dim, size, shape, batch_shape, library, dtype, device, stored_dtype=stored)


def _check_numbers(dtype: str, shape: tuple[int, ...], library: ArrayLibrary) -> None:
    if not dtype.startswith(("bool", "int", "uint", "float", "bfloat")):
        raise ArrayTypeError(
            f"A parameter must hold real numbers but got a {library.name} array of shape {shape} and dtype {dtype}."
        )


def _check_dim(array: Array, shape: tuple[int, ...]) -> None:
    if array.shape[-1] == 0:
        raise ShapeError(f"The vector dimension D must be at least 1 but the array has shape {shape}.")


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
        return value[..., 0, :], Axis.PARAMETER if rows == 1 else Axis.I
    if rows == 1:
        return value[..., 0, :, :], Axis.J
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


def positions(axis: Axis, size: int | None, like: Context) -> Binding:
    """The positions along an axis, in the library, dtype and device of a context where nothing else tells them."""
    if size is not None and size < 0:
        raise ShapeError(f"The number of positions along {axis.letter} must be 0 or more but is {size}.")
    library, dtype = like.library or NUMPY, like.dtype or "float64"
    given = () if size is None else (size,)
    return Binding(
        Positions.ALL, axis, 1, size, given, (), library, dtype, like.device or "cpu", is_flexible=True
    )


@dataclass(frozen=True)
class Context:
    """What all the data of a formula have in common."""

    library: ArrayLibrary | None = None
    dtype: str = ""
    device: str = ""
    rows: int | None = None  # M, None where nothing varies along i
    columns: int | None = None  # N
    batch_shape: tuple[int, ...] = ()
    ranges: BlockRanges | None = None  # the pairs that reductions visit, None for all of them

    @property
    def computed_in(self) -> str:
        """The dtype of the kernels: that of the data, but float32 for half precision."""
        return COMPUTED_IN.get(self.dtype, self.dtype)

    @property
    def is_empty(self) -> bool:
        """Whether the formula holds neither data nor block ranges: numbers and placeholders only."""
        return self.library is None and self.ranges is None


def _own_context(binding: Binding) -> Context:
    """The context of one array: nothing to check."""
    dtype = binding.dtype if binding.dtype in COMPUTED_IN else "float64"
    rows = binding.size if binding.axis is Axis.I else None
    columns = binding.size if binding.axis is Axis.J else None
    return Context(binding.library, dtype, binding.device, rows, columns, binding.batch_shape)


def context_of(bindings: tuple[Binding, ...], ranges: BlockRanges | None = None) -> Context:
    """Check that the data of a formula fit together."""
    if len(bindings) == 1 and bindings[0].is_data and ranges is None:
        return _own_context(bindings[0])
    arrays = [b for b in bindings if b.is_data]
    counts = [b for b in bindings if isinstance(b.value, Positions)]
    fixed = [b for b in arrays if not b.is_flexible] or arrays[:1] or counts[:1]
    if len({(b.library, b.dtype, b.device) for b in fixed}) > 1:
        raise ArrayTypeError(
            "The variables of a formula must share one library, dtype and device, but these do not:\n"
            + describe_all(fixed)
        )
    first = fixed[0] if fixed else Binding(None, Axis.PARAMETER, 1, 1, ())
    dtype = first.dtype if first.dtype in COMPUTED_IN or not fixed else "float64"
    first_batch = arrays[0].batch_shape if arrays else ()
    agree = all(b.batch_shape == first_batch for b in arrays)
    batch_shape = first_batch if agree else _broadcast_batches(arrays)
    sized = [*arrays, *(b for b in counts if b.size is not None)]
    rows, columns = _common_size(sized, Axis.I, "M"), _common_size(sized, Axis.J, "N")
    context = Context(first.library, dtype, first.device, rows, columns, batch_shape, ranges)
    for count in counts:
        _check_exact(count, rows if count.axis is Axis.I else columns, context)
    return context


def common_ranges(contexts: Iterable[Context]) -> BlockRanges | None:
    """The block ranges of formulas that are joined: those of them that have some must agree."""
    found = [context.ranges for context in contexts if context.ranges is not None]
    for other in found[1:]:
        if not other.is_same_as(found[0]):
            raise ShapeError(
                f"The formulas that are joined visit different pairs:\n  - {found[0]!r}\n  - {other!r}\n"
                "Give all of them the same `ranges`, or one of them only."
            )
    return found[0] if found else None


LARGEST_COUNT = {"float32": 1 << 24, "float64": 1 << 53}  # integers up to there are exact


def _check_exact(count: Binding, size: int | None, context: Context) -> None:
    largest = LARGEST_COUNT[context.computed_in]
    if size is not None and size > largest:
        raise ArrayTypeError(
            f"{context.computed_in} counts exactly to {largest} only, but the formula reads the {size} positions along "
            f"{count.axis.letter}; convert the data to float64."
        )


def _common_size(arrays: list[Binding], axis: Axis, letter: str) -> int | None:
    along = [b for b in arrays if b.axis is axis]
    if not along:
        return None
    if any(b.size != along[0].size for b in along):
        raise ShapeError(
            f"The {axis.letter}-variables must have the same length {letter}, but these do not:\n"
            + describe_all(along)
        )
    return along[0].size


def _broadcast_batches(arrays: list[Binding]) -> tuple[int, ...]:
    """As ``numpy.broadcast_shapes``, which does not take the symbolic sizes of PyTorch's compilers."""
    shapes = [b.batch_shape for b in arrays]
    common = []
    for position in range(-max(map(len, shapes)), 0):
        sizes = [shape[position] for shape in shapes if len(shape) >= -position]
        size = next((size for size in sizes if size != 1), 1)
        if any(other not in (1, size) for other in sizes):
            raise ShapeError("The batch dimensions do not broadcast:\n" + describe_all(arrays))
        common.append(size)
    return tuple(common)


def resolve(binding: Binding, context: Context) -> Array:
    """The array of a binding, (*batch, size, D), as kernels read it: in the formula's library and on its device."""
    library, dtype = context.library or NUMPY, context.computed_in
    if isinstance(binding.value, Positions):  # no formula reads the entry that stands for positions
        return library.full((1, 1), 0.0, dtype, context.device)
    if binding.library is None:
        return library.full((1, 1), binding.value, dtype, context.device)
    if binding.is_flexible and (binding.library, binding.device) != (context.library, context.device):
        if binding.library is not library and binding.library.needs_gradient(binding.value):
            raise ArrayTypeError(
                f"A {library.name} formula would lose the gradient of its {binding.describe()}; detach the parameter."
            )
        return library.convert(binding.value, dtype, context.device)
    return binding.value if binding.stored_dtype == dtype else library.astype(binding.value, dtype)


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
    binding = bind(value[..., None, :])
    if axis is Axis.PARAMETER and binding.axis is not axis:
        raise ShapeError(f"A parameter must have shape (..., 1, D) but got {tuple(value.shape)}.")
    return replace(binding, axis=axis, size=binding.value.shape[-2])
