"""Shape analysis at scale: LDDMM registration of point clouds, curves and surfaces on symbolic matrices."""

from __future__ import annotations

from . import io
from .attachments import Attachment, Currents, Landmarks, NearestPoints, OrientedVarifold, Sinkhorn, Varifold
from .decimation import decimate
from .deformations import LDDMM, Affine, Deformation, Path, Rigid, Similarity
from .errors import FileFormatError, RegistrationError, ShapeError
from .kernels import Kernel
from .neighborhoods import Neighbors, distances_to_surface, farthest_points, nearest
from .registration import Iteration, Registration
from .shapes import Mesh, PointCloud, Polyline, Shape

__version__ = "0.1.0"

__all__ = [
    "LDDMM",
    "Affine",
    "Attachment",
    "Currents",
    "Deformation",
    "FileFormatError",
    "Iteration",
    "Kernel",
    "Landmarks",
    "Mesh",
    "NearestPoints",
    "Neighbors",
    "OrientedVarifold",
    "Path",
    "PointCloud",
    "Polyline",
    "Registration",
    "RegistrationError",
    "Rigid",
    "Shape",
    "ShapeError",
    "Similarity",
    "Sinkhorn",
    "Varifold",
    "decimate",
    "distances_to_surface",
    "farthest_points",
    "io",
    "nearest",
]
