"""Owns the marginal penalties of (unbalanced) optimal transport, one row each; ignores costs and geometries."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from symbolic_matrices.arrays import Array, library_of

_FREE = (0.0, math.inf)
_STEEP = (
    1e30  # slope of a dual where it is minus infinity: times a weight of zero, infinity would not be a number
)


class Penalty(Protocol):
    """A divergence between a marginal of the plan and its target, seen from the dual problem.

    With Phi*(q) the conjugate of the penalty per unit of mass, the dual objective holds the concave function
    ``dual(f) = -Phi*(-f)`` and the Sinkhorn update of f is the proximal step of the softmin that the balanced problem
    would take. Some penalties have kinks, where proximal steps land exactly.
    """

    @property
    def ratio_bounds(self) -> tuple[float, float]:
        """Smallest and largest ratios between a marginal and its target that are not forbidden."""

    @property
    def slope_rate(self) -> float | None:
        """The r such that dual_slope(f + t) = exp(-r t) dual_slope(f); None for penalties with kinks."""

    def project(self, potential: Array) -> Array:
        """The nearest potential where the dual is finite, and may be optimal."""

    def move(self, start: Array, end: Array) -> Array:
        """The potentials at the end of straight lines, or at the first kink on their way."""

    def proximal(self, softmin: Array, epsilon: float) -> Array:
        """argmax_f of dual(f) - epsilon exp((f - softmin) / epsilon)."""

    def primal(self, ratio: Array) -> Array:
        """The penalty per unit of target mass, for a marginal that is ``ratio`` (not forbidden) times its target."""

    def dual(self, potential: Array) -> Array:
        """-Phi*(-f)."""

    def dual_slope(self, potential: Array) -> Array:
        """Derivative of ``dual`` (to the right, at kinks): the ratio between the marginal and its target."""

    def dual_curvature(self, potential: Array) -> Array:
        """Second derivative of ``dual``: negative, null, or minus infinity at kinks."""

    def nearest_slope(self, potential: Array, ratio: Array) -> Array:
        """The slope of ``dual`` at the potential; at kinks, the one that is closest to ``ratio``."""


@dataclass(frozen=True)
class Balanced:
    """The marginals of the plan are the given measures: Phi* is the identity."""

    ratio_bounds: tuple[float, float] = field(default=(1.0, 1.0), init=False)
    slope_rate: float = field(default=0.0, init=False)

    def project(self, potential: Array) -> Array:
        return potential

    def move(self, start: Array, end: Array) -> Array:
        return end

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

    def nearest_slope(self, potential: Array, ratio: Array) -> Array:
        return self.dual_slope(potential)


@dataclass(frozen=True)
class KullbackLeibler:
    """strength * KL(marginal | target), with KL(p | q) = sum p log(p / q) - p + q."""

    strength: float
    ratio_bounds: tuple[float, float] = field(default=_FREE, init=False)

    @property
    def slope_rate(self) -> float:
        return 1 / self.strength

    def project(self, potential: Array) -> Array:
        return potential

    def move(self, start: Array, end: Array) -> Array:
        return end

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

    def nearest_slope(self, potential: Array, ratio: Array) -> Array:
        return self.dual_slope(potential)


class _Kinked(abc.ABC):
    """What penalties share whose dual is made of straight lines."""

    slope_rate: float | None = None

    @abc.abstractmethod
    def is_kink(self, potential: Array) -> Array:
        """Whether the dual has several slopes there."""

    @abc.abstractmethod
    def slope_bounds(self, potential: Array) -> tuple[Array, Array]:
        """The slopes to the right and to the left."""

    def dual_slope(self, potential: Array) -> Array:
        return self.slope_bounds(potential)[0]

    def dual_curvature(self, potential: Array) -> Array:
        xp = library_of(potential).namespace
        return xp.where(self.is_kink(potential), -math.inf, xp.zeros_like(potential))

    def nearest_slope(self, potential: Array, ratio: Array) -> Array:
        xp = library_of(potential).namespace
        low, high = self.slope_bounds(potential)
        return xp.where(ratio < low, low, xp.where(ratio > high, high, ratio))


@dataclass(frozen=True)
class TotalVariation(_Kinked):
    """strength * sum |marginal - target|: mass is transported where it costs less than twice the strength."""

    strength: float
    ratio_bounds: tuple[float, float] = field(default=_FREE, init=False)

    def project(self, potential: Array) -> Array:
        return library_of(potential).namespace.clip(potential, -self.strength, self.strength)

    def move(self, start: Array, end: Array) -> Array:
        return self.project(end)

    def proximal(self, softmin: Array, epsilon: float) -> Array:
        return self.project(softmin)

    def primal(self, ratio: Array) -> Array:
        return self.strength * abs(ratio - 1)

    def dual(self, potential: Array) -> Array:
        # Only finite above -strength, where proximal steps stay.
        return library_of(potential).namespace.clip(potential, None, self.strength)

    def is_kink(self, potential: Array) -> Array:
        return abs(potential) >= self.strength

    def slope_bounds(self, potential: Array) -> tuple[Array, Array]:
        xp = library_of(potential).namespace
        one = xp.ones_like(potential)
        right = xp.where(potential < -self.strength, _STEEP, xp.where(potential < self.strength, one, 0.0))
        left = xp.where(potential <= -self.strength, _STEEP, xp.where(potential <= self.strength, one, 0.0))
        return right, left


@dataclass(frozen=True)
class Partial(_Kinked):
    """price * (mass of the target that the marginal leaves out); the marginal never exceeds its target."""

    price: float
    ratio_bounds: tuple[float, float] = field(default=(0.0, 1.0), init=False)

    def project(self, potential: Array) -> Array:
        return library_of(potential).namespace.clip(potential, None, self.price)

    def move(self, start: Array, end: Array) -> Array:
        return self.project(end)

    def proximal(self, softmin: Array, epsilon: float) -> Array:
        return self.project(softmin)

    def primal(self, ratio: Array) -> Array:
        return self.price * (1 - ratio)

    def dual(self, potential: Array) -> Array:
        return library_of(potential).namespace.clip(potential, None, self.price)

    def is_kink(self, potential: Array) -> Array:
        return potential >= self.price

    def slope_bounds(self, potential: Array) -> tuple[Array, Array]:
        xp = library_of(potential).namespace
        one = xp.ones_like(potential)
        return xp.where(potential < self.price, one, 0.0), xp.where(potential <= self.price, one, 0.0)


@dataclass(frozen=True)
class Range(_Kinked):
    """The marginal stays between ``low`` and ``high`` times its target."""

    low: float
    high: float

    @property
    def ratio_bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def project(self, potential: Array) -> Array:
        return potential

    def move(self, start: Array, end: Array) -> Array:
        xp = library_of(end).namespace
        return xp.where(start * end < 0, xp.zeros_like(end), end)

    def proximal(self, softmin: Array, epsilon: float) -> Array:
        xp = library_of(softmin).namespace
        lowest = xp.zeros_like(softmin)
        if self.low > 0:
            lowest = xp.clip(softmin + epsilon * math.log(self.low), 0.0, None)
        highest = softmin + epsilon * math.log(self.high)
        return xp.where(highest < lowest, highest, lowest)

    def primal(self, ratio: Array) -> Array:
        return library_of(ratio).namespace.zeros_like(ratio)

    def dual(self, potential: Array) -> Array:
        return self.dual_slope(potential) * potential

    def is_kink(self, potential: Array) -> Array:
        return potential == 0

    def slope_bounds(self, potential: Array) -> tuple[Array, Array]:
        xp = library_of(potential).namespace
        one = xp.ones_like(potential)
        low, high = self.low * one, self.high * one
        return xp.where(potential < 0, high, low), xp.where(potential > 0, low, high)


PENALTIES: dict[str, Callable[[float], Penalty]] = {
    "kl": KullbackLeibler,
    "tv": TotalVariation,
    "partial": Partial,
}


def find_penalty(strength: float | tuple[float, float] | None, kind: str = "kl") -> Penalty:
    """The row of a name, with its strength (or its bounds, for ``"range"``); Balanced for None or infinity."""
    if strength is None or strength == math.inf:
        return Balanced()
    if isinstance(strength, tuple):
        assert kind == "range"
        return Balanced() if strength == (1.0, 1.0) else Range(*strength)
    return PENALTIES[kind](float(strength))
