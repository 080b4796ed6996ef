"""LDDMM: conserved quantities, closed forms, gradients and the reference optimum on landmarks."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from shape_analysis import LDDMM, Kernel, Landmarks, PointCloud, Registration
from shape_analysis.deformations.lddmm import geodesic_field, hamiltonian
from shape_analysis.kernels import PROFILES


def dense_hamiltonian(q, p, scale):
    """H for a Gaussian kernel, in plain PyTorch."""
    k = torch.exp(-(q[:, None] - q[None]).square().sum(dim=2) / scale**2)
    return 0.5 * (k * (p @ p.T)).sum()


def cloud_and_momenta(rng, n_points=15, dim=2, dtype=torch.float64):
    points = torch.randn(n_points, dim, generator=rng, dtype=torch.float64).to(dtype)
    momenta = 0.3 * torch.randn(n_points, dim, generator=rng, dtype=torch.float64).to(dtype)
    return PointCloud(points), momenta


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_equations_are_those_of_the_hamiltonian(dim, dtype, tolerance, rng):
    cloud, p = cloud_and_momenta(rng, dim=dim, dtype=dtype)
    q = cloud.points.requires_grad_()
    p = p.requires_grad_()
    energy = dense_hamiltonian(q, p, 0.8)
    slope_q, slope_p = torch.autograd.grad(energy, (q, p))
    velocity, force = geodesic_field(Kernel("gaussian", 0.8))((q, p))
    assert_close(velocity, slope_p, rtol=tolerance, atol=10 * tolerance)
    assert_close(force, -slope_q, rtol=tolerance, atol=10 * tolerance)
    assert_close(hamiltonian(Kernel("gaussian", 0.8), q, p), energy, rtol=tolerance, atol=0)


@pytest.mark.parametrize("name", PROFILES)
def test_energy_is_conserved(name, rng):
    cloud, p = cloud_and_momenta(rng)
    model = LDDMM(Kernel(name, 1.5), integrator="rk4", n_steps=20)
    start = float(model.energy(cloud, p))
    for q_t, p_t in model.shoot(cloud, p, times=(0.5, 1.0, 2.0)):
        assert float(hamiltonian(model.kernel, q_t, p_t)) == pytest.approx(start, rel=1e-4)


def test_linear_and_angular_momentum_are_conserved(rng):
    cloud, p = cloud_and_momenta(rng)
    model = LDDMM(Kernel("gaussian", 1.0), integrator="rk4", n_steps=20)
    ((q_1, p_1),) = model.shoot(cloud, p, times=(1.0,))
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    assert_close(p_1.sum(dim=0), p.sum(dim=0), rtol=0, atol=1e-12)
    assert float((q_1 * (p_1 @ turn)).sum()) == pytest.approx(
        float((cloud.points * (p @ turn)).sum()), rel=1e-5
    )


@pytest.mark.parametrize(("integrator", "order"), [("euler", 1), ("midpoint", 2), ("ralston", 2), ("rk4", 4)])
def test_order_of_the_flow(integrator, order, rng):
    cloud, p = cloud_and_momenta(rng, n_points=5)
    kernel = Kernel("gaussian", 1.5)
    exact = LDDMM(kernel, integrator="rk4", n_steps=200)(cloud, p).end.points

    def error(n_steps):
        model = LDDMM(kernel, integrator=integrator, n_steps=n_steps)
        return float((model(cloud, p).end.points - exact).abs().max())

    assert math.log2(error(10) / error(20)) == pytest.approx(order, abs=0.5)


def test_far_points_do_not_meet(dtype, tolerance):
    points = torch.tensor([[0.0, 0.0], [1000.0, 0.0]], dtype=dtype)
    momenta = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=dtype)
    path = LDDMM(Kernel("gaussian", 1.0))(PointCloud(points), momenta, times=(-1.0, 0.0, 0.25, 1.0, 3.0))
    for time, shape in zip(path.times, path.shapes, strict=True):
        assert_close(shape.points, points + time * momenta, rtol=tolerance, atol=10 * tolerance)


def test_points_that_coincide_move_together(rng):
    """Momenta at one place add up: the velocity of each point is their sum."""
    momenta = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    cloud = PointCloud(torch.zeros(2, 2, dtype=torch.float64))
    end = LDDMM(Kernel("gaussian", 1.0))(cloud, momenta).end
    assert_close(end.points, torch.tensor([[1.5, 1.0], [1.5, 1.0]], dtype=torch.float64))


def test_a_wide_kernel_translates(rng):
    cloud, _ = cloud_and_momenta(rng)
    shift = torch.tensor([0.5, -0.2], dtype=torch.float64)
    momenta = (shift / cloud.n_points).expand(cloud.n_points, 2).contiguous()
    end = LDDMM(Kernel("gaussian", 1e4))(cloud, momenta).end
    assert_close(end.points, cloud.points + shift, rtol=0, atol=1e-5)


def test_times_may_come_in_any_order(rng):
    cloud, p = cloud_and_momenta(rng)
    model = LDDMM(Kernel("gaussian", 1.0))
    path = model(cloud, p, times=(1.0, -0.5, 0.5, 0.0, 1.0))
    assert path.times == (1.0, -0.5, 0.5, 0.0, 1.0)
    assert path.shapes[3].points is cloud.points
    assert_close(path.shapes[0].points, path.shapes[4].points, rtol=0, atol=0)
    for time, shape in zip(path.times, path.shapes, strict=True):
        alone = model(cloud, p, times=(time,)).end.points
        assert_close(shape.points, alone, rtol=0, atol=1e-3)


def test_geodesics_can_be_walked_back(rng):
    cloud, p = cloud_and_momenta(rng)
    model = LDDMM(Kernel("gaussian", 1.0), integrator="rk4", n_steps=20)
    ((q_1, p_1),) = model.shoot(cloud, p, times=(1.0,))
    ((q_0, p_0),) = model.shoot(PointCloud(q_1), p_1, times=(-1.0,))
    assert_close(q_0, cloud.points, rtol=0, atol=1e-5)
    assert_close(p_0, p, rtol=0, atol=1e-5)


def test_carried_points_follow_the_control_points(rng):
    cloud, p = cloud_and_momenta(rng)
    kernel = Kernel("gaussian", 1.0)
    alone = LDDMM(kernel)(cloud, p).end.points
    apart = LDDMM(kernel, control_points=cloud.points.clone())
    both = PointCloud(torch.cat([cloud.points, torch.full((1, 2), 50.0, dtype=torch.float64)]))
    moved = apart(both, p).end.points
    assert_close(moved[:-1], alone)
    assert_close(moved[-1], both.points[-1])


def test_another_shape_is_carried_along(rng):
    cloud, p = cloud_and_momenta(rng)
    model = LDDMM(Kernel("gaussian", 1.0))
    part = PointCloud(cloud.points[:4].clone())
    assert_close(model.carry(cloud, p, part).end.points, model(cloud, p).end.points[:4])


def test_any_symmetric_formula_is_a_kernel(rng):
    cloud, p = cloud_and_momenta(rng)
    custom = LDDMM(lambda x_i, y_j: (x_i.sqdist(y_j) * -0.25).exp())
    assert_close(custom(cloud, p).end.points, LDDMM(Kernel("gaussian", 2.0))(cloud, p).end.points)


def test_gradient_through_the_flow(rng):
    cloud, p = cloud_and_momenta(rng, n_points=4)
    controls = torch.randn(3, 2, generator=rng, dtype=torch.float64)

    def end(points, controls, momenta):
        model = LDDMM(Kernel("gaussian", 1.0), control_points=controls, n_steps=2)
        return model(PointCloud(points), momenta).end.points

    inputs = tuple(tensor.requires_grad_() for tensor in (cloud.points, controls, p[:3].clone()))
    assert torch.autograd.gradcheck(end, inputs)


def test_gradient_when_the_points_are_the_control_points(rng):
    cloud, p = cloud_and_momenta(rng, n_points=4)

    def loss(points, momenta):
        model = LDDMM(Kernel("gaussian", 1.0), n_steps=2, integrator="midpoint")
        source = PointCloud(points)
        return model(source, momenta).end.points, model.energy(source, momenta)

    assert torch.autograd.gradcheck(loss, (cloud.points.requires_grad_(), p.requires_grad_()))


@pytest.mark.parametrize("scale", [0.3, (0.5, 2.0)])
def test_coordinates_make_the_energy_round(scale, rng, dtype):
    cloud, _ = cloud_and_momenta(rng, dtype=dtype)
    model = LDDMM(Kernel("gaussian", scale))
    z = torch.randn(15, 2, generator=rng, dtype=torch.float64).to(dtype)
    energy = model.energy(cloud, model.coordinates(cloud)(z))
    assert float(energy) == pytest.approx(0.5 * float(z.square().sum()), rel=1e-3)


def test_coordinates_of_a_formula_that_is_not_positive(rng):
    cloud, p = cloud_and_momenta(rng)
    model = LDDMM(lambda x_i, y_j: x_i.sqdist(y_j))
    assert model.coordinates(cloud)(p) is p


def test_reference_landmarks():
    """Kernel width 3, noise 0.1: two landmarks move by 10, two stay; the optimum has p = 10 / 1.01 and -198.02.

    As the landmarks are far from each other, the log-likelihood -sum d^2 / 0.01 - p'Kp is that of two separate points.
    """
    source = PointCloud(torch.tensor([[20.0, 20], [20, 30], [40, 20], [40, 30]], dtype=torch.float64))
    target = PointCloud(torch.tensor([[30.0, 20], [30, 30], [40, 20], [40, 30]], dtype=torch.float64))
    # p'Kp = 2 H, and dividing the objective by 1 / 0.01 leaves the optimum in its place.
    fit = Registration(LDDMM(Kernel("gaussian", 3.0)), Landmarks(), 2 * 0.01, max_iter=100).fit(
        source, target
    )
    assert -fit.history_[-1].loss / 0.01 == pytest.approx(-198.02, abs=0.01)
    assert_close(fit.parameters_[:2, 0], torch.full((2,), 10 / 1.01, dtype=torch.float64), rtol=1e-3, atol=0)


def test_invalid_input_is_named(rng):
    cloud, p = cloud_and_momenta(rng)
    with pytest.raises(ValueError, match=r"Unknown integrator 'rk5'.*'rk4'"):
        LDDMM(Kernel("gaussian", 1.0), integrator="rk5")
    with pytest.raises(ValueError, match=r"n_steps must be at least 1, got 0"):
        LDDMM(Kernel("gaussian", 1.0), n_steps=0)
    model = LDDMM(Kernel("gaussian", 1.0))
    with pytest.raises(ValueError, match=r"parameters of shape \(15, 2\).*got \(14, 2\)"):
        model(cloud, p[1:])
    with pytest.raises(ValueError, match=r"times is empty"):
        model(cloud, p, times=())
    with pytest.raises(ValueError, match=r"dimension 3, the source of the deformation in 2"):
        model.carry(cloud, p, PointCloud(torch.zeros(1, 3)))
