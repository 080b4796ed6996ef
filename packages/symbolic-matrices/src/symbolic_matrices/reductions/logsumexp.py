"""The stable logarithm of a sum of exponentials."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, ArrayLibrary
from ..errors import ShapeError
from ..expressions import Node, constant
from ..operations import pointwise as p
from .monoid import SmoothReduction, State


@dataclass(frozen=True)
class LogSumExp(SmoothReduction):
    """log sum_j exp(F_ij). The state is (m, s): the largest exponent, and sum_j exp(F_ij - m)."""

    @property
    def name(self) -> str:
        return "logsumexp"

    @property
    def cotangent_reads_output(self) -> bool:
        return True

    def check_dim(self, dim: int) -> None:
        if dim != 1:
            raise ShapeError(f"logsumexp needs a formula of dimension 1 but this one has dimension {dim}.")

    def spelling(self, dim: str) -> str:
        return "LogSumExp"

    def identity(self, library: ArrayLibrary, like: Array) -> State:
        xp = library.namespace
        return xp.full_like(like, float("-inf")), xp.zeros_like(like)

    def absorb(self, library: ArrayLibrary, block: Array, first: int) -> State:
        largest = library.namespace.amax(block, -2)
        return largest, _shifted_exp(library, block, largest[..., None, :]).sum(-2)

    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        largest = library.namespace.maximum(left[0], right[0])
        terms = (s * _shifted_exp(library, m, largest) for m, s in (left, right))
        return largest, sum(terms)

    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        largest, total = state
        return (_finite(library, largest) + library.namespace.log(total),)

    def cotangent(self, formula: Node, output: Node, upstream: Node) -> Node:
        # exp(F - output) is the softmax; where every exponent is -inf, F - output is nan and the gradient is 0
        empty = p.equal(output, constant(float("-inf")))
        return p.where(empty, constant(0.0), p.multiply(upstream, p.exp(p.subtract(formula, output))))


def _finite(library: ArrayLibrary, exponent: Array) -> Array:
    """The exponent, or 0 where it is infinite: a shift that never makes inf - inf."""
    xp = library.namespace
    return xp.where(abs(exponent) == float("inf"), xp.zeros_like(exponent), exponent)


def _shifted_exp(library: ArrayLibrary, exponent: Array, shift: Array) -> Array:
    return library.namespace.exp(exponent - _finite(library, shift))
