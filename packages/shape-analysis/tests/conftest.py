"""Small shapes that several test files need, and one table of tolerances."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from shape_analysis import Mesh, Polyline

# The arrays here are small: on a busy machine, PyTorch's threads wait for each other longer than they compute.
torch.set_num_threads(1)

TOLERANCES = {torch.float32: 2e-5, torch.float64: 1e-12}


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def tolerance(dtype: torch.dtype) -> float:
    return TOLERANCES[dtype]


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def sphere() -> Callable[..., Mesh]:
    """Builds a triangulated unit sphere: points on a spiral, and their convex hull."""

    def build(n_points: int = 100, dtype: torch.dtype = torch.float64) -> Mesh:
        heights = 1 - (2 * np.arange(n_points) + 1) / n_points
        angles = np.arange(n_points) * np.pi * (3 - np.sqrt(5))
        radii = np.sqrt(1 - heights**2)
        points = np.stack([radii * np.cos(angles), radii * np.sin(angles), heights], axis=1)
        triangles = ConvexHull(points).simplices.astype(np.int64)
        first, second, third = points[triangles].transpose(1, 0, 2)
        inward = np.sum(np.cross(second - first, third - first) * first, axis=1) < 0
        triangles[inward] = triangles[inward][:, ::-1]
        return Mesh(torch.tensor(points, dtype=dtype), torch.tensor(triangles))

    return build


@pytest.fixture
def circle() -> Callable[..., Polyline]:
    """Builds a closed polygon on the unit circle."""

    def build(n_points: int = 40, dtype: torch.dtype = torch.float64) -> Polyline:
        angles = torch.arange(n_points, dtype=dtype) * (2 * torch.pi / n_points)
        indices = torch.arange(n_points)
        points = torch.stack([angles.cos(), angles.sin()], dim=1)
        return Polyline(points, torch.stack([indices, indices.roll(-1)], dim=1))

    return build


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of the classical reference shapes, that SHAPE_ANALYSIS_DATA names where they are at hand."""
    folder = Path(os.environ.get("SHAPE_ANALYSIS_DATA", ""))
    if not (folder / "skulls").is_dir():
        pytest.skip(
            "needs the classical reference shapes: set SHAPE_ANALYSIS_DATA to the folder that holds skulls/"
        )
    return folder
