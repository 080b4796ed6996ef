"""Owns the grammar of KeOps' formulas: reads a string, and builds the formula while reading.

From the loosest to the tightest: ``||``, ``&&``, comparisons, ``|`` (inner product), ``+ -``, ``* /``, unary minus, and
``**`` or ``^``, which group from the right. The same order as Python's, so ``-x**2`` is ``-(x**2)``.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..errors import AxisError, FormulaError, ShapeError
from ..formulas.operations import pointwise
from ..matrices.lazy_tensor import LazyTensor
from .aliases import CATEGORIES, parse_alias
from .functions import FUNCTIONS, KINDS
from .lexer import Kind, Token, error_at, suggestion, tokenize
from .scope import Scope

Value: TypeAlias = "LazyTensor | int | float | tuple[int, ...]"
_MAX_NESTING = 100  # well below Python's own limit, and beyond what people write


def parse_formula(text: str, scope: Scope) -> LazyTensor:
    """Read a formula; variables that it declares itself, such as ``Var(0, 3, 0)``, are added to the scope.

    Raises
    ------
    FormulaError
        If the text is no formula, names what does not exist, or if vector dimensions do not match: the message points
        at the place.

    Examples
    --------
    >>> scope = Scope.of(("x = Vi(3)", "y = Vj(3)"))
    >>> parse_formula("Exp(-SqDist(x, y))", scope).shape
    (1, 1)
    >>> parse_formula("Expp(-SqDist(x, y))", scope)
    Traceback (most recent call last):
    ...
    symbolic_matrices.errors.FormulaError: There is no function 'Expp'; did you mean 'Exp'?
        Expp(-SqDist(x, y))
        ^^^^
    """
    if not isinstance(text, str):
        raise FormulaError(f"A formula is a string such as 'Exp(-SqDist(x, y))', but got {text!r}.")
    return _Parser(text, scope).parse()


class _Parser:
    """Reads one formula from left to right."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._text, self._scope = text, scope
        self._tokens = tokenize(text)
        self._position = 0
        self._nesting = 0

    def parse(self) -> LazyTensor:
        start = self._next
        value = self._expression(0)
        if self._next.kind is not Kind.END:
            raise self._error(f"Expected an operator or the end but {_found(self._next)}.", self._next)
        return self._formula(value, start)

    # ------------------------------------------------------------------ words

    @property
    def _next(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._next
        self._position += 1
        return token

    def _expect(self, symbol: str, alternative: str = "") -> None:
        if self._next.text != symbol:
            raise self._error(f"Expected {symbol!r}{alternative} but {_found(self._next)}.", self._next)
        self._take()

    def _error(self, message: str, token: Token) -> FormulaError:
        return error_at(message, self._text, token.start, len(token.text))

    @contextlib.contextmanager
    def _pointing_at(self, token: Token) -> Iterator[None]:
        """Add the place to what the engine says of shapes."""
        try:
            yield
        except (ShapeError, AxisError, ArithmeticError) as error:
            raise self._error(str(error), token) from error

    # ------------------------------------------------------------------ grammar

    def _expression(self, minimum: int) -> Value:
        """Operands joined by the operators that bind at least as tightly as ``minimum``."""
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise self._error(f"Formulas nest at most {_MAX_NESTING} levels deep.", self._next)
        start = self._next
        left = self._prefix()
        while (row := _OPERATORS.get(self._next.text)) is not None and row.strength >= minimum:
            token, second = self._take(), self._next
            right = self._expression(row.strength + (0 if row.groups_from_right else 1))
            left = self._joined(row, (left, right), (start, token, second))
            if row.is_comparison and getattr(_OPERATORS.get(self._next.text), "is_comparison", False):
                raise self._error("Comparisons do not chain: write (a < b) && (b < c).", self._next)
        self._nesting -= 1
        return left

    def _joined(
        self, row: _Operator, operands: tuple[Value, Value], tokens: tuple[Token, Token, Token]
    ) -> Value:
        """An operator between two operands; numbers are computed at once where their operator gives a number."""
        first, token, second = tokens
        left, right = (self._operand(value, t) for value, t in zip(operands, (first, second), strict=True))
        with self._pointing_at(token):
            if row.of_numbers or isinstance(left, LazyTensor):
                return row.apply(left, right)
            return row.apply(LazyTensor(left), right)

    def _prefix(self) -> Value:
        if self._next.text not in ("-", "+"):
            return self._primary()
        sign, token = self._take(), self._next
        operand = self._operand(self._expression(_UNARY), token)
        return -operand if sign.text == "-" else operand

    def _primary(self) -> Value:
        token = self._take()
        if token.kind is Kind.NUMBER:
            return int(token.text) if token.text.isdecimal() else float(token.text)
        if token.kind is Kind.NAME:
            return self._call(token) if self._next.text == "(" else self._named(token)
        if token.text == "(":
            value = self._expression(0)
            self._expect(")")
            return value
        if token.text == "[":
            return self._list()
        raise self._error(f"Expected a variable, a number, a function or '(' but {_found(token)}.", token)

    def _named(self, token: Token) -> LazyTensor:
        if token.text in self._scope.names:
            return self._scope.names[token.text]
        if token.text in FUNCTIONS:
            raise self._error(f"{token.text} is a function: give its arguments, {token.text}(...).", token)
        near = suggestion(token.text, self._scope.names)
        raise self._error(f"There is no variable {token.text!r}{near}", token)

    def _list(self) -> tuple[int, ...]:
        """The integers between two brackets, of which the first is already read."""
        return tuple(self._integer(value, token) for token, value in self._separated("]"))

    def _separated(self, closing: str) -> list[tuple[Token, Value]]:
        """Expressions between commas, each with its first word, up to a closing symbol."""
        items: list[tuple[Token, Value]] = []
        while self._next.text != closing:
            if items:
                self._expect(",", f" or {closing!r}")
            token = self._next
            items.append((token, self._expression(0)))
        self._take()
        return items

    # ------------------------------------------------------------------ functions

    def _call(self, name: Token) -> Value:
        self._take()  # the parenthesis
        arguments = self._separated(")")
        if name.text in CATEGORIES or name.text == "Var":
            return self._variable(name)
        if name.text not in FUNCTIONS:
            raise self._error(f"There is no function {name.text!r}{suggestion(name.text, FUNCTIONS)}", name)
        row = FUNCTIONS[name.text]
        if not row.takes(len(arguments)):
            raise self._error(
                f"{row.name} takes ({row.describe()}) but {len(arguments)} arguments were given.", name
            )
        values = [
            self._argument(row.kind_of(position), value, token)
            for position, (token, value) in enumerate(arguments)
        ]
        with self._pointing_at(name):
            return row.apply(*values)

    def _argument(self, kind: str, value: Value, token: Token) -> Any:
        if kind == "x":
            return self._formula(value, token)
        if kind == "n":
            return self._integer(value, token)
        if not isinstance(value, tuple):
            raise self._error(f"Expected {KINDS[kind]}.", token)
        return value

    def _variable(self, name: Token) -> LazyTensor:
        """A variable that the formula declares itself; its declaration is the text just read."""
        end = self._tokens[self._position - 1]
        declaration = self._text[name.start : end.start + 1]
        with self._pointing_at(name):
            return self._scope.variable(parse_alias(declaration, len(self._scope.declared)))

    # ------------------------------------------------------------------ what values are

    def _operand(self, value: Value, token: Token) -> LazyTensor | int | float:
        if isinstance(value, tuple):
            raise self._error("A list of integers is no operand.", token)
        return value

    def _formula(self, value: Value, token: Token) -> LazyTensor:
        operand = self._operand(value, token)
        with self._pointing_at(token):
            return operand if isinstance(operand, LazyTensor) else LazyTensor(operand)

    def _integer(self, value: Value, token: Token) -> int:
        if not isinstance(value, int):
            raise self._error("Expected an integer.", token)
        return value


def _found(token: Token) -> str:
    return "the formula ends" if token.kind is Kind.END else f"got {token.text!r}"


@dataclass(frozen=True)
class _Operator:
    """An operator between two operands.

    Attributes
    ----------
    strength : operators of larger strength bind more tightly.
    of_numbers : whether two numbers give a number.
    """

    strength: int
    apply: Callable[[Any, Any], Any]
    of_numbers: bool = False
    groups_from_right: bool = False
    is_comparison: bool = False


def _power(x: Any, y: Any) -> Any:
    """Small powers of integers are integers; other numbers meet in the kernel, which has no complex or huge ones."""
    if isinstance(x, LazyTensor) or isinstance(y, LazyTensor):
        return x**y
    if isinstance(x, int) and isinstance(y, int) and 0 <= y <= _MAX_EXPONENT:
        return x**y
    return LazyTensor(x) ** y


_UNARY = 7
_MAX_EXPONENT = 64
_POWER = _Operator(8, _power, of_numbers=True, groups_from_right=True)
# fmt: off
_OPERATORS = {
    "||": _Operator(1, lambda x, y: x._apply(pointwise.logical_or, y)),
    "&&": _Operator(2, lambda x, y: x._apply(pointwise.logical_and, y)),
    "<": _Operator(3, operator.lt, is_comparison=True),
    "<=": _Operator(3, operator.le, is_comparison=True),
    ">": _Operator(3, operator.gt, is_comparison=True),
    ">=": _Operator(3, operator.ge, is_comparison=True),
    "==": _Operator(3, operator.eq, is_comparison=True),
    "!=": _Operator(3, operator.ne, is_comparison=True),
    "|": _Operator(4, lambda x, y: x.dot(y)),
    "+": _Operator(5, operator.add, of_numbers=True),
    "-": _Operator(5, operator.sub, of_numbers=True),
    "*": _Operator(6, operator.mul, of_numbers=True),
    "/": _Operator(6, operator.truediv, of_numbers=True),
    "**": _POWER,
    "^": _POWER,
}
# fmt: on
