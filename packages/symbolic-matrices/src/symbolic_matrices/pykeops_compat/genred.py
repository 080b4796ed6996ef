"""Owns ``Genred``: a reduction of a formula that is given as a string, and what other routines of strings share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arrays import library_of
from ..errors import AxisError, OptionError, ShapeError
from ..matrices.lazy_tensor import LazyTensor
from .data import bind_arguments, with_data
from .options import SHIFTED_SUMS, constructor_options, engine_options, find_reduction
from .parser import parse_formula
from .scope import Scope


class StringFormula:
    """A formula over declared variables, and perhaps a weight: read once, filled with the data of each call."""

    def __init__(self, formula: str, aliases: Sequence[str], weight: str | None = None) -> None:
        self.scope = Scope.of(tuple(aliases))
        self.tensor = parse_formula(formula, self.scope)
        self.weight = None if weight is None else parse_formula(weight, self.scope)
        self.scope.check_positions()

    def check_count(self, arguments: tuple[Any, ...]) -> None:
        declared = self.scope.declared
        if len(arguments) != len(declared):
            names = ", ".join(declared[k].name or f"number {k}" for k in sorted(declared))
            raise ShapeError(f"Expected {len(declared)} arguments, {names}, but {len(arguments)} were given.")

    def fill(self, arguments: tuple[Any, ...]) -> tuple[LazyTensor, LazyTensor | None]:
        """The formula and its weight with data; an array that both read is one variable."""
        self.check_count(arguments)
        given = bind_arguments(self.scope.placeholders(), arguments)
        weight = None if self.weight is None else with_data(self.weight, given)
        return with_data(self.tensor, given), weight


class Genred:
    r"""A reduction of a formula that is given as a string of KeOps' language.

    .. math:: a_i = \operatorname{reduction}_j F(x_i, y_j, p) \quad (axis = 1), \qquad
              b_j = \operatorname{reduction}_i F(x_i, y_j, p) \quad (axis = 0).

    Parameters
    ----------
    formula : str
        Such as ``"Exp(-g * SqDist(x, y)) * b"``.
    aliases : sequence of str
        The variables: ``"x = Vi(3)"`` varies along i, ``"y = Vj(3)"`` along j, ``"g = Pm(1)"`` is a parameter; their
        order is that of the arguments, unless they say it, as in ``"x = Vi(0, 3)"``.
    reduction_op : str
        "Sum", "LogSumExp", "LogSumExpWeight", "SumSoftMaxWeight", "Max_SumShiftExp", "Max_SumShiftExpWeight", "Min",
        "ArgMin", "Min_ArgMin", "Max", "ArgMax", "Max_ArgMax", "KMin", "ArgKMin" or "KMin_ArgKMin".
    axis : 0 or 1
        The axis that is reduced: 0 for i, 1 for j.
    opt_arg : int
        The number of neighbours K, for the last three.
    formula2 : str
        The weight, for the log-sum-exp and the soft-max.
    **options
        KeOps' other keywords: ``dtype_acc``, ``use_double_acc`` and ``sum_scheme`` choose how sums are accumulated;
        ``enable_chunks``, ``rec_multVar_highdim``, ``use_fast_math``, ``dtype`` and ``cuda_type`` have no effect.

    Raises
    ------
    FormulaError
        If a string cannot be read: the message points at the place.
    UnknownReductionError, AxisError
        If the reduction or the axis does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices.pykeops_compat import Genred
    >>> convolve = Genred("Exp(-g * SqDist(x, y)) * b", ["x = Vi(2)", "y = Vj(2)", "b = Vj(1)", "g = Pm(1)"], axis=1)
    >>> x, y, b = np.zeros((4, 2)), np.zeros((3, 2)), np.ones((3, 1))
    >>> convolve(x, y, b, np.array([0.5]))[:, 0]
    array([3., 3., 3., 3.])
    """

    def __init__(
        self,
        formula: str,
        aliases: Sequence[str],
        reduction_op: str = "Sum",
        axis: int = 0,
        dtype: str | None = None,
        opt_arg: int | None = None,
        formula2: str | None = None,
        cuda_type: str | None = None,
        **options: Any,
    ) -> None:
        if axis not in (0, 1):
            raise AxisError(f"axis must be 0 (reduce over i) or 1 (reduce over j) but is {axis!r}.")
        self.formula, self.aliases, self.reduction_op, self.axis = formula, list(aliases), reduction_op, axis
        self._row = find_reduction(reduction_op, opt_arg, formula2)
        self._count = (opt_arg,) if self._row.is_counted else ()
        self._options = constructor_options(options)
        self.string = StringFormula(formula, self.aliases, formula2)

    def __call__(
        self, *args: Any, backend: str = "auto", device_id: int = -1, ranges: Any = None, out: Any = None
    ) -> Any:
        """Reduce over the data.

        Parameters
        ----------
        args : arrays of shape (*batch, M, D) for ``Vi``, (*batch, N, D) for ``Vj``, (D,) or (*batch, D) for ``Pm``.
        backend : "auto", "CPU", "GPU" (with KeOps' variants) or one of our own names.
        device_id : has no effect: the reduction runs where the data are.
        ranges : the blocks to visit, KeOps' 6-tuple or a ``BlockRanges``.
        out : where to write the result.

        Returns
        -------
        array of shape (*batch, M, D) for axis = 1, (*batch, N, D) for axis = 0; a pair of them for "Min_ArgMin" and
        its like. Indices are int64.
        """
        tensor, weight = self.string.fill(args)
        options = engine_options({"backend": backend, "ranges": ranges, "out": out, "weight": weight})
        options |= {**self._options, "axis": -2 if self.axis == 1 else -3}
        if self._row.name == SHIFTED_SUMS:
            return _shifted_sums(tensor, options)
        return tensor.reduction(self._row.name, *self._count, **options)

    def __repr__(self) -> str:
        return f"Genred({self.formula!r}, {self.aliases}, {self.reduction_op!r}, axis={self.axis})"


def _shifted_sums(tensor: LazyTensor, options: dict[str, Any]) -> Any:
    """m = max F, then sum exp(F - m), or sum exp(F - m) w with a weight: (..., 1 + Dw)."""
    if options.get("out") is not None:
        raise OptionError("Max_SumShiftExp takes no out: use the array that it returns.")
    weight = options.pop("weight", None)
    accumulate = options.pop("accumulate", "auto")
    largest = tensor.reduction("max", **options)
    total = tensor.reduction("logsumexp", accumulate=accumulate, **options)
    library = library_of(largest).namespace
    shift = library.where(largest == -float("inf"), library.zeros_like(largest), largest)
    sums = library.exp(total - shift)
    if weight is not None:
        sums = sums * tensor.reduction("sumsoftmaxweight", weight=weight, accumulate=accumulate, **options)
    return library.concatenate((largest, sums), -1)
