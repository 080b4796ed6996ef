"""Kernels k(x, y) as lazy formulas: one row per radial profile, and sums over scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from symbolic_matrices import LazyTensor


class KernelFormula(Protocol):
    """Any symmetric formula of two points; a `Kernel`, or a function of your own."""

    def __call__(self, x_i: LazyTensor, y_j: LazyTensor) -> LazyTensor:
        """The formula k(x_i, y_j), of dimension 1."""
        ...


Profile = Callable[[LazyTensor], LazyTensor]


def _gaussian(squared: LazyTensor) -> LazyTensor:
    return (-squared).exp()


def _laplacian(squared: LazyTensor) -> LazyTensor:
    return (-squared.sqrt()).exp()


def _cauchy(squared: LazyTensor) -> LazyTensor:
    return 1.0 / (1.0 + squared)


PROFILES: dict[str, Profile] = {
    "gaussian": _gaussian,
    "laplacian": _laplacian,
    "cauchy": _cauchy,
}
"""Radial profiles: each gives k as a formula of |x - y|^2 / scale^2."""


@dataclass(frozen=True)
class Kernel:
    """A radial kernel, or a sum of radial kernels with several scales.

    ``k(x, y) = sum_s profile(|x - y|^2 / s^2)``, with the profiles

    ========== =======================
    gaussian   exp(-r^2)
    laplacian  exp(-r)
    cauchy     1 / (1 + r^2)
    ========== =======================

    of the reduced distance r = \\|x - y\\| / s. The Gaussian has no 1/2 in its exponent, as in Deformetrica
    (Bone et al., ShapeMI 2018): a scale s here is a standard deviation of s / sqrt(2).

    Parameters
    ----------
    name : str
        A key of `PROFILES`.
    scale : float or tuple of floats
        Positive, in the units of the points.

    Raises
    ------
    ValueError
        For an unknown name, or a scale that is not positive.

    Examples
    --------
    >>> import torch
    >>> from symbolic_matrices import Vi, Vj
    >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    >>> kernel = Kernel("gaussian", 2.0)
    >>> kernel(Vi(x), Vj(x)).sum(axis=1)[:, 0]
    tensor([1.3679, 1.3679])
    """

    name: str
    scale: float | tuple[float, ...]

    def __post_init__(self) -> None:
        if self.name not in PROFILES:
            raise ValueError(f"Unknown kernel {self.name!r}; the names are {', '.join(map(repr, PROFILES))}.")
        if not self.scales or not all(0 < scale < float("inf") for scale in self.scales):
            raise ValueError(
                f"The scale of a kernel must be positive (or several positive numbers); got {self.scale!r}."
            )

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales, always as a tuple."""
        return tuple(self.scale) if isinstance(self.scale, (tuple, list)) else (self.scale,)

    def __call__(self, x_i: LazyTensor, y_j: LazyTensor) -> LazyTensor:
        """The formula k(x_i, y_j)."""
        squared = x_i.sqdist(y_j)
        profile = PROFILES[self.name]
        formula = profile(squared * self.scales[0] ** -2)
        for scale in self.scales[1:]:
            formula = formula + profile(squared * scale**-2)
        return formula
