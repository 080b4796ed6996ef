"""Transport between clouds at many scales: cells while they resolve the blur, points for the result."""

from __future__ import annotations

from .pairs import CloudCells, SortedCloud, keep_dense_pairs, sort_cloud
from .solver import Multiscale, choose_multiscale, solve_multiscale

__all__ = [
    "CloudCells",
    "Multiscale",
    "SortedCloud",
    "choose_multiscale",
    "keep_dense_pairs",
    "solve_multiscale",
    "sort_cloud",
]
