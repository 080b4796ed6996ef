"""Neighbours, distances to surfaces and subsamples, against dense computations and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from shape_analysis import Mesh, decimate, distances_to_surface, farthest_points, nearest


def test_nearest(dtype, rng):
    x = torch.randn(40, 3, dtype=dtype, generator=rng)
    y = torch.randn(30, 3, dtype=dtype, generator=rng)
    distances, indices = nearest(x, y)
    expected = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    assert_close(distances, expected.values)
    assert torch.equal(indices, expected.indices)


def test_nearest_is_differentiable(rng):
    x = torch.randn(5, 2, dtype=torch.float64, generator=rng).requires_grad_()
    y = torch.randn(4, 2, dtype=torch.float64, generator=rng).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: nearest(x, y).distances, (x, y))


def test_nearest_to_itself_has_a_finite_gradient():
    x = torch.zeros(1, 2, requires_grad=True)
    nearest(x, torch.zeros(1, 2)).distances.sum().backward()
    assert x.grad.tolist() == [[0, 0]]


# One point over each region of the triangle (0,0,0), (4,0,0), (0,4,0): inside, beyond each corner and each edge.
@pytest.mark.parametrize(
    ("point", "distance"),
    [
        ([1.0, 1.0, 2.0], 2.0),
        ([1.0, 1.0, -2.0], 2.0),
        ([-3.0, -4.0, 0.0], 5.0),
        ([7.0, -4.0, 0.0], 5.0),
        ([-3.0, 8.0, 0.0], 5.0),
        ([2.0, -1.0, 0.0], 1.0),
        ([-1.0, 2.0, 0.0], 1.0),
        ([4.0, 4.0, 0.0], 8**0.5),
        ([2.0, 2.0, 3.0], 3.0),
    ],
)
def test_distance_to_a_triangle(point, distance):
    triangle = Mesh([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 4.0, 0.0]], [[0, 1, 2]])
    assert float(distances_to_surface(torch.tensor([point]), triangle)) == pytest.approx(distance, rel=1e-6)


def test_distance_to_a_sphere_needs_few_candidates(sphere, rng):
    mesh = sphere(200)
    points = torch.randn(50, 3, dtype=torch.float64, generator=rng)
    few = distances_to_surface(points, mesh)
    every = distances_to_surface(points, mesh, candidates=10**6)
    assert_close(few, every)
    assert_close(few, (points.norm(dim=1) - 1).abs(), rtol=0, atol=0.05)


def test_farthest_points_are_distinct_and_cover(rng):
    points = torch.rand(300, 2, generator=rng)
    chosen = farthest_points(points, 40)
    assert len(set(chosen.tolist())) == 40
    radius = float(nearest(points, points[chosen]).distances.max())
    spread = torch.cdist(points[chosen], points[chosen]).fill_diagonal_(torch.inf).min()
    assert radius <= float(spread)


def test_farthest_points_among_duplicates():
    assert sorted(farthest_points(torch.zeros(4, 2), 4).tolist()) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="between 1 and the 4 points given; got 5"):
        farthest_points(torch.zeros(4, 2), 5)


def test_decimated_spheres_stay_round_and_oriented(sphere):
    mesh = sphere(600)
    coarse = decimate(mesh, 150)
    assert 140 <= coarse.n_points <= 150
    assert float(coarse.areas.sum()) == pytest.approx(float(mesh.areas.sum()), rel=0.1)
    assert ((coarse.normals * coarse.centroids).sum(dim=1) > 0).all()
    assert torch.unique(coarse.triangles).shape[0] == coarse.n_points


def test_decimation_bounds(sphere):
    with pytest.raises(ValueError, match="between 3 and the 20 vertices"):
        decimate(sphere(20), 21)
    assert decimate(sphere(20), 20).triangles.shape == sphere(20).triangles.shape
