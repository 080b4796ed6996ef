"""Currents and varifolds: kernel norms between measures on positions and directions; correspondences are not needed."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from symbolic_matrices import LazyTensor, Vi, Vj

from ..kernels import KernelFormula
from ..shapes import Mesh, Polyline, Shape
from .base import Attachment, Loss, with_directions


class DirectionalNorm(Attachment):
    """Squared kernel norm ``<S, S> - 2 <S, T> + <T, T>``, with

    ``<S, T> = sum_ij k(c_i, c_j) a_i a_j d(u_i, u_j)``

    over the centroids c, the areas (or lengths) a and the unit normals (or tangents) u of the two shapes.
    """

    kernel: KernelFormula

    @abstractmethod
    def weighted_direction_kernel(self, n_i: LazyTensor, n_j: LazyTensor) -> LazyTensor:
        """The formula a_i a_j d(u_i, u_j) of the directions n = a u, which are as long as the areas (or lengths)."""

    def product(self, first: Mesh | Polyline, second: Mesh | Polyline) -> Tensor:
        """The scalar product <S, T>."""
        k = self.kernel(Vi(first.centroids), Vj(second.centroids))
        return (
            (k * self.weighted_direction_kernel(Vi(first.directions), Vj(second.directions)))
            .sum(axis=1)
            .sum()
        )

    def bind(self, target: Shape) -> Loss:
        """The squared norm as a function of the moving shape."""
        aim = with_directions(target, type(self).__name__)
        constant = self.product(aim, aim)

        def loss(shape: Shape) -> Tensor:
            moving = with_directions(shape, type(self).__name__)
            return self.product(moving, moving) - 2 * self.product(moving, aim) + constant

        return loss


@dataclass(frozen=True)
class Currents(DirectionalNorm):
    """Distance between currents: ``d(u, v) = <u, v>``; opposite orientations cancel.

    Parameters
    ----------
    kernel : Kernel or callable
        On the positions.

    Notes
    -----
    Vaillant and Glaunes, "Surface matching via currents", IPMI 2005.

    Examples
    --------
    >>> from shape_analysis import Currents, Kernel, Polyline
    >>> there = Polyline([[0.0, 0.0], [1.0, 0.0]], [[0, 1]])
    >>> back = Polyline([[0.0, 0.0], [1.0, 0.0]], [[1, 0]])
    >>> float(Currents(Kernel("gaussian", 1.0))(there, back))
    4.0
    """

    kernel: KernelFormula

    def weighted_direction_kernel(self, n_i: LazyTensor, n_j: LazyTensor) -> LazyTensor:
        """<n_i, n_j>."""
        return n_i | n_j


@dataclass(frozen=True)
class Varifold(DirectionalNorm):
    """Distance between varifolds: ``d(u, v) = <u, v>^2``; orientations are ignored.

    Parameters
    ----------
    kernel : Kernel or callable
        On the positions.

    Notes
    -----
    Charon and Trouve, "The varifold representation of nonoriented shapes", SIAM J. Imaging Sci. 2013.

    Examples
    --------
    >>> from shape_analysis import Kernel, Polyline, Varifold
    >>> there = Polyline([[0.0, 0.0], [1.0, 0.0]], [[0, 1]])
    >>> back = Polyline([[0.0, 0.0], [1.0, 0.0]], [[1, 0]])
    >>> float(Varifold(Kernel("gaussian", 1.0))(there, back))
    0.0
    """

    kernel: KernelFormula

    def weighted_direction_kernel(self, n_i: LazyTensor, n_j: LazyTensor) -> LazyTensor:
        """<n_i, n_j>^2 / (|n_i| |n_j|), which is 0 for an element of zero area."""
        return (n_i | n_j).square() * (n_i.sqnorm2().rsqrt() * n_j.sqnorm2().rsqrt())


@dataclass(frozen=True)
class OrientedVarifold(DirectionalNorm):
    """Distance between oriented varifolds: ``d(u, v) = exp(-|u - v|^2 / s^2)``.

    Parameters
    ----------
    kernel : Kernel or callable
        On the positions.
    orientation_scale : float
        The scale s of the Gaussian kernel on unit vectors.

    Notes
    -----
    Kaltenmark, Charlier and Charon, "A general framework for curve and surface comparison and registration with
    oriented varifolds", CVPR 2017.
    """

    kernel: KernelFormula
    orientation_scale: float = 1.0

    def weighted_direction_kernel(self, n_i: LazyTensor, n_j: LazyTensor) -> LazyTensor:
        """|n_i| |n_j| exp(2 (<u_i, u_j> - 1) / s^2)."""
        inverses = n_i.sqnorm2().rsqrt() * n_j.sqnorm2().rsqrt()
        cosine = (n_i | n_j) * inverses
        areas = n_i.sqnorm2().sqrt() * n_j.sqnorm2().sqrt()
        return areas * ((cosine - 1.0) * (2.0 / self.orientation_scale**2)).exp()
