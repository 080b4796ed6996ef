"""Small problems at low temperatures, whose blocks hardly exchange mass: Newton's steps."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from geomloss_ot import solve, solve_batch, solve_grid, solve_sample
from geomloss_ot.newton import NewtonAscent, Quadratic
from geomloss_ot.penalties import Balanced, KullbackLeibler, Partial, Range, TotalVariation


def _problem(seed, mass_b=1.3):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(6, 12, 2)
    costs, a, b = rng.uniform(size=(n, m)), rng.uniform(size=n) + 0.1, rng.uniform(size=m) + 0.1
    return costs, a / a.sum(), mass_b * b / b.sum()


def _cost_without_entropy(costs, a, b, kind, strengths):
    """A linear program: a plan, what is missing from the marginals and what exceeds them, at their price."""
    n, m = costs.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    marginals, target = np.vstack([rows, columns]), np.concatenate([a, b])
    if kind == "range":
        low, high = (
            np.concatenate([s[k] * w for s, w in zip(strengths, (a, b), strict=True)]) for k in (0, 1)
        )
        bounds = {"A_ub": np.vstack([marginals, -marginals]), "b_ub": np.concatenate([high, -low])}
        return linprog(costs.ravel(), **bounds).fun
    price = np.concatenate([np.full(k, s) for k, s in zip((n, m), strengths, strict=True)])
    slack, dear = np.eye(n + m), 1e3  # a marginal that is conserved has a high price
    missing = np.where(np.isinf(price), dear, price)
    created = missing if kind == "tv" else np.full(n + m, dear)
    objective = np.concatenate([costs.ravel(), missing, created])
    return linprog(objective, A_eq=np.hstack([marginals, slack, -slack]), b_eq=target).fun


CASES = [
    ("tv", (math.inf, math.inf), 1.0),
    ("tv", (math.inf, 3.0), 1.3),
    ("tv", (0.4, math.inf), 1.3),
    ("tv", (0.7, 0.25), 1.3),
    ("partial", (math.inf, 0.5), 1.3),
    ("partial", (4.0, 0.05), 1.3),
    ("partial", (0.9, math.inf), 0.6),
    ("range", ((1.0, 1.0), (0.69, 1.34)), 1.0),
    ("range", ((0.55, 1.33), (0.89, 1.2)), 1.0),
    ("range", ((0.99, 1.49), (0.64, 1.16)), 1.0),
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("kind", "strengths", "mass_b"), CASES)
def test_small_temperatures_are_linear_programs(kind, strengths, mass_b, seed):
    costs, a, b = _problem(seed, mass_b)
    given = tuple(None if s == math.inf else s for s in strengths)
    result = solve(costs, a, b, reg=1e-4, unbalanced=given, unbalanced_type=kind, tol=1e-6)
    assert result.status == "converged"
    assert result.n_iter <= 260
    certificate = result.certificate
    assert max(certificate.marginal_error_a, certificate.marginal_error_b) < 1e-5
    assert abs(certificate.duality_gap) < 1e-4
    exact = _cost_without_entropy(costs, a, b, kind, strengths)
    assert float(result.value) == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize("seed", [1, 2])
def test_updates_alone_do_not_converge(seed, monkeypatch):
    monkeypatch.setattr("geomloss_ot.sinkhorn.patience", lambda problem: math.inf)
    costs, a, b = _problem(seed, 1.0)
    with pytest.warns(UserWarning, match="max_iter"):
        result = solve(
            costs, a, b, reg=1e-4, unbalanced=((0.99, 1.49), (0.64, 1.16)), unbalanced_type="range"
        )
    assert result.certificate.marginal_error_a > 1e-3


@pytest.mark.parametrize("penalty", [Balanced(), KullbackLeibler(0.3)])
def test_steps_are_those_of_newton(penalty):
    """On the dual objective maximised in f, whose derivatives PyTorch knows; for a penalty or none."""
    costs, a, b = (torch.from_numpy(array) for array in _problem(0, 1.0))
    epsilon = 0.1

    def potential(g):
        softmin = -epsilon * torch.logsumexp(b.log() + (g - costs) / epsilon, 1)
        return KullbackLeibler(0.7).proximal(softmin, epsilon)

    def objective(g):
        f = potential(g)
        mass = (a[:, None] * torch.exp((f[:, None] + g - costs) / epsilon) * b).sum()
        return a @ KullbackLeibler(0.7).dual(f) + b @ penalty.dual(g) - epsilon * mass

    g = torch.linspace(-0.1, 0.2, len(b), dtype=torch.float64)
    gradient, hessian = torch.func.grad(objective)(g), torch.func.hessian(objective)(g)
    f = potential(g)
    plan = a[:, None] * torch.exp((f[:, None] + g - costs) / epsilon) * b
    quadratic = Quadratic(
        plan,
        plan.sum(1) - epsilon * a * KullbackLeibler(0.7).dual_curvature(f),
        plan.sum(0) - epsilon * b * penalty.dual_curvature(g),
        epsilon * (b * penalty.dual_slope(g) - plan.sum(0)),
    )
    torch.testing.assert_close(
        quadratic.step(g), -torch.linalg.solve(hessian, gradient), rtol=1e-8, atol=1e-10
    )
    tied = torch.zeros(len(b), dtype=torch.bool)
    tied[2] = True
    half = Quadratic(plan, quadratic.rows, torch.where(tied, math.inf, quadratic.columns), quadratic.gradient)
    step, free = half.step(0 * g + 0.01), ~tied
    assert step[2] == 0.01
    left = -gradient[free] - hessian[free][:, 2] * 0.01
    torch.testing.assert_close(
        step[free], torch.linalg.solve(hessian[free][:, free], left), rtol=1e-8, atol=1e-10
    )


def test_ascents_shorten_steps_that_lead_down():
    """A batch of two concave functions of one variable, with a step ten times too long in the first one."""

    def value(x):
        return -((x[:, 0] - 1.0) ** 2)

    def expand(x):
        return Quadratic(np.zeros((2, 1, 1)), 0 * x, np.ones((2, 1)), (1 - x) * [[10.0], [1.0]])

    ascent, x = NewtonAscent(1.0, lambda start, end: end), np.zeros((2, 1))
    reached = []
    for _ in range(30):
        x = ascent.next_state(value(x), 0 * x[:, 0], (x, x), functools.partial(expand, x))
        reached.append(x)
    np.testing.assert_allclose(reached[0], [[4.0], [1.0]])  # the first radius is four temperatures
    np.testing.assert_allclose(x, 1.0, atol=1e-3)


def test_moves_end_at_kinks():
    start, end = np.array([0.3, -0.2, 0.0, 0.5]), np.array([-0.1, 0.4, 0.7, 0.2])
    np.testing.assert_array_equal(Range(0.5, 2.0).move(start, end), [0.0, 0.0, 0.7, 0.2])
    np.testing.assert_array_equal(TotalVariation(0.3).move(start, end), [-0.1, 0.3, 0.3, 0.2])
    np.testing.assert_array_equal(Partial(0.3).move(start, end), [-0.1, 0.3, 0.3, 0.2])
    for penalty in (Balanced(), KullbackLeibler(0.3)):
        np.testing.assert_array_equal(penalty.move(start, end), end)


def _lines(dtype):
    """Two well separated halves, of different masses on both sides."""
    x = np.concatenate([np.linspace(0, 0.3, 12), np.linspace(2, 2.4, 12)])[:, None]
    y = np.concatenate([np.linspace(0.1, 0.2, 9), np.linspace(1.8, 2.0, 14)])[:, None]
    a = np.concatenate([np.full(12, 0.45 / 12), np.full(12, 0.55 / 12)])
    return x.astype(dtype), y.astype(dtype), a.astype(dtype)


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_libraries_and_precisions(dtype, lazy):
    x, y, a = _lines(dtype)
    options = {"reg": 1e-3, "lazy": lazy}
    result = solve_sample(x, y, a, **options)
    assert result.status in (("converged", "rounding") if dtype is np.float32 else ("converged",))
    cuts = np.sort(np.concatenate([np.cumsum(a), np.arange(1, 24) / 23]))  # monotone matching
    middle, masses = (cuts + np.concatenate([[0], cuts[:-1]])) / 2, np.diff(cuts, prepend=0)
    i, j = np.searchsorted(np.cumsum(a), middle), np.searchsorted(np.arange(1, 24) / 23, middle)
    i, j = np.minimum(i, 23), np.minimum(j, 22)
    exact = float((masses * (x[i, 0] - y[j, 0]) ** 2).sum())
    assert float(result.value_linear) == pytest.approx(exact, abs=2e-3)
    tensors = solve_sample(*map(torch.from_numpy, (x, y)), torch.from_numpy(a), **options)
    assert float(tensors.value) == pytest.approx(
        float(result.value), rel=1e-4 if dtype is np.float32 else 1e-7
    )


def test_batches_and_points_without_mass():
    problems = [_problem(seed, 1.0) for seed in range(3)]
    problems[1][1][2] = problems[1][2][0] = 0.0
    problems[1] = (
        problems[1][0],
        problems[1][1] / problems[1][1].sum(),
        problems[1][2] / problems[1][2].sum(),
    )
    together = solve_batch(*map(list, zip(*problems, strict=True)), reg=1e-4, tol=1e-6)
    assert together.status == "converged"
    for k, (costs, a, b) in enumerate(problems):
        alone = solve(costs, a, b, reg=1e-4, tol=1e-6)
        np.testing.assert_allclose(together.value[k], alone.value, rtol=1e-6)


def test_grids():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(5, 4)) ** 6, rng.uniform(size=(4, 5)) ** 6
    result = solve_grid(a / a.sum(), b / b.sum(), reg=1e-4, tol=1e-6)
    assert result.status == "converged"
    assert abs(result.certificate.duality_gap) < 1e-4


@pytest.mark.parametrize("max_iter", [69, 70, 71, 72, 90])
def test_iterations_are_counted_and_limited(max_iter):
    costs, a, b = _problem(1, 1.0)
    seen = []
    with pytest.warns(UserWarning, match=f"max_iter={max_iter}"):
        result = solve(costs, a, b, reg=1e-4, tol=1e-6, max_iter=max_iter, callback=seen.append)
    assert result.n_iter == max_iter
    assert [progress.iteration for progress in seen] == list(range(1, max_iter + 1))
    assert seen[-1].epsilon == 1e-4


def test_formulas_of_users_go_on_without():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(8, 2)), rng.uniform(size=(9, 2))
    with pytest.warns(UserWarning, match="max_iter=80"):
        solve_sample(x, y, metric=lambda x, y: x.sqdist(y), reg=1e-5, tol=1e-8, max_iter=80)
