"""The parts of the algorithm, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from geomloss_ot.acceleration import MEMORY, Acceleration
from geomloss_ot.annealing import epsilon_schedule
from geomloss_ot.certificates import round_plan
from geomloss_ot.costs import COSTS
from geomloss_ot.geometries import MatrixGeometry, PointGeometry
from geomloss_ot.measures import Measure
from geomloss_ot.penalties import Balanced, KullbackLeibler, Partial, Range, TotalVariation, find_penalty
from geomloss_ot.problems import Problem, row_marginal
from geomloss_ot.translations import best_translation

PENALTIES = [
    Balanced(),
    KullbackLeibler(0.7),
    TotalVariation(0.35),
    Partial(0.35),
    Range(0.6, 1.4),
    Range(0.0, 1.0),
]


@pytest.mark.parametrize(("start", "epsilon", "ratio"), [(7.0, 0.3, 0.5), (1.0, 0.25, 0.5), (5.0, 0.1, 0.81)])
def test_schedule_is_geometric_and_ends_with_epsilon(start, epsilon, ratio):
    schedule = epsilon_schedule(start, epsilon, ratio)
    assert schedule[0] == start
    assert schedule[-1] == epsilon
    factors = np.divide(schedule[1:], schedule[:-1])
    np.testing.assert_allclose(factors[:-1], ratio)
    assert ratio * (1 - 1e-6) <= factors[-1] < 1


@pytest.mark.parametrize("start", [0.0, 0.5, 1.0])
def test_schedule_without_annealing(start):
    assert epsilon_schedule(start, 1.0, 0.5) == (1.0,)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("softmin", [-1.1, -0.3, 0.02, 0.2, 1.3])
def test_proximal_step_maximises_the_dual(penalty, softmin):
    epsilon = 0.3
    lowest = -penalty.strength if isinstance(penalty, TotalVariation) else -3.0

    def minus_dual(f):
        return -float(penalty.dual(np.array(f))) + epsilon * np.exp((f - softmin) / epsilon)

    best = minimize_scalar(minus_dual, bounds=(lowest, 3), method="bounded", options={"xatol": 1e-10}).x
    assert float(penalty.proximal(np.array(softmin), epsilon)) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_derivatives_of_the_dual(penalty):
    f, step = np.linspace(-0.33, 1, 8), 1e-5  # off the kinks
    slope = (penalty.dual(f + step) - penalty.dual(f - step)) / (2 * step)
    np.testing.assert_allclose(penalty.dual_slope(f), slope, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(penalty.nearest_slope(f, np.full(8, 0.9)), penalty.dual_slope(f))
    below = f[f < 0.35] if isinstance(penalty, (TotalVariation, Partial)) else f
    curvature = (penalty.dual_slope(below + step) - penalty.dual_slope(below - step)) / (2 * step)
    np.testing.assert_allclose(penalty.dual_curvature(below), curvature, rtol=1e-8, atol=1e-8)


def test_slopes_at_kinks():
    """Any slope between those of both sides is right: the nearest to the one that is found makes no error."""
    ratio = np.array([0.2, 0.8, 1.7])
    np.testing.assert_allclose(TotalVariation(0.5).nearest_slope(np.full(3, 0.5), ratio), [0.2, 0.8, 1.0])
    np.testing.assert_allclose(TotalVariation(0.5).nearest_slope(np.full(3, -0.5), ratio), [1.0, 1.0, 1.7])
    np.testing.assert_allclose(Partial(0.5).nearest_slope(np.full(3, 0.5), ratio), [0.2, 0.8, 1.0])
    np.testing.assert_allclose(Range(0.5, 1.2).nearest_slope(np.zeros(3), ratio), [0.5, 0.8, 1.2])
    for penalty, kink in ((TotalVariation(0.5), 0.5), (Partial(0.5), 0.5), (Range(0.5, 1.2), 0.0)):
        assert penalty.dual_curvature(np.array([kink])) == -np.inf


@pytest.mark.parametrize("penalty", PENALTIES[1:])
def test_primal_penalty_is_the_conjugate_of_the_dual(penalty):
    lowest = -penalty.strength if isinstance(penalty, TotalVariation) else -20.0
    for ratio in (0.7, 1.0, *(() if penalty.ratio_bounds[1] < 1.3 else (1.3,))):
        best = minimize_scalar(
            lambda f, r=ratio: r * f - float(penalty.dual(np.array(f))),
            bounds=(lowest, 20.0),
            method="bounded",
        ).fun
        assert float(penalty.primal(np.array(ratio))) == pytest.approx(-best, abs=1e-4)


@pytest.mark.parametrize(
    "pair", [(p, q) for p in PENALTIES for q in PENALTIES if (p, q) != (Balanced(), Balanced())]
)
def test_best_translation(pair):
    """No other constant gives a higher dual objective."""
    rng = np.random.default_rng(0)
    sides = []
    for penalty, size in zip(pair, (5, 7), strict=True):
        potential = penalty.proximal(rng.normal(size=(2, size)), 0.1)
        sides.append((Measure(rng.uniform(size=(2, size))), penalty, potential))

    def gain(t):
        (a, penalty_a, f), (b, penalty_b, g) = sides
        steep = [penalty_a.dual_slope(f + t), penalty_b.dual_slope(g - t)]
        if max(np.max(slope) for slope in steep) > 1e10:
            return np.full(2, -np.inf)
        return a.integrate(penalty_a.dual(f + t)) + b.integrate(penalty_b.dual(g - t))

    best = best_translation(*sides)
    assert best.shape == (2, 1)
    reached = gain(best)
    for t in np.linspace(-2, 2, 81):
        assert (gain(t) <= reached + 1e-6).all()


def test_strong_penalties_tend_to_balanced_transport():
    assert find_penalty(float("inf")) == Balanced()
    f = np.array([-0.3, 0.2], dtype=np.float32)
    np.testing.assert_allclose(KullbackLeibler(1e9).dual(f), f, rtol=1e-6)


def test_acceleration_solves_linear_problems_in_as_many_steps_as_dimensions():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(2, 4, 4))
    matrix *= 0.9 / np.abs(np.linalg.eigvals(matrix)).max(-1)[:, None, None]
    offset = rng.normal(size=(2, 4))
    solution = np.linalg.solve(np.eye(4) - matrix, offset[..., None])[..., 0]
    acceleration, state = Acceleration(np.ones((2, 4))), np.zeros((2, 4))
    for _ in range(6):
        state = acceleration.extrapolate(state, np.einsum("bij,bj->bi", matrix, state) + offset - state)
    np.testing.assert_allclose(state, solution, atol=1e-6)


def test_acceleration_is_the_best_affine_combination_of_the_last_residuals():
    """More iterations than its memory holds, from before and after it forgot, with weights."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=30)
    acceleration = Acceleration(weights)
    acceleration.extrapolate(rng.normal(size=30), rng.normal(size=30))
    acceleration.forget()
    states, residuals = rng.normal(size=(2, MEMORY + 4, 30))
    for state, residual in zip(states, residuals, strict=True):
        found = acceleration.extrapolate(state, residual)
    states, residuals = states[-MEMORY - 1 :], residuals[-MEMORY - 1 :]
    root = np.sqrt(weights)
    system = (root * (residuals[:-1] - residuals[-1])).T
    coefficients = np.linalg.lstsq(system, -root * residuals[-1], rcond=None)[0]
    images = states + residuals
    np.testing.assert_allclose(found, images[-1] + coefficients @ (images[:-1] - images[-1]), atol=1e-6)


def test_extrapolations_stay_within_reach():
    """Residuals that hardly change: the secant would go ten thousand times as far as what has been seen."""
    acceleration = Acceleration(np.ones(3))
    direction = np.array([1.0, -2.0, 0.5])
    acceleration.extrapolate(np.zeros(3), direction)
    found = acceleration.extrapolate(direction, (1 - 1e-4) * direction)
    image = direction + (1 - 1e-4) * direction
    assert np.abs(found - image).max() == pytest.approx(20 * np.abs(image - direction).max(), rel=1e-6)


def test_masses_are_added_in_double_precision():
    weights, values = np.full(10**6, 1e-6, np.float32), np.full(10**6, 0.1, np.float32)
    values[0] = 1e5  # what follows would be lost behind it
    exact = float(np.float32(1e-6)) * (float(np.float32(0.1)) * (10**6 - 1) + 1e5)
    assert float(Measure(weights).integrate(values)) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("name", sorted(COSTS))
def test_lazy_and_dense_geometries_agree(name):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 6, 3))
    cost = replace(COSTS[name], coefficient=0.7)
    lazy, dense = PointGeometry(x, y, cost), MatrixGeometry(0.7 * cost.dense(x, y))
    f, g, values = rng.normal(size=(2, 5)), rng.normal(size=(2, 6)), rng.normal(size=(2, 6, 4))
    assert lazy.shape == dense.shape == (2, 5, 6)
    assert lazy.cost_bound >= dense.cost_bound * (1 - 1e-6)
    if cost.box_diameter is None:  # measured
        assert lazy.cost_bound == pytest.approx(dense.cost_bound)
    for p, q in ((lazy, dense), (lazy.T.T, dense.T.T)):
        np.testing.assert_allclose(p.softmin(0.7, g), q.softmin(0.7, g))
        np.testing.assert_allclose(p.apply_plan(0.7, f, g, values), q.apply_plan(0.7, f, g, values))
        one = values[..., :1]
        np.testing.assert_allclose(p.apply_plan_cost(0.7, f, g, one), q.apply_plan_cost(0.7, f, g, one))
        np.testing.assert_allclose(p.density(0.7, f, g), q.density(0.7, f, g))
        rank_one = (np.abs(f), np.abs(g), np.abs(values[..., 0]))
        np.testing.assert_allclose(
            p.primal_density(0.7, f, g, rank_one), q.primal_density(0.7, f, g, rank_one)
        )
    np.testing.assert_allclose(lazy.T.softmin(0.7, f), dense.T.softmin(0.7, f))


def test_softmin_ignores_points_of_weight_zero():
    x = np.array([[0.0], [1.0]])
    exponents = np.array([0.0, -np.inf])
    for geometry in (
        PointGeometry(x, x, COSTS["sqeuclidean"]),
        MatrixGeometry(np.array([[0.0, 1.0], [1.0, 0.0]])),
    ):
        np.testing.assert_allclose(geometry.softmin(0.5, exponents), [0.0, 1.0], atol=1e-12)


@pytest.mark.parametrize(
    "bounds",
    [
        ((0.9, 1.4), (0.3, 1.0)),
        ((0.2, 1.0), (0.6, 1.1)),
        ((0.7, 1.2), (0.7, 1.2)),
        ((1.0, 1.2), (0.5, 1.0)),  # hardly any room between the bounds of both sides
        ((0.5, 0.91), (0.9, 1.4)),
        ((0.3, 1.0), (1.0, 1.0)),
    ],
)
def test_rounded_plans_have_the_marginals_that_they_claim(bounds):
    """Far from the solution: what is added to rows and to columns is one product measure, within the bounds."""
    rng = np.random.default_rng(3)
    penalties = tuple(Range(*pair) for pair in bounds)
    a, b = (Measure(w / w.sum()) for w in (rng.uniform(size=6), rng.uniform(size=7)))
    problem = Problem(MatrixGeometry(rng.uniform(size=(6, 7))), a, b, penalties, 0.05)
    for level in (-0.3, 0.0, 0.4):
        f, g = level + 0.2 * rng.normal(size=6), 0.2 * rng.normal(size=7)
        plan = round_plan(problem, (f, g), row_marginal(problem, f, g))
        density = problem.geometry.density(0.05, plan.f, plan.g) + np.outer(*plan.rank_one)
        dense = a.weights[:, None] * density * b.weights
        np.testing.assert_allclose(dense.sum(1), plan.rows, rtol=1e-10)
        np.testing.assert_allclose(dense.sum(0), plan.columns, rtol=1e-10)
        for marginal, side, (low, high) in zip((plan.rows, plan.columns), (a, b), bounds, strict=True):
            assert (marginal >= low * side.weights * (1 - 1e-9)).all()
            assert (marginal <= high * side.weights * (1 + 1e-9)).all()
