"""The public class: a matrix of vectors M[i, j] = F(x_i, y_j), given by a formula and its data, never stored."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from ..arrays import find_library, is_tracing, library_of
from ..errors import ArrayTypeError, AxisError, OptionError, ShapeError, UnknownReductionError
from ..formulas.expressions import Attributes, Axis, Node, call, constant, transpose, variable
from ..formulas.operations import Operation
from ..formulas.operations.complex import complex_pair, exp_of_imaginary
from ..formulas.reductions import REDUCTIONS, Accumulate, ReductionCall, call_row, choose_accumulate
from ..formulas.text import print_formula
from ..precision import Precision, choose_precision
from ..sparsity import BlockRanges, as_block_ranges
from .bindings import (
    AXES,
    Binding,
    Placeholder,
    bind,
    bind_along,
    bind_number,
    describe_all,
    fill,
    is_complex,
    placeholder,
)
from .calculus import Calculus
from .contexts import NO_DATA, Context, context_of
from .joining import join, single
from .matrix_methods import MatrixMethods
from .operators import choose_axis
from .reducing import run


class LazyTensor(MatrixMethods, Calculus):
    r"""A symbolic matrix :math:`M_{ij} = F(x_i, y_j) \in \mathbb{R}^D`.

    Parameters
    ----------
    x : array, number or sequence of numbers
        An array of shape ``(..., M, 1, D)`` varies along i, ``(..., 1, N, D)`` along j, and ``(..., 1, 1, D)`` is a
        parameter. A 2-D array needs ``axis``. Numbers, sequences, 0-D and 1-D arrays are parameters, which follow the
        dtype and device of the other data. NumPy, PyTorch or CuPy; float16, bfloat16, float32 or float64. Half
        precision is computed and accumulated in float32, and only the results are rounded. Complex numbers give a
        :class:`ComplexLazyTensor`.
    axis : 0, 1 or None
        For a 2-D array: 0 for x_i of shape (M, D), 1 for y_j of shape (N, D).

    Raises
    ------
    ArrayTypeError
        If ``x`` is no array of numbers, or, in an operation, if libraries, dtypes or devices differ.
    AxisError, ShapeError
        If the role of ``x`` cannot be told, or if sizes do not match.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices import LazyTensor
    >>> points = np.random.default_rng(0).random((500, 3))
    >>> x_i, y_j = LazyTensor(points[:, None, :]), LazyTensor(points[None, :, :])
    >>> K_ij = (-x_i.sqdist(y_j) / (2 * 0.1**2)).exp()
    >>> K_ij.shape
    (500, 500)
    >>> (K_ij @ np.ones(500)).shape
    (500,)
    """

    __slots__ = ("_bindings", "_context", "_formula")

    # Two classes that stand higher and register themselves: for complex numbers, and for what PyTorch compiles.
    _complex_class: ClassVar[Any]
    _deferred: ClassVar[Any]
    _is_complex: ClassVar[bool] = False

    def __new__(cls, x: Any = None, *rest: Any, **options: Any) -> LazyTensor:
        if cls is LazyTensor and is_tracing():
            return object.__new__(LazyTensor._deferred)
        if cls._is_complex or not is_complex(x):
            return object.__new__(cls)
        kind = cls._complex_class
        return object.__new__(kind) if issubclass(kind, cls) else kind(x, *rest, **options)

    def __init__(self, x: Any, axis: int | None = None) -> None:
        self._assign(*single(bind(x, axis)))

    def _assign(self, formula: Node, bindings: tuple[Binding, ...], context: Context) -> None:
        self._formula, self._bindings, self._context = formula, bindings, context

    @classmethod
    def _make(cls, formula: Node, bindings: tuple[Binding, ...], context: Context) -> LazyTensor:
        new = object.__new__(cls)
        new._assign(formula, bindings, context)
        return new

    @classmethod
    def _lift(cls, value: Any) -> LazyTensor:
        kind = type(value)
        if kind is float or kind is int:
            return cls._make(variable(0, Axis.PARAMETER, 1), (bind_number(float(value)),), NO_DATA)
        return value if kind is cls or isinstance(value, LazyTensor) else cls(value)

    @classmethod
    def _lift_columns(cls, array: Any) -> LazyTensor:
        if is_tracing() or cls._is_complex or is_complex(array):
            return cls._lift(array[..., None, :, :])
        return cls._make(*single(bind_along(array, Axis.J, library_of(array))))

    def _as(self, kind: type[LazyTensor], function: Callable[[Node], Node]) -> LazyTensor:
        """A function of the formula alone, as a symbolic matrix of another class."""
        return kind._make(function(self._formula), self._bindings, self._context)

    # ------------------------------------------------------------------ what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """``(*batch, M, N)``, followed by D unless D = 1."""
        return self._full_shape[:-1] if self._vector_dim == 1 else self._full_shape

    @property
    def _full_shape(self) -> tuple[int, ...]:
        context = self._context
        sizes = (1 if n is None else n for n in (context.rows, context.columns))
        return (*context.batch_shape, *sizes, self._vector_dim)

    @property
    def ndim(self) -> int:
        """Number of dimensions, the vector dimension included."""
        return len(self._full_shape)

    def dim(self) -> int:
        """Number of dimensions, as in PyTorch."""
        return self.ndim

    @property
    def dtype(self) -> Any:
        """The dtype of the data, as in their library; None for numbers only."""
        context = self._context
        has_data = any(b.library is not None and not b.is_flexible for b in self._bindings)
        return context.library.dtype_named(context.dtype) if context.library and has_data else None

    @property
    def device(self) -> str:
        """Where the data live, such as ``"cpu"``; empty for numbers only."""
        return self._context.device

    @property
    def ranges(self) -> BlockRanges | None:
        """The pairs (i, j) that reductions visit; None, the default, for all of them.

        May be set, to a :class:`BlockRanges` or to KeOps' 6-tuple of integer arrays. Formulas that are made of this one
        inherit it.
        """
        return self._context.ranges

    @ranges.setter
    def ranges(self, ranges: Any) -> None:
        self._context = replace(self._context, ranges=None if ranges is None else as_block_ranges(ranges))

    def _with_ranges(self, ranges: Any) -> LazyTensor:
        """The same formula over other pairs."""
        new = self._make(self._formula, self._bindings, self._context)
        new.ranges = ranges
        return new

    def __repr__(self) -> str:
        data = describe_all(self._bindings)
        sparsity = "" if self.ranges is None else f"\n  - {self.ranges!r}"
        return (
            f"{type(self).__name__} of shape {self.shape}: {print_formula(self._formula)}\n{data}{sparsity}"
        )

    @property
    def T(self) -> LazyTensor:
        """The transposed matrix: i and j exchanged."""
        bindings = tuple(replace(b, axis=b.axis.swapped) for b in self._bindings)
        ranges = None if self.ranges is None else self.ranges.T
        return self._make(transpose(self._formula), bindings, context_of(bindings, ranges))

    # ------------------------------------------------------------------ operations

    def _apply(self, operation: Operation, *others: Any, attributes: Attributes = ()) -> LazyTensor:
        if not others:
            node = call(operation, (self._formula,), attributes)
            return self._make(node, self._bindings, self._context)
        tensors = [self, *map(self._lift, others)]
        for tensor in tensors:
            if tensor._is_complex:
                return self._complex_class._of_complex(operation, tuple(tensors), attributes)
        nodes, bindings, context = join(tensors)
        return self._make(call(operation, nodes, attributes), bindings, context)

    def _combine(self, others: tuple[Any, ...], function: Callable[..., Node]) -> LazyTensor:
        """The result is of the first operand's class, which may be a subclass."""
        nodes, bindings, context = join([self, *map(self._lift, others)])
        return self._make(function(*nodes), bindings, context)

    def real2complex(self) -> LazyTensor:
        """The same numbers as complex ones, a :class:`ComplexLazyTensor`."""
        return self._as(self._complex_class, lambda x: complex_pair(x, constant(0.0)))

    def imag2complex(self) -> LazyTensor:
        """i x, a :class:`ComplexLazyTensor`."""
        return self._as(self._complex_class, lambda x: complex_pair(constant(0.0), x))

    def exp1j(self) -> LazyTensor:
        """exp(i x), a :class:`ComplexLazyTensor`."""
        return self._as(self._complex_class, lambda x: exp_of_imaginary(x).node)

    # ------------------------------------------------------------------ reductions

    def reduction(
        self,
        name: str,
        *arguments: Any,
        axis: int | None = None,
        dim: int | None = None,
        weight: Any = None,
        backend: str = "auto",
        ranges: Any = None,
        accumulate: str = "auto",
        precision: str = "auto",
        out: Any = None,
    ) -> Any:
        """Reduce along i (``axis=0``, after the batch dimensions), along j (``axis=1``) or along the vector dimension.

        Parameters
        ----------
        name : a key of the table of reductions, such as "sum", "logsumexp" or "argKmin".
        arguments : what the reduction needs, such as the number of neighbours.
        axis, dim : synonyms; negative ones count from the end. -1 is the vector dimension, which sum, min, max, argmin
            and argmax reduce by default: they then return a LazyTensor.
        weight : for logsumexp and sumsoftmaxweight, a LazyTensor of any dimension, or an array of shape (N,) or (N, D)
            that varies along the reduced axis.
        backend : "auto" (where the arrays live), "reference" or "cpu".
        ranges : a BlockRanges or KeOps' 6-tuple: the pairs (i, j) to visit, instead of those of ``self.ranges``.
        accumulate : how terms are added up. "auto" compensates the rounding errors from one group of a few dozen terms
            to the next; "kahan" does after every term; "float64" adds float32 terms in double precision.
        precision : what may be rounded for tensor cores of a GPU, in inner products and squared distances of vectors
            of dimension 25 or more. "auto" nothing: they take inner products of halves, which are exact; "tf32x3"
            float32 numbers to 21 digits after the point (of 23), "tf32" to 10. Other backends compute as usual.
        out : an array, or a tuple of them for several outputs, that takes the result; not under autograd.

        Returns
        -------
        array of shape (*batch, M, D) for a reduction of j, (*batch, N, D) for one of i; a tuple for reductions with
        two outputs. With placeholders, a callable that takes the arrays in the order of their indices.
        """
        if name not in REDUCTIONS:
            raise UnknownReductionError(
                f"There is no reduction {name!r}; choose one of {', '.join(REDUCTIONS)}."
            )
        tensor = self if ranges is None else self._with_ranges(ranges)
        row, chosen = REDUCTIONS[name], choose_axis(axis, dim)
        if row.of_components is not None and chosen in (None, -1, self.ndim - 1):
            if out is not None:
                raise OptionError(
                    f"{name} along the vector dimension is a formula again: out cannot take it."
                )
            return tensor._apply(row.of_components)
        how, products = choose_accumulate(accumulate), choose_precision(precision)
        formula, call = tensor._call(name, arguments, weight, self._reduced_axis(name, chosen), how)
        if backend != "auto" or products is not Precision.AUTO:
            call = replace(call, backend=backend, precision=products)
        return formula._reduce(call, out)

    def _call(
        self, name: str, arguments: tuple[Any, ...], weight: Any, axis: Axis, accumulate: Accumulate
    ) -> tuple[LazyTensor, ReductionCall]:
        """The formula that a reduction of the table reduces, and how."""
        if weight is None:
            return self, call_row(name, arguments, None, axis, accumulate)
        formula = self._weighted(name, weight, axis)
        return formula, call_row(name, arguments, formula._formula.dim - 1, axis, accumulate)

    def _weighted(self, name: str, weight: Any, axis: Axis) -> LazyTensor:
        """The formula [F, weight]."""
        if self._formula.dim != 1:
            raise ShapeError(
                f"{name} with a weight needs a formula of dimension 1 but this one has dimension {self._formula.dim}."
            )
        if weight._is_complex if isinstance(weight, LazyTensor) else is_complex(weight):
            raise ArrayTypeError(
                f"{name} needs real weights but got complex ones; weigh by their parts one by one."
            )
        if find_library(weight) is not None and len(weight.shape) in (1, 2):
            columns = weight[:, None] if len(weight.shape) == 1 else weight
            weight = type(self)(columns, axis=AXES.index(axis))
        return self.concat(weight)

    def _reduce(self, call: ReductionCall, out: Any = None) -> Any:
        call.reduction.check_dim(self._formula.dim)
        for binding in self._bindings:
            if type(binding.value) is Placeholder:
                if out is not None:
                    raise OptionError("Give out to the reduction when it is called with its arrays.")
                return SymbolicReduction(self, call)
        outputs = run(self._formula, self._bindings, self._context, call, out)
        return outputs[0] if len(outputs) == 1 else outputs

    def _reduced_axis(self, name: str, axis: int | None) -> Axis:
        batch = len(self._context.batch_shape)
        if axis is None:
            raise AxisError(f"{name} needs axis={batch} (over i) or axis={batch + 1} (over j).")
        position = axis + self.ndim if axis < 0 else axis
        if position not in (batch, batch + 1):
            raise AxisError(
                f"{name} cannot reduce axis {axis} of a LazyTensor of shape {self._full_shape}: "
                f"choose {batch} (over i) or {batch + 1} (over j)."
            )
        return Axis.I if position == batch else Axis.J


class SymbolicReduction:
    """A reduction of a formula with placeholders: call it with the arrays, in the order of their indices.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices import Vi, Vj
    >>> count_close = (Vi(0, 2).sqdist(Vj(1, 2)) < 0.01).sum(axis=1)
    >>> count_close(np.zeros((3, 2)), np.zeros((5, 2)))[:, 0]
    array([5., 5., 5.])
    """

    _deferred: ClassVar[Any]

    def __init__(self, tensor: LazyTensor, call: ReductionCall) -> None:
        self._tensor, self._call = tensor, call

    def __call__(
        self, *arguments: Any, backend: str | None = None, ranges: Any = None, out: Any = None
    ) -> Any:
        """Arrays of shape (*batch, size, D) along i or j; numbers or arrays for parameters."""
        if is_tracing():
            return SymbolicReduction._deferred.of(self)(*arguments, backend=backend)
        needed = 1 + max(b.value.position for b in self._tensor._bindings if isinstance(b.value, Placeholder))
        if len(arguments) != needed:
            raise ShapeError(f"The formula takes {needed} arguments but {len(arguments)} were given.")
        bindings = tuple(fill(binding, arguments) for binding in self._tensor._bindings)
        chosen = self._tensor.ranges if ranges is None else as_block_ranges(ranges)
        filled = self._tensor._make(self._tensor._formula, bindings, context_of(bindings, chosen))
        return filled._reduce(replace(self._call, backend=backend or self._call.backend), out)

    def __repr__(self) -> str:
        return f"{self._call.reduction.name} over {self._call.axis.letter} of {self._tensor!r}"


# ---------------------------------------------------------------------- variables


def Vi(x: Any, dim: int | None = None) -> LazyTensor:
    """x_i: a variable along i, from an array of shape (M, D), or ``Vi(index, dim)``, a placeholder without data."""
    return _variable(x, dim, 0)


def Vj(x: Any, dim: int | None = None) -> LazyTensor:
    """y_j: a variable along j, from an array of shape (N, D), or ``Vj(index, dim)``, a placeholder without data."""
    return _variable(x, dim, 1)


def Pm(x: Any, dim: int | None = None) -> LazyTensor:
    """A parameter, from a number, a sequence or a 1-D array, or ``Pm(index, dim)``, a placeholder without data."""
    return _variable(x, dim, 2)


def _variable(x: Any, dim: int | None, axis: int) -> LazyTensor:
    if dim is None:
        return LazyTensor(x, axis=axis)
    if is_tracing():
        return LazyTensor._deferred.made_by(("Vi", "Vj", "Pm")[axis], x, dim)
    return LazyTensor._make(*single(placeholder(operator.index(x), operator.index(dim), axis)))
