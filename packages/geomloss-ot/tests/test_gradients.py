"""First and second derivatives of every loss, against finite differences in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from geomloss_ot import SamplesLoss, solve, solve_sample


def _inputs(*shape):
    generator = torch.Generator().manual_seed(0)
    batch = shape[:-1]
    sizes = ((*batch, 4, 2), (*batch, 3, 2), (*batch, 4), (*batch, 3))
    return tuple(torch.rand(s, generator=generator, dtype=torch.float64).requires_grad_() for s in sizes)


def _normalised(loss, balanced):
    """A function of unconstrained weights: balanced transport only makes sense along measures of equal mass."""

    def function(x, y, a, b):
        if balanced:
            a, b = a.softmax(-1), b.softmax(-1)
        return loss(a, x, b, y)

    return function


@pytest.mark.parametrize("backend", ["online", "tensorized"])
@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("reach", [None, 0.4])
@pytest.mark.parametrize("p", [1, 2])
def test_sinkhorn(p, reach, debias, backend):
    loss = SamplesLoss(p=p, blur=0.4, reach=reach, debias=debias, backend=backend, tol=1e-13)
    function = _normalised(loss, balanced=reach is None)
    # The fast mode compares along random directions: a handful of solves instead of one per entry.
    assert gradcheck(function, _inputs(1), fast_mode=True)
    assert gradgradcheck(function, _inputs(1), fast_mode=True)


@pytest.mark.parametrize("kind", ["tv", "partial"])
@pytest.mark.parametrize("debias", [True, False])
def test_penalties_with_kinks(kind, debias):
    loss = SamplesLoss(blur=0.3, reach=(0.25, 0.5), unbalanced_type=kind, debias=debias, tol=1e-13)
    function = _normalised(loss, balanced=False)
    held = solve_sample(
        *(t.detach() for t in _inputs(1)), reg=0.18, unbalanced=(0.125, 0.5), unbalanced_type=kind
    )
    assert (held.potential_a.abs() == 0.125).any() or (held.potential_b == 0.5).any()
    assert gradcheck(function, _inputs(1), fast_mode=True)
    assert gradgradcheck(function, _inputs(1), fast_mode=True)


def test_ranges():
    def function(x, y, a, b):
        options = {
            "reg": 0.2,
            "unbalanced": ((0.7, 1.1), (0.8, 1.2)),
            "unbalanced_type": "range",
            "tol": 1e-13,
        }
        return solve_sample(x, y, a, b, debias=True, **options).value

    assert gradcheck(function, _inputs(1), fast_mode=True)
    assert gradgradcheck(function, _inputs(1), fast_mode=True)


@pytest.mark.parametrize("metric", ["cityblock", "geodesic sphere"])
def test_costs(metric):
    def function(x, y, a, b):
        return solve_sample(x, y, a.softmax(-1), b.softmax(-1), metric=metric, reg=0.2, tol=1e-13).value

    assert gradcheck(function, _inputs(1), fast_mode=True)


def test_batches():
    function = _normalised(SamplesLoss(blur=0.4, tol=1e-13), balanced=True)
    assert gradcheck(function, _inputs(2, 1), fast_mode=True)
    assert gradgradcheck(function, _inputs(2, 1), fast_mode=True)


@pytest.mark.parametrize("name", ["gaussian", "laplacian", "energy"])
def test_kernel_norms(name):
    function = _normalised(SamplesLoss(name, blur=0.4), balanced=False)
    assert gradcheck(function, _inputs(1), fast_mode=True)
    assert gradgradcheck(function, _inputs(1), fast_mode=True)


@pytest.mark.parametrize("reach", [None, 0.4])
def test_hausdorff(reach):
    loss = SamplesLoss("hausdorff", blur=0.4, reach=reach, tol=1e-13)
    function = _normalised(loss, balanced=reach is None)
    assert gradcheck(function, _inputs(1), fast_mode=True)
    # Its value holds potentials, whose second derivatives are refused rather than wrong.
    inputs = _inputs(1)
    with pytest.raises(NotImplementedError, match="plans and potentials once"):
        torch.autograd.grad(function(*inputs), inputs[0], create_graph=True)


@pytest.mark.parametrize("reach", [None, 0.4])
def test_potentials(reach):
    loss = SamplesLoss(blur=0.4, reach=reach, potentials=True, tol=1e-13)
    assert gradcheck(_normalised(loss, balanced=reach is None), _inputs(1), fast_mode=True)


@pytest.mark.parametrize("attribute", ["plan", "a_to_b", "b_to_a", "value_linear", "marginal_b"])
@pytest.mark.parametrize("unbalanced", [None, (0.3, 0.8)])
def test_attributes_of_results(attribute, unbalanced):
    def function(x, y, a, b):
        if unbalanced is None:
            a, b = a.softmax(-1), b.softmax(-1)
        result = solve_sample(x, y, a, b, reg=0.3, unbalanced=unbalanced, tol=1e-13)
        return getattr(result, attribute)

    assert gradcheck(function, _inputs(1), fast_mode=True)


def test_matrices():
    costs = torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()

    def function(costs):
        squares = (costs.T @ costs, costs @ costs.T)
        return solve(costs, reg=0.3, C_aa=squares[1], C_bb=squares[0], tol=1e-13).value

    assert gradcheck(function, (costs,), fast_mode=True)
    assert gradgradcheck(function, (costs,), fast_mode=True)


def test_custom_cost():
    loss = SamplesLoss(cost=lambda x, y: (x - 2 * y).sqnorm2(), debias=False, blur=0.5, tol=1e-13)
    assert gradcheck(_normalised(loss, balanced=True), _inputs(1), fast_mode=True)


def test_hessian_of_a_translation():
    """S(a, a + t) = |t|^2 / 2: its Hessian in t is the identity."""
    x, *_ = _inputs(1)
    loss = SamplesLoss(blur=0.2, tol=1e-12)
    hessian = torch.autograd.functional.hessian(
        lambda t: loss(x.detach() + t, x.detach()), torch.tensor([0.3, -0.1], dtype=torch.float64)
    )
    torch.testing.assert_close(hessian, torch.eye(2, dtype=torch.float64), atol=1e-8, rtol=0)


def test_weights_that_vanish():
    """A point of weight zero has no effect on the others, and a finite gradient."""
    x, y, *_ = (t.detach() for t in _inputs(1))
    a = torch.tensor([0.5, 0.0, 0.25, 0.25], dtype=torch.float64, requires_grad=True)
    b = torch.full((3,), 1 / 3, dtype=torch.float64)
    x.requires_grad_()
    loss = SamplesLoss(blur=0.3, tol=1e-12)
    value = loss(a, x, b, y)
    torch.testing.assert_close(value, loss(a[[0, 2, 3]], x[[0, 2, 3]], b, y))
    grad_a, grad_x = torch.autograd.grad(value, (a, x), create_graph=True)
    assert torch.isfinite(grad_a).all()
    assert (grad_x[1] == 0).all()
    (second,) = torch.autograd.grad((grad_x**2).sum(), x)
    assert torch.isfinite(second).all()


def test_float32_follows_float64():
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.rand(150, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    gradients = {}
    for dtype in (torch.float32, torch.float64):
        live = x.to(dtype).requires_grad_()
        SamplesLoss(blur=0.1, tol=1e-5)(live, y.to(dtype)).backward()
        gradients[dtype] = live.grad.double()
    scale = gradients[torch.float64].abs().max()
    assert (gradients[torch.float32] - gradients[torch.float64]).abs().max() < 1e-3 * scale


@pytest.mark.parametrize("backend", ["tensorized", "online", "multiscale"])
def test_points_far_from_all_others_have_gradients(backend):
    """Ratios of mass are too small for the digits of potentials there, where nothing moves."""
    rng = np.random.default_rng(0)
    x, y = (torch.tensor(rng.random((2500, 2))) for _ in range(2))
    x[0] = 40.0
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(SamplesLoss(blur=0.05, reach=0.5, backend=backend)(x, y), x)
    assert torch.isfinite(gradient).all()
    assert float(gradient[0].norm()) < 1e-9 * float(gradient.norm())
