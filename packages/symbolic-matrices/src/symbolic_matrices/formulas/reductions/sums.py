"""The sum, and the count of the values that are not 0."""

from __future__ import annotations

from dataclasses import dataclass

from ...arrays import Array, ArrayLibrary
from ..expressions import Node
from .accumulation import running_sum
from .monoid import Kind, Reduction, SmoothReduction, State


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
        return f"Sum<{dim}, {self.accumulate.value}>"

    def identity(self, library: ArrayLibrary, like: Array) -> State:
        return running_sum(self.accumulate).of(library, like[..., None, :][..., :0, :])

    def absorb(self, library: ArrayLibrary, block: Array, first: int) -> State:
        return running_sum(self.accumulate).of(library, block)

    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        return running_sum(self.accumulate).merge(library, left, right)

    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        return (running_sum(self.accumulate).value(state),)

    def cotangent(self, formula: Node, output: Node, upstream: Node) -> Node:
        return upstream


@dataclass(frozen=True)
class Count(Reduction):
    """The number of columns where F_ij is not 0 (NaN is not 0, as in NumPy)."""

    @property
    def name(self) -> str:
        return "count"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (Kind.INDICES,)

    @property
    def absorbs_components(self) -> bool:
        return True

    def spelling(self, dim: str) -> str:
        return f"Count<{dim}>"

    def identity(self, library: ArrayLibrary, like: Array) -> State:
        return (library.full(like.shape, 0, "int64", library.device(like)),)

    def absorb(self, library: ArrayLibrary, block: Array, first: int) -> State:
        return (library.astype(block != 0, "int64").sum(-2),)

    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        return (left[0] + right[0],)

    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        return state
