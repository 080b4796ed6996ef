"""Stored kernels: the softmins and slopes of fused reductions, whatever happens to potentials meanwhile."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from geomloss_ot import SamplesLoss
from geomloss_ot.costs import SQEUCLIDEAN
from geomloss_ot.geometries import PointGeometry, Softmins, is_stabilized, softmins, stabilized

HALVED = replace(SQEUCLIDEAN, coefficient=0.5)
EPSILON = 0.001


def make_points(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(dtype)


def make_geometry(batch: tuple[int, ...] = (), dtype: str = "float64") -> PointGeometry:
    x, y = make_points(*batch, 60, 3, dtype=dtype), make_points(*batch, 45, 3, seed=1, dtype=dtype)
    return PointGeometry(x, y, HALVED)


def assert_same_softmins(repeated, geometry, columns, rows, tolerance):
    plain = Softmins(geometry, EPSILON)
    np.testing.assert_allclose(repeated.over_columns(columns), plain.over_columns(columns), atol=tolerance)
    np.testing.assert_allclose(repeated.over_rows(rows), plain.over_rows(rows), atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_softmins_while_potentials_move(batch, dtype, tolerance, monkeypatch):
    """Steps of thirty, three hundred and three thousand temperatures, with points of weight zero."""
    geometry = make_geometry(batch, dtype)
    repeated = softmins(geometry, EPSILON, symmetric=False)
    made = []
    absorbed = stabilized.StabilizedSoftmins._absorbed
    monkeypatch.setattr(
        stabilized.StabilizedSoftmins,
        "_absorbed",
        lambda self, *potentials: made.append(1) or absorbed(self, *potentials),
    )
    for k, size in enumerate((0.1, 0.3, 0.6, 30, 300, 3000, 1)):
        columns = math.log(1 / 45) + size * make_points(*batch, 45, seed=2 + k, dtype=dtype)
        columns[..., 3] = -np.inf
        rows = math.log(1 / 60) - Softmins(geometry, EPSILON).over_columns(columns) / EPSILON
        rows[..., 5] = -np.inf
        # Potentials of three thousand temperatures have lost four digits.
        assert_same_softmins(repeated, geometry, columns, rows, max(1.0, size) * tolerance)
    assert 2 <= len(made) < 7  # several kernels, and some of them served more than once


def test_kernels_are_given_up_where_potentials_wander(monkeypatch):
    geometry = make_geometry()
    repeated = softmins(geometry, EPSILON, symmetric=False)
    for k in range(8):
        columns = 500 * make_points(45, seed=k)
        rows = -Softmins(geometry, EPSILON).over_columns(columns) / EPSILON
        assert_same_softmins(repeated, geometry, columns, rows, 1e-10)
    monkeypatch.setattr(repeated, "_absorbed", lambda *potentials: pytest.fail("one kernel more"))
    repeated.over_columns(500 * make_points(45, seed=9))


def test_wild_extrapolations_are_those_of_the_reduction():
    """Numbers that are not finite go through, and do no harm to the next updates."""
    geometry = make_geometry()
    repeated = softmins(geometry, EPSILON, symmetric=False)
    columns = np.zeros(45)
    repeated.over_columns(columns)
    wild = np.full(45, np.nan)
    with np.errstate(invalid="ignore"):
        assert np.isnan(repeated.over_columns(wild)).all()
    rows = -Softmins(geometry, EPSILON).over_columns(columns) / EPSILON
    assert_same_softmins(repeated, geometry, columns, rows, 1e-13)


def test_symmetric_problems_need_no_softmin_first():
    x = make_points(50, 2)
    geometry = PointGeometry(x, x, HALVED)
    repeated = softmins(geometry, EPSILON, symmetric=True)
    exponents = math.log(1 / 50) + make_points(50, seed=3)
    assert repeated._kernel is not None
    assert_same_softmins(repeated, geometry, exponents, exponents, 1e-13)


def test_slopes_are_the_derivatives_of_softmins():
    geometry, epsilon = make_geometry((2,)), 0.05
    repeated = softmins(geometry, epsilon, symmetric=False)
    columns = make_points(2, 45, seed=5)
    rows = -repeated.over_columns(columns) / epsilon
    found = repeated.slopes(rows, columns)
    x, y = (torch.from_numpy(points).requires_grad_() for points in (geometry.x, geometry.y))
    live = Softmins(PointGeometry(x, y.detach(), HALVED), epsilon).over_columns(torch.from_numpy(columns))
    np.testing.assert_allclose(found[0], torch.autograd.grad(live.sum(), x)[0], atol=1e-12)
    live = Softmins(PointGeometry(x.detach(), y, HALVED), epsilon).over_rows(torch.from_numpy(rows))
    np.testing.assert_allclose(found[1], torch.autograd.grad(live.sum(), y)[0], atol=1e-12)
    # The same in one fused reduction.
    fused = geometry.slopes(epsilon, repeated.over_columns(columns), columns)
    np.testing.assert_allclose(found[0], fused, atol=1e-12)


def test_only_small_clouds_with_squared_distances_are_stored(monkeypatch):
    geometry = make_geometry()
    assert is_stabilized(geometry)
    assert not is_stabilized(replace(geometry, cost=replace(HALVED, bilinear=False)))
    assert not is_stabilized(replace(geometry, x=torch.zeros(60, 3)))
    monkeypatch.setattr(stabilized, "_MOST_BYTES", 60 * 45 * 8 - 1)
    assert not is_stabilized(geometry)


@pytest.mark.parametrize("reach", [None, 0.5])
def test_losses_do_not_depend_on_where_kernels_are(reach, monkeypatch):
    """Three kernels take turns in one memory; reductions store nothing."""
    x, y = (torch.from_numpy(make_points(70, 3, seed=k)) for k in (0, 1))

    def value_and_gradients():
        live = x.clone().requires_grad_(), y.clone().requires_grad_()
        value = SamplesLoss(blur=0.1, reach=reach, tol=1e-9)(*live)
        return value.detach(), *torch.autograd.grad(value, live)

    stored = value_and_gradients()
    monkeypatch.setattr(stabilized, "_MOST_BYTES", 0)
    for found, expected in zip(stored, value_and_gradients(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
