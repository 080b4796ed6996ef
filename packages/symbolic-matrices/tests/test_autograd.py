"""Derivatives of reductions under PyTorch, any order, against finite differences and against dense PyTorch."""

from __future__ import annotations

import pytest
import torch
from matrix_testing import assert_close
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from symbolic_matrices import LazyTensor, Profile, Vi, Vj


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def gaussian(x, y, s):
    return (-LazyTensor(x[..., :, None, :]).sqdist(LazyTensor(y[..., None, :, :])) / s).exp()


def dense_gaussian(x, y, s):
    return (-((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1) / s).exp()


CASES = {
    "sum": lambda x, y, b, s: gaussian(x, y, s) @ b,
    "sum over i": lambda x, y, b, s: (gaussian(x, y, s) * Vj(b)).sum(axis=0),
    "logsumexp": lambda x, y, b, s: (Vj(b)[..., 0] - Vi(x).sqdist(Vj(y)) / s).logsumexp(axis=1),
    "min": lambda x, y, b, s: ((Vi(x) - Vj(y)) / s).sin().min(axis=1),
    "max over i": lambda x, y, b, s: (Vi(x).sqdist(Vj(y)) / s).max(axis=0),
    "min of min_argmin": lambda x, y, b, s: (Vi(x) * Vj(y)).min_argmin(axis=1)[0],
    "Kmin": lambda x, y, b, s: (Vi(x).sqdist(Vj(y)) / s).Kmin(2, axis=1),
    "Kmin of vectors": lambda x, y, b, s: ((Vi(x) + s) * Vj(y)).Kmin(2, axis=1),
    "more neighbours than columns": lambda x, y, b, s: Vi(x).sqdist(Vj(y)).Kmin_argKmin(9, axis=1)[0][:, :4],
}


@pytest.mark.parametrize("case", CASES)
def test_first_and_second_order(case):
    data = (
        random(5, 3),
        random(4, 3),
        random(4, 2),
        torch.tensor(0.7, dtype=torch.float64, requires_grad=True),
    )

    def function(*arguments):
        return CASES[case](*arguments)

    used = torch.autograd.grad(function(*data).sum(), data, allow_unused=True)
    assert any(gradient is not None for gradient in used)
    assert gradcheck(function, data)
    assert gradgradcheck(function, data, atol=1e-4)


@pytest.mark.parametrize("shapes", [((2,), ()), ((2, 1), (3,)), ((), (2,))])
def test_batches(shapes):
    x, y, b, s = random(*shapes[0], 5, 3), random(*shapes[1], 4, 3), random(4, 1), random(1)
    lazy, dense = gaussian(x, y, s) @ b, dense_gaussian(x, y, s) @ b
    upstream = torch.rand_like(dense)
    assert_close(lazy.detach(), dense.detach())
    for found, expected in zip(
        *(torch.autograd.grad(out, (x, y, b, s), upstream) for out in (lazy, dense)), strict=True
    ):
        assert_close(found, expected, factor=10)
    assert gradcheck(lambda *data: (LazyTensor(data[0][..., :, None, :]) * LazyTensor(data[1][..., None, :, :])).max(
        axis=len(lazy.shape) - 1), (x, y))  # fmt: skip


def test_third_order():
    x, y = random(4, 2), random(3, 2)
    lazy, dense = (
        k.sum() for k in ((gaussian(x, y, 0.5) @ torch.ones(3, 1, dtype=x.dtype)), dense_gaussian(x, y, 0.5))
    )
    for _ in range(3):
        lazy, dense = (torch.autograd.grad(f, x, create_graph=True)[0].pow(2).sum() for f in (lazy, dense))
    assert_close(lazy.detach(), dense.detach(), factor=100)


def test_float32_gradients():
    x, y, b = (t.detach().float().requires_grad_() for t in (random(300, 3), random(200, 3), random(200, 1)))
    wide = [t.detach().double().requires_grad_() for t in (x, y, b)]
    found = torch.autograd.grad((gaussian(x, y, 0.1) @ b).sum(), (x, y, b))
    expected = torch.autograd.grad((dense_gaussian(*wide[:2], 0.1) @ wide[2]).sum(), wide)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, "float32", factor=3)


def test_a_backward_pass_launches_two_kernels_at_most():
    x, y, b, s = random(20, 3), random(30, 3), random(30, 2), random(1)
    out = (gaussian(x, y, s) * Vi(x)[..., 0] @ b).sum()
    with Profile() as profile:
        torch.autograd.grad(out, (x, y, b, s))
    assert profile.launches == 2
    out = gaussian(x, y.detach(), s).sum(axis=1).sum()
    with Profile() as profile:
        torch.autograd.grad(out, (x, s))
    assert profile.launches == 1


def test_no_grad_and_unwanted_gradients():
    x, y = random(5, 3), random(4, 3)
    with torch.no_grad():
        assert not Vi(x).sqdist(Vj(y)).sum(axis=1).requires_grad
    assert not Vi(x.detach()).sqdist(Vj(y.detach())).sum(axis=1).requires_grad
    value, index = Vi(x).sqdist(Vj(y)).min_argmin(axis=1)
    assert value.requires_grad
    assert not index.requires_grad
    assert not Vi(x).sqdist(Vj(y)).argmin(axis=1).requires_grad


def test_logsumexp_of_nothing_has_gradient_zero():
    x = random(3, 1)
    nothing = torch.full((4, 1), float("-inf"), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((Vi(x) + Vj(nothing)).logsumexp(axis=1).sum(), x, allow_unused=True)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_parameters_and_layouts_of_modules():
    parameter = torch.nn.Parameter(random(3, 5).detach())
    x = parameter.T  # not contiguous
    assert gradcheck(lambda p: (Vi(p.T).sqdist(Vj(p.T[:2]))).logsumexp(axis=1), parameter)
    expanded = random(1, 3).expand(5, 3)
    assert_close(
        Vi(x).sqdist(Vj(expanded)).sum(axis=1).detach(),
        ((x[:, None] - expanded[None]) ** 2).sum((1, 2))[:, None].detach(),
    )


def test_outputs_may_be_changed_in_place():
    x = random(5, 3)
    total = Vi(x).sqdist(Vj(random(4, 3).detach())).sum(axis=1)
    total += 1
    total.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("name", ["min", "max", "sum", "logsumexp"])
@pytest.mark.parametrize("sizes", [(0, 4), (5, 0)])
def test_empty_axes_have_gradient_zero(name, sizes):
    x, y = (random(size, 3) for size in sizes)
    out = getattr(Vi(x).sqdist(Vj(y)), name)(axis=1)
    for gradient, data in zip(torch.autograd.grad(out.sum(), (x, y)), (x, y), strict=True):
        assert torch.equal(gradient, torch.zeros_like(data))


def test_tensors_that_are_stored_negated():
    x = random(5, 2).detach()
    negated = torch.view_as_complex(x).conj().imag[:, None]
    assert negated.is_neg()
    assert_close(Vi(negated).sum(axis=1), negated.resolve_neg())


@pytest.mark.parametrize("case", CASES)
def test_forward_mode(case):
    data = (
        random(5, 3),
        random(4, 3),
        random(4, 2),
        torch.tensor(0.7, dtype=torch.float64, requires_grad=True),
    )
    assert gradcheck(lambda *a: CASES[case](*a), data, check_forward_ad=True, check_backward_ad=False)


def test_forward_mode_over_reverse_mode():
    """A Hessian-vector product, both ways."""
    x, y, t = random(5, 3), random(4, 3).detach(), random(5, 3).detach()

    def gradient(points):
        energy = (-Vi(points).sqdist(Vj(y))).logsumexp(axis=1).sum()
        return torch.autograd.grad(energy, points, create_graph=True)[0]

    with forward_ad.dual_level():
        product = forward_ad.unpack_dual(gradient(forward_ad.make_dual(x, t))).tangent
    expected = torch.autograd.grad((gradient(x) * t).sum(), x)[0]
    assert_close(product.detach(), expected)


def test_forward_mode_of_indices_and_of_nothing():
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(random(5, 3).detach(), torch.ones(5, 3, dtype=torch.float64))
        assert Vi(dual).sqdist(Vj(random(4, 3).detach())).argmin(axis=1).shape == (5, 1)
        nothing = Vi(dual).sqdist(Vj(dual[:0])).sum(axis=1)
        assert torch.equal(forward_ad.unpack_dual(nothing).tangent, torch.zeros(5, 1, dtype=torch.float64))
