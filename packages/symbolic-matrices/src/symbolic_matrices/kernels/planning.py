"""Owns the plan: everything that determines a kernel, and nothing else. Pure and cached."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import NamedTuple

from ..arrays import REAL_TYPES, RealType
from ..formulas.expressions import Axis, Call, Node, Variable, topological, transpose, variables_of
from ..formulas.reductions import Accumulate, Reduction
from ..formulas.simplification import simplify
from ..precision import Precision

FUNCTION_OPERATIONS = 8  # of exp, sin...: their polynomials


class Formats(NamedTuple):
    """The formats of the numbers of a kernel: what it computes in, the dtypes of its arrays where they are not all that
    one, and how exact its products have to be."""

    dtype: str
    stored: tuple[str, ...] = ()
    precision: Precision = Precision.AUTO


@dataclass(frozen=True)
class Plan:
    """What a kernel computes, free of sizes and values.

    A kernel keeps rows and reduces columns. The formula is transposed beforehand where the user reduces the first axis,
    so that ``Axis.I`` always stands for rows here and ``Axis.J`` for columns.

    Attributes
    ----------
    dtype : what a kernel computes in, float32 or float64.
    definition : the formula as the user wrote it, for the reference backend.
    storage : (position, dtype) of the variables that are stored in half precision, for kernels that read those.
    precision : how exact products in high dimension have to be, for kernels that tensor cores may speed up.
    """

    formula: Node
    reduction: Reduction
    dtype: str
    definition: Node = field(compare=False, repr=False)
    storage: tuple[tuple[int, str], ...] = ()
    precision: Precision = Precision.AUTO

    @property
    def real(self) -> RealType:
        return REAL_TYPES[self.dtype]

    @functools.cached_property
    def variables(self) -> tuple[Variable, ...]:
        """The variables that the formula reads, by increasing position in the list of arrays."""
        return tuple(variables_of(self.formula))

    @functools.cached_property
    def operations(self) -> int:
        """Roughly how many arithmetic operations a pair takes, those of functions such as exp included."""
        calls = [node for node in topological(self.formula) if node.axes == Axis.I | Axis.J]
        return math.prod(self.output_shape) + sum(map(_operations, calls))

    @functools.cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Trailing shape of each output."""
        return self.reduction.output_shape(self.formula.dim)


def _operations(node: Node) -> int:
    """Those of one call: as many as its widest vector has components, times those of its function."""
    widest = max((node.dim, *(argument.dim for argument in node.arguments)))
    is_function = isinstance(node, Call) and "(" in getattr(node.operation, "component", "")
    return widest * (FUNCTION_OPERATIONS if is_function else 1)


@functools.lru_cache(maxsize=4096)
def make_plan(formula: Node, reduction: Reduction, axis: Axis, formats: str | Formats) -> Plan:
    """Plan the reduction of a formula along ``axis`` (I or J). A dtype alone is that of all numbers."""
    dtype, stored, precision = Formats(formats) if isinstance(formats, str) else formats
    assert axis in (Axis.I, Axis.J)
    reduction.check_dim(formula.dim)
    if dtype == "float64" and getattr(reduction, "accumulate", None) is Accumulate.FLOAT64:
        reduction = reduction.accumulating(Accumulate.AUTO)  # no more than what is done anyway
    definition = reduction.prepared(formula if axis is Axis.J else transpose(formula))
    simplified = simplify(definition)
    read = [v.index for v in variables_of(simplified)] if stored else []
    storage = tuple([(index, stored[index]) for index in read if stored[index] != dtype])
    return Plan(simplified, reduction, dtype, definition, storage, precision)
