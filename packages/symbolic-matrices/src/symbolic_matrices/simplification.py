"""Owns the rewrite rules: one table, each rule with its words, and the driver that applies them bottom-up.

Two kinds of rules: algebra that saves operations, and hoisting, which moves work from the pairs (i, j) to the rows,
the columns or the parameters, where it is done once instead of N times.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .expressions import Call, Constant, Node, call, constant, topological
from .operations import Operation
from .operations import pointwise as p
from .operations import vectors as v


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


def _group_numbers(s: Node, t: Node) -> Node | None:
    """s (t x) -> (s t) x, if this multiplies two numbers first, or two factors that hoist out of x."""
    if not _is(t, p.multiply):
        return None
    for inner, x in (t.arguments, t.arguments[::-1]):
        saves_products = s.dim == inner.dim == 1 < x.dim
        hoists = _hoists(s, x) and _hoists(inner, x) and s.axes == inner.axes
        if (saves_products or hoists) and not (_hoists(x, s) and x.dim <= s.dim):
            return p.multiply(p.multiply(s, inner), x)
    return None


def _negate_cheaper_factor(x: Node) -> Node | None:
    if not _is(x, p.multiply):
        return None
    a, b = x.arguments
    if _hoists(b, a):
        return p.multiply(a, p.negate(b))
    return p.multiply(p.negate(a), b) if _hoists(a, b) else None


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
    Rule("(-x) (-y) -> x y", p.multiply, lambda x, y: (
        p.multiply(x.arguments[0], y.arguments[0]) if _is(x, p.negate) and _is(y, p.negate) else None)),
    Rule("s (t x) -> (s t) x", p.multiply, _group_numbers),
    Rule("(t x) s -> (s t) x", p.multiply, lambda x, s: _group_numbers(s, x)),
    Rule("-(-x) -> x", p.negate, lambda x: x.arguments[0] if _is(x, p.negate) else None),
    Rule("-(x y) -> x (-y), y computed less often", p.negate, _negate_cheaper_factor),
    Rule("-(x - y) -> y - x", p.negate, lambda x: p.subtract(*x.arguments[::-1]) if _is(x, p.subtract) else None),
    Rule("x / 1 -> x", p.divide, lambda x, y: x if _is_number(y, 1) else None),
    Rule("x / y -> x (1 / y), y computed less often", p.divide, lambda x, y: (
        p.multiply(x, p.inverse(y)) if _hoists(y, x) else None)),
    Rule("exp(x y) -> 2^(x (y log2 e)), y computed less often", p.exp, _exponential_in_base_2),
    Rule("(sqrt x)^2 -> x", p.square, lambda x: x.arguments[0] if _is(x, p.sqrt) else None),
    Rule("|x|_2 -> sqrt |x|_2^2", v.norm2, lambda x: p.sqrt(v.sqnorm2(x))),
    Rule("|x - y|^2 -> sqdist", v.sqnorm2, lambda x: v.sqdist(*x.arguments) if _is(x, p.subtract) else None),
    Rule("|x|^2 of a number -> x^2", v.sqnorm2, lambda x: p.square(x) if x.dim == 1 else None),
    Rule("sum of one component -> x", v.vector_sum, lambda x: x if x.dim == 1 else None),
    Rule("sum x^2 -> |x|^2", v.vector_sum, lambda x: v.sqnorm2(x.arguments[0]) if _is(x, p.square) else None),
    Rule("sum s x -> s sum x", v.vector_sum, _scalar_factor_out_of_sum),
    Rule("sum x y -> x | y", v.vector_sum, _sum_of_product),
    Rule("x | y of numbers -> x y", v.dot, lambda x, y: p.multiply(x, y) if x.dim == y.dim == 1 else None),
    Rule("repeat once -> x", v.broadcast, lambda x, dim: x if dim == x.dim else None),
)  # fmt: skip

_rules_of: dict[Operation, tuple[Rule, ...]] = {
    rule.operation: tuple(r for r in RULES if r.operation is rule.operation) for rule in RULES
}


@functools.lru_cache(maxsize=4096)
def simplify(root: Node) -> Node:
    """An equal formula, of the same dimension, that is cheaper to compute."""
    new: dict[Node, Node] = {}
    for node in topological(root):
        new[node] = (
            node if not isinstance(node, Call) else _rewrite(node, tuple(new[a] for a in node.arguments))
        )
    return new[root]


def _rewrite(node: Call, arguments: tuple[Node, ...]) -> Node:
    """Apply the first rule that holds to a call of simplified arguments, and simplify what it returns."""
    operation = node.operation
    assert isinstance(operation, Operation)
    if operation.is_componentwise and all(isinstance(a, Constant) for a in arguments):
        return _fold(operation, arguments, node)
    for rule in _rules_of.get(operation, ()):
        rewritten = rule.apply(*arguments, *node.attributes)
        if rewritten is not None and rewritten.dim == node.dim:
            return simplify(rewritten)
    return call(operation, arguments, node.attributes)


def _fold(operation: Operation, arguments: tuple[Node, ...], node: Call) -> Node:
    """Compute an operation of constants now."""
    values = [np.asarray(a.value) for a in arguments if isinstance(a, Constant)]
    with np.errstate(all="ignore"):
        return constant(float(operation.reference(np, *values, *node.attributes)))
