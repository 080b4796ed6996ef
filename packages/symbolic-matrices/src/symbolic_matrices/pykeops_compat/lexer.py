"""Owns the words of KeOps' formula language and the messages that point into a formula. Knows no grammar."""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import FormulaError


class Kind(enum.Enum):
    """The kinds of words. The values name them in messages."""

    NUMBER = "a number"
    NAME = "a name"
    SYMBOL = "a symbol"
    END = "the end"


@dataclass(frozen=True)
class Token:
    """A word and where it starts."""

    kind: Kind
    text: str
    start: int


_WORD = re.compile(
    r"(?P<NUMBER>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<NAME>[A-Za-z_]\w*)"
    r"|(?P<SYMBOL>\*\*|&&|\|\||<=|>=|==|!=|[-+*/^|<>=(),\[\]])"
)
_SPACE = re.compile(r"\s*")


def tokenize(text: str) -> list[Token]:
    """Split a formula into words; the last one is the end."""
    tokens = []
    position = _skip_spaces(text, 0)
    while position < len(text):
        match = _WORD.match(text, position)
        if match is None:
            raise error_at(f"{text[position]!r} is no part of a formula.", text, position)
        assert match.lastgroup is not None
        tokens.append(Token(Kind[match.lastgroup], match.group(), position))
        position = _skip_spaces(text, match.end())
    return [*tokens, Token(Kind.END, "", len(text))]


def _skip_spaces(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None  # it matches nothing, too
    return match.end()


_SHOWN = 50  # characters of a long formula that are shown on each side of a mistake


def error_at(message: str, text: str, start: int, length: int = 1) -> FormulaError:
    """An error whose message shows the formula, with carets below the mistake."""
    first = max(0, start - _SHOWN)
    last = min(len(text), start + length + _SHOWN)
    before, after = "..." if first > 0 else "", "..." if last < len(text) else ""
    line = before + re.sub(r"\s", " ", text[first:last]) + after
    carets = " " * (len(before) + start - first) + "^" * max(1, min(length, last - start))
    return FormulaError(f"{message}\n    {line}\n    {carets}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """ ", did you mean 'Exp'?", or nothing if no known name is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3) or [k for k in known if k.lower() == name.lower()]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
