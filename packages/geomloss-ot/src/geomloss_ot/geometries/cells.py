"""Owns the cells of large clouds, whose means are the coarser clouds of the first temperatures; ignores costs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from symbolic_matrices.clustering import cluster_centroids, grid_cluster

from ..measures import box_sides

_WORTH_CELLS = 4_500_000  # pairs of points: the kernels of fewer fit into the cache
_FEWER = 8  # times fewer cells than points, at least
_MOST_HALVINGS = 10  # of the edge of cells, in so many steps each
_STEPS = 2


class Cells(NamedTuple):
    """The cells of a cloud: the means of their points (K, D), and the cell of each point (N,)."""

    means: np.ndarray
    labels: np.ndarray

    def pool(self, weights: np.ndarray) -> np.ndarray:
        """Sums of weights (N,) over cells, (K,)."""
        return np.bincount(self.labels, weights, len(self.means)).astype(weights.dtype)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values (K,) of cells at their points, (N,)."""
        return values[self.labels]


class CellPair(NamedTuple):
    """The cells of two clouds, of the same width."""

    rows: Cells
    columns: Cells
    width: float


def cells_of(x: np.ndarray, y: np.ndarray) -> CellPair | None:
    """The smallest cells that are far fewer than the points of two large clouds (N, D) and (M, D), if there are any."""
    if len(x) * len(y) < _WORTH_CELLS:
        return None
    span, found = float(box_sides(x, y).max()), None
    fewest = min(len(x), len(y)) // _FEWER
    # So many halvings leave few cells anyway.
    first = max(1, int(math.log2(max(fewest, 1)) / x.shape[1]))
    for step in range(_MOST_HALVINGS * _STEPS):
        width = span / 2 ** (first + step / _STEPS)
        rows = _few_cells(x, width)
        columns = rows if y is x else rows and _few_cells(y, width)
        if rows is None or columns is None:
            break
        found = CellPair(rows, columns, width)
    return found


def _few_cells(points: np.ndarray, width: float) -> Cells | None:
    if not width > 0:
        return None
    labels = grid_cluster(points, width)
    if _FEWER * (int(labels.max()) + 1) > len(points):
        return None
    return Cells(cluster_centroids(points, labels), labels)
