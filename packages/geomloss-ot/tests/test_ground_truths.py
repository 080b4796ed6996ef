"""Values that are known without us: closed forms, limits, exact assignment."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from geomloss_ot import solve, solve_sample

# N(.3, .1^2) and N(.7, .15^2) with epsilon = 2 * .1^2: closed forms of arXiv 2006.02572.
GAUSSIAN_OT = 0.17820637598
GAUSSIAN_DIVERGENCE = 0.16237270320
GAUSSIAN_UNBALANCED_OT = 0.20805514392
GAUSSIAN_UNBALANCED_MASS = 1.05092632949
DIGITS = 1e-11


def _gaussian(mean, deviation):
    points = np.linspace(-1.0, 2.2, 400)
    weights = np.exp(-((points - mean) ** 2) / (2 * deviation**2))
    return points[:, None], weights / weights.sum()


@pytest.fixture
def gaussians():
    (x, a), (y, b) = _gaussian(0.3, 0.1), _gaussian(0.7, 0.15)
    return x, y, a, b


@pytest.mark.parametrize("lazy", [True, False])
def test_gaussians_balanced(gaussians, lazy):
    result = solve_sample(*gaussians, reg=0.02, tol=1e-9, lazy=lazy)
    assert float(result.value) == pytest.approx(GAUSSIAN_OT, abs=DIGITS)


def test_gaussians_debiased(gaussians):
    result = solve_sample(*gaussians, blur=0.1, tol=1e-9, debias=True)
    assert float(result.value) == pytest.approx(GAUSSIAN_DIVERGENCE, abs=DIGITS)


def test_gaussians_unbalanced(gaussians):
    x, y, a, b = gaussians
    result = solve_sample(x, y, a, 1.5 * b, reg=0.02, unbalanced=0.5, tol=1e-11)
    assert float(result.value) == pytest.approx(GAUSSIAN_UNBALANCED_OT, abs=DIGITS)
    assert float(result.marginal_a.sum()) == pytest.approx(GAUSSIAN_UNBALANCED_MASS, abs=DIGITS)


@pytest.mark.parametrize("blur", [0.03, 0.3, 3.0])
def test_translation(blur):
    """S(a, a + t) = |t|^2 (cost not halved) for any a and any temperature."""
    rng = np.random.default_rng(0)
    x, weights = rng.uniform(size=(60, 3)), rng.uniform(size=60)
    weights /= weights.sum()
    translation = np.array([0.3, -0.2, 0.1])
    result = solve_sample(x, x + translation, weights, weights, blur=blur, debias=True, tol=1e-6)
    assert float(result.value) == pytest.approx(float((translation**2).sum()), rel=1e-7)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_infinite_temperature_is_half_the_squared_kernel_norm(metric):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(40, 2)), rng.uniform(size=(50, 2)) ** 2

    def mean_cost(p, q):
        squares = ((p[:, None] - q[None]) ** 2).sum(-1)
        return (squares if metric == "sqeuclidean" else np.sqrt(squares)).mean()

    expected = mean_cost(x, y) - mean_cost(x, x) / 2 - mean_cost(y, y) / 2
    result = solve_sample(x, y, metric=metric, reg=1e7, debias=True, tol=1e-13)
    assert float(result.value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("strengths", [(0.7, 0.7), (0.4, 1.3)])
def test_two_diracs_unbalanced(strengths):
    """The plan is one number t: c + epsilon log(t / (m n)) + rho_a log(t / m) + rho_b log(t / n) = 0."""
    m, n, epsilon = 0.8, 1.7, 0.3
    x, y = np.array([[0.0, 0.5]]), np.array([[1.0, 0.2]])
    cost = float(((x - y) ** 2).sum())

    def generalised_entropy(t, target):
        return t * np.log(t / target) - t + target

    exponent = -cost + epsilon * np.log(m * n) + strengths[0] * np.log(m) + strengths[1] * np.log(n)
    mass = np.exp(exponent / (epsilon + sum(strengths)))
    expected = mass * cost + epsilon * generalised_entropy(mass, m * n)
    expected += strengths[0] * generalised_entropy(mass, m) + strengths[1] * generalised_entropy(mass, n)
    result = solve_sample(x, y, np.array([m]), np.array([n]), reg=epsilon, unbalanced=strengths, tol=1e-12)
    assert float(result.value) == pytest.approx(expected, rel=1e-10)
    assert result.plan.item() == pytest.approx(mass, rel=1e-10)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_small_temperature_is_the_assignment_problem(metric):
    rng = np.random.default_rng(2)
    x, y = rng.uniform(size=(12, 2)), rng.uniform(size=(12, 2))
    costs = ((x[:, None] - y[None]) ** 2).sum(-1)
    if metric == "euclidean":
        costs = np.sqrt(costs)
    rows, columns = linear_sum_assignment(costs)
    result = solve_sample(x, y, metric=metric, reg=2e-3, tol=1e-3)
    assert float(result.value_linear) == pytest.approx(costs[rows, columns].mean(), rel=5e-3)
    np.testing.assert_array_equal(np.argmax(result.plan, axis=1), columns)


def test_sorted_matching_in_one_dimension():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(15, 1)), rng.normal(size=(15, 1)) + 1
    exact = ((np.sort(x, axis=0) - np.sort(y, axis=0)) ** 2).mean()
    result = solve_sample(x, y, reg=1e-3, tol=1e-3)
    assert float(result.value_linear) == pytest.approx(exact, rel=1e-3)


def test_brenier_map():
    """The gradient of a convex function is an optimal map: entropic maps tend to it."""
    axis = np.linspace(-1, 1, 15)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    target = np.array([[1.5, 0.4], [0.4, 0.8]])  # positive definite
    result = solve_sample(x, x @ target, blur=0.08, tol=1e-6)
    inside = np.abs(x).max(axis=1) < 0.7
    assert np.abs(result.a_to_b - x @ target)[inside].max() < 0.02


def test_matrix_agrees_with_pot():
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(4)
    costs, a, b = rng.uniform(size=(20, 30)), rng.uniform(size=20), rng.uniform(size=30)
    a, b = a / a.sum(), b / b.sum()
    ours = solve(costs, a, b, reg=0.05, tol=1e-10)
    theirs = ot.sinkhorn(a, b, costs, 0.05, stopThr=1e-12, numItermax=100000)
    np.testing.assert_allclose(ours.plan, theirs, atol=1e-10)


def test_unbalanced_matrix_agrees_with_pot():
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(5)
    costs, a, b = rng.uniform(size=(20, 30)), rng.uniform(size=20), rng.uniform(size=30)
    ours = solve(costs, a, b, reg=0.05, unbalanced=0.3, tol=1e-10)
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        a, b, costs, 0.05, 0.3, reg_type="kl", stopThr=1e-13, numItermax=100000
    )
    np.testing.assert_allclose(ours.plan, theirs, rtol=1e-6, atol=1e-10)
