"""Owns KeOps' declarations of variables, such as ``"x = Vi(3)"``."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import FormulaError
from .lexer import Kind, error_at, tokenize

# the axis of a category: 0 for x_i, 1 for y_j, 2 for parameters
CATEGORIES = {"Vi": 0, "Vj": 1, "Pm": 2, "Vx": 0, "Vy": 1}
_FORMS = '"x = Vi(3)", "y = Vj(1, 3)", "p = Pm(1)" or "Var(0, 3, 0)"'


@dataclass(frozen=True)
class Alias:
    """A variable: its name, where it stands among the arguments, its dimension and its axis (0: i, 1: j, 2: none)."""

    name: str
    position: int
    dim: int
    axis: int


def parse_alias(text: str, position: int) -> Alias:
    """Read one declaration; ``position`` is its place in the list, which counts unless the text gives another.

    Examples
    --------
    >>> parse_alias("y = Vj(1, 3)", 0)
    Alias(name='y', position=1, dim=3, axis=1)
    """
    if not isinstance(text, str):
        raise FormulaError(f"A variable is declared by a string such as {_FORMS}, but got {text!r}.")
    tokens = tokenize(text)
    words = [token.text for token in tokens[:-1]]
    name = ""
    if len(words) > 2 and words[1] == "=" and tokens[0].kind is Kind.NAME:
        name, words = words[0], words[2:]
    numbers = words[2:-1:2]
    is_call = words[1:2] == ["("] and words[-1:] == [")"] and set(words[3:-1:2]) <= {","}
    if not (is_call and len(words) == 2 + 2 * len(numbers) and all(map(str.isdecimal, numbers))):
        raise error_at(f"A variable is declared as {_FORMS}, but got:", text, 0, len(text))
    return _alias(text, name, words[0], [int(number) for number in numbers], position)


def _alias(text: str, name: str, category: str, numbers: list[int], position: int) -> Alias:
    if category == "Var" and len(numbers) == 3 and numbers[2] in (0, 1, 2):
        return Alias(name, numbers[0], numbers[1], numbers[2])
    if category not in CATEGORIES or len(numbers) not in (1, 2):
        raise error_at(f"A variable is declared as {_FORMS}, but got:", text, 0, len(text))
    return Alias(name, numbers[0] if len(numbers) == 2 else position, numbers[-1], CATEGORIES[category])
