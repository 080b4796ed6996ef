"""Owns the LazyTensor that KeOps' users know: ours, with KeOps' names, keywords and attributes where they differ."""

from __future__ import annotations

from typing import Any

from .. import lazy_tensor as engine
from ..bindings import Context
from ..errors import AxisError, ShapeError
from ..expressions import Axis, Node
from ..operators import choose_axis
from ..reductions import REDUCTIONS as ENGINE_REDUCTIONS
from .data import bind_arguments, placeholders_of, with_data
from .options import REDUCTIONS, engine_options

_AXIS_FROM_END = {Axis.I: -3, Axis.J: -2}


class LazyTensor(engine.LazyTensor):
    """A symbolic matrix with KeOps' interface.

    Parameters
    ----------
    x : array, number, list of numbers, or a tuple (index, dim, category) of integers
        As for :class:`symbolic_matrices.LazyTensor`; a tuple of three integers is a placeholder, of category 0 (along
        i), 1 (along j) or 2 (parameter).
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
    __GenericLazyTensor__ = True  # how KeOps tells its tensors
    is_complex = False

    def __init__(self, x: Any, axis: int | None = None) -> None:
        if type(x) is tuple and len(x) == 3 and all(type(number) is int for number in x):
            made = (engine.Vi, engine.Vj, engine.Pm)[_category(x[2])](x[0], x[1])
            self._assign(made._formula, made._bindings, made._context)
        else:
            super().__init__(x, axis)

    def _assign(self, formula: Node, bindings: Any, context: Context) -> None:
        super()._assign(formula, bindings, context)
        self.backend: str | None = None

    # ------------------------------------------------------------------ attributes

    @property
    def dtype(self) -> str | None:
        """The name of the dtype; None for numbers only."""
        return self._context.dtype if self._context.library is not None else None

    _dtype = dtype

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

    def factorize(self, other: Any) -> LazyTensor:
        """The same formula: common sub-expressions are always computed once."""
        return self

    def auto_factorize(self) -> LazyTensor:
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
            return super().reduction(name, *arguments, axis=axis, dim=dim)
        if self.backend is not None:
            options.setdefault("backend", self.backend)
        deferred = DeferredReduction(self, name, arguments, (axis, dim), options)
        return deferred() if call and not deferred.needs_data else deferred


class DeferredReduction:
    """A reduction that waits for a call, with the arrays that stand for the placeholders if there are any."""

    def __init__(
        self,
        tensor: LazyTensor,
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
        tensor: engine.LazyTensor = self._tensor
        if self.needs_data:
            given = bind_arguments(self._placeholders, args)
            tensor = with_data(tensor, given)
            if isinstance(chosen.get("weight"), engine.LazyTensor):
                chosen["weight"] = with_data(chosen["weight"], given)
        return engine.LazyTensor.reduction(
            tensor, self._name, *self._arguments, axis=self._axis, **engine_options(chosen)
        )

    def __repr__(self) -> str:
        return f"{self._name} over {'i' if self._axis == -3 else 'j'} of {self._tensor!r}"


def _reduction_method(name: str) -> Any:
    def method(self: LazyTensor, axis: int | None = None, dim: int | None = None, **options: Any) -> Any:
        if axis is None and dim is None:
            raise AxisError(f"{name}_reduction needs axis=0 (over i) or axis=1 (over j).")
        return self.reduction(name, axis=axis, dim=dim, **options)

    method.__name__, method.__qualname__ = f"{name}_reduction", f"LazyTensor.{name}_reduction"
    method.__doc__ = f"The reduction {name}, by KeOps' longer name."
    return method


for _name in sorted({row.name for row in REDUCTIONS.values()}):
    setattr(LazyTensor, f"{_name}_reduction", _reduction_method(_name))


def _category(number: int) -> int:
    if number not in (0, 1, 2):
        raise AxisError(
            f"The category of a variable is 0 (along i), 1 (along j) or 2 (parameter) but got {number}."
        )
    return number


def Var(x: Any, dim: int | None = None, cat: int | None = None) -> LazyTensor:
    """A variable: of an array with ``cat`` as its axis, or ``Var(index, dim, cat)``, a placeholder."""
    return LazyTensor(x, axis=cat) if dim is None else LazyTensor((x, dim, cat))


def Vi(x: Any, dim: int | None = None) -> LazyTensor:
    """x_i: an array of shape (M, D), or ``Vi(index, dim)``, a placeholder."""
    return Var(x, dim, 0)


def Vj(x: Any, dim: int | None = None) -> LazyTensor:
    """y_j: an array of shape (N, D), or ``Vj(index, dim)``, a placeholder."""
    return Var(x, dim, 1)


def Pm(x: Any, dim: int | None = None) -> LazyTensor:
    """A parameter: a number, a list or a 1-D array, or ``Pm(index, dim)``, a placeholder."""
    return Var(x, dim, 2)
