"""Optimal transport as an attachment: the Sinkhorn divergence between the measures that two shapes carry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomloss_ot import SamplesLoss

from ..shapes import Shape
from .base import Attachment, Loss, with_directions

SUPPORTS = ("centroids", "vertices")


@dataclass(frozen=True)
class Sinkhorn(Attachment):
    """Sinkhorn divergence between two shapes, as measures of total mass 1.

    A mesh is the measure of its triangles, which puts their areas on their centroids (or a third of them on each
    vertex): the value depends little on the sampling of the surface. For p = 2 it is half of a squared Wasserstein
    distance, in squared units of length.

    Parameters
    ----------
    blur : float
        Smallest detail to match, in the units of the points: epsilon = blur^p.
    p : int
        The cost is |x - y|^2 / 2 for p = 2, |x - y| for p = 1.
    reach : float, optional
        Beyond this distance, mass is rather destroyed than moved. Default: all the mass is transported.
    scaling : float
        In (0, 1): ratio of the blurs of successive iterations. Nearer to 1 is slower and more accurate.
    support : str
        "centroids" of the elements weighted by their areas, or "vertices" weighted by their masses.
    normals : float
        If positive, unit normals (or tangents) times this length are further coordinates of the centroids: an
        oriented match, in which a normal turned upside down costs as much as a move of twice this length.
    tol : float
        Relative error of the marginals at which Sinkhorn iterations stop. Registration does well with 1e-2.

    Notes
    -----
    Feydy, Charlier, Vialard and Peyre, "Optimal transport for diffeomorphic registration", MICCAI 2017.

    Examples
    --------
    >>> import torch
    >>> from shape_analysis import PointCloud, Sinkhorn
    >>> x = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    >>> value = Sinkhorn(blur=0.1)(PointCloud(x), PointCloud(x + torch.tensor([0.3, 0.4, 0.0])))
    >>> round(float(value), 3)  # |(0.3, 0.4)|^2 / 2
    0.125
    """

    blur: float
    p: int = 2
    reach: float | None = None
    scaling: float = 0.5
    support: str = "centroids"
    normals: float = 0.0
    tol: float = 1e-3

    def __post_init__(self) -> None:
        if self.support not in SUPPORTS:
            raise ValueError(f"Unknown support {self.support!r}; choose one of {SUPPORTS}.")
        if self.normals < 0 or (self.normals > 0 and self.support != "centroids"):
            raise ValueError("normals must be a length >= 0; normals > 0 needs support='centroids'.")

    def bind(self, target: Shape) -> Loss:
        """The divergence as a function of the moving shape."""
        target_weights, target_positions = self.measure(target)
        divergence = SamplesLoss(
            "sinkhorn", p=self.p, blur=self.blur, reach=self.reach, scaling=self.scaling, tol=self.tol
        )

        def loss(shape: Shape) -> Tensor:
            weights, positions = self.measure(shape)
            value: Tensor = divergence(weights, positions, target_weights, target_positions)
            return value

        return loss

    def measure(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """The weights (E,), of sum 1, and the positions (E, D) or (E, 2 D) to transport."""
        if self.support == "vertices":
            masses, positions = shape.vertex_masses, shape.points
        else:
            masses, positions = shape.measures, shape.centroids
        if self.normals > 0:
            directions = torch.nn.functional.normalize(
                with_directions(shape, "Sinkhorn(normals=...)").directions, dim=1
            )
            positions = torch.cat([positions, self.normals * directions], dim=1)
        return masses / masses.sum(), positions
