"""The table of reductions: one module per family of monoids, one line per reduction."""

from __future__ import annotations

from collections.abc import Callable

from .extrema import Extremum, Order
from .logsumexp import LogSumExp
from .monoid import Kind, Reduction, Returns, SelectingReduction, SmoothReduction, State
from .nearest import Smallest
from .sums import Sum

REDUCTIONS: dict[str, Callable[..., Reduction]] = {
    "sum": Sum,
    "logsumexp": LogSumExp,
    "min": lambda: Extremum(Returns.VALUES, Order.SMALLEST),
    "max": lambda: Extremum(Returns.VALUES, Order.LARGEST),
    "argmin": lambda: Extremum(Returns.INDICES, Order.SMALLEST),
    "argmax": lambda: Extremum(Returns.INDICES, Order.LARGEST),
    "min_argmin": lambda: Extremum(Returns.BOTH, Order.SMALLEST),
    "max_argmax": lambda: Extremum(Returns.BOTH, Order.LARGEST),
    "Kmin": lambda count: Smallest(Returns.VALUES, count),
    "argKmin": lambda count: Smallest(Returns.INDICES, count),
    "Kmin_argKmin": lambda count: Smallest(Returns.BOTH, count),
}

COUNTED_REDUCTIONS = frozenset(
    {"Kmin", "argKmin", "Kmin_argKmin"}
)  # those that take the number of neighbours

__all__ = [
    "COUNTED_REDUCTIONS",
    "REDUCTIONS",
    "Extremum",
    "Kind",
    "LogSumExp",
    "Order",
    "Reduction",
    "Returns",
    "SelectingReduction",
    "Smallest",
    "SmoothReduction",
    "State",
    "Sum",
]
