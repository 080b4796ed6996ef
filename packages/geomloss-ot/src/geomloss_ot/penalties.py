"""Owns the marginal penalties of (unbalanced) optimal transport, one row each; ignores costs and geometries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from symbolic_matrices.arrays import Array, library_of


class Penalty(Protocol):
    """A divergence between a marginal of the plan and its target, seen from the dual problem.

    With Phi*(q) the conjugate of the penalty per unit of mass, the dual objective holds -Phi*(-f) and the Sinkhorn
    update of f is the proximal step of the softmin that the balanced problem would take.
    """

    @property
    def conserves_mass(self) -> bool:
        """Whether the marginal is a constraint: both measures must then have the same mass."""

    @property
    def slope_rate(self) -> float:
        """The r such that dual_slope(f + t) = exp(-r t) dual_slope(f)."""

    def proximal(self, softmin: Array, epsilon: float) -> Array:
        """argmax_f of -Phi*(-f) - epsilon exp((f - softmin) / epsilon)."""

    def primal(self, ratio: Array) -> Array:
        """The penalty per unit of target mass, for a marginal that is ``ratio`` times its target."""

    def dual(self, potential: Array) -> Array:
        """-Phi*(-f)."""

    def dual_slope(self, potential: Array) -> Array:
        """Derivative of ``dual``: the ratio between the marginal of the plan and its target."""

    def dual_curvature(self, potential: Array) -> Array:
        """Second derivative of ``dual``: negative or null."""


@dataclass(frozen=True)
class Balanced:
    """The marginals of the plan are the given measures: Phi* is the identity."""

    conserves_mass: bool = field(default=True, init=False)
    slope_rate: float = field(default=0.0, init=False)

    def proximal(self, softmin: Array, epsilon: float) -> Array:
        return softmin

    def primal(self, ratio: Array) -> Array:
        return library_of(ratio).namespace.zeros_like(ratio)  # the ratio is one

    def dual(self, potential: Array) -> Array:
        return potential

    def dual_slope(self, potential: Array) -> Array:
        return library_of(potential).namespace.ones_like(potential)

    def dual_curvature(self, potential: Array) -> Array:
        return library_of(potential).namespace.zeros_like(potential)


@dataclass(frozen=True)
class KullbackLeibler:
    """strength * KL(marginal | target), with KL(p | q) = sum p log(p / q) - p + q."""

    strength: float
    conserves_mass: bool = field(default=False, init=False)

    @property
    def slope_rate(self) -> float:
        return 1 / self.strength

    def proximal(self, softmin: Array, epsilon: float) -> Array:
        return softmin / (1 + epsilon / self.strength)

    def primal(self, ratio: Array) -> Array:
        xp = library_of(ratio).namespace
        return self.strength * (ratio * xp.log(xp.where(ratio > 0, ratio, 1.0)) - ratio + 1)

    def dual(self, potential: Array) -> Array:
        # expm1 keeps the digits of small potentials under strong penalties, next to the balanced limit.
        return -self.strength * library_of(potential).namespace.expm1(-potential / self.strength)

    def dual_slope(self, potential: Array) -> Array:
        return library_of(potential).namespace.exp(-potential / self.strength)

    def dual_curvature(self, potential: Array) -> Array:
        return -self.dual_slope(potential) / self.strength


def find_penalty(strength: float | None) -> Penalty:
    """Balanced for None or infinity, Kullback-Leibler otherwise."""
    if strength is None or strength == float("inf"):
        return Balanced()
    return KullbackLeibler(float(strength))
