"""Partial transport of a given mass, against POT, linear programs, and other forms of the same problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from geomloss_ot import solve, solve_grid, solve_sample


def _problem(n=8, m=10):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=n) + 0.1, rng.uniform(size=m) + 0.1
    return rng.uniform(size=(n, m)), a / a.sum(), 1.3 * b / b.sum()


def _objective(plan, costs, a, b, reg):
    outer = a[:, None] * b
    return (plan * costs + reg * (plan * np.log(plan / outer) - plan + outer)).sum()


@pytest.mark.parametrize("mass", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("reg", [0.05, 0.01])
def test_plan_agrees_with_pot(mass, reg):
    ot = pytest.importorskip("ot")
    costs, a, b = _problem()
    result = solve(costs, a, b, reg=reg, mass=mass, tol=1e-9)
    assert result.status == "converged"
    # POT's entropy is relative to the counting measure.
    entropic = costs - reg * np.log(a[:, None] * b)
    theirs = ot.partial.entropic_partial_wasserstein(
        a, b, entropic, reg, m=mass, numItermax=50_000, stopThr=1e-13
    )
    np.testing.assert_allclose(result.plan, theirs, atol=1e-8)
    assert float(result.value) == pytest.approx(_objective(theirs, costs, a, b, reg), rel=1e-7)


@pytest.mark.parametrize("mass", [0.3, 0.8, 1.0])
def test_small_temperature_is_the_exact_problem(mass):
    ot = pytest.importorskip("ot")
    costs, a, b = _problem()
    result = solve(costs, a, b, reg=1e-3, mass=mass, tol=1e-3)
    exact = ot.partial.partial_wasserstein2(a, b, costs, m=min(mass, a.sum()))
    assert result.status == "converged"
    assert float(result.value_linear) == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forms_of_the_same_problem(dtype):
    """Points, lazy or dense, pixels of images and costs, in NumPy and PyTorch."""
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.1, 1, size=(2, 4, 3)).astype(dtype)
    axes = [(np.arange(n) + 0.5) / n for n in (4, 3)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2).astype(dtype)
    single = dtype is np.float32
    options = {"reg": 0.05, "mass": 1.5, "tol": 1e-4 if single else 1e-9}
    expected = solve(((x[:, None] - x) ** 2).sum(-1), a.ravel(), b.ravel(), **options)
    points = x, x, a.ravel(), b.ravel()
    tensors = [torch.from_numpy(values) for values in points]
    for result in (
        solve_sample(*points, **options),
        solve_sample(*points, lazy=False, **options),
        solve_sample(*tensors, **options),
        solve_grid(a, b, **options),
    ):
        assert result.status == "converged"
        assert np.asarray(result.plan).dtype == dtype
        assert float(result.plan.sum()) == pytest.approx(1.5, rel=options["tol"])
        np.testing.assert_allclose(np.asarray(result.plan), expected.plan, rtol=1e-3 if single else 1e-6)
        assert float(result.value) == pytest.approx(float(expected.value), rel=1e-3 if single else 1e-8)


def test_certificate_bounds_the_error():
    costs, a, b = _problem()
    exact = float(solve(costs, a, b, reg=0.02, mass=0.6, tol=1e-10).value)
    for tol in (1e-1, 1e-2, 1e-4):
        result = solve(costs, a, b, reg=0.02, mass=0.6, tol=tol)
        gap = float(result.certificate.duality_gap)
        assert -1e-9 < exact - float(result.value) <= gap + 1e-10
        assert gap < 0.2 * tol
        assert abs(result.plan.sum() - 0.6) <= 1.01 * tol * 0.6
        assert (result.plan.sum(1) <= a * (1 + 2 * tol)).all()
        assert (result.plan.sum(0) <= b * (1 + 1e-9)).all()


@pytest.mark.parametrize("share", [0.995, 0.9999])
def test_nearly_all_the_mass_is_not_all(share):
    costs, a, b = _problem()
    result = solve(costs, a, b, reg=0.05, mass=share, tol=1e-7)
    assert result.plan.sum() == pytest.approx(share, rel=1e-6)


def test_all_the_mass_of_one_side():
    costs, a, b = _problem()
    ranges = solve(costs, a, b, reg=0.05, unbalanced=(None, (0.0, 1.0)), unbalanced_type="range", tol=1e-9)
    for mass in (1.0, 1.0 - 1e-8):
        whole = solve(costs, a, b, reg=0.05, mass=mass, tol=1e-9)
        np.testing.assert_allclose(whole.plan, ranges.plan, atol=1e-8)
    balanced = solve(costs, a, b / 1.3, reg=0.05, mass=1.0, tol=1e-9)
    np.testing.assert_allclose(balanced.plan, solve(costs, a, b / 1.3, reg=0.05, tol=1e-9).plan, atol=1e-8)


def test_far_points_stay_behind():
    x, y = np.array([[0.0], [1.0]]), np.array([[0.1], [1.1], [9.0]])
    result = solve_sample(x, y, np.full(2, 0.5), np.full(3, 0.5), reg=1e-3, mass=0.8)
    np.testing.assert_allclose(result.marginal_b, [0.4, 0.4, 0.0], atol=1e-3)


def _leaves():
    generator = torch.Generator().manual_seed(0)
    shapes = (5, 2), (6, 2), (5,), (6,)
    return tuple(torch.rand(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)


@pytest.mark.parametrize("lazy", [True, False])
def test_derivatives_of_the_value(lazy):
    """In points and weights, at fixed mass: the price moves with them; some points send all that they have."""
    fixed = [leaf.detach() for leaf in _leaves()]
    result = solve_sample(*fixed[:2], *(w + 0.2 for w in fixed[2:]), reg=0.05, mass=2.7, tol=1e-12)
    for potential in result.potentials:
        assert 0 < (potential == potential.max()).sum() < len(potential)

    def function(x, y, a, b):
        return solve_sample(x, y, a + 0.2, b + 0.2, reg=0.05, mass=2.7, lazy=lazy, tol=1e-12).value

    assert gradcheck(function, _leaves(), fast_mode=True)
    assert gradgradcheck(function, _leaves(), fast_mode=True)


@pytest.mark.parametrize("attribute", ["plan", "a_to_b", "marginal_b", "value_linear", "potential_a"])
def test_derivatives_of_plans(attribute):
    def function(x, y, a, b):
        result = solve_sample(x, y, a + 0.2, b + 0.2, reg=0.05, mass=2.7, tol=1e-12)
        return getattr(result, attribute)

    assert gradcheck(function, _leaves(), fast_mode=True)


def test_float32_gradients_follow_float64():
    gradients = []
    for dtype in (torch.float32, torch.float64):
        leaves = [leaf.detach().to(dtype).requires_grad_() for leaf in _leaves()]
        value = solve_sample(*leaves, reg=0.2, mass=1.2, tol=1e-5).value
        gradients.append(torch.autograd.grad(value, leaves))
    for single, double in zip(*gradients, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=2e-3, atol=1e-4)


def test_iterations_are_counted_and_limited():
    seen = []
    costs, a, b = _problem()
    result = solve(costs, a, b, reg=0.05, mass=0.6, callback=seen.append)
    assert result.n_iter == len(seen) == seen[-1].iteration
    with pytest.warns(UserWarning, match="max_iter=15"):
        result = solve(costs, a, b, reg=0.001, mass=0.6, max_iter=15)
    assert result.status == "max_iter"
    assert result.n_iter == 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mass": 1.1}, "mass=1.1: expected at most 1"),
        ({"mass": 0.0}, "mass=0.0"),
        ({"mass": 0.5, "unbalanced": 1.0}, "expected unbalanced=None"),
        ({"mass": 0.5, "debias": True}, "no debiasing"),
        ({"mass": 0.5, "backend": "multiscale"}, "mass=0.5"),
    ],
)
def test_refused(options, message):
    x, y, a, b = (leaf.detach() for leaf in _leaves())
    with pytest.raises(ValueError, match=message):
        solve_sample(x, y, a / a.sum(), b / b.sum(), reg=0.1, **options)


def test_batches_are_refused():
    with pytest.raises(ValueError, match="loop over the batch"):
        solve(np.zeros((2, 3, 3)), reg=0.1, mass=0.5)
