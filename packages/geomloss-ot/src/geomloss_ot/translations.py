"""Owns the best constant to move from one potential to the other in unbalanced problems; ignores softmins."""

from __future__ import annotations

from symbolic_matrices.arrays import Array, library_of

from .measures import Measure
from .penalties import Penalty

_BISECTIONS = 30
_STILL = 1e-7  # in units of the largest potential: at kinks, where any small step changes the slope
_FLAT = 1e-9  # in units of the masses: rounding errors must not push potentials along directions that change nothing

Side = tuple[Measure, Penalty, Array]  # a measure, its penalty and its potential


def best_translation(side_a: Side, side_b: Side) -> Array | float:
    """The t that maximises <a, dual_a(f + t)> + <b, dual_b(g - t)>, (..., 1).

    Plans do not see it: under strong penalties, alternate updates would need rho / epsilon iterations to find it.
    Source: Sejourne, Vialard and Peyre, *Faster unbalanced optimal transport: translation invariant Sinkhorn*
    (arXiv 2201.00730).
    """
    rates = (side_a[1].slope_rate, side_b[1].slope_rate)
    if rates == (0.0, 0.0):
        return 0.0
    library, potential = library_of(side_a[2]), side_a[2]
    if rates[0] is None or rates[1] is None:
        translation = _bisection(side_a, side_b)
    else:
        translation = library.namespace.log(_mass(side_a, 0.0) / _mass(side_b, 0.0)) / (rates[0] + rates[1])
    return library.astype(translation, library.dtype_name(potential))[..., None]


def _mass(side: Side, shift: Array | float) -> Array:
    """Mass of the marginal that the penalty asks for once the potential has moved: decreasing in ``shift``."""
    measure, penalty, potential = side
    return measure.integrate(penalty.dual_slope(potential + shift))


def _bisection(side_a: Side, side_b: Side) -> Array:
    """Where the slope of a concave function changes its sign; zero if it does so next to zero."""
    library = library_of(side_a[2])
    xp = library.namespace

    def slope(t: Array) -> Array:
        shift = library.astype(t, library.dtype_name(side_a[2]))[..., None]
        return _mass(side_a, shift) - _mass(side_b, -shift)

    largest = library.astype(xp.maximum(_largest(side_a[2]), _largest(side_b[2])), "float64")
    still, flat = _STILL * largest, _FLAT * (side_a[0].mass + side_b[0].mass)
    rising, falling = slope(still) > flat, slope(-still) < -flat
    zero = xp.zeros_like(largest)
    low, high = xp.where(falling, -2 * largest, zero), xp.where(rising, 2 * largest, zero)
    for _ in range(_BISECTIONS if bool((rising | falling).any()) else 0):
        centre = (low + high) / 2
        up = slope(centre) > xp.where(rising, flat, -flat)
        low, high = xp.where(up, centre, low), xp.where(up, high, centre)
    # The end next to zero: no penalty forbids what lies between it and where we are.
    return xp.where(rising, low, xp.where(falling, high, zero))


def _largest(potential: Array) -> Array:
    return library_of(potential).namespace.amax(abs(potential), -1)
