"""The table of operations: one module per family, one row per operation."""

from __future__ import annotations

from . import complex, indexing, pointwise, special, tensors, vectors, warping
from .table import OPERATIONS, Operand, Operation, find_operation

__all__ = [
    "OPERATIONS",
    "Operand",
    "Operation",
    "complex",
    "find_operation",
    "indexing",
    "pointwise",
    "special",
    "tensors",
    "vectors",
    "warping",
]
