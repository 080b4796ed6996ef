"""Owns formulas as people write them, for ``repr``, for messages, and for the names of kernels."""

from __future__ import annotations

import re
from itertools import accumulate

from .expressions import Call, Constant, Node
from .operations import Operation

TEXT_DEPTH = 10  # sub-expressions that are shared are spelled again
NAME_DEPTH, NAME_LENGTH = 6, 48  # of the same in names: levels, and letters
_WORDS = (
    ("**", "power"), ("*", "times"), ("/", "over"), ("+", "plus"), ("-", "minus"), ("...", "etc"),
    ("<=", "at_most"), ("<", "below"), ("==", "equals"), ("!=", "differs_from"), ("&", "and"), ("|", "or"),
)  # fmt: skip


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


def readable_name(formula: Node) -> str:
    """The formula as a word of C++: ``exp2_sqdist_x0_y1_times_y2``, without what is nested deeply."""
    text = print_formula(formula, NAME_DEPTH)
    for sign, word in _WORDS:
        text = text.replace(sign, f" {word} ")
    words = re.findall("[0-9A-Za-z]+", text)
    lengths = accumulate(len(word) for word in words)
    return "_".join(word for word, length in zip(words, lengths, strict=True) if length <= NAME_LENGTH)
