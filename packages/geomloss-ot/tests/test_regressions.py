"""Defects met in other libraries: one test each, so that they never show up here."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomloss_ot import SamplesLoss, solve, solve_sample


def _clouds(n=12, m=10, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    y = torch.rand(m, 2, generator=generator, dtype=torch.float64) * 0.5 + 0.3
    return x.to(dtype), y.to(dtype)


def _weights(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, generator=generator, dtype=torch.float64) + 0.1


def _slope(function, point, direction, step=1e-5):
    """Central finite difference."""
    return float((function(point + step * direction) - function(point - step * direction)) / (2 * step))


@pytest.mark.parametrize("lazy", [True, False])
def test_gradients_of_functional_solvers_are_not_doubled(lazy):
    x, y = _clouds()

    def value(x):
        return solve_sample(x, y, blur=0.2, debias=True, tol=1e-11, lazy=lazy).value

    live = x.clone().requires_grad_()
    value(live).backward()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    assert float((live.grad * direction).sum()) == pytest.approx(_slope(value, x, direction), rel=1e-6)


def test_gradient_of_a_matrix_is_the_plan():
    rng = np.random.default_rng(0)
    costs = torch.tensor(rng.uniform(size=(6, 7)), requires_grad=True)
    result = solve(costs, reg=0.1, tol=1e-11)
    result.value.backward()
    torch.testing.assert_close(costs.grad, result.plan.detach())


@pytest.mark.parametrize("reach", [0.1, 0.5, 3.0])
def test_unbalanced_gradients_have_the_right_factor(reach):
    x, y = _clouds()
    a, b = _weights(12, 1), _weights(10, 2)
    loss = SamplesLoss(blur=0.3, reach=reach, tol=1e-11)
    live = x.clone().requires_grad_()
    loss(a, live, b, y).backward()
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    expected = _slope(lambda z: loss(a, z, b, y), x, direction)
    assert float((live.grad * direction).sum()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("unbalanced", [None, 0.4])
def test_biased_value_is_the_primal_value_for_any_masses(unbalanced):
    """Includes the balanced entropic constant epsilon (m^2 - m)."""
    rng = np.random.default_rng(1)
    costs, epsilon = rng.uniform(size=(8, 9)), 0.2
    a, b = rng.uniform(size=8), rng.uniform(size=9)
    if unbalanced is None:
        a, b = 2.5 * a / a.sum(), 2.5 * b / b.sum()
    result = solve(costs, a, b, reg=epsilon, unbalanced=unbalanced, tol=1e-12)

    def generalised_entropy(p, q):
        return (p * np.log(p / q) - p + q).sum()

    plan = result.plan
    expected = (plan * costs).sum() + epsilon * generalised_entropy(plan, a[:, None] * b[None])
    if unbalanced is not None:
        expected += unbalanced * generalised_entropy(plan.sum(1), a)
        expected += unbalanced * generalised_entropy(plan.sum(0), b)
    assert float(result.value) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mass", [0.3, 1.0, 4.0])
def test_balanced_value_counts_the_entropy_of_the_total_mass(mass):
    """OT(m a, m b) with KL to the product of the measures: m OT(a, b) + epsilon (m^2 - m - m log m)."""
    x, y = _clouds()
    a, b = (torch.full((n,), 1.0 / n, dtype=x.dtype) for n in (12, 10))
    unit = float(solve_sample(x, y, a, b, reg=0.2, tol=1e-11).value)
    value = float(solve_sample(x, y, mass * a, mass * b, reg=0.2, tol=1e-11).value)
    assert value == pytest.approx(mass * unit + 0.2 * (mass**2 - mass - mass * np.log(mass)), rel=1e-9)


def test_float32_far_from_the_origin():
    x, y = _clouds(200, 200, torch.float32)
    loss = SamplesLoss(blur=0.05)
    x, y = (x * 2**10).round() / 2**10, (y * 2**10).round() / 2**10  # so that adding 1024 is exact
    near, far = loss(x, y), loss(x + 1024, y + 1024)
    assert float(far) > 0
    assert float(far) == pytest.approx(float(near), rel=1e-5)


@pytest.mark.parametrize("backend", ["online", "tensorized"])
@pytest.mark.parametrize("reach", [None, 1.0])
@pytest.mark.parametrize("p", [1, 2])
def test_float32_at_high_temperatures(p, reach, backend):
    """Potentials are differences of numbers of the size of epsilon there, which leave no digit of the costs."""
    x, y = _clouds(100, 80)
    options = {"p": p, "blur": 10.0 ** (4 / p), "reach": reach, "backend": backend}
    found = []
    for dtype in (torch.float32, torch.float64):
        live = x.to(dtype, copy=True).requires_grad_()
        value = SamplesLoss(**options)(live, y.to(dtype))
        (gradient,) = torch.autograd.grad(value, live)
        assert value.dtype == gradient.dtype == dtype
        found.append((value.detach().double(), gradient.double()))
    for single, double in zip(*found, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-3, atol=1e-6)


def test_second_derivatives_are_right():
    """Against finite differences of the gradient, along a direction."""
    x, y = _clouds()
    loss = SamplesLoss(blur=0.2, tol=1e-12)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)

    def gradient(x):
        live = x.clone().requires_grad_()
        return torch.autograd.grad(loss(live, y), live)[0]

    live = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(live, y), live, create_graph=True)
    (second,) = torch.autograd.grad((first * direction).sum(), live)
    expected = (gradient(x + 1e-5 * direction) - gradient(x - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close(second, expected, rtol=1e-5, atol=1e-8)


def test_third_derivatives_are_refused():
    x, y = _clouds()
    x.requires_grad_()
    (first,) = torch.autograd.grad(SamplesLoss(blur=0.2)(x, y), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="Third derivatives"):
        torch.autograd.grad((first**2).sum(), x, create_graph=True)


def test_no_graph_inside_no_grad():
    x, y = _clouds()
    x.requires_grad_()
    with torch.no_grad():
        assert not SamplesLoss()(x, y).requires_grad
        result = solve_sample(x, y, blur=0.1, debias=True)
        assert not result.value.requires_grad
        assert not result.plan.requires_grad


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("reach", [None, 0.5])
def test_zero_diameter(p, reach):
    x = torch.ones(5, 3, requires_grad=True)
    value = SamplesLoss(p=p, reach=reach)(x, torch.ones(4, 3))
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-7)
    torch.testing.assert_close(x.grad, torch.zeros(5, 3), atol=1e-7, rtol=0)


@pytest.mark.parametrize("p", [1, 2])
def test_value_does_not_depend_on_scaling(p):
    x, y = _clouds(100, 80)
    values = [float(SamplesLoss(p=p, blur=0.05, scaling=s)(x, y)) for s in (0.2, 0.5, 0.9, 0.99)]
    np.testing.assert_allclose(values, values[0], rtol=1e-4)


def test_unequal_masses_are_refused_in_balanced_mode():
    x, y = _clouds()
    a, b = torch.full((12,), 1 / 12.0, dtype=x.dtype), torch.full((10,), 0.2, dtype=x.dtype)
    with pytest.raises(ValueError, match=r"weights sum to .*1\.0.* and .*2\.0"):
        SamplesLoss()(a, x, b, y)
    with pytest.raises(ValueError, match="equal masses"):
        solve_sample(x, y, a, b, reg=0.1)
    assert torch.isfinite(SamplesLoss(reach=1.0)(a, x, b, y))


def test_plan_can_be_rebuilt_from_debiased_results():
    x, y = _clouds()
    result = solve_sample(x, y, reg=0.1, debias=True, tol=1e-10)
    costs = ((x[:, None] - y[None]) ** 2).sum(-1)
    plan = torch.exp((result.potential_a[:, None] + result.potential_b[None] - costs) / 0.1) / (12 * 10)
    torch.testing.assert_close(result.plan, plan)
    torch.testing.assert_close(plan.sum(1), torch.full((12,), 1 / 12.0, dtype=x.dtype))


def test_distances_near_zero_keep_their_digits():
    """p = 1 on pairs of neighbours at distance 1e-5: |x|^2 + |y|^2 - 2 <x, y> would see zero in float32."""
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    y = x + torch.tensor([1e-5, 0.0, 0.0])
    result = solve_sample(x, y, metric="euclidean", reg=1e-3)
    assert float(result.value_linear) == pytest.approx(1e-5, rel=0.05)


@pytest.mark.parametrize("reach", [1.0, 10.0, 1000.0])
def test_strong_penalties_between_different_masses_converge(reach):
    """Alternate updates alone need (reach / blur)^2 iterations."""
    x, y = _clouds(30, 40)
    a, b = torch.full((30,), 1 / 30.0, dtype=x.dtype), torch.full((40,), 2 / 40.0, dtype=x.dtype)
    result = solve_sample(x, y, a, b, blur=0.05, reach=reach, tol=1e-6)
    assert result.status == "converged"
    assert result.n_iter < 150
    mass = float(result.marginal_a.sum())
    assert mass == pytest.approx(2**0.5, rel=0.3 / reach)  # the geometric mean, in the limit


def test_strong_penalties_in_float32():
    """Potentials are of the size of the penalties there: a finer error than their digits is not waited for."""
    x, y = _clouds(30, 40, torch.float32)
    a, b = torch.full((30,), 1 / 30.0), torch.full((40,), 2 / 40.0)
    with pytest.warns(UserWarning, match="float32 has no digits"):
        result = solve_sample(x, y, a, b, blur=0.05, reach=100.0, tol=1e-6)
    assert result.status == "rounding"
    assert result.n_iter < 150


@pytest.mark.parametrize("dim", [2, 40])
@pytest.mark.parametrize("loss", ["gaussian", "laplacian"])
def test_kernel_norms_far_from_the_origin(loss, dim):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(50, dim, generator=generator) for _ in range(2))
    x, y = (x * 2**10).round() / 2**10, (y * 2**10).round() / 2**10
    near, far = SamplesLoss(loss, blur=1.0)(x, y), SamplesLoss(loss, blur=1.0)(x + 1024, y + 1024)
    assert float(far) == pytest.approx(float(near), rel=1e-4)


def test_masses_that_hardly_feel_each_other():
    """Two far blobs that must exchange mass: an extrapolation alone goes back and forth."""
    generator = torch.Generator().manual_seed(0)
    blob = 0.05 * torch.randn(50, 2, generator=generator, dtype=torch.float64)
    x = torch.cat([blob, blob + torch.tensor([3.0, 0.0])])
    a, b = torch.full((100,), 0.01, dtype=x.dtype), torch.cat([torch.full((50,), w) for w in (0.006, 0.014)])
    result = solve_sample(x, x, a, b.double(), blur=0.3, tol=1e-5)
    assert result.status == "converged"
    # A fifth of the mass goes over three units; entropy lets it choose where to start from and end.
    assert float(result.value_linear) == pytest.approx(0.2 * 9, rel=0.05)


@pytest.mark.parametrize("unbalanced", [(0.6, 0.05), (0.3, 0.05)])
def test_extrapolations_out_of_the_domain_of_the_dual(unbalanced):
    """Total variation bounds potentials: an extrapolation that leaves the bounds neither stops nor fools the loop."""
    rng = np.random.default_rng(6)
    costs, a, b = rng.uniform(size=(8, 10)), rng.uniform(size=8) + 0.1, rng.uniform(size=10) + 0.1
    options = {"reg": 2e-3, "unbalanced": unbalanced, "unbalanced_type": "tv", "tol": 1e-4}
    result = solve(costs, a / a.sum(), 1.3 * b / b.sum(), **options)
    assert result.status == "converged"
    assert float(result.certificate.duality_gap) < 1e-4
