"""Softmins from sums of exponentials: those of log-sum-exp, whatever happens to potentials meanwhile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomloss_ot import SamplesLoss, solve_sample, solve_sample_batch
from geomloss_ot.costs import EUCLIDEAN, SQEUCLIDEAN
from geomloss_ot.geometries import (
    Extension,
    PointGeometry,
    RaggedGeometry,
    Softmins,
    absorbed,
    is_absorbed,
    softmins,
    stabilized,
)
from symbolic_matrices import BlockRanges, ragged

HALVED = replace(SQEUCLIDEAN, coefficient=0.5)
EPSILON = 0.01


@pytest.fixture(autouse=True)
def _no_stored_kernels(monkeypatch):
    monkeypatch.setattr(stabilized, "_MOST_BYTES", 0)


def make_points(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(dtype)


def make_ragged(sizes: tuple[tuple[int, int], ...], dtype: str = "float64") -> RaggedGeometry:
    rows, columns = (np.array(side) for side in zip(*sizes, strict=True))
    masks = tuple(np.arange(side.max()) < side[:, None] for side in (rows, columns))
    x, y = make_points(rows.sum(), 3, dtype=dtype), make_points(columns.sum(), 3, seed=1, dtype=dtype)
    return RaggedGeometry(PointGeometry(x, y, HALVED, ragged(rows, columns)), *masks)


def assert_same(found, geometry, columns, rows, tolerance):
    plain = Softmins(geometry, EPSILON)
    np.testing.assert_allclose(found.over_columns(columns), plain.over_columns(columns), atol=tolerance)
    np.testing.assert_allclose(found.over_rows(rows), plain.over_rows(rows), atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-7), ("float64", 1e-14)])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_softmins_while_potentials_move(batch, dtype, tolerance):
    """By a tenth of a temperature up to thousands of them, with points of weight zero."""
    x, y = make_points(*batch, 60, 3, dtype=dtype), make_points(*batch, 45, 3, seed=1, dtype=dtype)
    geometry = PointGeometry(x, y, HALVED)
    found = softmins(geometry, EPSILON, symmetric=False)
    assert isinstance(found, absorbed.AbsorbedSoftmins)
    for k, size in enumerate((0.1, 0.3, 3, 30, 300, 3000, 1)):
        columns, rows = (size * make_points(*batch, n, seed=2 + k, dtype=dtype) for n in (45, 60))
        columns[..., 3] = rows[..., 5] = -np.inf
        assert_same(found, geometry, columns, rows, max(1.0, size) * tolerance)


def test_sums_take_the_place_of_reductions(monkeypatch):
    """The first softmin is a reduction, and those of potentials that have left the range."""
    geometry = PointGeometry(make_points(60, 3), make_points(45, 3, seed=1), HALVED)
    found = softmins(geometry, EPSILON, symmetric=False)
    calls: list[int] = []
    softmin = PointGeometry.softmin
    monkeypatch.setattr(PointGeometry, "softmin", lambda *given: calls.append(1) or softmin(*given))
    for size, expected in ((1.0, 1), (2.0, 1), (3.0, 1), (1000.0, 2), (1001.0, 2)):
        found.over_columns(np.full(45, size))
        assert len(calls) == expected


def test_wild_extrapolations_do_no_harm_later():
    geometry = PointGeometry(make_points(60, 3), make_points(45, 3, seed=1), HALVED)
    found = softmins(geometry, EPSILON, symmetric=False)
    columns, rows = np.zeros(45), np.zeros(60)
    found.over_columns(columns)
    with np.errstate(invalid="ignore"):
        assert np.isnan(found.over_columns(np.full(45, np.nan))).all()
    assert_same(found, geometry, columns, rows, 1e-14)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6))
def test_ragged_softmins_of_any_sizes(sizes):
    geometry = make_ragged(tuple(sizes))
    n, m = geometry.row_mask.shape[1], geometry.column_mask.shape[1]
    found = softmins(geometry, EPSILON, symmetric=False)
    for k in range(3):
        columns, rows = make_points(len(sizes), m, seed=k), make_points(len(sizes), n, seed=k + 1)
        assert_same(found, geometry, columns, rows, 1e-13)


def test_which_problems_are_served():
    x = make_points(60, 3, dtype="float32")
    assert is_absorbed(PointGeometry(x, x, HALVED))
    assert not is_absorbed(PointGeometry(x, x, EUCLIDEAN))
    assert not is_absorbed(PointGeometry(torch.from_numpy(x), torch.from_numpy(x), HALVED))


@pytest.mark.parametrize(("epsilon", "product"), [(1e-2, True), (1e-4, False)])
def test_small_distances_keep_their_digits(epsilon, product):
    """Scalar products would lose them."""
    x, y = (make_points(200, 3, seed=seed, dtype="float32") for seed in (0, 1))
    geometry = PointGeometry(x, y, HALVED)
    assert absorbed._keeps_digits(geometry, epsilon) == product
    wide = Softmins(PointGeometry(x.astype("float64"), y.astype("float64"), HALVED), epsilon)
    found = softmins(geometry, epsilon, symmetric=False)
    for seed in (2, 3):
        columns = make_points(200, seed=seed)
        for side in ("over_columns", "over_rows"):
            ours = getattr(found, side)(columns.astype("float32"))
            np.testing.assert_allclose(ours, getattr(wide, side)(columns), atol=3e-3 * epsilon, rtol=3e-7)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("reach", [None, 0.3])
def test_results_are_those_of_reductions(dtype, tolerance, reach, monkeypatch):
    xs = [make_points(n, 3, seed=n, dtype=dtype) for n in (30, 80, 50)]
    ys = [0.5 * make_points(n, 3, seed=n, dtype=dtype) + 0.2 for n in (60, 20, 70)]
    options = {"blur": 0.1, "reach": reach, "debias": True, "tol": 1e-3 if dtype == "float32" else 1e-10}
    found = solve_sample_batch([x.astype(dtype) for x in xs], [y.astype(dtype) for y in ys], **options)
    one = solve_sample(xs[0], ys[0].astype(dtype), **options)
    monkeypatch.setattr(absorbed, "is_absorbed", lambda geometry: False)
    plain = solve_sample_batch([x.astype(dtype) for x in xs], [y.astype(dtype) for y in ys], **options)
    np.testing.assert_allclose(found.value, plain.value, rtol=10 * tolerance)
    np.testing.assert_allclose(one.value, plain.value[0], rtol=10 * tolerance)
    assert found.status == plain.status == "converged"


def test_gradients_are_those_of_reductions(monkeypatch):
    x = torch.from_numpy(make_points(80, 3)).requires_grad_()
    y = torch.from_numpy(make_points(60, 3, seed=1)).requires_grad_()
    loss = SamplesLoss(blur=0.1, tol=1e-10)
    found = torch.autograd.grad(loss(x, y), (x, y))
    monkeypatch.setattr(absorbed, "is_absorbed", lambda geometry: False)
    plain = torch.autograd.grad(loss(x, y), (x, y))
    for own, other in zip(found, plain, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("away", [0.3, 10.0, 300.0])
def test_extensions_close_to_what_is_known(monkeypatch, dtype, tolerance, away):
    """Values and derivatives from one reduction; from a log-sum-exp where what is known is far from them."""
    x, y = make_points(70, 3, dtype=dtype), make_points(45, 3, seed=1, dtype=dtype)
    exponents = make_points(45, seed=2, dtype=dtype)
    order = np.random.default_rng(0).permutation(70)
    ranges = BlockRanges([[0, 40], [40, 70]], [1, 3], [[0, 45], [0, 20], [30, 45]])
    extension = Extension(PointGeometry(x[order], y, HALVED, ranges), exponents, order, np.argsort(order))
    expected = extension.evaluate(EPSILON, x, with_slopes=True)
    assert expected.slopes is None
    near = expected.values[order] + away * EPSILON * make_points(70, seed=3, dtype=dtype)
    calls: list[int] = []
    softmin = PointGeometry.softmin
    monkeypatch.setattr(PointGeometry, "softmin", lambda *given: calls.append(1) or softmin(*given))
    for with_slopes in (False, True):
        found = replace(extension, near=near).evaluate(EPSILON, x, with_slopes=with_slopes)
        np.testing.assert_allclose(found.values, expected.values, atol=tolerance)
        np.testing.assert_allclose(found.gradient(EPSILON, x), expected.gradient(EPSILON, x), atol=tolerance)
        assert (found.slopes is not None) == (with_slopes and away < 300)
        assert len(calls) == (away == 300) * (1 + with_slopes)
