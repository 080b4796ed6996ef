"""Wasserstein distances between proved bounds: against exact transport and closed forms."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from cloud_testing import SHAPES, make_clouds
from hypothesis import given, settings
from hypothesis import strategies as st

from geomloss_ot import wasserstein_distance
from geomloss_ot.costs import EUCLIDEAN, SQEUCLIDEAN
from geomloss_ot.wasserstein import distances, duals, flows, linear_programs, merging, pair, plans

ROUNDING = 1e-7  # of the network simplex of POT


def sphere_and_blobs(count: int, other: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    x = 0.5 + 0.4 * x / np.linalg.norm(x, axis=1, keepdims=True)
    return x, rng.random((8, 3))[rng.integers(0, 8, other)] + 0.05 * rng.normal(size=(other, 3))


def exact_distance(x, y, a, b, p):
    costs = ot.dist(x, y, metric="sqeuclidean" if p == 2 else "euclidean")
    return ot.emd2(a, b, costs, numItermax=10**6) ** (1 / p)


def pair_of(x, y, a, b, p=2):
    sides = merging.merge_equal_points(x, a), merging.merge_equal_points(y, b)
    return pair.Pair(sides, EUCLIDEAN if p == 1 else SQEUCLIDEAN, np.asarray)


def check_bounds(found, x, y, a, b):
    """The bounds hold around the exact value, and the potentials prove the lower one."""
    exact = exact_distance(x, y, a, b, found.p)
    assert found.lower <= exact * (1 + ROUNDING)
    assert exact <= found.upper * (1 + ROUNDING)
    f, g = (np.asarray(potential) for potential in found.potentials)
    costs = np.linalg.norm(x[:, None] - y, axis=-1) ** found.p
    assert (f[:, None] + g - costs).max() <= 1e-12 * costs.max()
    np.testing.assert_allclose(f @ a + g @ b, found.lower**found.p, rtol=1e-12)
    return exact


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("smallest", [0, 10**9])
def test_the_bounds_enclose_the_exact_distance(monkeypatch, p, smallest):
    monkeypatch.setattr(pair, "_MULTISCALE_PAIRS", smallest)  # through cells and blocks, or not
    monkeypatch.setattr(plans, "_PRUNED_PAIRS", smallest)
    monkeypatch.setattr(distances, "_MOST_EXACT", 0)  # without linear programs
    count, other = 900, 800
    x, y = sphere_and_blobs(count, other)
    rng = np.random.default_rng(1)
    a, b = rng.random(count), rng.random(other)
    a[::7] = 0
    a, b = a / a.sum(), b / b.sum()
    found = wasserstein_distance(x, y, a, b, p=p, accuracy=2e-2)
    assert found.status == "converged"
    assert found.upper <= 1.02 * found.lower
    exact = check_bounds(found, x, y, a, b)
    assert abs(found.value / exact - 1) < 1e-2, "the lower bound is closer than what it promises"


def check_shape(shape: str, p: int, n: int, m: int) -> None:
    """The value is within 1 % of that of POT, and the bounds enclose it."""
    a, x, b, y = make_clouds(shape, 3, n, m)
    found = wasserstein_distance(x, y, a, b, p=p, accuracy=1e-2)
    assert found.status == "converged"
    assert found.upper <= 1.01 * found.lower * (1 + ROUNDING)
    assert found.value == pytest.approx(check_bounds(found, x, y, a, b), rel=1e-2)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_distances_between_shapes(shape, p):
    check_shape(shape, p, 500, 550)


@pytest.mark.parametrize("n", [2500, pytest.param(5000, marks=pytest.mark.slow)])
def test_distances_between_surfaces(n):
    check_shape("brain", 2, n, n)


@pytest.mark.slow
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in ("cube", "duplicates")])
def test_distances_between_5000_points(shape, p):
    check_shape(shape, p, 5000, 5000)


def test_the_lower_bound_is_of_second_order():
    x, y = sphere_and_blobs(1500, 1500)
    weights = np.full(1500, 1 / 1500)
    exact = exact_distance(x, y, weights, weights, 2) ** 2
    clouds = pair_of(x, y, weights, weights)
    blurs = (0.1, 0.05, 0.025)
    values = [duals.lower_bound(clouds, pair.entropic_potentials(clouds, blur)[0]).value for blur in blurs]
    errors = [1 - value / exact for value in values]
    assert 0 <= errors[2] < errors[1] / 2 < errors[0] / 4
    assert errors[2] < 1e-3


def test_flows_leave_nothing():
    """Whatever the potentials, the plans between likely partners have the right marginals."""
    x, y = sphere_and_blobs(200, 150)
    rng = np.random.default_rng(4)
    a, b = rng.random(200), rng.random(150)
    a, b = a / a.sum(), b / b.sum()
    clouds = pair_of(x, y, a, b)
    exact = exact_distance(x, y, a, b, 2) ** 2
    for scale in (0.0, 0.1):
        lower = duals.lower_bound(clouds, scale * rng.normal(size=200))
        upper = plans.bound_between_partners(clouds, plans.Trial(0.1, (a, b), lower, 0.0))
        assert lower.value <= exact * (1 + ROUNDING)
        assert exact <= upper * (1 + ROUNDING) < 3 * exact


def test_units_of_mass():
    a, b = np.array([0.3, 0.0, 0.7]), np.array([0.25, 0.75])
    left, right, unit = flows.count_units(a, b)
    assert left.sum() == right.sum() <= flows.UNITS
    assert left.min() >= 0
    for units, weights in ((left, a), (right, b)):
        assert (unit * units <= weights).all()
        np.testing.assert_allclose(unit * units, weights, atol=1e-8)
    ones, _, unit = flows.count_units(np.full(3, 0.5), np.full(3, 0.5))
    assert (ones == 1).all()
    assert unit == 0.5


def test_greatest_flows_are_found():
    """Two rows that want the same column: one of them has to take another."""
    found = flows.greatest_flow(
        np.array([2, 3]), np.array([3, 2]), flows.Edges(np.array([0, 0, 1]), np.array([0, 1, 0]))
    )
    plan = np.zeros((2, 2), int)
    plan[found.rows, found.columns] = found.units
    np.testing.assert_array_equal(plan, [[0, 2], [3, 0]])


def test_masses_are_coupled_in_order():
    a, b = np.array([0.2, 0.0, 0.5, 0.3]), np.array([0.6, 0.4, 0.2])
    found = flows.couple_in_order(a, b)
    plan = np.zeros((4, 3))
    plan[found.rows, found.columns] = found.units
    np.testing.assert_allclose(plan, [[0.2, 0, 0], [0, 0, 0], [0.4, 0.1, 0], [0, 0.3, 0]], atol=1e-15)


def check_plan(found, x, y, a, b):
    """The plan has the right marginals and the cost of the upper bound, which is that of the lower one."""
    np.testing.assert_allclose(found.plan.sum(1), a, atol=1e-15)
    np.testing.assert_allclose(found.plan.sum(0), b, atol=1e-15)
    assert found.plan.data.min() > 0
    assert found.plan.nnz < 2 * (len(a) + len(b))
    pairs = found.plan.tocoo()
    cost = pairs.data @ np.linalg.norm(x[pairs.row] - y[pairs.col], axis=1) ** found.p
    np.testing.assert_allclose(cost ** (1 / found.p), found.upper, rtol=1e-9)
    np.testing.assert_allclose(found.lower, found.upper, rtol=1e-9)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("is_uniform", [True, False])
def test_exact_plans(p, is_uniform):
    x, y = sphere_and_blobs(500, 400 if not is_uniform else 500)
    rng = np.random.default_rng(5)
    a, b = (np.ones(len(z)) if is_uniform else rng.random(len(z)) for z in (x, y))
    if not is_uniform:
        a[::7] = 0
    a, b = a / a.sum(), b / b.sum()
    found = wasserstein_distance(x, y, a, b, p=p, accuracy=0)
    assert found.status == "converged"
    check_plan(found, x, y, a, b)
    np.testing.assert_allclose(found.value, check_bounds(found, x, y, a, b), rtol=1e-9)


@pytest.mark.parametrize(("p", "price"), [(1, 100.0), (2, 100.0), (2, 0.01)])
def test_exact_plans_from_useless_potentials(monkeypatch, p, price):
    """Programs find the pairs that matter, and a place for all the masses, whatever they start from."""
    monkeypatch.setattr(linear_programs, "_PRICE", price)
    x, y = sphere_and_blobs(150, 120)
    rng = np.random.default_rng(6)
    a, b = rng.random(150), rng.random(120)
    a, b = a / a.sum(), b / b.sum()
    clouds = pair_of(x, y, a, b, p)
    start = duals.lower_bound(clouds, rng.normal(size=150))
    found = linear_programs.transport_exactly(clouds, start)
    np.testing.assert_allclose(found.upper, exact_distance(x, y, a, b, p) ** p, rtol=1e-9)
    np.testing.assert_allclose(found.lower.value, found.upper, rtol=1e-9)


def test_two_samples_of_one_law():
    """Their distance is that of neighbours: only the optimal plan is sharp enough."""
    rng = np.random.default_rng(2)
    x, y = rng.random((2, 500, 2))
    found = wasserstein_distance(x, y, accuracy=1e-2)
    assert found.status == "converged"
    assert found.plan is not None
    check_plan(found, x, y, *np.full((2, 500), 1 / 500))
    check_bounds(found, x, y, *np.full((2, 500), 1 / 500))


def test_bounds_that_stay_apart_are_told(monkeypatch):
    monkeypatch.setattr(distances, "_MOST_EXACT", 0)
    rng = np.random.default_rng(3)
    x, y = rng.random((300, 2)), rng.random((299, 2))
    with pytest.warns(UserWarning, match="lies between .* accuracy=1e-09"):
        found = wasserstein_distance(x, y, accuracy=1e-9)
    assert found.status == "gap"
    check_bounds(found, x, y, np.full(300, 1 / 300), np.full(299, 1 / 299))


def test_equal_points_are_merged():
    points, weights = np.array([[1.0, 0], [0, 1], [1, 0], [0, 2], [0, 1]]), np.arange(1.0, 6.0)
    found = merging.merge_equal_points(points, weights)
    assert len(found.points) == 3
    np.testing.assert_array_equal(found.points[found.group], points)
    np.testing.assert_array_equal(found.weights[found.group], [4, 7, 4, 4, 7])
    found = merging.merge_equal_points(points[1:4], weights[1:4])
    np.testing.assert_array_equal(found.points, points[1:4])
    np.testing.assert_array_equal(found.group, [0, 1, 2])


@pytest.mark.parametrize("p", [1, 2])
def test_equal_points_share_their_plan(p):
    """Points on a grid, many at the same place, with and without mass."""
    rng = np.random.default_rng(7)
    x, y = rng.integers(0, 2, (250, 2)).astype(float), rng.integers(0, 3, (200, 2)).astype(float)
    a, b = rng.random(250), rng.random(200)
    a[:30] = 0
    a, b = a / a.sum(), b / b.sum()
    found = wasserstein_distance(x, y, a, b, p=p, accuracy=0)
    assert found.status == "converged"
    check_plan(found, x, y, a, b)
    np.testing.assert_allclose(found.value, check_bounds(found, x, y, a, b), rtol=1e-9)


def test_weights_of_very_different_sizes():
    """Potentials stay small, so that the bounds hold to rounding."""
    rng = np.random.default_rng(21)
    x, y = rng.integers(0, 6, (300, 2)).astype(float), rng.integers(0, 6, (120, 2)).astype(float)
    a, b = rng.random(300) ** 20, rng.random(120) ** 20
    a, b = a / a.sum(), b / b.sum()
    found = wasserstein_distance(x, y, a, b, accuracy=0)
    assert max(abs(potential).max() for potential in found.potentials) < 1e3
    np.testing.assert_allclose(found.value, check_bounds(found, x, y, a, b), rtol=1e-7)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    shift=st.sampled_from([0.0, 100.0]),
    p=st.sampled_from([1, 2]),
)
def test_translations_are_known(seed, scale, shift, p):
    rng = np.random.default_rng(seed)
    x = scale * (rng.normal(size=(200, 2)) + shift)
    step = scale * rng.normal(size=2)
    found = wasserstein_distance(x, rng.permutation(x + step), p=p)
    length = np.linalg.norm(step)
    assert found.lower <= length * (1 + 1e-9)
    assert length <= found.upper * (1 + 1e-9)
    assert found.upper <= 1.01 * found.lower


def test_kinds_of_arrays_agree():
    x, y = sphere_and_blobs(300, 200)
    expected = wasserstein_distance(x, y)
    assert float(expected) == expected.value == expected.lower
    found = wasserstein_distance(torch.tensor(x).requires_grad_(), torch.tensor(y))
    np.testing.assert_allclose([found.lower, found.upper], [expected.lower, expected.upper], rtol=1e-9)
    assert isinstance(found.potentials[0], torch.Tensor)
    found = wasserstein_distance(x.astype(np.float32), y.astype(np.float32))
    np.testing.assert_allclose([found.lower, found.upper], [expected.lower, expected.upper], rtol=1e-3)
    found = wasserstein_distance(
        torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32), accuracy=0
    )
    np.testing.assert_allclose(found.value, wasserstein_distance(x, y, accuracy=0).value, rtol=1e-6)


def test_points_that_are_all_the_same():
    x = np.full((5, 3), 2.0)
    found = wasserstein_distance(x, x[:4])
    assert (found.lower, found.upper, found.status) == (0, 0, "converged")
    np.testing.assert_allclose(found.plan.sum(1), np.full(5, 0.2))
    np.testing.assert_allclose(found.plan.sum(0), np.full(4, 0.25))
    cloud = np.random.default_rng(0).normal(size=(50, 2))
    for accuracy in (1e-2, 0):
        found = wasserstein_distance(cloud, cloud, accuracy=accuracy)
        assert found.upper < 1e-6
        assert found.status == "converged"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 3}, "p=3: expected one of 1, 2"),
        ({"accuracy": -0.1}, "accuracy=-0.1: expected zero or a positive"),
        ({"a": np.full(10, 0.2)}, "equal masses"),
    ],
)
def test_bad_arguments(options, message):
    x = np.random.default_rng(0).random((10, 2))
    with pytest.raises(ValueError, match=message):
        wasserstein_distance(x, x, **options)
    with pytest.raises(ValueError, match="one cloud"):
        wasserstein_distance(x[None], x[None])
