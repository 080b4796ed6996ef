"""Owns what formulas may be searched through a tree of boxes instead of pair by pair, and the text of such a search.

A formula qualifies if it grows (or shrinks) with every |x_k - y_k|, for one vector x of each row and one vector y of
each column, through operations whose rounding keeps the order: differences, absolute values, squares, sums, roots and
products with positive numbers. Its value at the two points of a pair of boxes that are closest to each other is then a
bound of its values at all their pairs, exact in floating point.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..formulas.expressions import Axis, Call, Constant, Node
from ..formulas.operations import pointwise as p
from ..formulas.operations import vectors as v
from ..formulas.reductions import Extremum, Order, Smallest
from ..formulas.text import print_formula
from .planning import Plan
from .printing import STAGES, PrintedKernel, definitions, kept_values, kernel_name, print_struct


@dataclass(frozen=True)
class Monotone:
    """A formula that depends on the pair through the |x_k - y_k| alone.

    Attributes
    ----------
    dim : the dimension of x and y.
    grows : whether it grows from 0 on with each of them, or shrinks from 0 on.
    positive : the parameters that must be positive for that.
    """

    dim: int
    grows: bool = True
    positive: tuple[Node, ...] = ()


@functools.lru_cache(maxsize=4096)
def find_monotone(formula: Node) -> Monotone | None:
    """How a simplified formula grows with the distance between rows and columns, or None if it may not."""
    if not isinstance(formula, Call) or formula.axes != Axis.I | Axis.J:
        return None
    distance = _distance(formula)
    if distance is not None:
        return distance
    operation, arguments = formula.operation, formula.arguments
    if operation is p.multiply:
        return _scaled(*arguments) or _scaled(*reversed(arguments))
    inner = find_monotone(arguments[0]) if operation in (p.sqrt, p.negate) else None
    if inner is None:
        return None
    if operation is p.negate:
        return Monotone(inner.dim, not inner.grows, inner.positive)
    return inner if inner.grows else None


def _scaled(factor: Node, distance: Node) -> Monotone | None:
    """A distance times a number or a parameter."""
    inner = find_monotone(distance) if factor.axes == Axis.PARAMETER and factor.dim == 1 else None
    if inner is None:
        return None
    if not isinstance(factor, Constant):
        return Monotone(inner.dim, inner.grows, (*inner.positive, factor))
    if not factor.value * factor.value > 0:  # nor NaN
        return None
    return Monotone(inner.dim, inner.grows == (factor.value > 0), inner.positive)


def _distance(formula: Call) -> Monotone | None:
    """sum (x_k - y_k)^2, sum |x_k - y_k|, max |x_k - y_k|."""
    if formula.operation is v.sqdist:
        return _between(*formula.arguments)
    inner = formula.arguments[0]
    if formula.operation in (v.vector_sum, v.vector_max) and _is_call(inner, p.absolute):
        inner = inner.arguments[0]
    elif formula.dim != 1 or formula.operation not in (p.absolute, p.square):
        return None
    return _between(*inner.arguments) if _is_call(inner, p.subtract) else None


def _between(left: Node, right: Node) -> Monotone | None:
    one_of_each = {left.axes, right.axes} == {Axis.I, Axis.J}
    return Monotone(left.dim) if one_of_each and left.dim == right.dim else None


def _is_call(node: Node, operation: object) -> bool:
    return isinstance(node, Call) and node.operation is operation


@dataclass(frozen=True)
class Search:
    """A reduction that looks for the columns at the smallest distances.

    Attributes
    ----------
    dim : the dimension of the points.
    count : how many columns are looked for.
    positive : the parameters that must be positive; otherwise, the search visits all the pairs.
    """

    dim: int
    count: int
    positive: tuple[Node, ...] = ()


def find_search(plan: Plan) -> Search | None:
    """The search that a plan asks for, or None where its formula or its reduction has not the order for it."""
    reduction = plan.reduction
    if isinstance(reduction, Smallest):
        looks_for_small, count = True, reduction.count
    elif isinstance(reduction, Extremum):
        looks_for_small, count = reduction.order is Order.SMALLEST, 1
    else:
        return None
    formula = find_monotone(plan.formula)
    if formula is None or formula.grows != looks_for_small:
        return None
    return Search(formula.dim, count, formula.positive)


@functools.lru_cache(maxsize=4096)
def print_search(plan: Plan, search: Search) -> PrintedKernel:
    """The whole text of the search that does what a plan says."""
    reduction = plan.reduction.spelling("1")
    offsets = kept_values(plan.formula)[STAGES[0]].offsets
    conditions = [f"p[{offsets[node]}] > REAL(0)" for node in search.positive]
    title = f"// {plan.reduction.name} over j of  {print_formula(plan.formula)}, through a tree of boxes"
    body = "\n".join((
        title, *definitions(plan, "search.hpp"), "", print_struct(plan.formula), "",
        "struct Searched : Formula {",
        f"    static bool is_monotone(const REAL* p) {{ return {' && '.join(conditions) or 'true'}; }}",
        "};", "",
    ))  # fmt: skip
    name = f"search_{kernel_name(plan, f'{body}{reduction}')}"
    return PrintedKernel(f"{body}\nSM_SEARCH({name}, Searched, {reduction})\n", name)
