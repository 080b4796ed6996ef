"""Owns KeOps' signatures of the clustering functions; :mod:`symbolic_matrices.clustering` does the work."""

from __future__ import annotations

from typing import Any

from .. import clustering
from ..arrays import Array
from ..clustering import from_matrix, grid_cluster, swap_axes

__all__ = [
    "cluster_centroids",
    "cluster_ranges",
    "cluster_ranges_centroids",
    "from_matrix",
    "grid_cluster",
    "sort_clusters",
    "swap_axes",
]


def sort_clusters(x: Any, lab: Array) -> tuple[Any, Array]:
    """Points, or a tuple of arrays, stored cluster by cluster, and their labels."""
    return clustering.sort_clusters(x, lab)


def cluster_ranges(lab: Array, Nlab: Array | None = None) -> Array:
    """The intervals of the clusters; the sizes ``Nlab`` of the clusters are counted anew."""
    return clustering.cluster_ranges(lab)


def cluster_centroids(
    x: Array,
    lab: Array,
    Nlab: Array | None = None,
    weights: Array | None = None,
    weights_c: Array | None = None,
) -> Array:
    """The means of the clusters; the sizes ``Nlab`` and weights ``weights_c`` of the clusters are summed anew."""
    return clustering.cluster_centroids(x, lab, weights)


def cluster_ranges_centroids(
    x: Array, lab: Array, weights: Array | None = None, min_weight: float = 1e-9
) -> tuple[Array, Array, Array]:
    """The intervals, means and weights of the clusters; those of weight 0 are safe without ``min_weight``."""
    return clustering.cluster_ranges_centroids(x, lab, weights)
