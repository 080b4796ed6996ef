"""Owns kernel norms (maximum mean discrepancies) between measures; ignores transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symbolic_matrices import LazyTensor
from symbolic_matrices.arrays import Array

from .costs import check_scalar_formula
from .measures import Measure

Kernel = Callable[[Any, Any], Any]  # two LazyTensors -> a scalar formula


def gaussian_kernel(blur: float) -> Kernel:
    """k(x, y) = exp(-|x - y|^2 / (2 blur^2))."""
    return lambda x, y: (x.sqdist(y) * (-0.5 / blur**2)).exp()


def laplacian_kernel(blur: float) -> Kernel:
    """k(x, y) = exp(-|x - y| / blur)."""
    return lambda x, y: ((x - y).sqnorm2().sqrt() * (-1.0 / blur)).exp()


def energy_kernel(blur: float) -> Kernel:
    """k(x, y) = -|x - y|: positive on differences of measures of equal mass. Ignores ``blur``."""
    return lambda x, y: -(x - y).sqnorm2().sqrt()


KERNELS: dict[str, Callable[[float], Kernel]] = {
    "gaussian": gaussian_kernel,
    "laplacian": laplacian_kernel,
    "energy": energy_kernel,
}


def kernel_value(kernel: Kernel, x: Array, y: Array, a: Array, b: Array) -> Array:
    """Half the squared kernel norm of a - b, in float64: (<a, k a> + <b, k b>) / 2 - <a, k b>."""
    same = _integrate(a, _convolve(kernel, x, x, a)) + _integrate(b, _convolve(kernel, y, y, b))
    return same / 2 - _integrate(a, _convolve(kernel, x, y, b))


def kernel_potentials(kernel: Kernel, x: Array, y: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """k * (a - b) at the points x, and k * (b - a) at the points y."""
    on_x = _convolve(kernel, x, x, a) - _convolve(kernel, x, y, b)
    on_y = _convolve(kernel, y, y, b) - _convolve(kernel, y, x, a)
    return on_x, on_y


def _convolve(kernel: Kernel, x: Array, y: Array, weights: Array) -> Array:
    """sum_j k(x_i, y_j) w_j: (..., N)."""
    formula = kernel(LazyTensor(x[..., :, None, :]), LazyTensor(y[..., None, :, :]))
    check_scalar_formula("The kernel", formula, x.ndim, "(-((x - y) ** 2).sum(-1)).exp()")
    return (formula * LazyTensor(weights[..., None, :, None])).sum(axis=-2)[..., 0]


def _integrate(weights: Array, values: Array) -> Array:
    return Measure(weights).integrate(values)
