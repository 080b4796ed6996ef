"""Sums of exponentials, without overflow: their logarithm, and the averages that they weight.

The formulas with weights are [f, g_1, ..., g_W]: the exponent, then the weights.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

from ...arrays import Array, ArrayLibrary
from ...errors import ShapeError
from ..expressions import Node, constant
from ..operations import pointwise as p
from ..operations import vectors as v
from ..operations.indexing import concat, extract
from .accumulation import running_sum
from .monoid import SmoothReduction, State

NOTHING = constant(float("-inf"))  # the exponent of a term that does not count
LARGEST_EXPONENT = constant(80.0)  # exp(80) is a finite float32


@dataclass(frozen=True)
class ExponentialSums(SmoothReduction):
    """The state is (m, s): the largest exponent f, and the sums of exp(f - m) and of the exp(f - m) g_k."""

    @property
    def cotangent_reads_output(self) -> bool:
        return True

    @property
    def absorbs_components(self) -> bool:
        return True

    def identity(self, library: ArrayLibrary, like: Array) -> State:
        nothing = like[..., None, :][..., :0, :]
        lowest = library.namespace.full_like(like[..., :1], float("-inf"))
        return lowest, *running_sum(self.accumulate).of(library, nothing)

    def absorb(self, library: ArrayLibrary, block: Array, first: int) -> State:
        xp = library.namespace
        exponents, weights = block[..., :1], block[..., 1:]
        largest = xp.amax(exponents, -2)
        terms = _shifted_exp(library, exponents, largest[..., None, :])
        weighted = xp.concatenate((terms, terms * weights), -1)
        return largest, *running_sum(self.accumulate).of(library, weighted)

    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        sums, largest = running_sum(self.accumulate), library.namespace.maximum(left[0], right[0])
        scaled = (sums.scaled(s[1:], _shifted_exp(library, s[0], largest)) for s in (left, right))
        return largest, *sums.merge(library, *scaled)

    def totals(self, state: State) -> Array:
        """[sum exp(f - m), sum exp(f - m) g]."""
        return running_sum(self.accumulate).value(state[1:])

    @abc.abstractmethod
    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]: ...


@dataclass(frozen=True)
class LogSumExp(ExponentialSums):
    """log sum_j exp(F_ij)."""

    @property
    def name(self) -> str:
        return "logsumexp"

    def check_dim(self, dim: int) -> None:
        if dim != 1:
            raise ShapeError(f"logsumexp needs a formula of dimension 1 but this one has dimension {dim}.")

    def spelling(self, dim: str) -> str:
        return f"LogSumExp<{self.accumulate.value}>"

    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        return (_log_total(library, state[0], self.totals(state)),)

    def cotangent(self, formula: Node, output: Node, upstream: Node) -> Node:
        return p.multiply(upstream, _share(formula, output))


@dataclass(frozen=True)
class WeightedLogSumExp(ExponentialSums):
    """log sum_j w_ij exp(f_ij), one for each of the weights.

    Terms of weight 0 do not count, however large their exponent. A sum that is 0 gives -inf, a negative one NaN.
    """

    weights: int = 1

    @property
    def name(self) -> str:
        return "weighted_logsumexp"

    def output_shape(self, dim: int) -> tuple[int, ...]:
        return (self.weights,)

    def prepared(self, formula: Node) -> Node:
        exponent, weights = _parts(formula)
        is_nothing = p.equal(v.vector_max(p.absolute(weights)), constant(0.0))
        penalty = p.where(
            is_nothing, NOTHING, constant(0.0)
        )  # varies as the weights do, hence rarely per pair
        return concat(p.add(exponent, penalty), weights)

    def spelling(self, dim: str) -> str:
        return f"WeightedLogSumExp<{self.weights}, {self.accumulate.value}>"

    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        return (_log_total(library, state[0], self.totals(state)[..., 1:]),)

    def cotangent(self, formula: Node, output: Node, upstream: Node) -> Node:
        exponent, weights = _parts(formula)
        received = p.multiply(upstream, _share(exponent, output, weights))
        return concat(v.dot(received, weights), received)


@dataclass(frozen=True)
class SumSoftmax(ExponentialSums):
    """[sum_j exp(f_ij) g_ij / sum_j exp(f_ij), log sum_j exp(f_ij)]: derivatives need the second part.

    The average over nothing, or where every exponent is -inf, is 0.
    """

    weights: int = 1

    @property
    def name(self) -> str:
        return "sumsoftmaxweight"

    def output_shape(self, dim: int) -> tuple[int, ...]:
        return (self.weights + 1,)

    def spelling(self, dim: str) -> str:
        return f"SumSoftmax<{self.weights}, {self.accumulate.value}>"

    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        xp, totals = library.namespace, self.totals(state)
        total, weighted = totals[..., :1], totals[..., 1:]
        average = xp.where(total == 0, xp.zeros_like(weighted), weighted / total)
        return (xp.concatenate((average, _log_total(library, state[0], total)), -1),)

    def cotangent(self, formula: Node, output: Node, upstream: Node) -> Node:
        exponent, weights = _parts(formula)
        average, log_total = _average_parts(output)
        of_average, of_log_total = _average_parts(upstream)
        share = _share(exponent, log_total)
        of_exponent = p.add(v.dot(of_average, p.subtract(weights, average)), of_log_total)
        return concat(p.multiply(share, of_exponent), p.multiply(share, of_average))


def _parts(formula: Node) -> tuple[Node, Node]:
    """f and g of [f, g]."""
    return extract(formula, attributes=(0, 1)), extract(formula, attributes=(1, formula.dim - 1))


def _average_parts(output: Node) -> tuple[Node, Node]:
    """The average and the logarithm of the total."""
    last = output.dim - 1
    return extract(output, attributes=(0, last)), extract(output, attributes=(last, 1))


def _share(exponent: Node, log_total: Node, weights: Node | None = None) -> Node:
    """exp(exponent - log_total), and 0 in the sum of nothing, where this difference is NaN.

    A term of weight 0 may be larger than the total without bound: its share stops at exp(80), since what is infinite
    would turn into NaN once multiplied by 0.
    """
    difference = p.subtract(exponent, log_total)
    if weights is not None:
        bounded = p.minimum(difference, LARGEST_EXPONENT)
        difference = p.where(p.equal(weights, constant(0.0)), bounded, difference)
    return p.exp(p.where(p.equal(log_total, NOTHING), NOTHING, difference))


def _finite(library: ArrayLibrary, exponent: Array) -> Array:
    """The exponent, or 0 where it is infinite: a shift that never makes inf - inf."""
    xp = library.namespace
    return xp.where(abs(exponent) == float("inf"), xp.zeros_like(exponent), exponent)


def _shifted_exp(library: ArrayLibrary, exponent: Array, shift: Array) -> Array:
    return library.namespace.exp(exponent - _finite(library, shift))


def _log_total(library: ArrayLibrary, largest: Array, total: Array) -> Array:
    return _finite(library, largest) + library.namespace.log(total)
