"""Owns Newton's steps for small problems that Sinkhorn's updates hardly move; ignores penalties and geometries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from symbolic_matrices.arrays import Array, library_of

_RIDGE = 1e-13  # relative, of the size of rounding errors
_FIRST = 4.0  # radius, in units of the temperature: beyond, exponentials are far from linear
_LEAST = 1e-3  # radius in the same units: below, steps lead nowhere
_CHANGE = 4.0  # of the radius, after a success or a failure


@dataclass(frozen=True)
class Quadratic:
    """The dual objective around a potential g, once maximised in f, in float64.

    ``plan`` is (..., N, M); ``rows`` and ``columns`` hold minus the second derivatives, times epsilon, of the terms of
    one f_i and one g_j: marginals of the plan, and what penalties add; infinite at kinks, where potentials stay.
    """

    plan: Array
    rows: Array  # (..., N)
    columns: Array  # (..., M)
    gradient: Array  # (..., M), times epsilon

    def step(self, towards: Array) -> Array:
        """Newton's step (..., M); where potentials are at kinks, ``towards``."""
        xp = library_of(towards).namespace
        free = xp.isfinite(self.columns) & (self.columns > 0)
        tied = xp.where(free, 0.0, towards)
        scaled = self.plan * _inverse_root(self.rows, self.rows > 0)[..., None]
        product = xp.swapaxes(scaled, -1, -2) @ scaled
        root = _inverse_root(self.columns, free)  # of a well scaled system
        system = _scaled_identity(1 + _RIDGE, root) - root[..., :, None] * product * root[..., None, :]
        right = root * (self.gradient + (product @ tied[..., None])[..., 0])
        return xp.where(free, root * xp.linalg.solve(system, right[..., None])[..., 0], tied)


class _Point(NamedTuple):
    """A state (..., M), with its dual objective (...), its Sinkhorn update and Newton's step from there."""

    value: Array
    state: Array
    update: Array
    step: Array


class NewtonAscent:
    """Newton's steps, no longer than a radius that follows what they bring, so that the dual objective rises.

    Semi-smooth: each step assumes that the potentials that are at kinks stay there, and ``move`` (from, to) ends those
    of the others that would cross one. Sources: Brauer, Clason, Lorenz and
    Wirth, *A Sinkhorn-Newton method for entropic optimal transport* (2017); Nocedal and Wright, *Numerical
    optimization* (2006), chapter 4.
    """

    def __init__(self, epsilon: float, move: Callable[[Array, Array], Array]) -> None:
        self._epsilon, self._move = epsilon, move
        self._best: _Point | None = None
        self._radius: Array = 0.0  # (...)
        self._length: Array = 0.0  # of the last step, (...)

    def next_state(
        self, value: Array, slack: Array, pair: tuple[Array, Array], expand: Callable[[], Quadratic]
    ) -> Array:
        """The state that follows ``pair``, a state and its Sinkhorn update, of dual objective ``value`` (...).

        Values that are lower by less than ``slack`` are as high.
        """
        xp, best, first = library_of(pair[0]).namespace, self._best, _FIRST * self._epsilon
        if best is None:
            best = self._best = _Point(value, *pair, expand().step(pair[1] - pair[0]))
            self._radius = first * xp.ones_like(value)
        else:
            higher = value >= best.value - slack
            if bool(higher.any()):
                found = _Point(value, *pair, expand().step(pair[1] - pair[0]))
                both = zip(found, best, strict=True)
                best = self._best = _Point(*(_choose(xp, higher, one, other) for one, other in both))
            wider = xp.maximum(self._radius, _CHANGE * self._length)
            self._radius = xp.where(higher, wider, self._length / _CHANGE)
        lost = self._radius < _LEAST * self._epsilon
        longest = xp.amax(abs(best.step), -1)
        self._length = xp.where(longest < self._radius, longest, self._radius)
        share = self._length / xp.where(longest > 0, longest, 1.0)
        moved = best.state + share[..., None] * best.step
        self._radius, self._length = (xp.where(lost, first, size) for size in (self._radius, self._length))
        # The Sinkhorn update is never lower.
        return _choose(xp, lost, best.update, self._move(best.state, moved))


def _choose(xp: Any, condition: Array, one: Array, other: Array) -> Array:
    """Per problem, arrays (...) or (..., M)."""
    return xp.where(condition if one.ndim == condition.ndim else condition[..., None], one, other)


def _scaled_identity(value: float, like: Array) -> Array:
    """A multiple of the identity (M, M), for vectors (..., M)."""
    library = library_of(like)
    return library.convert(value * np.eye(like.shape[-1]), "float64", library.device(like))


def _inverse_root(values: Array, valid: Array) -> Array:
    xp = library_of(values).namespace
    return xp.where(valid, 1 / xp.sqrt(xp.where(valid, values, 1.0)), 0.0)
