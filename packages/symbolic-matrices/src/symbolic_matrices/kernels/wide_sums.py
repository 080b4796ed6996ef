"""Owns the choice of sums of wide vectors that are computed as products of matrices: a number for each pair, alone
or as the exponential of one, times a vector of the column. What a GPU's block does with them is in native/wide.cuh.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..formulas.expressions import Axis, Call, Node, constant
from ..formulas.operations import indexing, pointwise
from ..formulas.reductions import Accumulate, Sum, SumSoftmax, WeightedLogSumExp
from .planning import Plan
from .products import COMPONENT, spell_component

# Of a result. Below, the running sums of a row fit the registers of one thread, which has fewer instructions then.
LEAST_DIM = {"float32": 33, "float64": 17}
MOST_PADDING = 2.0  # how many times more components may be computed than there are
PAIR = Axis.I | Axis.J


@dataclass(frozen=True)
class Part:
    """sum_j w_ij (v_j - u_i), or sum_j w_ij v_j where ``row`` is None: what the loop nest reads of v and u."""

    weight: Node
    dim: int
    column: str
    row: str | None = None


@dataclass(frozen=True)
class WideSum:
    """The parts of a formula, whose components stand one after the other; ``chunk`` of them are computed at once."""

    parts: tuple[Part, ...]
    chunk: int = 0

    @property
    def weights(self) -> Node:
        """The numbers that are computed for each pair, as a vector."""
        return functools.reduce(indexing.concat, (part.weight for part in self.parts))

    @property
    def has_rows(self) -> bool:
        return any(part.row is not None for part in self.parts)

    @property
    def dim(self) -> int:
        return sum(part.dim for part in self.parts)

    @property
    def chunks(self) -> int:
        return sum(-(-part.dim // self.chunk) for part in self.parts)

    @property
    def lines(self) -> list[str]:
        """A C++ struct."""
        arguments = f"(const Read& read, int part, int {COMPONENT}) {{{{"
        reads = f"    template <class Read> SM_INLINE static REAL {{}}{arguments}"
        return [
            "struct Parts {",
            f"    static constexpr int count = {len(self.parts)}, chunks = {self.chunks};",
            f"    static constexpr bool has_rows = {str(self.has_rows).lower()};",
            f"    SM_INLINE static int dim(int part) {{ return {_choose(str(part.dim) for part in self.parts)}; }}",
            reads.format("column") + f" return {_choose(part.column for part in self.parts)}; }}",
            reads.format("row") + f" return {_choose(part.row or 'REAL(0)' for part in self.parts)}; }}",
            "};",
        ]


def _choose(texts: Iterator[str]) -> str:
    """C++ for one of several expressions, by the number of the part."""
    *others, last = texts
    return "".join(f"part == {number} ? {text} : " for number, text in enumerate(others)) + last


def find_wide_sum(plan: Plan) -> WideSum | None:
    """The sums of wide vectors that a plan consists of; None if it is not made of such sums alone."""
    least = LEAST_DIM[plan.dtype]
    if getattr(plan.reduction, "accumulate", None) is not Accumulate.AUTO or plan.formula.dim < least:
        return None
    found = _find_parts(plan)
    parts = tuple(part for part in found if part is not None)
    if not parts or len(parts) < len(found) or max(part.dim for part in parts) < least:
        return None
    wide = WideSum(parts)
    sums = [replace(wide, chunk=chunk) for chunk in _chunks(plan, wide)]
    best = min(sums, key=lambda candidate: _work(plan, candidate))
    return best if best.chunks * best.chunk <= MOST_PADDING * max(best.dim, best.chunk) else None


def _chunks(plan: Plan, wide: WideSum) -> tuple[int, ...]:
    """How many components a block may take: their sums, and the u_i of its rows, have to fit the registers."""
    most = 64 if plan.dtype != "float64" else 32
    return (most // 2,) if wide.has_rows else (most, most // 2)


def _work(plan: Plan, wide: WideSum) -> float:
    """Instructions per pair: the weights for each chunk, multiply-adds, and the loads of 8 rows and some components."""
    weights = replace(plan, formula=wide.weights)
    pair = weights.operations - math.prod(weights.output_shape)
    loads = (1 + 8 * 8 / wide.chunk) / 32
    return wide.chunks * (pair + wide.chunk * (1 + wide.has_rows + loads))


def _find_parts(plan: Plan) -> list[Part | None]:
    if isinstance(plan.reduction, Sum):
        return [_find_part(term) for term in _concatenated(plan.formula)]
    if isinstance(plan.reduction, (SumSoftmax, WeightedLogSumExp)):
        return [_find_exponential(plan.formula)]
    return []


def _concatenated(node: Node) -> list[Node]:
    if isinstance(node, Call) and node.operation is indexing.concat:
        return [part for argument in node.arguments for part in _concatenated(argument)]
    return [node]


def _find_exponential(formula: Node) -> Part | None:
    """Of [exponent, vector]."""
    if not (isinstance(formula, Call) and formula.operation is indexing.concat):
        return None
    exponent, vector = formula.arguments
    column = spell_component(vector) if vector.axes in (Axis.J, Axis.PARAMETER) else None
    if exponent.dim != 1 or exponent.axes != PAIR or column is None:
        return None
    return Part(exponent, vector.dim, column)


def _find_part(term: Node) -> Part | None:
    if term.dim == 1:
        return Part(term, 1, "REAL(1)") if term.axes == PAIR else None
    factors = _factors(term)
    numbers = [factor for factor in factors if factor.dim == 1]
    vectors = [factor for factor in factors if factor.dim > 1]
    if not numbers:
        return None
    weight = functools.reduce(pointwise.multiply, numbers)
    vector = functools.reduce(pointwise.multiply, vectors)
    if weight.axes != PAIR:
        return None
    if vector.axes in (Axis.J, Axis.PARAMETER):
        column = spell_component(vector)
        return None if column is None else Part(weight, term.dim, column)
    return _find_difference(weight, vector)


def _factors(node: Node) -> list[Node]:
    """Of a product, with the signs apart."""
    if isinstance(node, Call) and node.operation is pointwise.multiply:
        return [factor for argument in node.arguments for factor in _factors(argument)]
    if isinstance(node, Call) and node.operation is pointwise.negate and node.dim > 1:
        (argument,) = node.arguments
        return [constant(-1.0), *_factors(argument)]
    return [node]


def _find_difference(weight: Node, vector: Node) -> Part | None:
    """Of w (v_j - u_i), or w (u_i - v_j) with the sign in the weight."""
    if not (isinstance(vector, Call) and vector.operation is pointwise.subtract):
        return None
    first, second = vector.arguments
    if first.axes == Axis.I and second.axes == Axis.J:
        weight, first, second = pointwise.negate(weight), second, first
    if first.axes != Axis.J or second.axes != Axis.I:
        return None
    column, row = spell_component(first), spell_component(second)
    return None if column is None or row is None else Part(weight, vector.dim, column, row)
