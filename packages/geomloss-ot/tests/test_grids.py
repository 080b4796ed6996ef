"""Images and volumes: against the same pixels as points, closed forms, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from geomloss_ot import sinkhorn_divergence, solve_grid, solve_sample
from geomloss_ot.geometries import GridGeometry, MatrixGeometry

SIZES = [((9,), (6,)), ((5, 7), (4, 6)), ((4, 3, 5), (2, 5, 3))]


def _images(sizes, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    images = [np.maximum(rng.uniform(-0.3, 1.0, size=size), 0.0).astype(dtype) for size in sizes]
    return [image / image.sum() for image in images]


def _pixels(size):
    axes = [(np.arange(n) + 0.5) / n for n in size]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], -1)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("power", [1, 2])
def test_geometry_is_that_of_the_pixels(sizes, power):
    rng = np.random.default_rng(0)
    axes = [tuple(tuple((np.arange(n) + 0.5) / n) for n in size) for size in sizes]
    grid = GridGeometry(*axes, power, 0.7, (2,))
    costs = 0.7 * (np.abs(_pixels(sizes[0])[:, None] - _pixels(sizes[1])[None]) ** power).sum(-1)
    dense = MatrixGeometry(np.stack([costs, costs]))
    n, m = costs.shape
    assert grid.shape == dense.shape
    assert grid.cost_bound >= dense.cost_bound
    for epsilon in (0.5, 0.01):
        f, g = epsilon * rng.normal(size=(2, n)), epsilon * rng.normal(size=(2, m))
        values = rng.normal(size=(2, m, 3)) * (rng.uniform(size=(2, m, 1)) > 0.3)
        np.testing.assert_allclose(grid.softmin(epsilon, g), dense.softmin(epsilon, g), atol=1e-13)
        np.testing.assert_allclose(grid.T.softmin(epsilon, f), dense.T.softmin(epsilon, f), atol=1e-13)
        for name in ("apply_plan", "apply_plan_cost"):
            expected = getattr(dense, name)(epsilon, f, g, values)
            actual = getattr(grid, name)(epsilon, f, g, values)
            np.testing.assert_allclose(actual, expected, atol=1e-13 * np.abs(expected).max())
        density = dense.density(epsilon, f, g)
        np.testing.assert_allclose(grid.density(epsilon, f, g), density)
        column = values[0, :, 0]
        np.testing.assert_allclose(grid.lazy_density(epsilon, f, g) @ column, density @ column, atol=1e-9)
        u, v, b = np.abs(f), np.abs(g), np.abs(values[..., 0])
        exact = dense.primal_density(epsilon, f, g, (0 * u, v, b))
        np.testing.assert_allclose(grid.primal_density(epsilon, f, g, (0 * u, v, b)), exact, rtol=1e-10)
        above = grid.primal_density(epsilon, f, g, (u, v, b)) - dense.primal_density(epsilon, f, g, (u, v, b))
        assert above.min() > -1e-15


def test_coarse_images_keep_their_mass():
    image = np.random.default_rng(0).uniform(size=(2, 17 * 22))
    axes = tuple(tuple((np.arange(n) + 0.5) / n) for n in (17, 22))
    coarsening = GridGeometry(axes, axes, batch=(2,)).coarsen()
    assert coarsening.geometry.shape == (2, 9 * 11, 9 * 11)
    pooled = coarsening.pool_rows(image)
    whole = image.reshape(2, 17, 22)
    np.testing.assert_allclose(pooled[1, 12], whole[1, 2:4, 2:4].sum())
    np.testing.assert_allclose(pooled.sum(-1), image.sum(-1))
    assert coarsening.geometry.coarsen() is None


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("unbalanced", [None, 0.2])
@pytest.mark.parametrize("metric", ["sqeuclidean", "cityblock"])
def test_images_are_clouds_of_pixels(sizes, unbalanced, metric):
    a, b = _images(sizes)
    options = {"metric": metric, "reg": 0.02, "unbalanced": unbalanced, "debias": True, "tol": 1e-9}
    grid = solve_grid(a, b, **options)
    points = solve_sample(_pixels(sizes[0]), _pixels(sizes[1]), a.ravel(), b.ravel(), **options)
    assert grid.status == "converged"
    assert float(grid.value) == pytest.approx(float(points.value), rel=1e-8)
    for name, shape in (
        ("potential_aa", sizes[0]),
        ("marginal_a", sizes[0]),
        ("marginal_b", sizes[1]),
        ("a_to_b", (*sizes[0], len(sizes[0]))),
        ("value_linear", ()),
    ):
        actual = getattr(grid, name)
        assert tuple(actual.shape) == shape
        np.testing.assert_allclose(
            actual.reshape(-1), getattr(points, name).reshape(-1), rtol=1e-5, atol=1e-7
        )
    np.testing.assert_allclose(grid.plan, points.plan, rtol=1e-4, atol=1e-9)
    assert abs(float(grid.certificate.duality_gap)) < 1e-7
    tensors = solve_grid(torch.from_numpy(a), torch.from_numpy(b), **options)
    np.testing.assert_allclose(tensors.potential_b.numpy(), grid.potential_b, atol=1e-7)


def test_gaussians_on_a_line():
    """The closed form of arXiv 2006.02572, at its printed digits."""
    points = np.linspace(-1.0, 2.2, 400)
    half = (points[1] - points[0]) / 2
    a, b = (np.exp(-((points - m) ** 2) / (2 * s**2)) for m, s in ((0.3, 0.1), (0.7, 0.15)))
    options = {"axes": ((-1.0 - half, 2.2 + half),), "blur": 0.1, "tol": 1e-9}
    result = solve_grid(a / a.sum(), b / b.sum(), debias=True, **options)
    assert float(result.value) == pytest.approx(0.16237270320, abs=1e-11)


@pytest.mark.parametrize("size", [(40, 33), (18, 17, 20)])
def test_certificate_of_an_image_with_empty_pixels(size):
    """Annealed over several scales, none of whose sizes is a power of two."""
    a, b = np.zeros(size), np.zeros(size)
    a[2:9, 3:8] = 1.0
    b[10:16, 9:15] = 1.0
    result = solve_grid(a / a.sum(), b / b.sum(), blur=1 / 40, tol=1e-3)
    assert result.status == "converged"
    assert result.certificate.marginal_error_a <= 1e-3
    assert result.certificate.marginal_error_b <= 1e-3
    assert 0 <= float(result.certificate.duality_gap) < 1e-3


def test_batches_channels_and_conventions():
    rng = np.random.default_rng(1)
    a, b = (torch.from_numpy(rng.uniform(size=(2, 3, 12, 10))) for _ in range(2))
    a, b = (image / image.sum((-1, -2), keepdim=True) for image in (a, b))
    axes = ((0.0, 1.0), (0.0, 2.0))
    together = sinkhorn_divergence(a, b, blur=0.1, axes=axes, tol=1e-8)
    assert together.shape == (2,)
    alone = [
        solve_grid(p, q, blur=0.1, axes=axes, debias=True, tol=1e-8).value / 2
        for p, q in zip(a[1], b[1], strict=True)
    ]
    torch.testing.assert_close(together[1], sum(alone))
    f, g = sinkhorn_divergence(a, b, blur=0.1, axes=axes, tol=1e-8, potentials=True)
    torch.testing.assert_close((a * f + b * g).sum((1, 2, 3)), together)
    linear = sinkhorn_divergence(a[:, 0], b[:, 0], p=1, blur=0.1, tol=1e-8, reach=0.3)
    expected = solve_grid(
        a[1, 0], b[1, 0], metric="cityblock", reg=0.1, unbalanced=0.3, debias=True, tol=1e-8
    )
    torch.testing.assert_close(linear[1], expected.value)


@pytest.mark.parametrize("scaling", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_translation(scaling, dtype):
    a = torch.zeros(1, 30, 26, dtype=dtype)
    a[0, 4:12, 3:9] = 1 / 48
    b = a.roll((15, 13), (1, 2))
    value = sinkhorn_divergence(a, b, scaling=scaling)
    assert value.dtype == dtype
    assert value.item() == pytest.approx(0.25, rel=1e-4)


def test_sizes_that_differ_at_all_scales():
    """Coarser images on the way, whose sizes differ too."""
    rng = np.random.default_rng(4)
    a, b = (rng.uniform(0.1, 1, size=size) for size in ((40, 33), (34, 70)))
    a, b = a / a.sum(), b / b.sum()
    result = solve_grid(a, b, blur=0.03, tol=1e-6)
    assert result.status == "converged"
    points = solve_sample(_pixels(a.shape), _pixels(b.shape), a.ravel(), b.ravel(), blur=0.03, tol=1e-6)
    assert float(result.value) == pytest.approx(float(points.value), rel=1e-8)


def test_default_blur_is_the_smallest_pixel():
    a, b = (torch.from_numpy(image) for image in _images([(12, 7), (12, 7)]))
    default = sinkhorn_divergence(a[None], b[None], tol=1e-7)
    torch.testing.assert_close(default, sinkhorn_divergence(a[None], b[None], blur=1 / 12, tol=1e-7))


@pytest.mark.parametrize("reach", [None, 0.4])
def test_derivatives(reach):
    rng = np.random.default_rng(2)
    a, b = (torch.from_numpy(rng.normal(size=(1, 4, 3))).requires_grad_() for _ in range(2))

    def function(a, b):
        weights = [
            w.flatten(1).softmax(-1).reshape(w.shape) * (1.0 if reach is None else w.exp()) for w in (a, b)
        ]
        return sinkhorn_divergence(*weights, blur=0.3, reach=reach, tol=1e-13)

    assert gradcheck(function, (a, b), fast_mode=True)
    assert gradgradcheck(function, (a, b), fast_mode=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: sinkhorn_divergence(a, a), r"\(1, 2, 3, 4\): with axes=None"),
        (lambda a: sinkhorn_divergence(a[0, 0, 0], a[0, 0, 0]), "with axes=None"),
        (lambda a: sinkhorn_divergence(a[0], a[0], axes=((0, 1),) * 3), "a batch dimension"),
        (lambda a: sinkhorn_divergence(a[0], a[0], axes=((1, 0), (0, 1))), r"\(low, high\)"),
        (lambda a: sinkhorn_divergence(a[0], a[0], p=3), "p=3"),
        (lambda a: sinkhorn_divergence(a[0], a[0], scaling=0.0), "scaling=0.0"),
        (lambda a: sinkhorn_divergence(a[0], a[0], blur=-1.0), "blur=-1.0"),
        (lambda a: sinkhorn_divergence(a[0], a[0], cost=abs), "separate over the axes"),
        (lambda a: sinkhorn_divergence(a[0], -a[0]), "negative weights"),
        (lambda a: sinkhorn_divergence(a[0], 2 * a[0]), "equal masses"),
        (lambda a: solve_grid(a, a, blur=1.0), "a signal"),
        (lambda a: solve_grid(a[0], a[0].float(), blur=1.0), "float64.*float32|float32.*float64"),
        (lambda a: solve_grid(a[0], a[0, 0], blur=1.0), "of the same dimension"),
        (lambda a: solve_grid(a[0], a[0], metric="euclidean", blur=1.0), "metric='euclidean'.*'cityblock'"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(1, 2, 3, 4, dtype=torch.float64))
