"""How many iterations problems take, and that results do not depend on the way there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomloss_ot import SamplesLoss, solve, solve_grid, solve_sample
from geomloss_ot.acceleration import Acceleration
from geomloss_ot.geometries import MatrixGeometry
from geomloss_ot.measures import Measure
from geomloss_ot.penalties import Partial
from geomloss_ot.problems import Problem, Stopping
from geomloss_ot.sinkhorn import converge


def _shapes(n=250):
    """A sphere, eight blobs, two samples of a cube, and two far blobs."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(n, 3))
    sphere = 0.5 + 0.4 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    corners = np.stack(np.meshgrid(*[[0.25, 0.75]] * 3), -1).reshape(-1, 3)
    blobs = corners[np.arange(n) % 8] + 0.05 * rng.normal(size=(n, 3))
    ends = np.where(np.arange(n)[:, None] % 2, 0.1, 0.9) + 0.03 * rng.normal(size=(n, 3))
    return {
        "blobs": (sphere, blobs),
        "cubes": (rng.uniform(size=(n, 3)), rng.uniform(size=(n, 3))),
        "ends": (ends, ends[: n // 3]),
    }


@pytest.mark.parametrize(
    ("shapes", "metric", "blur", "reach", "limit", "plain"),
    [
        ("blobs", "sqeuclidean", 0.1, None, 16, 39),
        ("blobs", "sqeuclidean", 0.05, None, 30, 170),
        ("blobs", "sqeuclidean", 0.05, 0.3, 20, 49),
        ("blobs", "euclidean", 0.01, None, 34, 136),
        ("cubes", "sqeuclidean", 0.05, None, 42, 137),
        ("cubes", "euclidean", 0.01, 1.0, 37, 128),
        ("ends", "sqeuclidean", 0.05, 1.0, 16, 382),
    ],
)
def test_acceleration_saves_iterations(shapes, metric, blur, reach, limit, plain, monkeypatch):
    """``plain`` is what annealing without acceleration takes; both are measured, with a margin of a quarter."""
    x, y = _shapes()[shapes]
    options = {"metric": metric, "blur": blur, "reach": reach, "lazy": False, "tol": 1e-3}
    fast = solve_sample(x, y, **options)
    assert fast.status == "converged"
    assert fast.n_iter <= limit
    monkeypatch.setattr(Acceleration, "extrapolate", lambda self, state, residual: state + residual)
    monkeypatch.setattr("geomloss_ot.sinkhorn.patience", lambda problem: math.inf)
    slow = solve_sample(x, y, **options)
    assert slow.n_iter >= 0.75 * plain
    assert slow.n_iter >= 2 * fast.n_iter
    np.testing.assert_allclose(slow.value, fast.value, rtol=1e-3)


def test_coarse_images_are_solved_on_the_way():
    """44 iterations; 122 if coarser images are only updated."""
    axis = torch.linspace(0, 1, 128)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")

    def bump(row, column, size):
        return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / size)

    a = bump(0.3, 0.4, 0.01) + 0.5 * bump(0.6, 0.2, 0.004) + 0.05
    b = bump(0.7, 0.5, 0.02) + 0.3 * bump(0.3, 0.8, 0.01) + 0.05
    result = solve_grid(a / a.sum(), b / b.sum(), blur=1 / 128, tol=1e-3)
    assert result.status == "converged"
    assert result.n_iter <= 60


@pytest.mark.parametrize("loss", ["sinkhorn", "hausdorff"])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("reach", "kind"), [(None, "kl"), (0.3, "kl"), (0.3, "tv"), (0.3, "partial")])
def test_values_and_gradients_do_not_depend_on_scaling(loss, p, reach, kind):
    x, y = (torch.from_numpy(points[:30]) for points in _shapes()["blobs"])

    def value_and_gradient(scaling):
        live = x.clone().requires_grad_()
        options = {"p": p, "reach": reach, "unbalanced_type": kind, "backend": "tensorized", "tol": 1e-8}
        value = SamplesLoss(loss, blur=0.1, scaling=scaling, max_iter=3000, **options)(live, y)
        return value.detach(), *torch.autograd.grad(value, live)

    expected = value_and_gradient(0.5)
    for scaling in (0.1, 0.9):
        for actual, wanted in zip(value_and_gradient(scaling), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("blur", [0.3, 0.1, 0.03])
def test_symmetric_problems_need_no_annealing(blur, monkeypatch):
    """Averaged updates at least halve the error: 22 of them for eight digits, at any temperature, or 11 accelerated."""
    x, y = (points[:100] for points in _shapes()["cubes"])
    options = {"blur": blur, "debias": True, "tol": 1e-8, "max_iter": 1000}
    counts = []
    for _ in range(2):
        divergence = solve_sample(x, y, **options).divergence
        counts.append(max(part.solution.n_iter for part in (divergence.aa, divergence.bb)))
        monkeypatch.setattr(Acceleration, "extrapolate", lambda self, state, residual: state + residual)
    assert counts[0] <= 15
    assert counts[1] <= 28


@pytest.mark.parametrize("max_iter", [1, 2, 5, 9])
@pytest.mark.parametrize("debias", [True, False])
def test_max_iter_is_respected(max_iter, debias):
    x, y = _shapes()["cubes"]
    with pytest.warns(UserWarning, match=f"max_iter={max_iter} iterations"):
        result = solve_sample(x[:40], y[:40], blur=0.01, debias=debias, max_iter=max_iter)
    assert result.status == "max_iter"
    assert result.n_iter == max_iter
    assert np.isfinite(result.value)


@pytest.mark.parametrize(
    ("seed", "kind", "strengths", "limit"),
    [(7, "tv", (0.3, 0.3), 300), (34, "tv", (0.6, 0.05), 40), (22, "partial", (0.3, 0.1), 260)],
)
def test_extrapolations_stay_where_the_dual_is_finite(seed, kind, strengths, limit):
    """Without projection, these take 600, 148 and 423 iterations instead of 170, 7 and 153."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(3, 10, 2)
    costs, a, b = rng.uniform(size=(n, m)), rng.uniform(size=n) + 0.1, rng.uniform(size=m) + 0.1
    options = {"reg": 5e-3, "unbalanced": strengths, "unbalanced_type": kind, "tol": 1e-6}
    result = solve(costs, a / a.sum(), 1.3 * b / b.sum(), **options)
    assert result.status == "converged"
    assert result.n_iter <= limit


def test_straight_lines_are_no_trap():
    """All potentials start at the price and drift by the same amount: 222 plain updates, or a cycle without end."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=8) + 0.1, rng.uniform(size=10) + 0.1
    costs, a, b = MatrixGeometry(rng.uniform(size=(8, 10))), Measure(a / a.sum()), Measure(1.3 * b / b.sum())
    problem = Problem(costs, a, b, (Partial(0.09534), Partial(0.09534)), 1e-3)
    solution = converge(problem, np.full(10, 0.09534), Stopping(1e-4, 500), 0)
    assert solution.status == "converged"
    assert solution.n_iter <= 100


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_small_temperatures_converge(seed):
    """Extrapolations that fail time after time start again from nothing."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(3, 12, 2)
    costs, a, b = rng.uniform(size=(n, m)), rng.uniform(size=n) + 0.1, rng.uniform(size=m) + 0.1
    result = solve(costs, a / a.sum(), b / b.sum(), reg=1e-4, tol=1e-4)
    assert result.status == "converged"
