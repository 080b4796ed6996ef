"""Owns the variables that the formulas of one program may read, by name and by position."""

from __future__ import annotations

from ..errors import FormulaError, ShapeError
from ..matrices.bindings import Binding
from ..matrices.lazy_tensor import LazyTensor, Pm, Vi, Vj
from .aliases import Alias, parse_alias
from .data import placeholders_of
from .lexer import suggestion

_VARIABLES = (Vi, Vj, Pm)  # by axis


class Scope:
    """The variables that formulas may read: by name, and by their position among the arguments."""

    def __init__(self, aliases: tuple[Alias, ...]) -> None:
        self.names: dict[str, LazyTensor] = {}
        self.declared: dict[int, Alias] = {}
        self._variables: dict[int, LazyTensor] = {}
        for alias in aliases:
            variable = self.variable(alias)
            if alias.name in self.names:
                raise FormulaError(f"Two variables are called {alias.name!r}.")
            if alias.name:
                self.names[alias.name] = variable

    @classmethod
    def of(cls, texts: tuple[str, ...]) -> Scope:
        return cls(tuple(parse_alias(text, position) for position, text in enumerate(texts)))

    def variable(self, alias: Alias) -> LazyTensor:
        """The variable at a position, the same one each time that it is asked for."""
        known = self.declared.setdefault(alias.position, alias)
        if (known.dim, known.axis) != (alias.dim, alias.axis):
            raise ShapeError(
                f"Argument {alias.position} is declared twice, with dimensions {known.dim} and {alias.dim} and "
                f"categories {_category(known)} and {_category(alias)}."
            )
        if alias.position not in self._variables:
            make = _VARIABLES[alias.axis]
            self._variables[alias.position] = make(alias.position, alias.dim)
        return self._variables[alias.position]

    def find(self, name: str) -> LazyTensor:
        """A variable by its name, or by its declaration, ``"Var(0, 3, 1)"``."""
        if name in self.names:
            return self.names[name]
        if "(" in name:
            return self.variable(parse_alias(name, len(self.declared)))
        raise FormulaError(f"There is no variable {name!r}{suggestion(name, self.names)}")

    def placeholders(self) -> dict[int, Binding]:
        """The variables by position, read or not."""
        return placeholders_of(*self._variables.values())

    def check_positions(self) -> None:
        """The arguments must be numbered 0, 1, 2..., without gaps."""
        missing = sorted(set(range(max(self.declared, default=-1) + 1)) - set(self.declared))
        if missing:
            raise FormulaError(f"No variable stands for argument number {missing[0]}: declare it, too.")


def _category(alias: Alias) -> str:
    return ("Vi", "Vj", "Pm")[alias.axis]
