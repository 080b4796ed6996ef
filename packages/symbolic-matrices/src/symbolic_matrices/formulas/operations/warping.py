"""Rows of soft dynamic time warping, closed under differentiation of any order.

The alignment is the gradient of the warping cost in the cost matrix, and the curvature of k directions is the gradient
of its derivative number k along them. All are homogeneous in the costs and gamma, which gives the derivatives in gamma.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...arrays import Array, Namespace
from ...errors import ShapeError
from ..expressions import Node
from .indexing import concat, extract
from .pointwise import add, divide, multiply, negate, square, subtract
from .table import Operand, Operation, number, row
from .vectors import broadcast, dot, tensorprod

COSTS = (0.0, 2.0)
TEMPERATURES = (0.3, 1.0)
Number: TypeAlias = Any  # an array, or a dual number of them


# ---------------------------------------------------------------- reference


@dataclass(frozen=True)
class Dual:
    """value + epsilon tangent, where epsilon^2 = 0."""

    value: Number
    tangent: Number

    def __add__(self, other: Dual) -> Dual:
        return Dual(self.value + other.value, self.tangent + other.tangent)

    def __sub__(self, other: Dual) -> Dual:
        return Dual(self.value - other.value, self.tangent - other.tangent)

    def __mul__(self, other: Dual) -> Dual:
        return Dual(self.value * other.value, self.value * other.tangent + self.tangent * other.value)

    def __truediv__(self, other: Dual) -> Dual:
        quotient = self.value / other.value
        return Dual(quotient, (self.tangent - quotient * other.tangent) / other.value)


def _exp(xp: Namespace, x: Number) -> Number:
    if not isinstance(x, Dual):
        return xp.exp(x)
    e = _exp(xp, x.value)
    return Dual(e, e * x.tangent)


def _log(xp: Namespace, x: Number) -> Number:
    if not isinstance(x, Dual):
        return xp.log(x)
    return Dual(_log(xp, x.value), x.tangent / x.value)


def _primal(x: Number) -> Array:
    return _primal(x.value) if isinstance(x, Dual) else x


def _highest(x: Number) -> Array:
    return _highest(x.tangent) if isinstance(x, Dual) else x


def _constant(value: Array, like: Number) -> Number:
    """A number as nested as another one, all of whose tangents are 0."""
    return (
        Dual(_constant(value, like.value), _constant(0 * value, like.value))
        if isinstance(like, Dual)
        else value
    )


def _soft_minimum(xp: Namespace, terms: list[Number]) -> Number:
    shift = _constant(functools.reduce(xp.minimum, map(_primal, terms)), terms[0])
    exponentials = (_exp(xp, shift - term) for term in terms)
    return shift - _log(xp, functools.reduce(lambda a, b: a + b, exponentials))


def _paths(xp: Namespace, costs: list[Number], n: int, m: int) -> tuple[list[Number], list[Number]]:
    """The soft minimum of the costs of the paths to each cell, without its own cost and with it."""
    before: list[Number] = []
    total: list[Number] = []
    for cell in range(n * m):
        k, l = divmod(cell, m)  # noqa: E741
        steps = [(k > 0, m), (l > 0, 1), (k > 0 and l > 0, m + 1)]
        terms = [total[cell - step] for exists, step in steps if exists]
        before.append(_soft_minimum(xp, terms) if terms else _constant(0 * _primal(costs[0]), costs[0]))
        total.append(before[-1] + costs[cell])
    return before, total


def _align(xp: Namespace, costs: list[Number], n: int, m: int) -> Array:
    before, total = _paths(xp, costs, n, m)
    reached: list[Number] = [None] * (n * m)
    for cell in reversed(range(n * m)):
        k, l = divmod(cell, m)  # noqa: E741
        last = _primal(costs[0]) * 0 + (1 if cell == n * m - 1 else 0)
        reached[cell] = _constant(last, costs[0])
        for exists, step in ((k + 1 < n, m), (l + 1 < m, 1), (k + 1 < n and l + 1 < m, m + 1)):
            if exists:
                share = _exp(xp, before[cell + step] - total[cell])
                reached[cell] = reached[cell] + reached[cell + step] * share
    return xp.stack([_highest(x) for x in reached], -1)


def _numbers(cost: Array, directions: list[Array], cell: int) -> Number:
    """The cost of a cell, with one nested tangent per direction."""
    number: Number = cost[..., cell]
    for direction in directions:
        number = Dual(number, _constant(direction[..., cell] + 0 * cost[..., cell], number))
    return number


def _reference(xp: Namespace, cost: Array, gamma: Array, n: int, m: int) -> Array:
    scaled = cost / gamma
    _, total = _paths(xp, [scaled[..., cell] for cell in range(n * m)], n, m)
    return total[-1][..., None] * gamma


def _curvature_reference(
    xp: Namespace, cost: Array, gamma: Array, directions: Array, n: int, m: int
) -> Array:
    size = n * m
    parts = [directions[..., k : k + size] / gamma for k in range(0, directions.shape[-1], size)]
    scaled = cost / gamma
    return _align(xp, [_numbers(scaled, parts, cell) for cell in range(size)], n, m)


def _alignment_reference(xp: Namespace, cost: Array, gamma: Array, n: int, m: int) -> Array:
    scaled = cost / gamma
    return _align(xp, [scaled[..., cell] for cell in range(n * m)], n, m)


# ---------------------------------------------------------------- generated text


def _warping(order: int, n: int, m: int, at: str) -> str:
    return f"const Warping<{order}, {n}, {m}, V> warping([&](int d, int k) {{ return {at}; }});"


def _statement(out: Operand, cost: Operand, gamma: Operand, n: int, m: int) -> str:
    at = f"{cost['k']} / {gamma[0]}"
    return f"{{\n    {_warping(0, n, m, at)}\n    {out[0]} = warping.total[{n * m - 1}] * {gamma[0]};\n}}"


def _align_statement(order: int, out: Operand, n: int, m: int, at: str) -> str:
    write = f"warping.align([&](int k, const V& x) {{ {out['k']} = x; }});"
    return f"{{\n    {_warping(order, n, m, at)}\n    {write}\n}}"


def _alignment_statement(out: Operand, cost: Operand, gamma: Operand, n: int, m: int) -> str:
    return _align_statement(0, out, n, m, f"{cost['k']} / {gamma[0]}")


def _curvature_statement(
    out: Operand, cost: Operand, gamma: Operand, directions: Operand, n: int, m: int
) -> str:
    at = f"(d < 0 ? {cost['k']} : {directions[f'(d < 0 ? 0 : d) * {n * m} + k']}) / {gamma[0]}"
    return _align_statement(directions.dim // (n * m), out, n, m, at)


# ---------------------------------------------------------------- rows


def _check(dims: tuple[int, ...], n: int, m: int) -> int:
    if dims[0] != n * m or dims[1] != 1 or (len(dims) > 2 and dims[2] % (n * m)):
        raise ShapeError(
            f"Soft-DTW of {n} and {m} steps needs {n * m} costs and a number gamma but got {dims}."
        )
    return n * m


def _derivative(g: Node, cost: Node, gamma: Node, n: int, m: int) -> tuple[Node, Node]:
    alignment = softdtw_alignment(cost, gamma, attributes=(n, m))
    excess = subtract(softdtw(cost, gamma, attributes=(n, m)), dot(alignment, cost))
    return multiply(g, alignment), divide(multiply(g, excess), gamma)


def _alignment_derivative(g: Node, cost: Node, gamma: Node, n: int, m: int) -> tuple[Node, Node]:
    curvature = softdtw_curvature(cost, gamma, g, attributes=(n, m))
    return curvature, negate(divide(dot(curvature, cost), gamma))


def _curvature_derivative(
    g: Node, cost: Node, gamma: Node, directions: Node, n: int, m: int
) -> tuple[Node, Node, Node]:
    size, order = n * m, directions.dim // (n * m)
    higher = softdtw_curvature(cost, gamma, concat(directions, g), attributes=(n, m))
    own = dot(g, softdtw_curvature(cost, gamma, directions, attributes=(n, m)))
    in_gamma = negate(divide(add(multiply(number(order), own), dot(higher, cost)), gamma))
    parts: list[Node] = [extract(directions, attributes=(k * size, size)) for k in range(order)]
    replaced = (functools.reduce(concat, [*parts[:k], g, *parts[k + 1 :]]) for k in range(order))
    in_directions = (softdtw_curvature(cost, gamma, part, attributes=(n, m)) for part in replaced)
    return higher, in_gamma, functools.reduce(concat, in_directions)


# fmt: off
softdtw: Operation = row(
    name="softdtw", doc="Soft minimum, at temperature gamma, of the costs of the monotone paths through a matrix.",
    domain=(COSTS, TEMPERATURES), dims=(6, 1), attributes=(2, 3), method=False,
    dim=lambda dims, n, m: min(1, _check(dims, n, m)),
    statement=_statement, reference=_reference, derivative=_derivative,
)
softdtw_alignment: Operation = row(
    name="softdtw_alignment", doc="Gradient of softdtw in its costs: how much of the paths goes through each cell.",
    domain=(COSTS, TEMPERATURES), dims=(6, 1), attributes=(2, 3), method=False, dim=_check,
    statement=_alignment_statement, reference=_alignment_reference, derivative=_alignment_derivative,
)
softdtw_curvature: Operation = row(
    name="softdtw_curvature", doc="Derivative of softdtw_alignment along directions of the costs, one after the other.",
    domain=(COSTS, TEMPERATURES, COSTS), dims=(6, 1, 6), attributes=(2, 3), method=False, dim=_check,
    statement=_curvature_statement, reference=_curvature_reference, derivative=_curvature_derivative,
)
# fmt: on


def softdtw_sqdist(x: Node, y: Node, gamma: Node) -> Node:
    """Soft-DTW of two sequences of numbers, whose steps cost (x_k - y_l)^2."""
    rows = tensorprod(x, broadcast(number(1), attributes=(y.dim,)))
    columns = tensorprod(broadcast(number(1), attributes=(x.dim,)), y)
    return softdtw(square(subtract(rows, columns)), gamma, attributes=(x.dim, y.dim))
