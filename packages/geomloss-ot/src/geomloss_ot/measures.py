"""Owns weighted point sets: validates them once, centres them; ignores costs and algorithms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from symbolic_matrices.arrays import Array, ArrayLibrary, find_library, library_of

MASS_TOLERANCE = 1e-3  # relative difference that balanced transport forgives: float32 sums of many weights
_LARGEST_MASS = 1e100  # its square, and what costs make of it, are numbers of float64


@dataclass(frozen=True)
class Measure:
    """Non-negative weights a_i, with leading batch dimensions if any. Their support stands in the geometry."""

    weights: Array  # (..., N)

    @cached_property
    def log_weights(self) -> Array:
        """log a_i, and -inf for weights that are zero: softmins then ignore the point."""
        library = library_of(self.weights)
        with np.errstate(divide="ignore"):
            return library.namespace.log(library.detach(self.weights))

    @cached_property
    def mass(self) -> Array:
        """Total mass of each measure of the batch, in float64 and part of the graph."""
        return self.integrate(library_of(self.weights).namespace.ones_like(self.weights))

    def integrate(self, values: Array) -> Array:
        """sum_i a_i values_i, in float64: divergences are small differences of such sums."""
        return (self._wide_weights * values).sum(-1)

    @cached_property
    def _wide_weights(self) -> Array:
        return library_of(self.weights).astype(self.weights, "float64")


def check_points(name: str, points: Array) -> None:
    """Raise a ValueError unless ``points`` is a finite (..., N, D) array of real numbers with N and D positive."""
    check_array(name, points)
    if points.ndim < 2 or points.shape[-2] == 0 or points.shape[-1] == 0:
        raise ValueError(
            f"{name} has shape {tuple(points.shape)}: expected (N, D) or (B, N, D), "
            "at least one point of dimension at least one."
        )
    _check_finite(name, points, "coordinates: remove these points or give them finite values.")


def check_costs(name: str, costs: Array) -> None:
    """Raise a ValueError unless ``costs`` is a finite (..., N, M) array of real numbers with N and M positive."""
    check_array(name, costs)
    if costs.ndim < 2 or costs.shape[-2] == 0 or costs.shape[-1] == 0:
        raise ValueError(
            f"{name} has shape {tuple(costs.shape)}: expected costs (N, M) or (B, N, M), with at least one point on "
            "each side."
        )
    _check_finite(name, costs, "costs: give pairs that are forbidden a large finite cost.")


def check_array(name: str, array: Array) -> ArrayLibrary:
    """The library of an array of float32 or float64 numbers; a ValueError for anything else."""
    library = find_library(array)
    if library is None:
        raise ValueError(
            f"{name} is a {type(array).__name__}: expected an array of NumPy, PyTorch or CuPy; convert it, for example "
            "with numpy.asarray(..., dtype='float64')."
        )
    dtype = library.dtype_name(array)
    if dtype not in ("float32", "float64"):
        raise ValueError(f"{name} has dtype {dtype}: expected float32 or float64; convert it first.")
    return library


def _check_finite(name: str, array: Array, remedy: str) -> None:
    library = library_of(array)
    if not bool(library.namespace.isfinite(library.detach(array)).all()):
        raise ValueError(f"{name} holds NaN or infinite {remedy}")


def check_weights(name: str, weights: Array, shape: tuple[int, ...], like: Array) -> None:
    """Raise a ValueError unless ``weights`` are finite, non-negative, of positive mass, and match ``like``."""
    check_same_kind(name, weights, "the points", like)
    if tuple(weights.shape) != shape:
        raise ValueError(
            f"{name} has shape {tuple(weights.shape)}: expected {shape}, one weight per point of each cloud."
        )
    library = library_of(weights)
    values = library.detach(weights)
    if not bool(library.namespace.isfinite(values).all()):
        raise ValueError(f"{name} holds NaN or infinite weights: expected non-negative numbers.")
    if bool((values < 0).any()):
        raise ValueError(
            f"{name} holds negative weights, down to {float(values.min()):.3g}: expected non-negative numbers. "
            "Transport the positive and negative parts apart."
        )
    masses = values.sum(-1)
    if bool((masses <= 0).any()):
        raise ValueError(
            f"{name} has total mass zero: expected at least one positive weight in each measure."
        )
    if not float(masses.max()) < _LARGEST_MASS:
        raise ValueError(
            f"{name} has total mass {float(masses.max()):.3g}: expected less than {_LARGEST_MASS:.0e}."
        )


def check_same_kind(name: str, array: Array, other_name: str, other: Array) -> None:
    """Raise a ValueError unless both arrays share their library, dtype and device."""
    library, other_library = check_array(name, array), library_of(other)
    if library is not other_library:
        raise ValueError(
            f"{name} is a {library.name} array and {other_name} a {other_library.name} array: convert one of them."
        )
    for what, kind in (("dtype", library.dtype_name), ("device", library.device)):
        if kind(array) != kind(other):
            raise ValueError(
                f"{name} has {what} {kind(array)} and {other_name} {what} {kind(other)}: convert one of them."
            )


def check_compatible_masses(
    sides: tuple[Measure, Measure], ratio_bounds: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    """Raise a ValueError if no plan has its marginals within the given ratios of the two measures."""
    library = library_of(sides[0].weights)
    masses = np.stack([_host(library.detach(side.mass)) for side in sides])
    (low_a, high_a), (low_b, high_b) = ratio_bounds
    slack = MASS_TOLERANCE * masses.max(axis=0)
    # Infinite bounds forbid nothing.
    apart = (low_a * masses[0] > high_b * masses[1] + slack) | (
        low_b * masses[1] > high_a * masses[0] + slack
    )
    if not bool(apart.any()):
        return
    if ratio_bounds == ((1.0, 1.0), (1.0, 1.0)):
        raise ValueError(
            f"Balanced transport needs equal masses, but the weights sum to {_shown(masses[0])} and "
            f"{_shown(masses[1])}: normalise them, or allow mass to be created and destroyed with reach=... "
            "(unbalanced=...)."
        )
    raise ValueError(
        f"No plan has marginals within {ratio_bounds[0]} times a, of mass {_shown(masses[0])}, and {ratio_bounds[1]} "
        f"times b, of mass {_shown(masses[1])}: widen the ranges, or normalise the weights."
    )


def _shown(masses: np.ndarray) -> str:
    """A mass, or those of a batch, to six digits."""
    return str(float(f"{float(masses):.6g}")) if masses.ndim == 0 else np.array2string(masses, precision=6)


def check_given_mass(mass: float, sides: tuple[Measure, Measure]) -> None:
    """Raise a ValueError unless one pair of measures is given, both of at least this mass."""
    if sides[0].weights.ndim > 1:
        raise ValueError(
            f"mass={mass!r} is for one problem, but a has shape {tuple(sides[0].weights.shape)}: loop over the batch."
        )
    smallest = min(float(library_of(side.weights).detach(side.weights).sum()) for side in sides)
    if not mass <= (1 + MASS_TOLERANCE) * smallest:
        raise ValueError(
            f"mass={mass!r}: expected at most {smallest:.6g}, the mass of the smallest of both measures."
        )


def uniform_weights(points: Array) -> Array:
    """Weights 1 / N for each of the N points."""
    xp = library_of(points).namespace
    return xp.ones_like(library_of(points).detach(points)[..., 0]) / points.shape[-2]


def bounding_box(*clouds: Array) -> tuple[Array, Array]:
    """Smallest and largest coordinates of all the points of all the clouds, batches included: two (D,) arrays."""
    library = library_of(clouds[0])
    # Along the coordinates, and not across them, which takes libraries ten times as long.
    flat = [library.contiguous(library.detach(x).reshape(-1, x.shape[-1]).T) for x in clouds]
    xp = library.namespace
    lows, highs = (xp.stack([extremum(x, -1) for x in flat]) for extremum in (xp.amin, xp.amax))
    return xp.amin(lows, 0), xp.amax(highs, 0)


def middle(x: Array, y: Array) -> Array:
    """Centre of the common bounding box, a constant (D,): float32 has its digits around the origin."""
    low, high = bounding_box(x, y)
    return low + (high - low) / 2


def box_sides(x: Array, y: Array) -> Array:
    """Lengths of the sides of the common bounding box of two clouds: (D,)."""
    low, high = bounding_box(x, y)
    return high - low


def _host(array: Array) -> np.ndarray:
    return np.asarray(array.tolist())
