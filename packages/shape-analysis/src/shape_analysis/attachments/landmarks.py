"""Attachments between points: known correspondences, or the nearest point of the other shape."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..neighborhoods import nearest
from ..shapes import Shape
from .base import Attachment, Loss


@dataclass(frozen=True)
class Landmarks(Attachment):
    """Sum of squared distances between points of the same number: ``sum_i |x_i - y_i|^2``.

    Examples
    --------
    >>> from shape_analysis import Landmarks, PointCloud
    >>> float(Landmarks()(PointCloud([[0.0, 0.0]]), PointCloud([[3.0, 4.0]])))
    25.0
    """

    def bind(self, target: Shape) -> Loss:
        """The sum as a function of the moving points."""

        def loss(shape: Shape) -> Tensor:
            if shape.n_points != target.n_points:
                raise ValueError(
                    "Landmarks correspond one to one, but the shapes have "
                    f"{shape.n_points} and {target.n_points} points."
                )
            return (shape.points - target.points).square().sum()

        return loss


@dataclass(frozen=True)
class NearestPoints(Attachment):
    """Chamfer distance, both ways: ``sum_i a_i min_j |x_i - y_j|^2 + sum_j b_j min_i |x_i - y_j|^2``.

    The weights are the masses of the vertices, divided by their sum: the value is in squared units of length.

    Examples
    --------
    >>> from shape_analysis import NearestPoints, PointCloud
    >>> float(NearestPoints()(PointCloud([[0.0], [4.0]]), PointCloud([[1.0], [4.0]])))
    1.0
    """

    def bind(self, target: Shape) -> Loss:
        """The two sums as a function of the moving shape."""
        target_weights = _normalised(target.vertex_masses)

        def loss(shape: Shape) -> Tensor:
            there = nearest(shape.points, target.points).distances.square()
            back = nearest(target.points, shape.points).distances.square()
            return (_normalised(shape.vertex_masses) * there).sum() + (target_weights * back).sum()

        return loss


def _normalised(masses: Tensor) -> Tensor:
    return masses / masses.sum()
