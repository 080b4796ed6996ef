"""Owns formulas as people write them, for ``repr`` and for messages."""

from __future__ import annotations

from .expressions import Call, Constant, Node
from .operations import Operation

TEXT_DEPTH = 10  # sub-expressions that are shared are spelled again


def print_formula(formula: Node, depth: int = TEXT_DEPTH) -> str:
    """The formula as people write it: ``exp(-sqdist(x0, y1)) * y2``. What is nested too deeply reads ``...``."""
    if isinstance(formula, Constant):
        return f"{formula.value:g}"
    if not isinstance(formula, Call):
        return repr(formula)
    if depth == 0:
        return "..."
    operation = formula.operation
    assert isinstance(operation, Operation)
    if operation.text:
        inside = (_parenthesised(argument, depth - 1) for argument in formula.arguments)
        return operation.text.format(*inside, attributes=formula.attributes)
    arguments = [print_formula(argument, depth - 1) for argument in formula.arguments]
    return f"{operation.name}({', '.join([*arguments, *map(str, formula.attributes)])})"


def _parenthesised(node: Node, depth: int) -> str:
    text = print_formula(node, depth)
    is_infix = isinstance(node, Call) and bool(getattr(node.operation, "text", "")) and text != "..."
    return f"({text})" if is_infix or text.startswith("-") else text
