"""Multiscale transport against the single-scale solver, brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomloss_ot import SamplesLoss, solve_sample, solve_sample_batch
from geomloss_ot.costs import COSTS
from geomloss_ot.geometries import PointGeometry
from geomloss_ot.measures import Measure
from geomloss_ot.multiscale import choose_multiscale, converging, masks
from geomloss_ot.multiscale.blocks import make_blocks
from geomloss_ot.multiscale.hierarchy import build_hierarchy
from geomloss_ot.multiscale.pruning import keep_pairs, known_bound
from geomloss_ot.penalties import Balanced
from geomloss_ot.problems import Problem


def make_clouds(shape: str, dim: int, n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.random((n, dim)), rng.random((n + 50, dim))
    if shape == "blobs":
        directions = rng.normal(size=(n, dim))
        signs = (-1.0) ** np.arange(n + 50)[:, None]
        x = 0.5 + 0.4 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
        y = 0.5 + 0.2 * signs + 0.05 * rng.normal(size=(n + 50, dim))
    elif shape == "line":
        x, y = x[:, :1] * np.ones(dim), 0.3 + y[:, :1] * np.ones(dim)
    elif shape == "duplicates":
        x, y = x[:30].repeat(n // 30, 0), 0.1 + y[:25].repeat(n // 25, 0)
    elif shape == "one cell":
        x, y = 0.001 * x, 0.001 * y + 0.002
    elif shape == "sizes":
        x = x[:7]
    elif shape == "outlier":
        x[0] = 8.0
    elif shape == "apart":
        weights = rng.random((2, n + 50))
        x = np.where(weights[0, :n, None] < 0.5, 0.0, 1.0) + 0.05 * x
        y = np.where(weights[1, :, None] < 0.5, 0.0, 1.0) + 0.05 * y
    return x, y


def value_and_gradients(
    x: np.ndarray, y: np.ndarray, dtype: torch.dtype = torch.float64, **options: object
) -> tuple[float, torch.Tensor, torch.Tensor]:
    left, right = (torch.tensor(z, dtype=dtype, requires_grad=True) for z in (x, y))
    value = SamplesLoss(**options)(left, right)
    value.backward()
    return float(value.detach()), left.grad.double(), right.grad.double()


def assert_close(found, expected, rtol, gradient_rtol):
    assert found[0] == pytest.approx(expected[0], rel=rtol)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert float((ours - theirs).norm()) <= gradient_rtol * float(theirs.norm())


def _prune_always(monkeypatch):
    for module in (converging, masks):
        monkeypatch.setattr(module, "WORTH_PRUNING", 0)


# ---------------------------------------------------------------------- cells


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("shape", ["cube", "line", "duplicates", "one cell", "outlier"])
def test_cells_are_small_contiguous_and_nested(dim, shape):
    points = make_clouds(shape, dim)[0]
    weights = np.random.default_rng(1).random(len(points))
    hierarchy = build_hierarchy(points, weights, 0.05)
    np.testing.assert_array_equal(hierarchy.points, points[hierarchy.order])
    assert len(hierarchy.level(hierarchy.depth)) == 1
    for number in range(hierarchy.depth + 1):
        level = hierarchy.level(number)
        ends = np.append(level.starts[1:], len(points))
        cells = np.floor((hierarchy.points - points.min(0)) / level.width)
        assert len(np.unique(cells, axis=0)) == len(level)
        for start, end, centroid, mass in zip(level.starts, ends, level.points, level.weights, strict=True):
            inside = slice(start, end)
            assert (cells[inside] == cells[start]).all()
            assert mass == pytest.approx(hierarchy.weights[inside].sum())
            mean = np.average(hierarchy.points[inside], axis=0, weights=hierarchy.weights[inside])
            np.testing.assert_allclose(centroid, mean)
        coarser = level.starts_of(number + 1)
        np.testing.assert_array_equal(level.starts[coarser], hierarchy.level(number + 1).starts)


def test_cells_of_empty_points_distant_points_and_labels():
    points = np.array([[0.0], [0.01], [0.5], [1e12]], np.float32)
    hierarchy = build_hierarchy(points, np.array([0.0, 0.0, 1.0, 1.0], np.float32), 0.1)
    level = hierarchy.level(0)
    np.testing.assert_allclose(level.points[-1], 1e12)
    assert np.isfinite(level.points).all()
    alone = build_hierarchy(points[:3] * 0, np.ones(3), 0.1, labels=np.array([2, 1, 2]))
    np.testing.assert_array_equal(alone.order.argsort()[[0, 2]].max(), 2)
    for number in (0, 5):
        np.testing.assert_allclose(alone.level(number).weights, [1.0, 2.0])


def test_single_points_do_not_move():
    points = np.random.default_rng(0).random((500, 3))
    level = build_hierarchy(points, np.full(500, 1 / 500), 1e-6).level(0)
    assert {tuple(point) for point in level.points} == {tuple(point) for point in points}


# ---------------------------------------------------------------------- pruning


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("shape", ["blobs", "cube"])
def test_skipped_blocks_hold_less_than_the_bound(metric, dim, shape):
    x, y = make_clouds(shape, dim, 900)
    cost, epsilon, truncation = COSTS[metric], 0.002, 4.0
    result = solve_sample(x, y, metric=metric, reg=epsilon, tol=1e-3)
    clouds, potentials = [], [result.potential_a, result.potential_b]
    for points in (x, y):
        clouds.append(build_hierarchy(points, np.full(len(points), 1 / len(points)), 0.01))
    levels = [cloud.finest for cloud in clouds]
    blocks = [make_blocks(level, 8) for level in levels]
    f, g = (p[c.order] for p, c in zip(potentials, clouds, strict=True))
    bounds = [
        known_bound(block, level.points, value, cost)
        for block, level, value in zip(blocks, levels, (f, g), strict=True)
    ]
    pairs = keep_pairs(tuple(blocks), tuple(bounds), cost, -truncation * epsilon)
    kept = np.zeros((len(x), len(y)), bool)
    for i, j in zip(*pairs, strict=True):
        rows, columns = blocks[0].ranges[i], blocks[1].ranges[j]
        kept[slice(*rows), slice(*columns)] = True
    exponents = (f[:, None] + g[None, :] - cost.dense(levels[0].points, levels[1].points)) / epsilon
    assert 0 < kept.sum() < kept.size
    assert exponents[~kept].max() < -truncation
    lost = np.where(kept, 0.0, np.exp(exponents))
    assert lost.mean(1).max() < np.exp(-truncation)
    assert lost.mean(0).max() < np.exp(-truncation)


@pytest.mark.parametrize("p", [1, 2])
def test_pruning_changes_nothing_that_matters(monkeypatch, p):
    x, y = make_clouds("cube", 2, 2000)
    options = {"p": p, "blur": 0.02, "backend": "multiscale", "tol": 1e-4}
    full = value_and_gradients(x, y, truncate=None, **options)
    _prune_always(monkeypatch)
    pairs = []
    choose = masks.ranges_of

    def count(*arguments):
        ranges = choose(*arguments)
        pairs.append(ranges.pairs / np.prod(ranges.extent))
        return ranges

    monkeypatch.setattr(masks, "ranges_of", count)
    assert_close(value_and_gradients(x, y, **options), full, 1e-3, 1e-2)
    assert min(pairs) < 0.6


# ---------------------------------------------------------------------- losses


@pytest.mark.parametrize("shape", ["blobs", "cube", "line", "duplicates", "one cell", "sizes", "apart"])
def test_biased_losses_with_a_reach_on_one_side(shape):
    x, y = make_clouds(shape, 5)
    options = {"blur": 0.1, "reach": (0.4, None), "debias": False}
    expected = value_and_gradients(x, y, tol=1e-5, backend="online", **options)
    # Between masses that hardly feel each other, what moves is a small part of them.
    tol = 2e-5 if shape == "apart" else 5e-4
    found = value_and_gradients(x, y, tol=tol, backend="multiscale", **options)
    assert_close(found, expected, 1e-3, 3e-2)


@pytest.mark.parametrize("backend", ["multiscale", "online"])
def test_losses_far_from_the_origin(backend):
    x, y = make_clouds("blobs", 3)
    expected = value_and_gradients(x, y, backend="online", tol=1e-5)
    moved = ((z + 1000).astype(np.float32) for z in (x, y))
    assert_close(value_and_gradients(*moved, torch.float32, backend=backend), expected, 3e-3, 2e-2)


def test_translations_are_exact():
    x = make_clouds("cube", 3)[0]
    value, on_x, _ = value_and_gradients(x, x + np.array([0.1, 0.2, 0.3]), backend="multiscale")
    assert value == pytest.approx(0.07, rel=1e-4)
    np.testing.assert_allclose(on_x.sum(0), [-0.1, -0.2, -0.3], rtol=1e-3)


def test_a_measure_is_at_distance_zero_from_itself():
    x = make_clouds("cube", 2)[0]
    assert abs(value_and_gradients(x, x, backend="multiscale")[0]) < 1e-6


def test_order_of_the_points_does_not_matter():
    x, y = make_clouds("blobs", 2)
    value, on_x, _ = value_and_gradients(x, y, backend="multiscale")
    order = np.random.default_rng(3).permutation(len(x))
    other, on_moved, _ = value_and_gradients(x[order], y, backend="multiscale")
    assert other == pytest.approx(value, rel=1e-9)
    torch.testing.assert_close(on_moved, on_x[order], rtol=1e-6, atol=1e-12)


def test_gradients_in_the_weights():
    x, y = (torch.tensor(z) for z in make_clouds("blobs", 2))
    gradients = []
    for backend, tol in (("online", 1e-6), ("multiscale", 1e-4)):
        a, b = (torch.linspace(1, 2, len(z), dtype=torch.float64, requires_grad=True) for z in (x, y))
        value = SamplesLoss(reach=0.5, backend=backend, tol=tol)(a / a.sum(), x, 2 * b / b.sum(), y)
        gradients.append(torch.cat(torch.autograd.grad(value, (a, b))))
    assert float((gradients[1] - gradients[0]).norm()) < 1e-2 * float(gradients[0].norm())


def test_smaller_cells_bring_the_result_closer():
    x, y = make_clouds("blobs", 3, 3000)
    expected = value_and_gradients(x, y, tol=1e-6, backend="online")[1]
    errors = []
    for scale in (0.04, 0.01):
        found = value_and_gradients(x, y, tol=1e-5, cluster_scale=scale, backend="multiscale")[1]
        errors.append(float((found - expected).norm() / expected.norm()))
    assert errors[1] < 0.005
    assert errors[1] < errors[0] / 2


def test_labels_cut_cells_and_keep_the_value():
    x, y = (torch.tensor(z) for z in make_clouds("blobs", 2))
    a, b = (torch.full((len(z),), 1 / len(z), dtype=torch.float64) for z in (x, y))
    labels = [(z[:, 0] > 0.45).int() for z in (x, y)]
    loss = SamplesLoss(backend="multiscale")
    torch.testing.assert_close(loss(labels[0], a, x, labels[1], b, y), loss(a, x, b, y), rtol=1e-3, atol=0.0)


def test_potentials_of_the_loss():
    x, y = (torch.tensor(z) for z in make_clouds("blobs", 3))
    options = {"potentials": True, "blur": 0.1}
    expected = torch.cat(SamplesLoss(backend="online", tol=1e-6, **options)(x, y))
    found = torch.cat(SamplesLoss(backend="multiscale", **options)(x, y))
    assert float((found - expected).std() / expected.std()) < 1e-2


def test_what_did_not_converge_says_so():
    x, y = make_clouds("blobs", 2)
    with pytest.warns(UserWarning, match="max_iter=12"):
        value_and_gradients(x, y, blur=0.01, backend="multiscale", max_iter=12)


def test_any_cost_with_given_cells():
    x, y = make_clouds("cube", 2)
    options = {"cost": lambda x, y: 2 * x.sqdist(y), "blur": 0.2}
    expected = value_and_gradients(x, y, tol=1e-5, backend="online", **options)
    found = value_and_gradients(x, y, tol=5e-4, backend="multiscale", cluster_scale=0.05, **options)
    assert_close(found, expected, 1e-3, 2e-2)


# ---------------------------------------------------------------------- solve_sample


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("unbalanced", [None, 0.2])
def test_results_keep_the_promise_of_their_tolerance(monkeypatch, metric, unbalanced):
    _prune_always(monkeypatch)
    x, y = make_clouds("blobs", 2)
    options = {"metric": metric, "reg": 0.01, "unbalanced": unbalanced, "debias": True, "tol": 1e-5}
    expected = solve_sample(x, y, **options)
    found = solve_sample(x, y, backend="multiscale", **options)
    assert found.status == "converged"
    assert float(found.value) == pytest.approx(float(expected.value), rel=1e-5)
    np.testing.assert_allclose(found.potential_a, expected.potential_a, atol=1e-4)
    np.testing.assert_allclose(found.plan.sum(1), expected.plan.sum(1), rtol=1e-3)
    assert float(found.certificate.marginal_error_a) < 2e-5
    assert float(found.certificate.marginal_error_b) < 2e-5
    assert abs(float(found.certificate.duality_gap)) < 1e-5


# ---------------------------------------------------------------------- what is refused, and what is chosen


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"loss": "gaussian"}, "loss='gaussian'"),
        ({"loss": "hausdorff"}, "loss='hausdorff'"),
        ({"cost": "cosine"}, "cluster_scale"),
        ({"cluster_scale": -1.0}, "cluster_scale=-1.0"),
    ],
)
def test_refused_losses(options, match):
    with pytest.raises(ValueError, match=match):
        SamplesLoss(backend="multiscale", **options)


def test_refused_clouds():
    x = torch.rand(10, 3)
    with pytest.raises(ValueError, match="metric='cosine'"):
        solve_sample(x, x, metric="cosine", reg=0.1, backend="multiscale")
    with pytest.raises(ValueError, match="metric='cosine'"):
        solve_sample_batch([x], [x], metric="cosine", reg=0.1, backend="multiscale")
    with pytest.raises(ValueError, match="backend='cells'"):
        solve_sample_batch([x], [x], reg=0.1, backend="cells")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((10000, 3), True),
        ((9999, 3), False),
        ((5000, 2), True),
        ((5000, 20), False),
        ((100, 3), False),
        ((2, 5000, 2), True),
        ((100, 1000, 2), False),
    ],
)
def test_automatic_choice(shape, expected):
    x = np.zeros(shape)
    measure = Measure(np.full(shape[:-1], 1 / shape[-2]))
    geometry = PointGeometry(x, x, COSTS["sqeuclidean"])
    problem = Problem(geometry, measure, measure, (Balanced(), Balanced()), 0.01)
    assert choose_multiscale(problem) is expected
