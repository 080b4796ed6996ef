"""Owns the rewrite rules: one table, each rule with its words, and the driver that applies them bottom-up.

Two kinds of rules: algebra that saves operations, and hoisting, which moves work from the pairs (i, j) to the rows,
the columns or the parameters, where it is done once instead of N times.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..arrays import NUMPY
from .expressions import Axis, Call, Constant, Node, call, constant, topological
from .operations import Operation, indexing
from .operations import complex as c
from .operations import pointwise as p
from .operations import vectors as v

MOST_FACTORS = 32  # of a product that is regrouped as a whole


@dataclass(frozen=True)
class Rule:
    """A rewrite: ``apply(*arguments)`` returns the new node, or None where the rule does not hold."""

    words: str
    operation: Operation
    apply: Callable[..., Node | None]


def _is(node: Node, operation: Operation) -> bool:
    return isinstance(node, Call) and node.operation is operation


def _is_number(node: Node, value: float) -> bool:
    return isinstance(node, Constant) and node.value == value


def _hoists(low: Node, high: Node) -> bool:
    """Whether ``low`` is computed less often than ``high``: along fewer axes."""
    return low.axes != high.axes and low.axes | high.axes == high.axes


def _same_vectors(x: Node, y: Node) -> bool:
    return x.dim == y.dim


# ---------------------------------------------------------------------------- products


def _factors(node: Node) -> tuple[list[Node], int]:
    """The factors of a product of products, and its sign. Very long products keep some of their own grouping."""
    factors: list[Node] = []
    sign, pending = 1, [node]
    while pending:
        factor = pending.pop()
        if _is(factor, p.negate):
            sign = -sign
            pending.append(factor.arguments[0])
        elif _is(factor, p.multiply) and len(factors) + len(pending) < MOST_FACTORS:
            pending.extend(reversed(factor.arguments))
        else:
            factors.append(factor)
    return factors, sign


def _product(factors: Iterable[Node]) -> Node | None:
    """x (y z) ..., or None for an empty product; constants come first and fold."""
    ordered = sorted(factors, key=lambda factor: not isinstance(factor, Constant))
    return functools.reduce(p.multiply, ordered) if ordered else None


def _regroup(product: Node) -> Node:
    """Multiply factors of the same axes first, numbers before vectors, and parameters into rows or columns.

    What does not depend on the pair is then hoisted, and a vector is multiplied once per pair at most.
    """
    factors, sign = _factors(product)
    groups = {
        (axes, is_vector): _product(f for f in factors if f.axes == axes and (f.dim > 1) == is_vector)
        for axes in (Axis.PARAMETER, Axis.I, Axis.J, Axis.I | Axis.J)
        for is_vector in (False, True)
    }
    _merge_down(groups)
    rest = {key: group for key, group in groups.items() if group is not None}
    if sign < 0:
        rest = _negate_cheapest(rest)
    numbers = [group for (_, is_vector), group in rest.items() if not is_vector]
    vectors = [group for (_, is_vector), group in rest.items() if is_vector]
    parts = [part for part in (_fold_right(numbers), _fold_right(vectors)) if part is not None]
    return parts[0] if len(parts) == 1 else p.multiply(*parts)


def _merge_down(groups: dict[tuple[Axis, bool], Node | None]) -> None:
    """Multiply groups that are computed rarely into others that are computed rarely too."""
    rows, columns = (Axis.I, False), (Axis.J, False)
    row_vectors, column_vectors = (Axis.I, True), (Axis.J, True)
    targets = {
        (Axis.PARAMETER, False): (rows, columns, row_vectors, column_vectors),
        (Axis.PARAMETER, True): (row_vectors, column_vectors),
        rows: (row_vectors,),
        columns: (column_vectors,),
    }
    for source, candidates in targets.items():
        target = next((key for key in candidates if groups[key] is not None), None)
        left, right = groups[source], groups[target] if target else None
        if target is not None and left is not None and right is not None:
            groups[target], groups[source] = p.multiply(left, right), None


def _negate_cheapest(groups: dict[tuple[Axis, bool], Node]) -> dict[tuple[Axis, bool], Node]:
    """Negate the group that is computed least often."""
    cheapest = min(groups, key=lambda key: (bin(key[0]).count("1"), key[1]))
    return {key: p.negate(group) if key == cheapest else group for key, group in groups.items()}


def _fold_right(groups: list[Node]) -> Node | None:
    """The general term first, times what was hoisted: a (b c)."""
    return functools.reduce(lambda product, group: p.multiply(group, product), groups) if groups else None


# ---------------------------------------------------------------------------- other rewrites


def _square_of_root(x: Node) -> Node | None:
    if not _is(x, p.sqrt):
        return None
    inside = x.arguments[0]
    never_negative = (v.sqnorm2, v.sqdist, p.square, p.absolute, p.exp, p.exp2)
    return inside if any(_is(inside, operation) for operation in never_negative) else None


def _exponential_in_base_2(x: Node) -> Node | None:
    if not _is(x, p.multiply):
        return None
    for factor, rest in (x.arguments, x.arguments[::-1]):
        if _hoists(factor, rest):
            return p.exp2(p.multiply(rest, p.multiply(factor, constant(math.log2(math.e)))))
    return None


def _sum_of_product(x: Node) -> Node | None:
    return v.dot(*x.arguments) if _is(x, p.multiply) and _same_vectors(*x.arguments) else None


def _scalar_factor_out_of_sum(x: Node) -> Node | None:
    if not _is(x, p.multiply):
        return None
    for s, vector in (x.arguments, x.arguments[::-1]):
        if s.dim == 1 < vector.dim:
            return p.multiply(s, v.vector_sum(vector))
    return None


def _extract_of_concat(vector: Node, start: int, length: int) -> Node | None:
    if not _is(vector, indexing.concat):
        return None
    first, second = vector.arguments
    if start + length <= first.dim:
        return indexing.extract(first, attributes=(start, length))
    return indexing.extract(second, attributes=(start - first.dim, length)) if start >= first.dim else None


RULES = (
    Rule("x + 0 -> x", p.add, lambda x, y: x if _is_number(y, 0) else None),
    Rule("0 + x -> x", p.add, lambda x, y: y if _is_number(x, 0) else None),
    Rule("x + (-y) -> x - y", p.add, lambda x, y: p.subtract(x, y.arguments[0]) if _is(y, p.negate) else None),
    Rule("x - 0 -> x", p.subtract, lambda x, y: x if _is_number(y, 0) else None),
    Rule("0 - x -> -x", p.subtract, lambda x, y: p.negate(y) if _is_number(x, 0) else None),
    Rule("x - (-y) -> x + y", p.subtract, lambda x, y: p.add(x, y.arguments[0]) if _is(y, p.negate) else None),
    Rule("x 1 -> x", p.multiply, lambda x, y: x if _is_number(y, 1) else None),
    Rule("1 x -> x", p.multiply, lambda x, y: y if _is_number(x, 1) else None),
    Rule("x (-1) -> -x", p.multiply, lambda x, y: p.negate(x) if _is_number(y, -1) else None),
    Rule("(-1) x -> -x", p.multiply, lambda x, y: p.negate(y) if _is_number(x, -1) else None),
    Rule("x x -> x^2", p.multiply, lambda x, y: p.square(x) if x is y else None),
    Rule("products are grouped by how often their factors are computed", p.multiply, lambda x, y: (
        _regroup(p.multiply(x, y)))),
    Rule("-(x y) -> x (-y), y computed less often", p.negate, lambda x: (
        _regroup(p.negate(x)) if _is(x, p.multiply) else None)),
    Rule("-(-x) -> x", p.negate, lambda x: x.arguments[0] if _is(x, p.negate) else None),
    Rule("-(x - y) -> y - x", p.negate, lambda x: p.subtract(*x.arguments[::-1]) if _is(x, p.subtract) else None),
    Rule("x / 1 -> x", p.divide, lambda x, y: x if _is_number(y, 1) else None),
    Rule("x / y -> x (1 / y), y computed less often", p.divide, lambda x, y: (
        p.multiply(x, p.inverse(y)) if _hoists(y, x) else None)),
    Rule("exp(x y) -> 2^(x (y log2 e)), y computed less often", p.exp, _exponential_in_base_2),
    Rule("(sqrt x)^2 -> x, x not negative", p.square, _square_of_root),
    Rule("|x|_2 -> sqrt |x|_2^2", v.norm2, lambda x: p.sqrt(v.sqnorm2(x))),
    Rule("|x - y|^2 -> sqdist", v.sqnorm2, lambda x: v.sqdist(*x.arguments) if _is(x, p.subtract) else None),
    Rule("|x|^2 of a number -> x^2", v.sqnorm2, lambda x: p.square(x) if x.dim == 1 else None),
    Rule("sum of one component -> x", v.vector_sum, lambda x: x if x.dim == 1 else None),
    Rule("sum x^2 -> |x|^2", v.vector_sum, lambda x: v.sqnorm2(x.arguments[0]) if _is(x, p.square) else None),
    Rule("sum s x -> s sum x", v.vector_sum, _scalar_factor_out_of_sum),
    Rule("sum x y -> x | y", v.vector_sum, _sum_of_product),
    Rule("x | y of numbers -> x y", v.dot, lambda x, y: p.multiply(x, y) if x.dim == y.dim == 1 else None),
    Rule("all the components -> x", indexing.extract, lambda x, start, length: x if length == x.dim else None),
    Rule("components of [x, y] that lie in x or in y -> components of it", indexing.extract, _extract_of_concat),
    Rule("Re(x + i y) -> x", c.real_part, lambda z: (
        z.arguments[0] if _is(z, c.complex_pair) and 2 * z.arguments[0].dim == z.dim else None)),
    Rule("Im(x + i y) -> y", c.imaginary_part, lambda z: (
        z.arguments[1] if _is(z, c.complex_pair) and 2 * z.arguments[1].dim == z.dim else None)),
    Rule("repeat once -> x", v.broadcast, lambda x, dim: x if dim == x.dim else None),
)  # fmt: skip

_rules_of: dict[Operation, tuple[Rule, ...]] = {
    rule.operation: tuple(r for r in RULES if r.operation is rule.operation) for rule in RULES
}


@functools.lru_cache(maxsize=4096)
def simplify(root: Node) -> Node:
    """An equal formula, of the same dimension, that is cheaper to compute."""
    return _simplify(root, {})


def _simplify(root: Node, done: dict[Node, Node]) -> Node:
    """Rewrite bottom-up the nodes that are not ``done`` yet."""
    for node in topological(root, known=done):
        if isinstance(node, Call):
            result = _rewrite(
                call(node.operation, tuple(done[a] for a in node.arguments), node.attributes), done
            )
            done[result] = result
            done[node] = result
        else:
            done[node] = node
    return done[root]


def _rewrite(node: Call, done: dict[Node, Node]) -> Node:
    """Apply the first rule that holds to a call of simplified arguments, and simplify what it returns."""
    operation = node.operation
    assert isinstance(operation, Operation)
    if operation.is_componentwise and all(isinstance(a, Constant) for a in node.arguments):
        return _fold(operation, node.arguments, node)
    for rule in _rules_of.get(operation, ()):
        rewritten = rule.apply(*node.arguments, *node.attributes)
        if rewritten is not None and rewritten.dim == node.dim and rewritten is not node:
            return _simplify(rewritten, done)
    return node


def _fold(operation: Operation, arguments: tuple[Node, ...], node: Call) -> Node:
    """Compute an operation of constants now."""
    values = [np.asarray(a.value) for a in arguments if isinstance(a, Constant)]
    with np.errstate(all="ignore"):
        return constant(float(operation.reference(NUMPY.namespace, *values, *node.attributes)))
