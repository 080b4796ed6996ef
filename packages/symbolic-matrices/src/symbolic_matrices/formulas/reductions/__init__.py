"""The table of reductions: one module per family of monoids, one line per reduction."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...arrays import Array, ArrayLibrary
from ...errors import OptionError
from ...precision import Precision
from ..expressions import Axis
from ..operations import Operation
from ..operations import vectors as v
from .extrema import Extremum, Order
from .logsumexp import LogSumExp, SumSoftmax, WeightedLogSumExp
from .monoid import Accumulate, Kind, Reduction, Returns, SelectingReduction, SmoothReduction, State
from .nearest import Smallest
from .sums import Count, Sum

# From an output and the number of entries that it sums over, which is an array where rows differ.
Finish = Callable[[ArrayLibrary, Array, Any], Array]


@dataclass(frozen=True)
class ReductionRow:
    """A reduction by its name.

    Attributes
    ----------
    make : takes the number of neighbours where ``is_counted``; None where a weight is needed.
    weighted : takes the dimension of the weight, if the reduction accepts one: its formula is then [F, weight].
    of_components : the operation that does the same along the vector dimension, if there is one.
    finish : what users see, where it is not the output itself.
    is_in_keops : whether programs written for KeOps may call it.
    """

    name: str
    doc: str
    make: Callable[..., Reduction] | None
    is_counted: bool = False
    weighted: Callable[[int], Reduction] | None = None
    of_components: Operation | None = None
    finish: Finish | None = None
    is_in_keops: bool = True

    @property
    def alias(self) -> str | None:
        """KeOps' second name of its reductions."""
        return f"{self.name}_reduction" if self.is_in_keops else None

    def __call__(self, *arguments: int, weight_dim: int | None = None) -> Reduction:
        if len(arguments) != int(self.is_counted):
            expected = "the number of neighbours K" if self.is_counted else "no argument beside its axis"
            raise TypeError(f"{self.name} takes {expected} but got {arguments}.")
        if weight_dim is not None:
            if self.weighted is None:
                raise TypeError(f"{self.name} takes no weight; multiply the formula by it instead.")
            return self.weighted(weight_dim)
        if self.make is None:
            raise TypeError(f"{self.name} needs a weight: {self.name}(weight, axis=1).")
        return self.make(*arguments)


@dataclass(frozen=True)
class ReductionCall:
    """What a user asks of a formula: one reduction along one axis, and how it is to run."""

    reduction: Reduction
    axis: Axis
    finish: Finish | None = None
    backend: str = "auto"
    precision: Precision = Precision.AUTO


def _extremum(order: Order, returns: Returns) -> Callable[[], Reduction]:
    return lambda: Extremum(returns, order)


def _nearest(returns: Returns) -> Callable[[int], Reduction]:
    return lambda count: Smallest(returns, _whole_number(count))


def _whole_number(count: Any) -> int:
    try:
        return operator.index(count)
    except TypeError as error:
        raise TypeError(f"The number of neighbours K must be an integer but got {count!r}.") from error


def _weighted(kind: type[WeightedLogSumExp | SumSoftmax]) -> Callable[[int], Reduction]:
    return lambda dim: kind(weights=dim)


def _divide(library: ArrayLibrary, total: Array, count: Any) -> Array:
    """total / count, and NaN where the count is 0."""
    if isinstance(count, int):
        return total / (count or float("nan"))
    divisor = library.astype(count, library.dtype_name(total))
    return total / library.namespace.where(count > 0, divisor, float("nan") * divisor)


# fmt: off
_ROWS = (
    ReductionRow("sum", "Sum of the F_ij.", Sum, of_components=v.vector_sum),
    ReductionRow("mean", "Mean of the F_ij; NaN over nothing.", Sum, is_in_keops=False,
                 finish=_divide),
    ReductionRow("count", "Number (int64) of the F_ij that are not 0, such as conditions that hold.", Count,
                 is_in_keops=False),
    ReductionRow("any", "Whether an F_ij is not 0, such as a condition that holds; False over nothing.", Count,
                 is_in_keops=False, finish=lambda library, found, count: found > 0),
    ReductionRow("all", "Whether no F_ij is 0, such as a condition that fails; True over nothing.", Count,
                 is_in_keops=False, finish=lambda library, found, count: found == count),
    ReductionRow("logsumexp", "log sum w_ij exp(F_ij), without overflow, with an optional weight; -inf over nothing.",
                 LogSumExp, weighted=_weighted(WeightedLogSumExp)),
    ReductionRow("sumsoftmaxweight", "sum exp(F_ij) w_ij / sum exp(F_ij), without overflow; 0 over nothing.", None,
                 weighted=_weighted(SumSoftmax), finish=lambda library, output, count: (
                     library.contiguous(output[..., :-1]))),
    ReductionRow("min", "Smallest F_ij, component by component.",
                 _extremum(Order.SMALLEST, Returns.VALUES), of_components=v.vector_min),
    ReductionRow("max", "Largest F_ij, component by component.",
                 _extremum(Order.LARGEST, Returns.VALUES), of_components=v.vector_max),
    ReductionRow("argmin", "Index (int64) of the smallest F_ij, the first of equal ones.",
                 _extremum(Order.SMALLEST, Returns.INDICES), of_components=v.vector_argmin),
    ReductionRow("argmax", "Index (int64) of the largest F_ij, the first of equal ones.",
                 _extremum(Order.LARGEST, Returns.INDICES), of_components=v.vector_argmax),
    ReductionRow("min_argmin", "Smallest F_ij, and its index.", _extremum(Order.SMALLEST, Returns.BOTH)),
    ReductionRow("max_argmax", "Largest F_ij, and its index.", _extremum(Order.LARGEST, Returns.BOTH)),
    ReductionRow("Kmin", "The K smallest F_ij, in increasing order; (M, K) or (M, K, D).",
                 _nearest(Returns.VALUES), is_counted=True),
    ReductionRow("argKmin", "Indices (int64) of the K smallest F_ij, in increasing order of F_ij.",
                 _nearest(Returns.INDICES), is_counted=True),
    ReductionRow("Kmin_argKmin", "The K smallest F_ij, and their indices.",
                 _nearest(Returns.BOTH), is_counted=True),
)
# fmt: on
REDUCTIONS: dict[str, ReductionRow] = {row.name: row for row in _ROWS}


def call_row(
    name: str, arguments: tuple[Any, ...], weight_dim: int | None, axis: Axis, accumulate: Accumulate
) -> ReductionCall:
    """A reduction of the table, with what it needs: a number of neighbours, or the dimension of its weight."""
    if arguments or weight_dim is not None:
        return _call_row(name, arguments, weight_dim, axis, accumulate)
    return _call_plain_row(name, axis, accumulate)


def _call_row(
    name: str, arguments: tuple[Any, ...], weight_dim: int | None, axis: Axis, accumulate: Accumulate
) -> ReductionCall:
    row = REDUCTIONS[name]
    return ReductionCall(row(*arguments, weight_dim=weight_dim).accumulating(accumulate), axis, row.finish)


@functools.cache  # one entry per name, axis and way to add up
def _call_plain_row(name: str, axis: Axis, accumulate: Accumulate) -> ReductionCall:
    return _call_row(name, (), None, axis, accumulate)


def choose_accumulate(name: str) -> Accumulate:
    """The way to add up terms that an option names."""
    if not (isinstance(name, str) and name in _ACCUMULATE):
        raise OptionError(f"accumulate must be one of {', '.join(map(repr, _ACCUMULATE))} but got {name!r}.")
    return _ACCUMULATE[name]


_ACCUMULATE = {choice.name.lower(): choice for choice in Accumulate}

__all__ = [
    "REDUCTIONS",
    "Accumulate",
    "Count",
    "Extremum",
    "Kind",
    "LogSumExp",
    "Order",
    "Reduction",
    "ReductionCall",
    "ReductionRow",
    "Returns",
    "SelectingReduction",
    "Smallest",
    "SmoothReduction",
    "State",
    "Sum",
    "SumSoftmax",
    "WeightedLogSumExp",
    "call_row",
    "choose_accumulate",
]
