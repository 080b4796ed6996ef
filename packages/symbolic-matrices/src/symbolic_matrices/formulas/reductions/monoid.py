"""Owns what a reduction is: a monoid of states. Knows none by name.

Any split of the reduced axis gives the same answer: values of a block are absorbed into a state, states merge, and the
last state is finished. The same merge serves threads, blocks of a GPU, tiles and machines.
"""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass, replace

from ...arrays import Array, ArrayLibrary
from ..expressions import Node

State = tuple[Array, ...]


class Kind(enum.Enum):
    """What an output holds: numbers of the formula's dtype, or integers (int64) such as positions along the axis."""

    VALUES = "values"
    INDICES = "indices"


class Returns(enum.Enum):
    """What a reduction that selects entries returns of them. The values are the C spelling."""

    VALUES = "Outputs::values"
    INDICES = "Outputs::indices"
    BOTH = "Outputs::both"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        chosen = {Returns.VALUES: (Kind.VALUES,), Returns.INDICES: (Kind.INDICES,)}
        return chosen.get(self, (Kind.VALUES, Kind.INDICES))


class Accumulate(enum.Enum):
    """How terms are added up. The values are the C spelling.

    ``AUTO`` adds a few dozen terms plainly, and compensates across these groups; ``KAHAN`` compensates every addition;
    ``FLOAT64`` adds in double precision.
    """

    AUTO = "Automatic"
    FLOAT64 = "InDouble"
    KAHAN = "Kahan"


@dataclass(frozen=True)
class Reduction(abc.ABC):
    """A reduction of the values F(x_i, y_j) of a formula of dimension D along one axis.

    The reference methods take arrays whose axis -2 is the reduced one: ``block`` is (..., rows, columns, D).
    """

    @property
    @abc.abstractmethod
    def name(self) -> str: ...

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """One entry per output array."""
        return (Kind.VALUES,)

    @property
    def has_identity(self) -> bool:
        """Whether the reduction of nothing is defined."""
        return True

    @property
    def absorbs_components(self) -> bool:
        """Whether kernels absorb each component as soon as it is computed, so that wide values are never held."""
        return False

    def output_shape(self, dim: int) -> tuple[int, ...]:
        """The trailing shape of each output: (D,) unless the reduction changes it."""
        return (dim,)

    def check_dim(self, dim: int) -> None:
        """Raise a ShapeError if the formula's dimension does not suit this reduction."""
        return None

    def accumulating(self, accumulate: Accumulate) -> Reduction:
        """The same reduction with its terms added up in another way, if it adds anything."""
        return self

    @property
    def running_values(self) -> int:
        """How many numbers a kernel keeps per component of the output while columns go by."""
        return 1

    def prepared(self, formula: Node) -> Node:
        """The formula that is evaluated, where it differs from the one that is differentiated."""
        return formula

    @abc.abstractmethod
    def spelling(self, dim: str) -> str:
        """The type in ``native/`` that implements the reduction, for a formula whose dimension is spelled ``dim``."""

    @abc.abstractmethod
    def identity(self, library: ArrayLibrary, like: Array) -> State:
        """The state of no column at all; ``like`` is (..., rows, D) and gives shape, dtype and device."""

    @abc.abstractmethod
    def absorb(self, library: ArrayLibrary, block: Array, first: int) -> State:
        """The state of a block of values whose first column is number ``first``."""

    @abc.abstractmethod
    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        """The state of two neighbouring blocks."""

    @abc.abstractmethod
    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        """The outputs, in the order of ``kinds``."""


@dataclass(frozen=True)
class SmoothReduction(Reduction):
    """A reduction that is a smooth function of all the values: it adds up terms."""

    accumulate: Accumulate = Accumulate.AUTO

    def accumulating(self, accumulate: Accumulate) -> SmoothReduction:
        return replace(self, accumulate=accumulate)

    @property
    def running_values(self) -> int:
        return 1 if self.accumulate is Accumulate.AUTO else 2

    @property
    def cotangent_reads_output(self) -> bool:
        """Whether the backward pass needs the output of the forward pass."""
        return False

    @abc.abstractmethod
    def cotangent(self, formula: Node, output: Node, upstream: Node) -> Node:
        """What the value F_ij receives from the gradient ``upstream`` with respect to the ``output`` at i."""


@dataclass(frozen=True)
class SelectingReduction(Reduction):
    """A reduction that returns some of the values: its gradient flows through the selected entries only."""

    returns: Returns = Returns.BOTH

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return self.returns.kinds

    @abc.abstractmethod
    def returning(self, returns: Returns) -> SelectingReduction:
        """The same selection, with other outputs."""

    def keep(self, values: Array, indices: Array) -> tuple[Array, ...]:
        """The outputs that were asked for."""
        both = {Kind.VALUES: values, Kind.INDICES: indices}
        return tuple(both[kind] for kind in self.kinds)
