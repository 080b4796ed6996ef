"""The way down temperatures and scales: coarser clouds and images, and what they foretell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomloss_ot import SamplesLoss, descent, sinkhorn, solve_grid, solve_sample
from geomloss_ot.costs import EUCLIDEAN, SQEUCLIDEAN, find_cost
from geomloss_ot.geometries import GridGeometry, PointGeometry, cells


def make_clouds(n: int, m: int, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 3)), 0.5 * rng.normal(size=(m, 3)) + 0.3
    return 0.2 * x.astype(dtype), 0.2 * y.astype(dtype)


def make_image(size: int, *bumps: tuple[float, float, float]) -> np.ndarray:
    axis = (np.arange(size) + 0.5) / size
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    image = sum(np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / width) for r, c, width in bumps)
    return image / image.sum()


@pytest.fixture
def _cells_for_all(monkeypatch):
    monkeypatch.setattr(cells, "_WORTH_CELLS", 0)


@pytest.mark.usefixtures("_cells_for_all")
@pytest.mark.parametrize("cost", [SQEUCLIDEAN, EUCLIDEAN])
def test_cells_of_points(cost):
    x, y = make_clouds(700, 500)
    geometry = PointGeometry(x, y, cost)
    coarsening = geometry.coarsen()
    coarse, (n, m) = coarsening.geometry, coarsening.geometry.shape
    assert n * 8 <= 700
    assert m * 8 <= 500
    rng = np.random.default_rng(1)
    weights = rng.uniform(size=700).astype("float32")
    pooled = coarsening.pool_rows(weights)
    assert pooled.dtype == np.float32
    assert pooled.sum() == pytest.approx(weights.sum(), rel=1e-6)
    # Every point is in the cell of its mean, whose size has the cost that is stated.
    numbers = coarsening.spread_columns(np.arange(m))
    offsets = np.abs(y - coarse.y[numbers])
    radius = (coarsening.resolution / cost.coefficient) ** (1 / cost.power)
    assert 0.5 * radius < offsets.max() < radius / 0.7
    np.testing.assert_allclose(np.bincount(numbers, y[:, 0]) / np.bincount(numbers), coarse.y[:, 0])
    assert PointGeometry(x, x, cost).coarsen().geometry.shape == (n, n)


@pytest.mark.usefixtures("_cells_for_all")
def test_clouds_without_cells():
    x, y = make_clouds(60, 50)
    equal = np.zeros((60, 3))
    assert PointGeometry(equal, equal, SQEUCLIDEAN).coarsen() is None
    assert PointGeometry(x[None], y[None], SQEUCLIDEAN).coarsen() is None
    assert PointGeometry(x, y, find_cost("cosine")).coarsen() is None
    assert PointGeometry(torch.from_numpy(x), torch.from_numpy(y), SQEUCLIDEAN).coarsen() is None


def test_small_clouds_have_no_cells():
    assert PointGeometry(*make_clouds(300, 200), SQEUCLIDEAN).coarsen() is None


@pytest.mark.usefixtures("_cells_for_all")
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("reach", [None, 0.5])
def test_cells_change_no_result(metric, reach, monkeypatch):
    """Values, potentials and maps are those of the points."""
    x, y = make_clouds(700, 500)
    options = {"metric": metric, "blur": 0.05, "reach": reach, "debias": True, "tol": 1e-9}
    cell = solve_sample(x, y, **options)
    monkeypatch.setattr(cells, "_WORTH_CELLS", math.inf)
    point = solve_sample(x, y, **options)
    assert cell.status == point.status == "converged"
    assert float(cell.value) == pytest.approx(float(point.value), rel=1e-9)
    for own, other in zip(cell.potentials, point.potentials, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-9)
    np.testing.assert_allclose(cell.a_to_b, point.a_to_b, atol=1e-7)


@pytest.mark.usefixtures("_cells_for_all")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-8)])
def test_gradients_with_cells(dtype, tolerance, monkeypatch):
    x, y = (torch.from_numpy(cloud).to(dtype).requires_grad_() for cloud in make_clouds(700, 500))
    loss = SamplesLoss(blur=0.05, backend="online", tol=1e-3 if dtype == torch.float32 else 1e-9)
    cell = torch.autograd.grad(loss(x, y), (x, y))
    monkeypatch.setattr(cells, "_WORTH_CELLS", math.inf)
    point = torch.autograd.grad(loss(x, y), (x, y))
    for own, other in zip(cell, point, strict=True):
        assert float((own - other).norm() / other.norm()) < 10 * tolerance


@pytest.mark.usefixtures("_cells_for_all")
def test_points_without_mass_have_cells_too():
    x, y = make_clouds(700, 500)
    a = np.where(x[:, 0] < 0, 0.0, 1.0)
    a /= a.sum()
    b = np.full(500, 1 / 500)
    some = solve_sample(x, y, a, b, blur=0.05, tol=1e-9)
    kept = solve_sample(x[a > 0], y, a[a > 0], b, blur=0.05, tol=1e-9)
    assert float(some.value) == pytest.approx(float(kept.value), rel=1e-9)


@pytest.mark.parametrize("sizes", [(17,), (16, 19), (16, 17, 18)])
def test_values_of_coarse_pixels_spread_linearly(sizes):
    """Linear functions stay what they are, but for the last pixels, where there is nothing to interpolate."""
    axes = tuple(tuple((np.arange(n) + 0.5) / n) for n in sizes)
    coarsening = GridGeometry(axes, axes).coarsen()
    coarse = tuple(-(-n // 2) for n in sizes)
    values = sum(np.meshgrid(*((2.0 * np.arange(n) + 0.5) for n in coarse), indexing="ij"))
    found = coarsening.spread_columns(np.stack([values.ravel(), np.ones(values.size)])).reshape(2, *sizes)
    expected = sum(np.meshgrid(*(np.arange(n) for n in sizes), indexing="ij"))
    inside = tuple(slice(1, n - 1 - n % 2) for n in sizes)
    np.testing.assert_allclose(found[0][inside], expected[inside])
    np.testing.assert_allclose(found[1], 1.0)


@pytest.mark.parametrize(
    ("metric", "reach"), [("sqeuclidean", None), ("sqeuclidean", 0.3), ("cityblock", None)]
)
def test_scales_foretell_the_next_ones(metric, reach, monkeypatch):
    """The result is the same without foretelling, which takes more iterations of smooth images."""
    a = make_image(128, (0.3, 0.4, 0.01), (0.6, 0.2, 0.004))
    b = make_image(128, (0.7, 0.5, 0.02), (0.3, 0.8, 0.01))
    options = {"metric": metric, "blur": 1 / 128, "reach": reach, "debias": True}
    fast, exact = solve_grid(a, b, tol=1e-3, **options), solve_grid(a, b, tol=1e-8, **options)
    monkeypatch.setattr(descent, "_UNFORESEEN", -1.0)
    slow = solve_grid(a, b, tol=1e-3, **options)
    assert float(fast.value) == pytest.approx(float(exact.value), rel=1e-5)
    assert fast.status == slow.status == "converged"
    assert fast.n_iter < slow.n_iter


@pytest.mark.parametrize("is_smooth", [True, False])
def test_scales_foretell_nothing_where_they_were_wrong(is_smooth, monkeypatch):
    """What solutions change is smooth between smooth images only: between edges and points, lessons do not hold."""
    a, b = make_image(96, (0.3, 0.4, 0.01)), make_image(96, (0.7, 0.5, 0.02))
    if not is_smooth:
        a, b = np.zeros((96, 96)), np.zeros((96, 96))
        a[10:30, 20:40] = 1 / 400
        b[60, 10:70:10] = 1 / 6
    lessons, learn = [], descent._learn
    monkeypatch.setattr(descent, "_learn", lambda *given: lessons.append(learn(*given)) or lessons[-1])
    solve_grid(a, b, blur=1 / 96, tol=1e-3)
    assert [lesson.holds for lesson in lessons] == [False, is_smooth]


def test_images_at_the_blur_of_a_pixel_take_few_iterations():
    a = make_image(128, (0.3, 0.4, 0.01), (0.6, 0.2, 0.004))
    b = make_image(128, (0.7, 0.5, 0.02), (0.3, 0.8, 0.01))
    result = solve_grid(a, b, blur=1 / 128, tol=2e-3)
    assert result.status == "converged"
    assert result.n_iter <= 20  # of which 9 are temperatures; 34 without what scales foretell


@pytest.mark.parametrize("max_iter", [1, 2, 3])
def test_scales_count_as_iterations(max_iter):
    a, b = make_image(64, (0.3, 0.4, 0.01)), make_image(64, (0.7, 0.5, 0.02))
    with pytest.warns(UserWarning, match=f"max_iter={max_iter} iterations"):
        result = solve_grid(a, b, blur=1 / 64, max_iter=max_iter, tol=1e-9)
    assert result.n_iter == max_iter


@pytest.mark.usefixtures("_cells_for_all")
@pytest.mark.parametrize("reach", [None, 0.5])
def test_steps_between_cells_save_iterations(reach, monkeypatch):
    """Of points, at the last temperature; the result stays."""
    x, y = (cloud[:, :2] for cloud in make_clouds(3000, 2700))
    options = {"blur": 0.05, "reach": reach, "tol": 1e-6}
    sizes: list[int] = []
    step = sinkhorn.fixed_point_step
    monkeypatch.setattr(
        sinkhorn,
        "fixed_point_step",
        lambda problem, *given: sizes.append(problem.geometry.shape[0]) or step(problem, *given),
    )
    fast = solve_sample(x, y, **options)
    few = sizes.count(3000)
    monkeypatch.setattr(descent, "_MOST_ENTRIES", 0)
    sizes.clear()
    slow = solve_sample(x, y, **options)
    assert fast.status == slow.status == "converged"
    assert few < 0.8 * sizes.count(3000)
    assert float(fast.value) == pytest.approx(float(slow.value), rel=1e-9)


@pytest.mark.usefixtures("_cells_for_all")
@pytest.mark.parametrize("kind", ["tv", "partial"])
def test_kinked_penalties_take_no_steps_between_cells(kind):
    x, y = make_clouds(700, 500)
    options = {"blur": 0.07, "reach": 0.2, "unbalanced_type": kind, "tol": 1e-7}
    cell, point = solve_sample(x, y, **options), solve_sample(x, y, lazy=False, **options)
    assert float(cell.value) == pytest.approx(float(point.value), rel=1e-7)


def test_updates_run_ahead_of_the_temperature(monkeypatch):
    """Single updates lag behind: going further by half of what the last one changed saves iterations later."""
    x, y = make_clouds(250, 200)
    options = {"metric": "sqeuclidean", "blur": 0.02, "tol": 1e-3}
    fast, exact = solve_sample(x, y, **options), solve_sample(x, y, blur=0.02, tol=1e-9)
    monkeypatch.setattr(descent, "_FURTHER", 0.0)
    slow = solve_sample(x, y, **options)
    assert fast.status == slow.status == "converged"
    assert fast.n_iter < slow.n_iter
    assert float(fast.value) == pytest.approx(float(exact.value), rel=1e-5)
