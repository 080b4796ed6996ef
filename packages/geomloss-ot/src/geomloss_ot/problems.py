"""Owns what a transport problem is, when to stop and what a solution holds; ignores how one is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from symbolic_matrices.arrays import Array, library_of

from .geometries import Extension, Geometry
from .measures import Measure
from .penalties import Penalty


class GivenMass(NamedTuple):
    """The mass that a plan must have, and the price, for leaving a unit of mass on one side, that makes it so."""

    mass: float
    price: float


@dataclass(frozen=True)
class Problem:
    """Entropic transport from ``source`` to ``target``.

    min_P <P, C> + epsilon KL(P | a b^T) + penalty_a(P 1 | a) + penalty_b(P^T 1 | b). A ``symmetric`` problem has the
    same measure on both sides, and one potential. If ``given_mass`` is, both penalties are ``Partial`` with its price.
    """

    geometry: Geometry
    source: Measure
    target: Measure
    penalties: tuple[Penalty, Penalty]
    epsilon: float
    symmetric: bool = False
    given_mass: GivenMass | None = None

    @property
    def T(self) -> Problem:
        """The same problem, from target to source."""
        penalty_a, penalty_b = self.penalties
        return replace(
            self,
            geometry=self.geometry.T,
            source=self.target,
            target=self.source,
            penalties=(penalty_b, penalty_a),
        )

    @property
    def unpaid(self) -> Array | float:
        """What the penalties add to the value of a plan of the given mass, and is no part of the problem."""
        if self.given_mass is None:
            return 0.0
        return self.given_mass.price * self.left_behind

    @property
    def left_behind(self) -> Array:
        """What a plan of the given mass leaves on both sides."""
        assert self.given_mass is not None
        return self.source.mass + self.target.mass - 2 * self.given_mass.mass

    @property
    def conserves_mass(self) -> bool:
        """Whether both marginals are constraints: the dual is then blind to f + c, g - c."""
        return all(penalty.ratio_bounds == (1.0, 1.0) for penalty in self.penalties)

    @property
    def tensors(self) -> tuple[Array, ...]:
        """The arrays that the value depends upon: geometry, then weights."""
        weights = (self.source.weights,) if self.symmetric else (self.source.weights, self.target.weights)
        return (*self.geometry.tensors, *weights)

    def replace(self, tensors: tuple[Array, ...]) -> Problem:
        """The same problem on other arrays."""
        count = len(self.geometry.tensors)
        source = Measure(tensors[count])
        target = source if self.symmetric else Measure(tensors[count + 1])
        return replace(self, geometry=self.geometry.replace(tensors[:count]), source=source, target=target)

    def detached(self) -> Problem:
        """The same problem, outside of any differentiation graph."""
        return self.replace(tuple(library_of(t).detach(t) for t in self.tensors))


class Progress(NamedTuple):
    """What a callback sees after each iteration."""

    iteration: int
    epsilon: float
    marginal_error: float


@dataclass(frozen=True)
class Stopping:
    """When to stop: relative L1 error of the marginals at the final temperature, total number of iterations."""

    tol: float
    max_iter: int
    callback: Callable[[Progress], None] | None = None


@dataclass(frozen=True)
class Solution:
    """Dual potentials, the marginals of their plan, and how the loop ended."""

    f: Array  # (..., N)
    g: Array  # (..., M)
    ratio_f: Array  # (..., N): row sums of the plan, over a
    ratio_g: Array  # (..., M): column sums of the plan, over b
    value: Array  # (...), float64: the dual objective, a lower bound of the optimum with an error of second order
    error: Array  # (...), float64: relative L1 marginal error of the last but one iterate, not smaller than the last
    n_iter: int
    status: str  # "converged", "rounding" or "max_iter"
    partner: Array | None = None  # (..., M): the potential that f is the Sinkhorn update of; close to g
    softmins: tuple[Array, Array] | None = None  # (..., N), (..., M): what f and g are the proximal steps of
    extensions: tuple[Extension, Extension] | None = None  # where f and g are updates of coarser potentials
    slopes: tuple[Array, Array] | None = (
        None  # (..., N, D), (..., M, D): derivatives of their softmins, if asked for
    )
    look_closely: Callable[[], CloseUp] | None = (
        None  # for second derivatives, where cells gave the potentials
    )


class CloseUp(NamedTuple):
    """A problem between the same points, in other orders and without pairs that hold next to no mass, and its solution.

    The points of each side are those that were given, at the numbers in ``orders``.
    """

    problem: Problem
    solution: Solution
    orders: tuple[Array, Array]  # (N,), (M,)


def row_marginal(problem: Problem, f: Array, g: Array) -> Array:
    """Row sums of the plan a_i b_j exp((f_i + g_j - C_ij) / epsilon)."""
    values = problem.target.weights[..., None]
    return problem.source.weights * problem.geometry.apply_plan(problem.epsilon, f, g, values)[..., 0]
