"""Owns the gamma functions of the reference backend that array libraries lack, or compute with few digits.

The derivatives of the digamma function are those of Abramowitz and Stegun, Handbook of Mathematical Functions, 6.3.16,
6.3.18, 6.4.6, 6.4.7 and 6.4.11: reflected to positive x, shifted to large x, and summed as an asymptotic series.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BERNOULLI = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
)
LEAST_ARGUMENT = 12  # of the asymptotic series, beyond the order


def lgamma(x: Any) -> Any:
    """log |Gamma(x)| of a NumPy array, infinite at 0, -1, -2...

    Examples
    --------
    >>> lgamma(np.array([1.0, 5.0, 0.0])).round(4)
    array([0.    , 3.1781,    inf])
    """
    values = np.vectorize(_lgamma_of_number, otypes=["float64"])(x)
    return values.astype(np.asarray(x).dtype)


def _lgamma_of_number(x: float) -> float:
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):  # a pole, or beyond the largest number
        return math.inf


def polygamma(xp: Any, order: int, x: Any) -> Any:
    """The derivative number ``order`` of the digamma function, for an array of the library whose module is ``xp``.

    Examples
    --------
    >>> polygamma(np, 1, np.array([1.0])) - np.pi**2 / 6 < 1e-14
    array([ True])
    """
    is_reflected = x < 0
    positive = _at_positive(xp, order, xp.where(is_reflected, 1 - x, x))
    negative = xp.where(is_reflected, x, xp.full_like(x, -0.5))  # the cotangent has a pole at 0
    reflected = (-1) ** order * positive - math.pi ** (order + 1) * _cotangent_derivative(xp, order, negative)
    is_pole = (x <= 0) & (x == xp.floor(x))
    return xp.where(is_pole, _at_poles(xp, order, x), xp.where(is_reflected, reflected, positive))


def _at_poles(xp: Any, order: int, x: Any) -> Any:
    """The digamma function changes sign there, and has a limit at 0 only, on the side that the sign of 0 tells."""
    if order > 0:
        return xp.full_like(x, math.copysign(math.inf, (-1) ** (order + 1)))
    return xp.where(x == 0, -1 / x, xp.full_like(x, math.nan))


def _at_positive(xp: Any, order: int, x: Any) -> Any:
    """psi(x) = psi(x + 1) - 1 / x and its derivatives, until x is large."""
    numerator = (-1) ** (order + 1) * math.factorial(order)
    shifted, total = x, xp.zeros_like(x)
    for _ in range(order + LEAST_ARGUMENT):
        is_small = shifted < order + LEAST_ARGUMENT
        total = total + xp.where(is_small, numerator / shifted ** (order + 1), xp.zeros_like(x))
        shifted = xp.where(is_small, shifted + 1, shifted)
    return total + _asymptotic(xp, order, shifted)


def _asymptotic(xp: Any, order: int, x: Any) -> Any:
    """The expansion at infinity, from its smallest term to its largest."""
    series = xp.zeros_like(x)
    for k in range(len(BERNOULLI), 0, -1):
        weight = math.comb(2 * k + order - 1, 2 * k) if order else 1 / (2 * k)
        series = (series + BERNOULLI[k - 1] * weight) / (x * x)
    if order == 0:
        return xp.log(x) - (0.5 / x + series)
    scale = (-1) ** (order + 1) * math.factorial(order - 1)
    return scale * (1 / x) ** order * (1 + order / (2 * x) + series)


def _cotangent_derivative(xp: Any, order: int, x: Any) -> Any:
    """The derivative number ``order`` of cot, at pi x: a polynomial in c = cot(pi x), as c' = -(1 + c^2)."""
    polynomial = np.polynomial.Polynomial([0.0, 1.0])
    for _ in range(order):
        polynomial = -polynomial.deriv() * np.polynomial.Polynomial([1.0, 0.0, 1.0])
    c = 1 / xp.tan(math.pi * (x - xp.round(x)))
    result = xp.zeros_like(x)
    for coefficient in polynomial.coef[::-1]:
        result = result * c + float(coefficient)
    return result
