"""Wasserstein distances between proved bounds: against exact transport and closed forms."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomloss_ot import bounds, flows, wasserstein_distance
from geomloss_ot.costs import SQEUCLIDEAN
from geomloss_ot.measures import Measure

ROUNDING = 1e-7  # of the network simplex of POT


def sphere_and_blobs(count: int, other: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    x = 0.5 + 0.4 * x / np.linalg.norm(x, axis=1, keepdims=True)
    return x, rng.random((8, 3))[rng.integers(0, 8, other)] + 0.05 * rng.normal(size=(other, 3))


def exact_distance(x, y, a, b, p):
    costs = ot.dist(x, y, metric="sqeuclidean" if p == 2 else "euclidean")
    return ot.emd2(a, b, costs, numItermax=10**6) ** (1 / p)


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
    for limit in ("_MULTISCALE_PAIRS", "_PRUNED_PAIRS"):  # through cells and blocks, or not
        monkeypatch.setattr(bounds, limit, smallest)
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


def test_the_lower_bound_is_of_second_order():
    x, y = sphere_and_blobs(1500, 1500)
    weights = np.full(1500, 1 / 1500)
    exact = exact_distance(x, y, weights, weights, 2) ** 2
    pair = bounds.Pair(x, y, (Measure(weights), Measure(weights)), SQEUCLIDEAN)
    blurs = (0.1, 0.05, 0.025)
    values = [bounds.lower_bound(pair, bounds.entropic_potentials(pair, blur)[0]).value for blur in blurs]
    errors = [1 - value / exact for value in values]
    assert 0 <= errors[2] < errors[1] / 2 < errors[0] / 4
    assert errors[2] < 1e-3


def test_flows_leave_nothing():
    """Whatever the potentials, the plans between likely partners have the right marginals."""
    x, y = sphere_and_blobs(200, 150)
    rng = np.random.default_rng(4)
    a, b = rng.random(200), rng.random(150)
    a, b = a / a.sum(), b / b.sum()
    pair = bounds.Pair(x, y, (Measure(a), Measure(b)), SQEUCLIDEAN)
    exact = exact_distance(x, y, a, b, 2) ** 2
    for scale in (0.0, 0.1):
        lower = bounds.lower_bound(pair, scale * rng.normal(size=200))
        upper = bounds.bound_between_partners(pair, bounds.Trial(0.1, (a, b), lower, 0.0))
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


def test_two_samples_of_one_law_are_assigned():
    rng = np.random.default_rng(2)
    x, y = rng.random((2, 500, 2))
    found = wasserstein_distance(x, y, accuracy=1e-2)
    assert found.status == "converged"
    check_bounds(found, x, y, *np.full((2, 500), 1 / 500))


def test_bounds_that_stay_apart_are_told():
    rng = np.random.default_rng(3)
    x, y = rng.random((300, 2)), rng.random((299, 2))
    with pytest.warns(UserWarning, match="lies between .* accuracy=1e-09"):
        found = wasserstein_distance(x, y, accuracy=1e-9)
    assert found.status == "gap"
    check_bounds(found, x, y, np.full(300, 1 / 300), np.full(299, 1 / 299))


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


def test_points_that_are_all_the_same():
    x = np.full((5, 3), 2.0)
    found = wasserstein_distance(x, x[:4])
    assert (found.lower, found.upper, found.status) == (0, 0, "converged")
    cloud = np.random.default_rng(0).normal(size=(50, 2))
    found = wasserstein_distance(cloud, cloud)
    assert found.upper < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 3}, "p=3: expected one of 1, 2"),
        ({"accuracy": 0.0}, "accuracy=0.0: expected a positive"),
        ({"a": np.full(10, 0.2)}, "equal masses"),
    ],
)
def test_bad_arguments(options, message):
    x = np.random.default_rng(0).random((10, 2))
    with pytest.raises(ValueError, match=message):
        wasserstein_distance(x, x, **options)
    with pytest.raises(ValueError, match="one cloud"):
        wasserstein_distance(x[None], x[None])
