"""Rigid motions, similarities and affine maps, as exponentials: one row of generators each, one flow for all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..shapes import Shape
from .base import Deformation


class LinearDeformation(Deformation):
    """Maps ``x -> c + exp(t A) (x - c) + t b`` around the centre c of the source.

    The parameters are one vector: first those of the generator A, of shape (D, D), then the translation b, of length D.
    Turning around the centre, rather than around the origin, keeps A and b independent.
    """

    @abstractmethod
    def n_generators(self, dim: int) -> int:
        """How many parameters the generator has in dimension `dim`."""

    @abstractmethod
    def generator(self, parameters: Tensor, dim: int) -> Tensor:
        """The matrix A, of shape (dim, dim)."""

    def initial_parameters(self, source: Shape) -> Tensor:
        """The identity, shape (n_generators(D) + D,)."""
        return source.points.new_zeros(self.n_generators(source.dim) + source.dim)

    def energy(self, source: Shape, parameters: Tensor) -> Tensor:
        """Zero: these maps are free (as is usual for an alignment)."""
        return 0.0 * parameters.sum()

    def flow(self, source: Shape, parameters: Tensor, points: Tensor, times: Sequence[float]) -> list[Tensor]:
        """The points moved by the exponential, at each time."""
        count = self.n_generators(source.dim)
        matrix = self.generator(parameters[:count], source.dim)
        centre = source.points.mean(dim=0)
        relative = points - centre
        return [
            centre + relative @ torch.linalg.matrix_exp(t * matrix).T + t * parameters[count:] for t in times
        ]


@dataclass(frozen=True)
class Rigid(LinearDeformation):
    """Rotations and translations: A is skew-symmetric.

    Examples
    --------
    >>> import math, torch
    >>> from shape_analysis import PointCloud, Rigid
    >>> source = PointCloud(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> quarter_turn = torch.tensor([math.pi / 2, 0.0, 0.0])
    >>> Rigid()(source, quarter_turn).end.points.round(decimals=3).abs()
    tensor([[0., 1.],
            [0., 1.]])
    """

    def n_generators(self, dim: int) -> int:
        """One angle per pair of axes."""
        return dim * (dim - 1) // 2

    def generator(self, parameters: Tensor, dim: int) -> Tensor:
        """The angles below the diagonal, and their opposites above."""
        rows, columns = torch.tril_indices(dim, dim, offset=-1, device=parameters.device)
        lower = parameters.new_zeros(dim, dim).index_put((rows, columns), parameters)
        return lower - lower.T


@dataclass(frozen=True)
class Similarity(LinearDeformation):
    """Rotations, translations and one scale: A is skew-symmetric plus s times the identity, the scale is exp(s)."""

    def n_generators(self, dim: int) -> int:
        """The angles, then the logarithm of the scale."""
        return Rigid().n_generators(dim) + 1

    def generator(self, parameters: Tensor, dim: int) -> Tensor:
        """The rotation's generator plus s times the identity."""
        identity = torch.eye(dim, dtype=parameters.dtype, device=parameters.device)
        return Rigid().generator(parameters[:-1], dim) + parameters[-1] * identity


@dataclass(frozen=True)
class Affine(LinearDeformation):
    """All affine maps that keep the orientation and have a real logarithm: A is any matrix."""

    def n_generators(self, dim: int) -> int:
        """Every entry of A."""
        return dim * dim

    def generator(self, parameters: Tensor, dim: int) -> Tensor:
        """The entries, row by row."""
        return parameters.reshape(dim, dim)
