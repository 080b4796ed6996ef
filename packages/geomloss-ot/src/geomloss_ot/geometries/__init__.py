"""The spaces that measures live on: each answers the few questions that the Sinkhorn loop asks."""

from __future__ import annotations

from .absorbed import is_absorbed, softmins
from .extension import Extension
from .geometry import Coarsening, Geometry
from .grid import GridGeometry
from .matrix import MatrixGeometry
from .points import PointGeometry
from .ragged import RaggedGeometry, pad
from .stabilized import Softmins, is_stabilized

__all__ = [
    "Coarsening",
    "Extension",
    "Geometry",
    "GridGeometry",
    "MatrixGeometry",
    "PointGeometry",
    "RaggedGeometry",
    "Softmins",
    "is_absorbed",
    "is_stabilized",
    "pad",
    "softmins",
]
