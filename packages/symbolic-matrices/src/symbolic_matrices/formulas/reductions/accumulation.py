"""Owns sums on the reference backend: the states of a running sum, for each way to accumulate."""

from __future__ import annotations

import abc

from ...arrays import Array, ArrayLibrary
from .monoid import Accumulate, State


class RunningSum(abc.ABC):
    """A sum of arrays as a state that merges with others."""

    @abc.abstractmethod
    def of(self, library: ArrayLibrary, terms: Array) -> State:
        """The sum of terms along their axis -2."""

    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        return (left[0] + right[0],)

    def scaled(self, state: State, factor: Array) -> State:
        return tuple(part * factor for part in state)

    def value(self, state: State) -> Array:
        return state[0]


class _Plain(RunningSum):
    """Array libraries add pairwise, or with several accumulators."""

    def of(self, library: ArrayLibrary, terms: Array) -> State:
        return (terms.sum(-2),)


class _InDouble(RunningSum):
    def of(self, library: ArrayLibrary, terms: Array) -> State:
        return (library.astype(terms, "float64").sum(-2),)


class _Compensated(RunningSum):
    """The sum and what its roundings lost, both found by halving the number of terms."""

    def of(self, library: ArrayLibrary, terms: Array) -> State:
        xp = library.namespace
        total, error = terms, xp.zeros_like(terms)
        while total.shape[-2] > 1:
            half = total.shape[-2] // 2
            left, right, rest = (
                tuple(part[..., where, :] for part in (total, error))
                for where in (slice(half), slice(half, 2 * half), slice(2 * half, None))
            )
            merged = self.merge(library, left, right)
            total, error = (xp.concatenate(parts, -2) for parts in zip(merged, rest, strict=True))
        return total.sum(-2), error.sum(-2)  # of one term, or none

    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        """Knuth's two-sum; an infinite total has lost nothing to speak of."""
        xp = library.namespace
        total = left[0] + right[0]
        virtual = total - left[0]
        lost = (left[0] - (total - virtual)) + (right[0] - virtual)
        error = left[1] + right[1] + lost
        return total, xp.where(total - total == 0, error, xp.zeros_like(error))

    def value(self, state: State) -> Array:
        return state[0] + state[1]


_RUNNING_SUMS: dict[Accumulate, RunningSum] = {
    Accumulate.AUTO: _Plain(),
    Accumulate.FLOAT64: _InDouble(),
    Accumulate.KAHAN: _Compensated(),
}


def running_sum(accumulate: Accumulate) -> RunningSum:
    return _RUNNING_SUMS[accumulate]
