"""Values that are known without us: closed forms, limits, exact assignment."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, linprog

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


def _small_problem(mass_b=1.3):
    rng = np.random.default_rng(6)
    costs, a, b = rng.uniform(size=(8, 10)), rng.uniform(size=8) + 0.1, rng.uniform(size=10) + 0.1
    return costs, a / a.sum(), mass_b * b / b.sum()


def _linear_program(costs, a, b, kind, strengths):
    """Optimal value without entropy: the plan, then what is destroyed and created on each side."""
    n, m = costs.shape
    marginals = np.zeros((n + m, n * m))
    for k in range(n):
        marginals[k, k * m : (k + 1) * m] = 1
    for k in range(m):
        marginals[n + k, k::m] = 1
    target = np.concatenate([a, b])
    if kind == "range":
        low, high = (
            np.concatenate([s[k] * w for s, w in zip(strengths, (a, b), strict=True)]) for k in (0, 1)
        )
        constraints = {"A_ub": np.vstack([marginals, -marginals]), "b_ub": np.concatenate([high, -low])}
        return linprog(costs.ravel(), **constraints).fun
    price = np.concatenate([np.full(n, strengths[0]), np.full(m, strengths[1])])
    slack = np.eye(n + m)
    created = (price, -slack) if kind == "tv" else (price[:0], slack[:, :0])
    objective = np.concatenate([costs.ravel(), price, created[0]])
    return linprog(objective, A_eq=np.hstack([marginals, slack, created[1]]), b_eq=target).fun


@pytest.mark.parametrize(
    ("kind", "strengths"),
    [
        ("tv", (0.1, 0.1)),
        ("tv", (0.05, 0.6)),
        ("partial", (0.1, 0.1)),
        ("partial", (0.3, 0.05)),
        ("range", ((0.7, 1.1), (0.5, 0.9))),
        ("range", ((1.0, 1.2), (0.2, 1.0))),
    ],
)
def test_linear_penalties_at_small_temperature_are_linear_programs(kind, strengths):
    costs, a, b = _small_problem()
    result = solve(
        costs, a, b, reg=1e-3, unbalanced=strengths, unbalanced_type=kind, tol=1e-4, max_iter=20_000
    )
    assert result.status == "converged"
    assert float(result.value) == pytest.approx(_linear_program(costs, a, b, kind, strengths), abs=5e-3)


@pytest.mark.parametrize("strength", [0.08, 0.4])
def test_total_variation_agrees_with_pot(strength):
    ot = pytest.importorskip("ot")
    costs, a, b = _small_problem()
    ours = solve(costs, a, b, reg=0.05, unbalanced=strength, unbalanced_type="tv", tol=1e-11)
    theirs = ot.unbalanced.lbfgsb_unbalanced(
        a,
        b,
        costs,
        0.05,
        strength,
        c=a[:, None] * b,
        reg_div="kl",
        regm_div="tv",
        numItermax=20_000,
        stopThr=1e-15,
    )

    def objective(plan):
        outer = a[:, None] * b
        entropy = plan * np.log(np.where(plan > 0, plan, 1) / outer) - plan + outer
        variation = np.abs(plan.sum(1) - a).sum() + np.abs(plan.sum(0) - b).sum()
        return (plan * costs + 0.05 * entropy).sum() + strength * variation

    assert float(ours.value) == pytest.approx(objective(ours.plan), rel=1e-8)
    assert objective(ours.plan) <= objective(theirs) + 1e-12
    assert objective(theirs) == pytest.approx(
        float(ours.value), rel=0.05
    )  # a descent stops next to the kinks


def test_two_far_diracs_destroy_their_mass():
    x, y = np.array([[0.0]]), np.array([[1.0], [9.0]])
    a, b = np.array([0.5]), np.array([0.5, 0.5])
    options = {"reg": 1e-3, "unbalanced": 2.0, "tol": 1e-8}
    partial = solve_sample(x, y, a, b, unbalanced_type="partial", **options)
    np.testing.assert_allclose(partial.marginal_b, [0.5, 0.0], atol=1e-8)
    assert float(partial.value) == pytest.approx(0.5 * 1.0 + 2.0 * 0.5, abs=2e-3)


def test_sphere_cost_is_the_angle():
    angles = np.array([0.0, 1e-6, 0.3, 2.0, np.pi - 1e-6])
    x, y = np.array([[2.0, 0.0]]), 3 * np.stack([np.cos(angles), np.sin(angles)], 1)
    for lazy in (True, False):
        geometry = solve_sample(
            x, y, metric="geodesic sphere", reg=1.0, lazy=lazy
        ).divergence.ab.problem.geometry
        density = geometry.density(1.0, np.zeros(1), np.zeros(5))
        np.testing.assert_allclose(-np.log(density)[0], angles, rtol=1e-9, atol=1e-15)
        values = geometry.apply_plan_cost(
            1.0, np.zeros(1), np.zeros(5), np.array([[0], [1e6], [0], [0], [0]])
        )
        assert values.item() == pytest.approx(1.0, rel=1e-5)
