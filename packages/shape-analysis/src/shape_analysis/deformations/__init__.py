"""Deformation models: `model(source, parameters, times=...)` gives a path of shapes."""

from __future__ import annotations

from .base import Deformation, Path
from .lddmm import LDDMM
from .linear import Affine, Rigid, Similarity

__all__ = ["LDDMM", "Affine", "Deformation", "Path", "Rigid", "Similarity"]
