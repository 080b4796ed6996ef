"""Pairs of clouds that transport must cope with, in any dimension, for the tests of several files."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest


class Clouds(NamedTuple):
    """Two weighted clouds of masses one, of extents close to one."""

    a: np.ndarray  # (N,)
    x: np.ndarray  # (N, D)
    b: np.ndarray  # (M,)
    y: np.ndarray  # (M, D)


def make_clouds(shape: str, dim: int, n: int, m: int, seed: int = 0) -> Clouds:
    """Clouds of one of the ``SHAPES``, with weights that differ by a factor of two at most, or vanish."""
    rng = np.random.default_rng(seed)
    x, y = SHAPES[shape](rng, n, m, dim)
    a, b = rng.uniform(1, 2, len(x)), rng.uniform(1, 2, len(y))
    if shape == "empty cells":
        a[x[:, 0] > 0.5] = 0  # half of the cells hold points without mass
        b[::2] = 0
    return Clouds(a / a.sum(), x, b / b.sum(), y)


def _embed(rng: np.random.Generator, points: np.ndarray, dim: int) -> np.ndarray:
    """The first coordinates of points, or the points in some subspace of a space of more dimensions."""
    given = points.shape[1]
    if dim <= given:
        return points[:, :dim]
    return points @ np.linalg.qr(rng.normal(size=(dim, given)))[0].T


def _sphere(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """A sphere and a cube."""
    directions = rng.normal(size=(n, dim))
    return 0.5 + 0.4 * directions / np.linalg.norm(directions, axis=1, keepdims=True), rng.random((m, dim))


def _blobs(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """A sphere and four blobs."""
    centres = 0.5 + 0.25 * np.sign(rng.normal(size=(4, dim)))
    return _sphere(rng, n, 0, dim)[0], centres[np.arange(m) % 4] + 0.05 * rng.normal(size=(m, dim))


def _moons(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaving half circles, one per cloud."""
    angles = np.pi * rng.random(n + m)
    upper, lower = angles[:n], angles[n:]
    points = np.concatenate(
        [np.stack([np.cos(upper), np.sin(upper)], 1), np.stack([1 - np.cos(lower), 0.5 - np.sin(lower)], 1)]
    )
    found = _embed(rng, 0.3 * points + 0.01 * rng.normal(size=points.shape), dim)
    return found[:n], found[n:]


def _brain(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the two cortical surfaces that come with nilearn, the right one seen in a mirror."""
    nibabel = pytest.importorskip("nibabel")
    location = find_spec("nilearn")
    if location is None or location.origin is None:
        pytest.skip("nilearn, which ships the surfaces, is not installed")
    folder = Path(location.origin).parent / "datasets" / "data" / "fsaverage5"
    left, right = (nibabel.load(folder / f"pial_{side}.gii.gz").darrays[0].data for side in ("left", "right"))
    right = right * [-1, 1, 1]
    chosen = rng.choice(left, n, replace=False), rng.choice(right, m, replace=False)
    points = np.concatenate(chosen).astype(np.float64)
    points = _embed(rng, (points - points.min(0)) / np.ptp(points, axis=0).max(), dim)
    return points[:n], points[n:]


def _cube(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of one law: little is left once the self terms are subtracted."""
    return rng.random((n, dim)), rng.random((m, dim))


def _duplicates(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Tens of points at almost the same places."""
    x, y = rng.random((n // 20, dim)), rng.random((m // 25, dim)) + 0.1
    x, y = x[np.arange(n) % len(x)], y[np.arange(m) % len(y)]
    return x + 1e-9 * rng.random((n, dim)), y + 1e-9 * rng.random((m, dim))


def _outlier(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """A blob and a cube, and one point that is far away."""
    x, y = 0.3 + 0.1 * rng.normal(size=(n, dim)), rng.random((m, dim))
    x[0] = 8.0
    return x, y


def _empty_cells(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """A cube and a sphere, whose points have no mass for a half of them."""
    return rng.random((n, dim)), _sphere(rng, m, 0, dim)[0]


def _line(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two intervals of a line."""
    direction = np.ones(dim) / np.sqrt(dim)
    return rng.random((n, 1)) * direction, (0.3 + rng.random((m, 1))) * direction


def _one_cell(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Points that are all much closer to each other than the blur."""
    return 1e-3 * rng.random((n, dim)), 1e-3 * rng.random((m, dim)) + 2e-3


def _apart(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two blobs on each side, that hardly feel each other; their masses differ a little."""
    ends = [(rng.random((size, 1)) < 0.5) + 0.05 * rng.random((size, dim)) for size in (n, m)]
    return ends[0], ends[1]


def _few_points(rng: np.random.Generator, n: int, m: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Seven points, and a cube."""
    return rng.random((7, dim)), rng.random((m, dim))


_Make = Callable[[np.random.Generator, int, int, int], tuple[np.ndarray, np.ndarray]]
SHAPES: dict[str, _Make] = {
    "sphere": _sphere,
    "blobs": _blobs,
    "moons": _moons,
    "brain": _brain,
    "cube": _cube,
    "duplicates": _duplicates,
    "outlier": _outlier,
    "empty cells": _empty_cells,
    "line": _line,
    "one cell": _one_cell,
    "apart": _apart,
    "few points": _few_points,
}
