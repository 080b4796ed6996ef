"""Explicit Runge-Kutta methods: one row of coefficients each, and one loop over time steps for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

State = tuple[Tensor, ...]
VectorField = Callable[[State], State]


@dataclass(frozen=True)
class Tableau:
    """Coefficients of an explicit Runge-Kutta method for an equation that does not depend on time.

    Stage s is evaluated at ``y + h sum_r couplings[s][r] k_r``; a step is ``y + h sum_s weights[s] k_s``.
    """

    order: int
    couplings: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


TABLEAUS: dict[str, Tableau] = {
    "euler": Tableau(1, ((),), (1.0,)),
    "midpoint": Tableau(2, ((), (1 / 2,)), (0.0, 1.0)),
    # The second-order method with the smallest bound on the local error (Ralston, 1962).
    "ralston": Tableau(2, ((), (2 / 3,)), (1 / 4, 3 / 4)),
    "rk4": Tableau(4, ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""The methods, by name."""


def step(field: VectorField, state: State, size: float, tableau: Tableau) -> State:
    """One time step of the given (possibly negative) size."""
    slopes: list[State] = []
    for coupling in tableau.couplings:
        slopes.append(field(_moved(state, slopes, coupling, size)))
    return _moved(state, slopes, tableau.weights, size)


def integrate(field: VectorField, state: State, duration: float, n_steps: int, tableau: Tableau) -> State:
    """The state after a (possibly negative) duration.

    Parameters
    ----------
    field : callable
        Maps a tuple of tensors to the tuple of their time derivatives.
    state : tuple of tensors
    duration : float
    n_steps : int
        Number of equal steps, at least 1.
    tableau : Tableau
        A row of `TABLEAUS`.

    Examples
    --------
    >>> import torch
    >>> (y,) = integrate(lambda state: (-state[0],), (torch.tensor(1.0),), 1.0, 10, TABLEAUS["rk4"])
    >>> round(float(y), 5)
    0.36788
    """
    for _ in range(n_steps):
        state = step(field, state, duration / n_steps, tableau)
    return state


def _moved(state: State, slopes: list[State], coefficients: tuple[float, ...], size: float) -> State:
    for coefficient, slope in zip(coefficients, slopes, strict=True):
        if coefficient:
            state = tuple(y.add(k, alpha=size * coefficient) for y, k in zip(state, slope, strict=True))
    return state
