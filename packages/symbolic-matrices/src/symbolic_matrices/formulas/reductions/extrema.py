"""Minima, maxima and where they are. Ties go to the smallest index; a NaN wins, as in NumPy."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from ...arrays import Array, ArrayLibrary
from .monoid import Returns, SelectingReduction, State


class Order(enum.Enum):
    """Which end of the order is looked for. The values are the C spelling."""

    SMALLEST = "smallest"
    LARGEST = "largest"


@dataclass(frozen=True)
class Extremum(SelectingReduction):
    """min_j F_ij or max_j F_ij, component by component, and the index j that reaches it."""

    order: Order = Order.SMALLEST

    @property
    def name(self) -> str:
        word = "min" if self.order is Order.SMALLEST else "max"
        return {Returns.VALUES: word, Returns.INDICES: f"arg{word}"}.get(self.returns, f"{word}_arg{word}")

    @property
    def has_identity(self) -> bool:
        return self.returns is Returns.VALUES

    def returning(self, returns: Returns) -> Extremum:
        return replace(self, returns=returns)

    def spelling(self, dim: str) -> str:
        return f"Extremum<{dim}, Order::{self.order.value}, {self.returns.value}>"

    def identity(self, library: ArrayLibrary, like: Array) -> State:
        worst = float("inf") if self.order is Order.SMALLEST else float("-inf")
        nowhere = library.full(like.shape, -1, "int64", library.device(like))
        return library.namespace.full_like(like, worst), nowhere

    def absorb(self, library: ArrayLibrary, block: Array, first: int) -> State:
        xp = library.namespace
        value = (xp.amin if self.order is Order.SMALLEST else xp.amax)(block, -2)
        reached = (block == value[..., None, :]) | (block != block)
        columns = block.shape[-2]
        positions = library.integers(0, columns, library.device(block))[:, None]
        return value, first + xp.amin(xp.where(reached, positions, xp.full_like(positions, columns)), -2)

    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        xp = library.namespace
        better = right[0] < left[0] if self.order is Order.SMALLEST else right[0] > left[0]
        take_right = (left[1] < 0) | ((better | (right[0] != right[0])) & (left[0] == left[0]))
        return xp.where(take_right, right[0], left[0]), xp.where(take_right, right[1], left[1])

    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        return self.keep(*state)
