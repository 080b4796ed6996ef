"""Coarser versions of meshes, for coarse-to-fine registration."""

from __future__ import annotations

import torch

from .neighborhoods import farthest_points, nearest
from .shapes import Mesh


def decimate(mesh: Mesh, n_points: int) -> Mesh:
    """A coarser mesh on a well-spread subset of the vertices.

    Each vertex joins the nearest of those that are kept; the triangles whose corners joined three distinct vertices
    remain. Details smaller than the new triangles are lost, folds that nearly touch may become one.

    Parameters
    ----------
    mesh : Mesh
    n_points : int
        How many vertices to keep, in [3, N]; the few that no triangle uses are dropped.

    Raises
    ------
    ValueError
        If `n_points` is out of bounds, or so small that no triangle remains.

    Notes
    -----
    Vertex clustering: Rossignac and Borrel, 1993, with farthest points in the place of cells.
    """
    if not 3 <= n_points <= mesh.n_points:
        raise ValueError(
            f"n_points must be between 3 and the {mesh.n_points} vertices of the mesh; got {n_points}."
        )
    kept = farthest_points(mesh.points, n_points)
    owners = nearest(mesh.points, mesh.points[kept]).indices
    corners = owners[mesh.triangles]
    distinct = (corners != corners.roll(1, dims=1)).all(dim=1)
    triangles = _unique_triangles(corners[distinct])
    if triangles.shape[0] == 0:
        raise ValueError(f"No triangle remains with {n_points} vertices; keep more.")
    used, renumbered = torch.unique(triangles, return_inverse=True)
    return Mesh(mesh.points[kept[used]], renumbered)


def _unique_triangles(triangles: torch.Tensor) -> torch.Tensor:
    """Each oriented triangle once: the smallest index goes first, which keeps the orientation."""
    first = triangles.argmin(dim=1)
    turned = torch.stack(
        [triangles.gather(1, ((first + shift) % 3)[:, None])[:, 0] for shift in range(3)], dim=1
    )
    return torch.unique(turned, dim=0)
