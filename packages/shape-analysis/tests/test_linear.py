"""Rigid, similarity and affine maps: what each keeps, and their paths."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from shape_analysis import Affine, PointCloud, Rigid, Similarity

MODELS = [Rigid(), Similarity(), Affine()]


@pytest.fixture
def cloud(rng):
    return PointCloud(torch.randn(10, 3, dtype=torch.float64, generator=rng))


def parameters_for(model, cloud, rng):
    start = model.initial_parameters(cloud)
    return start + torch.randn(start.shape, dtype=start.dtype, generator=rng)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("dim", [2, 3])
def test_zero_is_the_identity(model, dim, dtype, tolerance, rng):
    cloud = PointCloud(torch.randn(5, dim, dtype=dtype, generator=rng))
    assert_close(
        model(cloud, model.initial_parameters(cloud)).end.points, cloud.points, rtol=0, atol=tolerance
    )


def test_rigid_maps_keep_distances(cloud, rng):
    moved = Rigid()(cloud, parameters_for(Rigid(), cloud, rng)).end.points
    assert_close(torch.cdist(moved, moved), torch.cdist(cloud.points, cloud.points))
    assert (moved - cloud.points).abs().max() > 0.1


def test_similarities_scale_distances(cloud, rng):
    parameters = parameters_for(Similarity(), cloud, rng)
    moved = Similarity()(cloud, parameters).end.points
    expected = parameters[3].exp() * torch.cdist(cloud.points, cloud.points)
    assert_close(torch.cdist(moved, moved), expected)


def test_affine_maps_keep_barycentres_and_translate_the_centre(cloud, rng):
    parameters = parameters_for(Affine(), cloud, rng)
    moved = Affine()(cloud, parameters).end.points
    assert_close(moved.mean(dim=0), cloud.points.mean(dim=0) + parameters[9:])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_paths_compose_without_translation(model, cloud, rng):
    parameters = parameters_for(model, cloud, rng)
    parameters[-3:] = 0
    half, whole = model(cloud, parameters, times=(0.5, 1.0)).shapes
    assert_close(model(half, parameters, times=(0.5,)).end.points, whole.points)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_gradient(model, cloud, rng):
    parameters = parameters_for(model, cloud, rng).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: model(cloud, value).end.points, parameters)
    assert float(model.energy(cloud, parameters).detach()) == 0
