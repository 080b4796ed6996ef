"""The sum."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, ArrayLibrary
from ..expressions import Node
from .monoid import SmoothReduction, State


@dataclass(frozen=True)
class Sum(SmoothReduction):
    """sum_j F_ij."""

    @property
    def name(self) -> str:
        return "sum"

    @property
    def absorbs_components(self) -> bool:
        return True

    def spelling(self, dim: str) -> str:
        return f"Sum<{dim}>"

    def identity(self, library: ArrayLibrary, like: Array) -> State:
        return (library.namespace.zeros_like(like),)

    def absorb(self, library: ArrayLibrary, block: Array, first: int) -> State:
        return (block.sum(-2),)

    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        return (left[0] + right[0],)

    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        return state

    def cotangent(self, formula: Node, output: Node, upstream: Node) -> Node:
        return upstream
