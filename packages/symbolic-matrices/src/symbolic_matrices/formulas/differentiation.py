"""Owns symbolic differentiation: one reverse walk over the rows of the operations. Knows no operation by name."""

from __future__ import annotations

import functools
from collections.abc import Callable

from .expressions import Axis, Call, Node, Variable, constant, topological, variable, variables_of
from .operations.indexing import concat, extract, pad
from .operations.pointwise import add
from .operations.vectors import broadcast, dot, vector_sum


@functools.lru_cache(maxsize=4096)
def gradients(formula: Node, cotangent: Node, wanted: tuple[Variable, ...]) -> tuple[Node, ...]:
    """Symbolic vector-Jacobian products.

    For a formula F of dimension D and a cotangent e of dimension D, returns the formulas
    ``(dF/dv)^T e``, one of dimension dim(v) for each wanted variable v. Variables that F does not depend on get zero.
    """
    if cotangent.dim != formula.dim:
        raise ValueError(
            f"The cotangent has dimension {cotangent.dim}, the formula {formula.dim}; they must be equal."
        )
    relevant = _depend_on(formula, frozenset(wanted))
    received: dict[Node, Node] = {formula: cotangent}
    for node in reversed(topological(formula)):
        if node in received and isinstance(node, Call) and node in relevant:
            _send_back(node, received, relevant)
    return tuple(received.get(v, broadcast(constant(0.0), attributes=(v.dim,))) for v in wanted)


def directional_derivative(formula: Node, directions: tuple[tuple[Variable, Node], ...]) -> Node:
    """The formula dF/dv . t, summed over the given pairs (v, t) of a variable and its direction.

    <u, dF/dv . t> = <(dF/dv)^T u, t> is linear in u: differentiating it once more gives dF/dv . t, without u.
    """
    moving = tuple(v for v, _ in directions)
    if not directions:
        return broadcast(constant(0.0), attributes=(formula.dim,))

    def pushed(dual: Node) -> Node:
        products = (dot(g, t) for g, (_, t) in zip(gradients(formula, dual, moving), directions, strict=True))
        return functools.reduce(add, products)

    return _coefficient(pushed, formula.dim)


def jacobian(formula: Node, v: Variable) -> Node:
    """dF/dv, row by row: one row per component of F."""
    rows = (gradients(formula, _basis_vector(k, formula.dim), (v,))[0] for k in range(formula.dim))
    return functools.reduce(concat, rows)


def divergence(formula: Node, v: Variable) -> Node:
    """The trace of dF/dv, for F of the dimension of v."""
    assert formula.dim == v.dim
    terms = (
        extract(gradients(formula, _basis_vector(k, v.dim), (v,))[0], attributes=(k, 1)) for k in range(v.dim)
    )
    return functools.reduce(add, terms)


def _basis_vector(k: int, dim: int) -> Node:
    return constant(1.0) if dim == 1 else pad(constant(1.0), attributes=(k, dim))


def transposed(linear: Callable[[Node], Node], dim: int, vector: Node) -> Node:
    """A' v, from a formula ``linear(u)`` that is A u for u of dimension ``dim``."""
    return _coefficient(lambda dual: dot(linear(dual), vector), dim)


def _coefficient(linear_form: Callable[[Node], Node], dim: int) -> Node:
    """The vector c such that ``linear_form(u)`` is <c, u>, for u of dimension ``dim``: its gradient."""
    dual = variable(_UNUSED_POSITION, Axis.PARAMETER, dim)
    (coefficient,) = gradients(linear_form(dual), constant(1.0), (dual,))
    assert dual not in variables_of(coefficient)
    return coefficient


_UNUSED_POSITION = 1 << 30  # of a variable that no list of arrays reaches


def _depend_on(formula: Node, wanted: frozenset[Node]) -> frozenset[Node]:
    """The nodes below the formula that depend on a wanted variable."""
    found: set[Node] = set()
    for node in topological(formula):
        if node in wanted or any(argument in found for argument in node.arguments):
            found.add(node)
    return frozenset(found)


def _send_back(node: Call, received: dict[Node, Node], relevant: frozenset[Node]) -> None:
    """Add what a call sends to the cotangents of its arguments."""
    row = node.operation
    contributions = row.derivative(received[node], *node.arguments, *node.attributes)  # type: ignore[attr-defined]
    for argument, contribution in zip(node.arguments, contributions, strict=True):
        if contribution is None or argument not in relevant:
            continue
        fitted = _fit(contribution, argument.dim)
        received[argument] = add(received[argument], fitted) if argument in received else fitted


def _fit(contribution: Node, dim: int) -> Node:
    """Adjoint of the broadcasting of 1 against D."""
    if contribution.dim == dim:
        return contribution
    return vector_sum(contribution) if dim == 1 else broadcast(contribution, attributes=(dim,))
