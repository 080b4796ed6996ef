"""Owns what the data of a formula have in common: library, dtype, device, sizes; and whether they fit together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..arrays import COMPUTED_IN, HALVES, NUMPY, REAL_TYPES, Array, ArrayLibrary
from ..errors import ArrayTypeError, ShapeError
from ..formulas.expressions import Axis
from ..sparsity import BlockRanges
from .bindings import Binding, Positions, describe_all


@dataclass(frozen=True)
class Context:
    """What all the data of a formula have in common.

    Attributes
    ----------
    has_positions : whether it reads the positions along an axis, which must be few enough for the dtype.
    """

    library: ArrayLibrary | None = None
    dtype: str = ""
    device: str = ""
    rows: int | None = None  # M, None where nothing varies along i
    columns: int | None = None  # N
    batch_shape: tuple[int, ...] = ()
    ranges: BlockRanges | None = None  # the pairs that reductions visit, None for all of them
    has_positions: bool = False

    @property
    def computed_in(self) -> str:
        """The dtype of the kernels: that of the data, but float32 for half precision."""
        return COMPUTED_IN.get(self.dtype, self.dtype)

    @property
    def is_empty(self) -> bool:
        """Whether the formula holds neither data nor block ranges: numbers and placeholders only."""
        return self.library is None and self.ranges is None


NO_DATA = Context()


def merged(first: Context, second: Context) -> Context | None:
    """What two formulas have in common, where it shows at a glance; None where all their data must be looked at."""
    if second is first or second.is_empty:
        return first
    if first.is_empty:
        return second
    if (
        first.library is not second.library
        or first.dtype != second.dtype
        or first.device != second.device
        or first.ranges is not second.ranges
        or first.has_positions
        or second.has_positions
        or first.batch_shape != second.batch_shape
    ):
        return None
    rows = second.rows if first.rows is None else first.rows
    columns = second.columns if first.columns is None else first.columns
    if (second.rows is not None and second.rows != rows) or (
        second.columns is not None and second.columns != columns
    ):
        return None
    if rows is first.rows and columns is first.columns:
        return first
    return Context(first.library, first.dtype, first.device, rows, columns, first.batch_shape, first.ranges)


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
    context = Context(first.library, dtype, first.device, rows, columns, batch_shape, ranges, bool(counts))
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


def resolve(binding: Binding, context: Context, keeps_halves: bool = False) -> Array:
    """The array of a binding, (*batch, size, D), in the formula's library, on its device, in the dtype of its kernels.

    Those in half precision stay as they are where ``keeps_halves``.
    """
    if binding.stored_dtype == context.dtype in REAL_TYPES and not binding.is_flexible:
        return binding.value
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
    is_kept = keeps_halves and not binding.is_flexible and binding.stored_dtype in HALVES
    return binding.value if is_kept or binding.stored_dtype == dtype else library.astype(binding.value, dtype)


def positions(axis: Axis, size: int | None, like: Context) -> Binding:
    """The positions along an axis, in the library, dtype and device of a context where nothing else tells them."""
    if size is not None and size < 0:
        raise ShapeError(f"The number of positions along {axis.letter} must be 0 or more but is {size}.")
    library, dtype = like.library or NUMPY, like.dtype or "float64"
    given = () if size is None else (size,)
    return Binding(
        Positions.ALL, axis, 1, size, given, (), library, dtype, like.device or "cpu", is_flexible=True
    )
