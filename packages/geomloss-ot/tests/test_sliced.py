"""Transport on a line and its slices, against POT, linear programs and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch.autograd import gradcheck, gradgradcheck

from geomloss_ot import max_sliced_wasserstein_distance, sliced, sliced_wasserstein_distance, wasserstein_1d


def _line(n=6, m=9):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=n), rng.uniform(size=m)
    return rng.normal(size=n), rng.normal(size=m) + 1, a / a.sum(), b / b.sum()


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_line_is_the_linear_program(p, dtype):
    x, y, a, b = _line()
    costs = np.abs(x[:, None] - y) ** p
    marginals = np.vstack([np.kron(np.eye(6), np.ones(9)), np.kron(np.ones(6), np.eye(9))])
    exact = linprog(costs.ravel(), A_eq=marginals, b_eq=np.concatenate([a, b])).fun
    x, y, a, b = (values.astype(dtype) for values in (x, y, a, b))
    value = wasserstein_1d(x, y, a, b, p=p)
    assert value.dtype == dtype
    assert float(value) == pytest.approx(exact, rel=1e-5 if dtype is np.float32 else 1e-10)
    tensors = map(torch.from_numpy, (x, y, a, b))
    assert float(wasserstein_1d(*tensors, p=p)) == pytest.approx(float(value), rel=1e-6)


def test_line_agrees_with_pot():
    ot = pytest.importorskip("ot")
    x, y, a, b = _line(50, 70)
    assert float(wasserstein_1d(x, y, a, b, p=3)) == pytest.approx(
        ot.wasserstein_1d(x, y, a, b, p=3), rel=1e-10
    )


def test_line_in_batches():
    rng = np.random.default_rng(1)
    x, y, a = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 4)), rng.uniform(size=(2, 3, 5))
    a /= a.sum(-1, keepdims=True)
    together = wasserstein_1d(x, y, a)
    assert together.shape == (2, 3)
    assert float(together[1, 2]) == pytest.approx(float(wasserstein_1d(x[1, 2], y[1, 2], a[1, 2])))


def test_weights_that_vanish_do_not_count():
    x, y, a, b = _line()
    far = np.concatenate([x, [1e6]]), y, np.concatenate([a, [0.0]]), b
    assert float(wasserstein_1d(*far)) == pytest.approx(float(wasserstein_1d(x, y, a, b)), rel=1e-12)


@pytest.mark.parametrize("p", [1, 2, 2.5])
def test_derivatives_on_a_line(p):
    x, y, a, b = (torch.from_numpy(values).requires_grad_() for values in _line())

    def function(x, y, a, b):
        return wasserstein_1d(x, y, a.softmax(-1), b.softmax(-1), p=p)

    assert gradcheck(function, (x, y, a, b))
    assert gradgradcheck(function, (x, y, a, b))


def _clouds(n=40, m=50, dim=3):
    rng = np.random.default_rng(2)
    a = rng.uniform(size=n)
    return rng.normal(size=(n, dim)), rng.normal(size=(m, dim)) * [2.0, 1.0, 0.5][:dim] + 0.5, a / a.sum()


@pytest.mark.parametrize("p", [1, 2])
def test_sliced_agrees_with_pot(p):
    ot = pytest.importorskip("ot")
    x, y, a = _clouds()
    directions = np.random.default_rng(3).normal(size=(3, 20))
    directions /= np.linalg.norm(directions, axis=0)
    theirs = ot.sliced_wasserstein_distance(x, y, a, p=p, projections=directions)
    ours = sliced_wasserstein_distance(x, y, a, p=p, projections=directions)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-9)


def test_sliced_in_batches_with_weights():
    rng = np.random.default_rng(4)
    x, y, a, b = (rng.normal(size=s) for s in ((3, 5, 2), (3, 4, 2), (3, 5), (3, 4)))
    a, b = (np.exp(w) / np.exp(w).sum(-1, keepdims=True) for w in (a, b))
    together = sliced_wasserstein_distance(x, y, a, b, n_projections=7)
    alone = [
        float(sliced_wasserstein_distance(*one, n_projections=7)) for one in zip(x, y, a, b, strict=True)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("p", [1.5, 2, 3])
def test_slopes_of_projected_costs(p):
    """What ascents follow, against automatic differentiation."""
    x, y, a = (torch.from_numpy(values) for values in _clouds(8, 9, 3))
    b = torch.full((9,), 1 / 9, dtype=x.dtype)
    theta = torch.from_numpy(np.random.default_rng(5).normal(size=(3, 4))).requires_grad_()
    costs = sliced._projected_costs((x, y), (a, b), theta, p)
    (expected,) = torch.autograd.grad(costs.sum(), theta)
    found = sliced._slope_in_direction((x, y), (a, b), theta.detach(), p)
    torch.testing.assert_close(found, expected)


def test_sliced_distance_of_a_translation():
    """The mean of <t, theta>^2 over the sphere is |t|^2 / D."""
    x, *_ = _clouds()
    value = sliced_wasserstein_distance(x, x + np.array([1.0, 2.0, 2.0]), n_projections=20_000)
    assert float(value) ** 2 == pytest.approx(3.0, rel=0.02)


def test_sliced_derivatives_and_zero():
    x, y, a = (torch.from_numpy(values).requires_grad_() for values in _clouds(8, 9, 2))
    b = torch.full((9,), 1 / 9, dtype=x.dtype)

    def function(x, y, a):
        return sliced_wasserstein_distance(x, y, a.softmax(-1), b, n_projections=4)

    assert gradcheck(function, (x, y, a))
    zero = sliced_wasserstein_distance(x, x.detach())
    (gradient,) = torch.autograd.grad(zero, x)
    assert zero == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("p", [1, 2])
def test_max_sliced_is_the_best_angle(p):
    x, y, a = _clouds(dim=2)
    angles = np.linspace(0, np.pi, 2001)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    exact = max(float(wasserstein_1d(x @ theta, y @ theta, a, p=p)) ** (1 / p) for theta in directions.T[::2])
    found = float(max_sliced_wasserstein_distance(x, y, a, n_projections=10, p=p))
    assert exact - 1e-5 * exact <= found <= exact * (1 + 1e-3)
    random = float(max_sliced_wasserstein_distance(x, y, a, n_projections=10, p=p, n_steps=0))
    assert random < found


def test_max_sliced_gradient():
    x, y, a = (torch.from_numpy(values) for values in _clouds(8, 9, 2))
    assert gradcheck(
        lambda x: max_sliced_wasserstein_distance(x, y, a, n_projections=5), (x.requires_grad_(),)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: wasserstein_1d(x[:, 0], x[:, 0], p=0.5), "p=0.5"),
        (lambda x: wasserstein_1d(x[:, 0], x[:, 0], 2 * np.ones(4)), r"\(4,\)|equal masses"),
        (lambda x: wasserstein_1d(x[:, 0] * np.nan, x[:, 0]), "x_a holds NaN"),
        (lambda x: wasserstein_1d(x[:, 0], x[:, 0], np.ones(5), np.ones(5) / 5), "equal masses"),
        (lambda x: sliced_wasserstein_distance(x, x[:, :1]), "same B and D"),
        (lambda x: sliced_wasserstein_distance(x, x, n_projections=0), "n_projections=0"),
        (lambda x: max_sliced_wasserstein_distance(x[None], x[None]), r"X_a has shape \(1, 5, 2\)"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((5, 2)))
