"""What stands for a symbolic matrix in programs that PyTorch compiles.

TorchDynamo follows Python instruction by instruction, and a formula is none of its business. While it does, a
LazyTensor only writes down how it is made. A reduction puts the whole list, a *tape*, into PyTorch's graph as one call
of ``run_tape``: where the graph is lowered, that call builds the formula as usual, and leaves the registered operator
of reductions in its place.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import operator
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from ..arrays import is_tracing
from ..errors import MissingLibraryError
from ..formulas.operations import OPERATIONS
from ..formulas.reductions import REDUCTIONS
from ..sparsity import BlockRanges
from .calculus import Calculus
from .index_variables import column_index, row_index
from .lazy_tensor import LazyTensor, Pm, SymbolicReduction, Vi, Vj
from .matrix_methods import MatrixMethods
from .operators import Operators
from .table_methods import TableMethods

# An instruction is (name, encoded arguments, encoded options); an encoded value is (how to read it, what).
Tape: TypeAlias = tuple[tuple[str, tuple[Any, ...], tuple[Any, ...]], ...]

_ENGINE = (
    "backends", "execution", "formulas", "kernels", "matrices.bindings", "matrices.reducing", "profiling",
    "torch_bridge",
)  # fmt: skip
_runners: list[Callable[[Tape], Any]] = []
_serials = itertools.count()
_kept: list[Any] = []  # objects made outside of compiled programs, which tapes know by their number


def _constant(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that TorchDynamo calls where it meets it, instead of following it."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]  # torch.compiler.assume_constant_result
    return function


@_constant
def _next_serial() -> int:
    _prepare()
    return next(_serials)


@_constant
def _keep(value: Any) -> int:
    _kept.append(value)
    return len(_kept) - 1


@functools.cache
def _prepare() -> None:
    """Tell TorchDynamo what it must know, when it first meets a symbolic matrix."""
    torch = sys.modules["torch"]
    torch.compiler.allow_in_graph(run_tape)
    _runners.append(torch.compiler.disable(_run))  # outside of graphs, a tape must not be written down again
    # It exchanges the operands of `matrix @ tensor`, and its table of reversed functions lacks this one.
    table = getattr(
        importlib.import_module("torch._dynamo.variables.builtin"), "BUILTIN_TO_TENSOR_RFN_MAP", None
    )
    if table is None:
        raise MissingLibraryError(
            f"PyTorch {torch.__version__} does not tell `K @ v` from `v @ K` where it compiles symbolic matrices; "
            "install torch>=2.13, or call such functions outside of torch.compile."
        )
    table.setdefault(operator.matmul, torch.Tensor.__rmatmul__)
    # Where a program breaks its graph, PyTorch would go on inside of the engine.
    rules = importlib.import_module("torch._dynamo.trace_rules")
    root = __name__.partition(".")[0]
    for name in _ENGINE:
        rules.add(f"{root}.{name}")


# ---------------------------------------------------------------------- tapes


def run_tape(tape: Tape) -> Any:
    """Do what a tape says, and return its last value."""
    return (_runners[0] if _runners else _run)(tape)


def _run(tape: Tape) -> Any:
    values: list[Any] = []
    for name, arguments, options in tape:
        given = [_decode(argument, values) for argument in arguments]
        named = {key: _decode(value, values) for key, value in options}
        values.append(_call(name, given, named))
    return values[-1]


def _call(name: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    if name in _FUNCTIONS:
        return _FUNCTIONS[name](*arguments, **options)
    if name in _PROPERTIES:
        return getattr(arguments[0], name)
    return getattr(arguments[0], name)(*arguments[1:], **options)


def _shape_as_tensor(tensor: LazyTensor) -> Any:
    """A tensor of the shape, dtype and device of a symbolic matrix, that takes no memory."""
    arrays = [b.value for b in tensor._bindings if b.library is not None]
    return arrays[0].new_empty((), dtype=tensor.dtype).expand(tensor.shape)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "LazyTensor": LazyTensor, "Vi": Vi, "Vj": Vj, "Pm": Pm, "kept": _kept.__getitem__,
    "row_index": row_index, "column_index": column_index,
    "call": lambda reduction, *arguments, **options: reduction(*arguments, **options),
    "like": _shape_as_tensor,
}  # fmt: skip
_PROPERTIES = ("T",)


def _decode(encoded: tuple[str, Any], values: list[Any]) -> Any:
    kind, content = encoded
    if kind == "value":
        return values[content]
    if kind in ("list", "tuple"):
        items = [_decode(item, values) for item in content]
        return items if kind == "list" else tuple(items)
    return _kept[content] if kind == "kept" else content


def _encode(value: Any, positions: dict[int, int]) -> tuple[str, Any]:
    if isinstance(value, (DeferredLazyTensor, DeferredReduction)):
        return "value", positions[value._serial]
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return kind, tuple([_encode(item, positions) for item in value])
    if isinstance(value, BlockRanges):
        return "kept", _keep(value)
    return "plain", value


def _operands(value: Any) -> list[Any]:
    """The deferred objects among an argument."""
    if isinstance(value, (DeferredLazyTensor, DeferredReduction)):
        return [value]
    if isinstance(value, (list, tuple)):
        return [operand for item in value for operand in _operands(item)]
    return []


def _tape(last: Any) -> Tape:
    """Every instruction that leads to an object, once, in the order in which they were written down."""
    found = {last._serial: last}
    stack = [last]
    while stack:
        for value in stack.pop()._values():
            for operand in _operands(value):
                if operand._serial not in found:
                    found[operand._serial] = operand
                    stack.append(operand)
    order = sorted(found)
    positions = {serial: position for position, serial in enumerate(order)}
    return tuple([found[serial]._instruction(positions) for serial in order])


def _evaluate(deferred: Any) -> Any:
    return run_tape(_tape(deferred))


# ---------------------------------------------------------------------- what stands for the objects


class _Deferred:
    """One instruction: a name, arguments and options, which may be deferred themselves."""

    _arguments: tuple[Any, ...]
    _name: str
    _options: dict[str, Any]
    _serial: int
    _waits: bool

    def _write(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._name, self._arguments, self._options = name, arguments, options
        self._serial = _next_serial()
        operands = [operand for value in self._values() for operand in _operands(value)]
        # whether it holds placeholders
        self._waits = name in ("Vi", "Vj", "Pm", "kept") or any(operand._waits for operand in operands)

    def _values(self) -> list[Any]:
        return [*self._arguments, *self._options.values()]

    def _instruction(self, positions: dict[int, int]) -> tuple[str, tuple[Any, ...], tuple[Any, ...]]:
        arguments = tuple([_encode(value, positions) for value in self._arguments])
        options = tuple([(key, _encode(value, positions)) for key, value in self._options.items()])
        return self._name, arguments, options


class DeferredReduction(_Deferred):
    """A reduction of a formula with placeholders."""

    @classmethod
    def of(cls, reduction: SymbolicReduction) -> DeferredReduction:
        """One that was made outside of the compiled program."""
        new = cls()
        new._write("kept", (_keep(reduction),), {})
        return new

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        call = DeferredReduction()
        call._write("call", (self, *arguments), options)
        return _evaluate(call)


class DeferredLazyTensor(_Deferred, LazyTensor):
    """A symbolic matrix that is only written down. Out of compiled programs it works as the one that it stands for."""

    _rank: int

    def __init__(self, x: Any, axis: int | None = None) -> None:
        self._write("LazyTensor", (x, axis), {})
        self._rank = len(x.shape) if axis is None and hasattr(x, "shape") and len(x.shape) > 3 else 3

    @classmethod
    def made_by(cls, name: str, *arguments: Any, **options: Any) -> DeferredLazyTensor:
        new = object.__new__(cls)
        new._write(name, arguments, options)
        ranks = [operand._rank for value in new._values() for operand in _operands(value)]
        new._rank = max(ranks, default=3)
        return new

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        """Operators between a tensor, on the left, and a symbolic matrix."""
        if len(arguments) != 2 or function.__name__ not in _RIGHT_OPERATORS:
            return NotImplemented
        tensor, matrix = arguments
        return getattr(matrix, _RIGHT_OPERATORS[function.__name__])(tensor)

    @property
    def ndim(self) -> int:
        return self._rank

    def dim(self) -> int:
        return self._rank

    @property
    def shape(self) -> Any:
        return self._like().shape

    @property
    def dtype(self) -> Any:
        return self._like().dtype

    @property
    def device(self) -> str:
        return str(self._like().device)

    @property
    def T(self) -> LazyTensor:
        return DeferredLazyTensor.made_by("T", self)

    def _like(self) -> Any:
        return _evaluate(DeferredLazyTensor.made_by("like", self))

    # what the methods of the class read where a deferred object has left its compiled program
    _formula = property(lambda self: _evaluate(self)._formula)
    _bindings = property(lambda self: _evaluate(self)._bindings)
    _context = property(lambda self: _evaluate(self)._context)


def _method(name: str) -> Callable[..., Any]:
    def method(self: DeferredLazyTensor, *arguments: Any, **options: Any) -> Any:
        if not is_tracing():
            return getattr(_evaluate(self), name)(*arguments, **options)
        if not _gives_array(self, name, arguments, options):
            return DeferredLazyTensor.made_by(name, self, *arguments, **options)
        deferred = DeferredReduction()
        deferred._write(name, (self, *arguments), options)
        return deferred if deferred._waits else _evaluate(deferred)

    return method


def _gives_array(
    tensor: DeferredLazyTensor, name: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> bool:
    """Whether a method returns numbers, not a formula."""
    if name == "reduction":
        return _gives_array(tensor, arguments[0], arguments[1:], options)
    if name == "__getitem__":
        return not isinstance(arguments[0], tuple)  # rows, rather than components
    if name not in _REDUCING:
        return name not in _FORMULAS
    axis = arguments[0] if arguments else options.get("axis", options.get("dim"))
    return not (_REDUCING[name] and axis in (None, -1, tensor._rank - 1))


_REDUCING = {name: row.of_components is not None for name, row in REDUCTIONS.items()}
# What the right operand of f(tensor, matrix) computes, by the name of PyTorch's function f.
_RIGHT_OPERATORS = {
    "add": "__radd__", "sub": "__rsub__", "mul": "__rmul__", "div": "__rtruediv__", "pow": "__rpow__",
    "matmul": "__rmatmul__", "__and__": "__rand__", "__or__": "__ror__",
    "lt": "__gt__", "le": "__ge__", "gt": "__lt__", "ge": "__le__", "__eq__": "__eq__", "ne": "__ne__",
    "__rsub__": "__sub__", "__rdiv__": "__truediv__", "__rpow__": "__pow__", "__rmatmul__": "__matmul__",
    "bitwise_and": "__and__", "bitwise_or": "__or__",
}  # fmt: skip
_OPERATORS = {*_RIGHT_OPERATORS.values(), "__add__", "__mul__", "__neg__", "__abs__", "__getitem__"}
_METHODS = [
    name
    for kind in (TableMethods, Operators, Calculus, MatrixMethods, LazyTensor)
    for name, member in vars(kind).items()
    if inspect.isfunction(member) and (not name.startswith("_") or name in _OPERATORS)
]
_FORMULAS = set(OPERATIONS) | {
    name
    for name in _METHODS
    if inspect.get_annotations(getattr(LazyTensor, name)).get("return") == "LazyTensor"
}
for _name in _METHODS:
    if _name not in vars(DeferredLazyTensor):
        setattr(DeferredLazyTensor, _name, _method(_name))
LazyTensor._deferred = DeferredLazyTensor
SymbolicReduction._deferred = DeferredReduction
