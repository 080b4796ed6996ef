"""Owns the methods that ``LazyTensor`` gets from the tables of operations and reductions: one per row.

Editors and type checkers read them from ``table_methods.pyi``, which ``tools/generate_stubs.py`` writes.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

from ..formulas.expressions import Attributes
from ..formulas.operations import OPERATIONS, Operation
from ..formulas.reductions import REDUCTIONS, ReductionRow


class TableMethods(abc.ABC):
    """One method per operation, ``x.exp()``, and per reduction, ``x.logsumexp(axis=1)``."""

    __slots__ = ()

    @abc.abstractmethod
    def _apply(self, operation: Operation, *others: Any, attributes: Attributes = ()) -> Any:
        """Apply an operation to self and others."""

    @abc.abstractmethod
    def reduction(self, name: str, *arguments: Any, axis: Any = None, dim: Any = None, **options: Any) -> Any:
        """Run a reduction of the table."""


def _operation_method(operation: Operation) -> Callable[..., Any]:
    names = operation.operand_names[1:]

    def method(self: TableMethods, *others: Any, **named: Any) -> Any:
        operands = (*others, *(named.pop(name) for name in names[len(others) :] if name in named))
        if named or len(operands) != len(names):
            count, unknown = len(operands), f" and {', '.join(named)}" if named else ""
            expected = f"{len(names)} arguments" + (f" ({', '.join(names)})" if names else "")
            raise TypeError(f"{operation.name} takes {expected} but {count} were given{unknown}.")
        return self._apply(operation, *operands)

    example = f"\n\nExample: ``x.{operation.name}({', '.join(names)})``." if names else ""
    return _documented(method, operation.name, operation.doc + example)


def _reduction_method(row: ReductionRow) -> Callable[..., Any]:
    def method(self: TableMethods, axis: int | None = None, dim: int | None = None, **options: Any) -> Any:
        return self.reduction(row.name, axis=axis, dim=dim, **options)

    return method


def _counted_reduction_method(row: ReductionRow) -> Callable[..., Any]:
    def method(
        self: TableMethods,
        K: int,
        axis: int | None = None,
        dim: int | None = None,
        **options: Any,
    ) -> Any:
        return self.reduction(row.name, K, axis=axis, dim=dim, **options)

    return method


def _weighted_reduction_method(row: ReductionRow) -> Callable[..., Any]:
    def method(
        self: TableMethods, weight: Any, axis: int | None = None, dim: int | None = None, **options: Any
    ) -> Any:
        return self.reduction(row.name, axis=axis, dim=dim, weight=weight, **options)

    return method


def _method_of(row: ReductionRow) -> Callable[..., Any]:
    if row.make is None:
        return _weighted_reduction_method(row)
    return _counted_reduction_method(row) if row.is_counted else _reduction_method(row)


def _documented(method: Callable[..., Any], name: str, doc: str) -> Callable[..., Any]:
    method.__name__, method.__qualname__, method.__doc__ = name, f"LazyTensor.{name}", doc
    return method


for _operation in OPERATIONS.values():
    if _operation.method:
        setattr(TableMethods, _operation.name, _operation_method(_operation))
for _row in REDUCTIONS.values():
    for _name in (_row.name, _row.alias):
        if _name is not None:
            setattr(TableMethods, _name, _documented(_method_of(_row), _name, _row.doc))
