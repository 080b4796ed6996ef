"""Transport between clouds at many scales: cells while they resolve the blur, points for the result."""

from __future__ import annotations

from .cells import Cells, Cloud
from .hierarchy import build_hierarchy
from .masks import dense_problem
from .proofs import certify_points
from .solver import Multiscale, choose_multiscale, solve_multiscale

__all__ = [
    "Cells",
    "Cloud",
    "Multiscale",
    "build_hierarchy",
    "certify_points",
    "choose_multiscale",
    "dense_problem",
    "solve_multiscale",
]
