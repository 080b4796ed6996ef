"""Nearest neighbours, distances to surfaces and subsamples, as symbolic reductions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from symbolic_matrices import Vi, Vj

from .shapes import Mesh


class Neighbors(NamedTuple):
    """The nearest reference point of each query."""

    distances: Tensor  # (M,)
    indices: Tensor  # (M,)


def nearest(queries: Tensor, references: Tensor) -> Neighbors:
    """Distance to the nearest reference point, and its index.

    ``distances[i] = min_j |x_i - y_j|``; the memory is linear in M + N.

    Parameters
    ----------
    queries : Tensor, shape (M, D)
    references : Tensor, shape (N, D)

    Returns
    -------
    Neighbors
        Distances (M,), differentiable in both arrays, and int64 indices (M,).

    Examples
    --------
    >>> import torch
    >>> found = nearest(torch.tensor([[0.0], [9.0]]), torch.tensor([[1.0], [5.0]]))
    >>> found.distances.tolist(), found.indices.tolist()
    ([1.0, 4.0], [0, 1])
    """
    squared = Vi(queries.detach().contiguous()).sqdist(Vj(references.detach().contiguous()))
    indices = squared.argmin(axis=1)[:, 0]
    return Neighbors(torch.linalg.vector_norm(queries - references[indices], dim=1), indices)


def distances_to_surface(queries: Tensor, surface: Mesh, candidates: int = 16) -> Tensor:
    """Distance from points to the nearest point of a surface, be it a vertex or inside a triangle.

    Only the triangles with the nearest centroids are examined: the result is an upper bound, and exact unless the
    nearest triangle has an unusually long shape.

    Parameters
    ----------
    queries : Tensor, shape (M, 3)
    surface : Mesh
    candidates : int
        How many triangles to examine for each point.

    Returns
    -------
    Tensor, shape (M,)
        Distances, without gradient.

    Examples
    --------
    >>> import torch
    >>> floor = Mesh([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 4.0, 0.0]], [[0, 1, 2]])
    >>> distances_to_surface(torch.tensor([[1.0, 1.0, 2.0], [-3.0, 0.0, 4.0]]), floor).tolist()
    [2.0, 5.0]
    """
    queries = queries.detach().contiguous()
    squared = Vi(queries).sqdist(Vj(surface.centroids.detach()))
    chosen = squared.argKmin(min(candidates, surface.triangles.shape[0]), axis=1)  # (M, K)
    corners = surface.corners.detach()[chosen]  # (M, K, 3, 3)
    return _squared_distances_to_triangles(queries[:, None], corners).amin(dim=1).sqrt()


def _squared_distances_to_triangles(points: Tensor, corners: Tensor) -> Tensor:
    """Squared distances of points (..., 3) to triangles (..., 3 corners, 3)."""
    edges = corners.roll(-1, dims=-2) - corners
    offsets = points[..., None, :] - corners
    lengths = edges.square().sum(dim=-1).clamp(min=torch.finfo(edges.dtype).tiny)
    along = ((offsets * edges).sum(dim=-1) / lengths).clamp(0, 1)
    to_edges = (offsets - along[..., None] * edges).square().sum(dim=-1).amin(dim=-1)

    normal = torch.linalg.cross(edges[..., 0, :], edges[..., 1, :])
    height = (offsets[..., 0, :] * normal).sum(dim=-1)
    to_plane = height.square() / normal.square().sum(dim=-1).clamp(min=torch.finfo(edges.dtype).tiny)
    sides = (torch.linalg.cross(edges, offsets) * normal[..., None, :]).sum(dim=-1)
    above = (sides > 0).all(dim=-1)
    return torch.where(above, to_plane, to_edges)


def farthest_points(points: Tensor, count: int, start: int = 0) -> Tensor:
    """A well-spread subsample: each point is the farthest from those before it.

    Parameters
    ----------
    points : Tensor, shape (N, D)
    count : int
        In [1, N].
    start : int
        Index of the first point.

    Returns
    -------
    Tensor, shape (count,)
        Distinct int64 indices, in the order of the choice. The cost is O(N count).

    Raises
    ------
    ValueError
        If `count` is not in [1, N].

    Notes
    -----
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985: the radius of the largest hole is at
    most twice the best possible.

    Examples
    --------
    >>> import torch
    >>> farthest_points(torch.tensor([[0.0], [1.0], [5.0], [9.0]]), 3).tolist()
    [0, 3, 2]
    """
    if not 1 <= count <= points.shape[0]:
        raise ValueError(f"count must be between 1 and the {points.shape[0]} points given; got {count}.")
    points = points.detach()
    chosen = torch.empty(count, dtype=torch.int64, device=points.device)
    remaining = torch.full_like(points[:, 0], float("inf"))
    index = torch.as_tensor(start, device=points.device)
    for position in range(count):
        chosen[position] = index
        remaining = torch.minimum(remaining, (points - points[index]).square().sum(dim=1))
        remaining[index] = -1.0  # never again, even among duplicates
        index = remaining.argmax()
    return chosen
