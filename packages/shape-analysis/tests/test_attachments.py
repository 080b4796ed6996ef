"""Attachments: closed forms, dense formulas, invariances, gradients and the reference values on skulls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from shape_analysis import (
    Currents,
    Kernel,
    Landmarks,
    Mesh,
    NearestPoints,
    OrientedVarifold,
    PointCloud,
    Polyline,
    Sinkhorn,
    Varifold,
    io,
)

GAUSSIAN = Kernel("gaussian", 0.7)
DIRECTIONAL = {
    "currents": (Currents(GAUSSIAN), lambda cosine: cosine),
    "varifold": (Varifold(GAUSSIAN), lambda cosine: cosine**2),
    "oriented": (OrientedVarifold(GAUSSIAN, 0.8), lambda cosine: torch.exp((cosine - 1) * 2 / 0.8**2)),
}
ALL = [
    Landmarks(),
    NearestPoints(),
    *(attachment for attachment, _ in DIRECTIONAL.values()),
    Sinkhorn(blur=0.2),
    Sinkhorn(blur=0.2, support="vertices"),
    Sinkhorn(blur=0.2, normals=0.5),
    Sinkhorn(blur=0.2, reach=1.0),
]


def name_of(attachment):
    return repr(attachment).replace("Kernel", "")


def dense_product(first, second, direction_kernel):
    """<S, T> with a Gaussian kernel of scale 0.7, in plain PyTorch."""
    positions = torch.exp(-torch.cdist(first.centroids, second.centroids).square() / 0.7**2)
    areas = first.measures[:, None] * second.measures[None]
    cosines = (first.directions @ second.directions.T) / areas
    return (positions * areas * direction_kernel(cosines)).sum()


@pytest.mark.parametrize("name", DIRECTIONAL)
@pytest.mark.parametrize("kind", ["mesh", "polyline"])
def test_directional_norms_against_dense_formulas(name, kind, dtype, tolerance, sphere, circle):
    attachment, direction_kernel = DIRECTIONAL[name]
    first = sphere(30, dtype) if kind == "mesh" else circle(12, dtype)
    second = (sphere(20, dtype) if kind == "mesh" else circle(9, dtype)).to(dtype)
    second = second.with_points(1.3 * second.points)
    products = [
        dense_product(*pair, direction_kernel) for pair in ((first, first), (first, second), (second, second))
    ]
    expected = products[0] - 2 * products[1] + products[2]
    assert_close(attachment(first, second), expected, rtol=100 * tolerance, atol=0)


@pytest.mark.parametrize("attachment", ALL, ids=name_of)
def test_a_shape_is_at_distance_zero_of_itself(attachment, sphere):
    mesh = sphere(40)
    assert float(attachment(mesh, mesh)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("attachment", ALL, ids=name_of)
def test_distance_grows_with_the_shift(attachment, sphere):
    mesh = sphere(40)
    shift = torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64)
    values = [float(attachment(mesh.with_points(mesh.points + step * shift), mesh)) for step in (1, 2, 3)]
    assert 0 < values[0] < values[1] < values[2]


@pytest.mark.parametrize("attachment", ALL, ids=name_of)
def test_gradient(attachment, sphere):
    """Against a central difference in one direction: envelope gradients of Sinkhorn are those of the limit."""
    if isinstance(attachment, Sinkhorn):
        attachment = replace(
            attachment, tol=1e-9
        )  # far between 16 points, potentials converge after marginals
    mesh = sphere(16)
    target = mesh.with_points(1.2 * mesh.points + 0.1)
    direction = torch.sin(7 * mesh.points)
    points = mesh.points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(attachment(mesh.with_points(points), target), points)
    step = 1e-5
    values = [float(attachment(mesh.with_points(mesh.points + s * direction), target)) for s in (step, -step)]
    expected = (values[0] - values[1]) / (2 * step)
    tolerance = 1e-4 if isinstance(attachment, Sinkhorn) else 1e-5
    assert float((slope * direction).sum()) == pytest.approx(expected, rel=tolerance)


def test_orientation_matters_to_currents_only(sphere):
    mesh = sphere(40)
    assert float(Varifold(GAUSSIAN)(mesh.flipped(), mesh)) == pytest.approx(0, abs=1e-10)
    assert float(Currents(GAUSSIAN)(mesh.flipped(), mesh)) > 1
    assert float(OrientedVarifold(GAUSSIAN)(mesh.flipped(), mesh)) > 1


def test_flat_elements_weigh_nothing(sphere):
    mesh = sphere(20)
    with_flat = Mesh(mesh.points, torch.cat([mesh.triangles, torch.tensor([[0, 0, 1]])]))
    assert float(Varifold(GAUSSIAN)(with_flat, mesh)) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("support", ["centroids", "vertices"])
def test_sinkhorn_of_a_translation(support, sphere, dtype):
    mesh = sphere(60, dtype)
    shift = torch.tensor([0.3, 0.0, 0.4], dtype=dtype)
    value = Sinkhorn(blur=0.1, support=support)(mesh.with_points(mesh.points + shift), mesh)
    assert value.dtype == dtype
    assert float(value) == pytest.approx(0.125, rel=1e-3)


def test_sinkhorn_sees_surfaces_rather_than_samples(sphere):
    """Two samplings of one sphere are close, at the scale of their spacing."""
    same = float(Sinkhorn(blur=0.1)(sphere(100), sphere(300)))
    other = float(Sinkhorn(blur=0.1)(sphere(100), sphere(300).with_points(1.5 * sphere(300).points)))
    assert same < 0.02 * other


def test_skulls_have_the_reference_distances(reference_data):
    folder = reference_data / "skulls"
    names = ["australopithecus", "erectus", "habilis", "neandertalis", "sapiens"]
    expected = [37786.83, 32630.95, 35719.28, 38028.60, 33172.77]
    template = io.read(folder / "template.vtk", dim=2).to(torch.float64)
    attachment = Varifold(Kernel("gaussian", 20.0))
    values = [
        float(attachment(template, io.read(folder / f"skull_{name}.vtk", dim=2).to(torch.float64)))
        for name in names
    ]
    assert values == pytest.approx(expected, abs=0.01)
    assert sum(values) == pytest.approx(177338.44, abs=0.02)


def test_invalid_input_is_named(sphere):
    mesh, cloud = sphere(20), PointCloud(sphere(20).points)
    with pytest.raises(ValueError, match=r"Currents compares tangents or normals.*not a PointCloud"):
        Currents(GAUSSIAN)(mesh, cloud)
    with pytest.raises(ValueError, match=r"Sinkhorn\(normals=...\) compares tangents or normals"):
        Sinkhorn(blur=0.1, normals=1.0)(cloud, mesh)
    with pytest.raises(ValueError, match=r"have 19 and 20 points"):
        Landmarks()(PointCloud(mesh.points[1:]), mesh)
    with pytest.raises(ValueError, match=r"differ in dtype: torch.float32 and torch.float64"):
        NearestPoints()(mesh.to(torch.float32), mesh)
    with pytest.raises(ValueError, match=r"differ in dim: 3 and 2"):
        NearestPoints()(mesh, Polyline(torch.zeros(2, 2, dtype=torch.float64), [[0, 1]]))
    with pytest.raises(ValueError, match=r"Unknown support 'edges'"):
        Sinkhorn(blur=0.1, support="edges")
    with pytest.raises(ValueError, match=r"needs support='centroids'"):
        Sinkhorn(blur=0.1, support="vertices", normals=1.0)
