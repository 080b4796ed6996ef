"""Shapes: validation, geometry against closed forms, invariances, and the cache."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from shape_analysis import Mesh, PointCloud, Polyline, ShapeError

TETRAHEDRON = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
FACES = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
NAN = float("nan")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PointCloud([1.0, 2.0]), r"shape \(N, D\).*got shape \(2,\)"),
        (lambda: PointCloud(torch.empty(0, 3)), "empty"),
        (lambda: PointCloud(torch.ones(2, 3, dtype=torch.int64)), r"float32 or float64.*points\.float\(\)"),
        (lambda: PointCloud([[0.0, NAN], [1.0, 1.0]]), "NaN or infinite coordinates in 1 of its 2 rows"),
        (lambda: PointCloud([[0.0, float("inf")]]), "NaN or infinite"),
        (lambda: PointCloud("points"), "cannot be converted"),
        (lambda: PointCloud([[0.0], [1.0]], [1.0]), r"weights must have shape \(2,\).*got \(1,\)"),
        (lambda: PointCloud([[0.0], [1.0]], [1.0, -1.0]), "non-negative"),
        (lambda: PointCloud([[0.0], [1.0]], [0.0, 0.0]), "at least one positive"),
        (lambda: PointCloud([[0.0], [1.0]], [NAN, 1.0]), "finite"),
        (lambda: Mesh(TETRAHEDRON, [[0, 1, 4]]), "points 0 to 4, but the indices of 4 points go from 0 to 3"),
        (lambda: Mesh(TETRAHEDRON, [[0, 1, -1]]), "points -1 to 1"),
        (lambda: Mesh(TETRAHEDRON, [[0.0, 1.0, 2.0]]), "must be integers, got torch.float32"),
        (lambda: Mesh(TETRAHEDRON, [[0, 1]]), r"triangles must have shape \(E, 3\).*got \(1, 2\)"),
        (lambda: Mesh(TETRAHEDRON, torch.empty(0, 3, dtype=torch.int64)), "E >= 1"),
        (
            lambda: Mesh([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0, 1, 2]]),
            "dimension 3, but the points have 2",
        ),
        (lambda: Polyline([[0.0], [1.0]], [[0, 1]]), "dimension 2 or 3"),
        (lambda: Polyline([[0.0, 0.0], [1.0, 0.0]], [[0, 2]]), "points 0 to 2"),
        (
            lambda: PointCloud([[0.0, 0.0]]).with_points(torch.zeros(2, 2)),
            r"shape \(2, 2\).*1 points in dimension 2",
        ),
    ],
)
def test_invalid_input_is_named(build, message):
    with pytest.raises(ShapeError, match=message):
        build()


def test_geometry_of_a_tetrahedron(dtype, tolerance):
    mesh = Mesh(torch.tensor(TETRAHEDRON, dtype=dtype), FACES)
    slanted = math.sqrt(3) / 2
    areas = torch.tensor([0.5, 0.5, 0.5, slanted], dtype=dtype)
    assert_close(mesh.areas, areas, rtol=tolerance, atol=0)
    assert_close(mesh.vertex_masses[0], areas[:3].sum() / 3, rtol=tolerance, atol=0)
    assert_close(mesh.normals[3], torch.full((3,), 1 / math.sqrt(3), dtype=dtype), rtol=tolerance, atol=0)
    assert_close(
        mesh.directions.sum(dim=0), torch.zeros(3, dtype=dtype), rtol=0, atol=tolerance
    )  # it is closed
    assert_close(
        mesh.centroids[0], torch.tensor([1 / 3, 1 / 3, 0], dtype=dtype), rtol=tolerance, atol=tolerance
    )
    assert mesh.edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert mesh.extent == pytest.approx(math.sqrt(3))


def test_normals_of_a_sphere_point_outwards(sphere):
    mesh = sphere(400)
    assert ((mesh.vertex_normals * mesh.points).sum(dim=1) > 0.99).all()
    assert_close(mesh.flipped().vertex_normals, -mesh.vertex_normals)
    assert float(mesh.areas.sum()) == pytest.approx(4 * math.pi, rel=0.03)


def test_length_of_a_polygon(circle):
    polygon = circle(12)
    assert float(polygon.measures.sum()) == pytest.approx(24 * math.sin(math.pi / 12))
    assert_close(polygon.vertex_masses.sum(), polygon.measures.sum())
    assert_close(polygon.directions.sum(dim=0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-14)


def test_flat_triangles_have_no_nan():
    flat = Mesh(torch.zeros(3, 3, requires_grad=True), [[0, 1, 2]])
    (flat.areas.sum() + flat.normals.sum()).backward()
    assert flat.normals.tolist() == [[0, 0, 0]]
    assert torch.isfinite(flat.points.grad).all()


@settings(max_examples=30, deadline=None)
@given(
    angles=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    shift=st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    scale=st.floats(0.01, 100),
)
def test_areas_under_similarities(angles, shift, scale):
    mesh = Mesh(torch.tensor(TETRAHEDRON, dtype=torch.float64), FACES)
    a, b, c = angles
    skew = torch.tensor([[0, -a, -b], [a, 0, -c], [b, c, 0]], dtype=torch.float64)
    rotation = torch.linalg.matrix_exp(skew)
    moved = mesh.with_points(scale * mesh.points @ rotation.T + torch.tensor(shift, dtype=torch.float64))
    assert_close(moved.areas, scale**2 * mesh.areas, rtol=1e-7, atol=1e-9)
    assert_close(moved.normals, mesh.normals @ rotation.T, rtol=1e-6, atol=1e-6)
    assert_close(moved.vertex_masses.sum(), moved.areas.sum())


def test_geometry_is_computed_once(sphere):
    mesh = sphere(20)
    assert mesh.areas is mesh.areas
    assert mesh.with_points(2 * mesh.points).areas is not mesh.areas


def test_geometry_with_gradient_can_be_differentiated_twice():
    points = torch.tensor(TETRAHEDRON, requires_grad=True)
    mesh = Mesh(points, FACES)
    with torch.no_grad():
        assert not mesh.areas.requires_grad
    for _ in range(2):
        (slope,) = torch.autograd.grad(mesh.areas.sum(), points)
        assert slope.abs().sum() > 0


def test_conversion_keeps_indices():
    mesh = Mesh(TETRAHEDRON, FACES).to(torch.float64)
    assert mesh.dtype == torch.float64
    assert mesh.triangles.dtype == torch.int64
    cloud = PointCloud([[0.0]]).to(torch.float64)
    assert cloud.measures.dtype == torch.float64
    assert "1 points in dimension 1, torch.float64" in repr(cloud)


def test_shapes_are_frozen():
    with pytest.raises(AttributeError):
        PointCloud([[0.0]]).points = torch.ones(1, 1)
