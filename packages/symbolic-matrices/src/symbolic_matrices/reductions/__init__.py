"""The table of reductions: one module per family of monoids, one line per reduction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..operations import Operation
from ..operations import vectors as v
from .extrema import Extremum, Order
from .logsumexp import LogSumExp
from .monoid import Kind, Reduction, Returns, SelectingReduction, SmoothReduction, State
from .nearest import Smallest
from .sums import Sum


@dataclass(frozen=True)
class ReductionRow:
    """A reduction by its name.

    Attributes
    ----------
    make : takes the number of neighbours where ``is_counted``.
    of_components : the operation that does the same along the vector dimension, if there is one.
    """

    name: str
    doc: str
    make: Callable[..., Reduction]
    is_counted: bool = False
    of_components: Operation | None = None

    def __call__(self, *arguments: int) -> Reduction:
        if len(arguments) != int(self.is_counted):
            expected = "the number of neighbours K" if self.is_counted else "no argument beside its axis"
            raise TypeError(f"{self.name} takes {expected} but got {arguments}.")
        return self.make(*arguments)


def _extremum(order: Order, returns: Returns) -> Callable[[], Reduction]:
    return lambda: Extremum(returns, order)


def _nearest(returns: Returns) -> Callable[[int], Reduction]:
    return lambda count: Smallest(returns, count)


# fmt: off
_ROWS = (
    ReductionRow("sum", "Sum of the F_ij.", Sum, of_components=v.vector_sum),
    ReductionRow("logsumexp", "log sum exp(F_ij), without overflow; -inf over nothing.", LogSumExp),
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

__all__ = [
    "REDUCTIONS",
    "Extremum",
    "Kind",
    "LogSumExp",
    "Order",
    "Reduction",
    "ReductionRow",
    "Returns",
    "SelectingReduction",
    "Smallest",
    "SmoothReduction",
    "State",
    "Sum",
]
