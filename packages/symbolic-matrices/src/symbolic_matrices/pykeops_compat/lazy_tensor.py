"""Owns the LazyTensor that KeOps' users know: ours, with KeOps' names, keywords and attributes where they differ."""

from __future__ import annotations

import functools
from typing import Any

from ..errors import AxisError, ShapeError
from ..formulas.expressions import Axis, Node
from ..formulas.reductions import REDUCTIONS as ENGINE_REDUCTIONS
from ..matrices import complex_lazy_tensor as engine_complex
from ..matrices import lazy_tensor as engine
from ..matrices.bindings import Binding
from ..matrices.contexts import Context
from ..matrices.operators import choose_axis
from .data import bind_arguments, placeholders_of, with_data
from .options import REDUCTIONS, engine_options

_COMPLEX_DTYPES = {"float32": "complex64", "float64": "complex128"}
_AXIS_FROM_END = {Axis.I: -3, Axis.J: -2}


class KeopsInterface(engine.LazyTensor):
    """What symbolic matrices of real and of complex vectors share: KeOps' names, keywords and attributes."""

    __slots__ = ()
    __GenericLazyTensor__ = True  # how KeOps tells its tensors

    backend: str | None  # KeOps' name of the backend of this matrix's reductions

    def _assign(self, formula: Node, bindings: tuple[Binding, ...], context: Context) -> None:
        super()._assign(formula, bindings, context)
        self.backend = None

    @property
    def is_complex(self) -> bool:
        """Whether the vectors are complex."""
        return self._is_complex

    # ------------------------------------------------------------------ attributes

    @property
    def dtype(self) -> str | None:
        """The name of the dtype; None for numbers only."""
        name = self._dtype
        return _COMPLEX_DTYPES[name] if self._is_complex and name is not None else name

    @property
    def _dtype(self) -> str | None:
        """The name of the dtype of real and imaginary parts."""
        return self._context.dtype if self._context.library is not None else None

    @property
    def _shape(self) -> tuple[int, ...]:
        """``(*batch, M, N, D)``, with D even where it is 1."""
        return self._full_shape

    @property
    def batchdims(self) -> tuple[int, ...] | None:
        """The batch dimensions; None if there are none."""
        return self._context.batch_shape or None

    @property
    def nbatchdims(self) -> int:
        """How many batch dimensions there are."""
        return len(self._context.batch_shape)

    def t(self) -> Any:
        """The transposed matrix, as in PyTorch."""
        return self.T

    # ------------------------------------------------------------------ KeOps' names of operations

    def difference_matrix(self, other: Any) -> Any:
        """All the differences x_i - y_j."""
        return self - other

    def matvec(self, v: Any) -> Any:
        """K v."""
        return self @ v

    def rmatvec(self, v: Any) -> Any:
        """K^T v."""
        return self.T @ v

    def factorize(self, other: Any) -> KeopsInterface:
        """The same formula: common sub-expressions are always computed once."""
        return self

    def auto_factorize(self) -> KeopsInterface:
        """The same formula: common sub-expressions are always computed once."""
        return self

    # ------------------------------------------------------------------ reductions

    def reduction(
        self,
        name: str,
        *arguments: Any,
        axis: int | None = None,
        dim: int | None = None,
        other: Any = None,
        opt_arg: int | None = None,
        call: bool = True,
        is_complex: bool = False,
        **options: Any,
    ) -> Any:
        """Reduce, by KeOps' name of the reduction or ours.

        Parameters
        ----------
        name : such as "Sum", "LogSumExp" or "KMin_ArgKMin".
        axis, dim : synonyms; negative ones count from the end.
        other : the weight of a log-sum-exp or of a soft-max.
        opt_arg : the number of neighbours K.
        call : False returns a callable that runs the reduction; so do formulas with placeholders.
        is_complex : has no effect.
        """
        if name in REDUCTIONS:
            name = REDUCTIONS[name].name
        if opt_arg is not None:
            arguments = (*arguments, opt_arg)
        if other is not None:
            options["weight"] = other
        row = ENGINE_REDUCTIONS.get(name)
        chosen = choose_axis(axis, dim)
        if row is not None and row.of_components is not None and chosen in (None, -1, self.ndim - 1):
            return self._reduced_by_engine(name, *arguments, axis=axis, dim=dim)
        if self.backend is not None:
            options.setdefault("backend", self.backend)
        deferred = DeferredReduction(self, name, arguments, (axis, dim), options)
        return deferred() if call and not deferred.needs_data else deferred

    def _reduced_by_engine(self, name: str, *arguments: Any, **options: Any) -> Any:
        return super().reduction(name, *arguments, **options)

    def solve(
        self,
        b: Any,
        alpha: Any = 1e-10,
        eps: float = 1e-6,
        *,
        call: bool = True,
        ranges: Any = None,
        **options: Any,
    ) -> Any:
        """Solve (K + alpha Id) x = b; ``call=False`` returns a callable that does. See the engine's ``solve``."""
        matrix: Any = self if ranges is None else self._with_ranges(ranges)
        run = functools.partial(matrix._solved_by_engine, b, alpha, eps, **engine_options(options))
        return run() if call else run

    def _solved_by_engine(self, *arguments: Any, **options: Any) -> Any:
        return super().solve(*arguments, **options)


class LazyTensor(KeopsInterface):
    """A symbolic matrix with KeOps' interface.

    Parameters
    ----------
    x : array, number, list of numbers, or a tuple (index, dim, category) of integers
        As for :class:`symbolic_matrices.LazyTensor`; a tuple of three integers is a placeholder, of category 0 (along
        i), 1 (along j) or 2 (parameter). A complex array gives a :class:`ComplexLazyTensor`.
    axis : 0, 1 or None
        For a 2-D array: 0 for x_i, 1 for y_j.

    Notes
    -----
    Reductions take KeOps' keywords beside ours: ``call=False`` returns a callable; see
    :class:`~symbolic_matrices.pykeops_compat.Genred` for the others.

    Examples
    --------
    >>> import numpy as np
    >>> x_i, y_j = LazyTensor(np.zeros((4, 1, 2))), LazyTensor((0, 2, 1))
    >>> count = (x_i.sqdist(y_j) < 1).sum_reduction(axis=1)
    >>> count(np.zeros((3, 2)))[:, 0]
    array([3., 3., 3., 3.])
    """

    __slots__ = ("backend",)

    def __init__(self, x: Any, axis: int | None = None) -> None:
        if type(x) is tuple and len(x) == 3 and all(type(number) is int for number in x):
            made = (engine.Vi, engine.Vj, engine.Pm)[_category(x[2])](x[0], x[1])
            self._assign(made._formula, made._bindings, made._context)
        else:
            super().__init__(x, axis)


class ComplexLazyTensor(KeopsInterface, engine_complex.ComplexLazyTensor):
    """A symbolic matrix of complex vectors with KeOps' interface.

    Examples
    --------
    >>> import numpy as np
    >>> waves = LazyTensor(np.arange(2.0)[:, None] * np.pi, axis=0).exp1j()
    >>> type(waves).__name__, waves.dtype
    ('ComplexLazyTensor', 'complex128')
    >>> waves.sum(axis=1)[:, 0].round(6)
    array([ 1.+0.j, -1.+0.j])
    """

    __slots__ = ("backend",)
    _real_class = LazyTensor


LazyTensor._complex_class = ComplexLazyTensor


class DeferredReduction:
    """A reduction that waits for a call, with the arrays that stand for the placeholders if there are any."""

    def __init__(
        self,
        tensor: KeopsInterface,
        name: str,
        arguments: tuple[Any, ...],
        axes: tuple[int | None, int | None],
        options: dict[str, Any],
    ) -> None:
        axis, dim = axes
        chosen = choose_axis(axis, dim)
        self._axis = _AXIS_FROM_END[tensor._reduced_axis(name, chosen)]
        self._tensor, self._name, self._arguments, self._options = tensor, name, arguments, options
        weight = options.get("weight")
        weights = (weight,) if isinstance(weight, engine.LazyTensor) else ()
        self._placeholders = placeholders_of(tensor, *weights)

    @property
    def needs_data(self) -> bool:
        return bool(self._placeholders)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run it on arrays of shape (*batch, size, D), in the order of the placeholders' indices."""
        needed = 1 + max(self._placeholders, default=-1)
        if len(args) != needed:
            raise ShapeError(f"The formula takes {needed} arguments but {len(args)} were given.")
        chosen = {**self._options, **options}
        tensor: Any = self._tensor
        if self.needs_data:
            given = bind_arguments(self._placeholders, args)
            tensor = with_data(tensor, given)
            if isinstance(chosen.get("weight"), engine.LazyTensor):
                chosen["weight"] = with_data(chosen["weight"], given)
        return tensor._reduced_by_engine(
            self._name, *self._arguments, axis=self._axis, **engine_options(chosen)
        )

    def __repr__(self) -> str:
        return f"{self._name} over {'i' if self._axis == -3 else 'j'} of {self._tensor!r}"


def _reduction_method(name: str) -> Any:
    def method(self: KeopsInterface, axis: int | None = None, dim: int | None = None, **options: Any) -> Any:
        if axis is None and dim is None:
            raise AxisError(f"{name}_reduction needs axis=0 (over i) or axis=1 (over j).")
        return self.reduction(name, axis=axis, dim=dim, **options)

    method.__name__, method.__qualname__ = f"{name}_reduction", f"KeopsInterface.{name}_reduction"
    method.__doc__ = f"The reduction {name}, by KeOps' longer name."
    return method


for _name in sorted({row.name for row in REDUCTIONS.values()}):
    setattr(KeopsInterface, f"{_name}_reduction", _reduction_method(_name))


def _category(number: int) -> int:
    if number not in (0, 1, 2):
        raise AxisError(
            f"The category of a variable is 0 (along i), 1 (along j) or 2 (parameter) but got {number}."
        )
    return number


def Var(x: Any, dim: int | None = None, cat: int | None = None) -> KeopsInterface:
    """A variable: of an array with ``cat`` as its axis, or ``Var(index, dim, cat)``, a placeholder."""
    return LazyTensor(x, axis=cat) if dim is None else LazyTensor((x, dim, cat))


def Vi(x: Any, dim: int | None = None) -> KeopsInterface:
    """x_i: an array of shape (M, D), or ``Vi(index, dim)``, a placeholder."""
    return Var(x, dim, 0)


def Vj(x: Any, dim: int | None = None) -> KeopsInterface:
    """y_j: an array of shape (N, D), or ``Vj(index, dim)``, a placeholder."""
    return Var(x, dim, 1)


def Pm(x: Any, dim: int | None = None) -> KeopsInterface:
    """A parameter: a number, a list or a 1-D array, or ``Pm(index, dim)``, a placeholder."""
    return Var(x, dim, 2)
