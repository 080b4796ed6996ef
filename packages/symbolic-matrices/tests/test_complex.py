"""Complex symbolic matrices against NumPy and PyTorch: values, arithmetic, roles of arrays, gradients, errors."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from matrix_testing import sample
from torch.autograd import gradcheck, gradgradcheck

from symbolic_matrices import ArrayTypeError, ComplexLazyTensor, LazyTensor, OptionError, Pm, Vi, Vj

M, N, D = 6, 5, 3
PRECISIONS = {"complex64": 2e-6, "complex128": 1e-13}


@pytest.fixture(params=PRECISIONS)
def precision(request):
    return request.param


def complex_sample(rng, shape, precision="complex128"):
    return (sample(rng, shape) + 1j * sample(rng, shape) + 0.5).astype(precision)


def assert_same(found, expected, precision="complex128"):
    found = np.asarray(found)
    assert found.shape == expected.shape
    assert found.dtype == precision
    np.testing.assert_allclose(found, expected, rtol=0, atol=5 * PRECISIONS[precision] * abs(expected).max())


COMPLEX_VALUED = (
    lambda z, w, x: z + w,
    lambda z, w, x: x - z,
    lambda z, w, x: z * w - 1j * z,
    lambda z, w, x: x * z + w * x,
    lambda z, w, x: z / w + x / w + w / x,
    lambda z, w, x: -z + (2 - 1j) / w,
    lambda z, w, x: z**2 + w**3 + z**-2 + w**0,
    lambda z, w, x: (2j * z + 1).conj(),
    lambda z, w, x: z[..., :1] * w,
)


def test_arithmetic(rng, backend, precision):
    """All the expressions side by side, in one kernel."""
    z, w = complex_sample(rng, (M, D), precision), complex_sample(rng, (N, D), precision)
    x = sample(rng, (N, D), (0.5, 1.0)).astype(z.real.dtype)
    lazy = LazyTensor.cat([build(Vi(z), Vj(w), Vj(x)) for build in COMPLEX_VALUED])
    wide = [array.astype("complex128") for array in (z[:, None], w[None], x[None])]
    blocks = [np.broadcast_to(build(*wide), (M, N, D)) for build in COMPLEX_VALUED]
    assert isinstance(lazy, ComplexLazyTensor)
    assert lazy.shape == (M, N, len(blocks) * D)
    assert_same(lazy.sum(axis=1, backend=backend), np.concatenate(blocks, -1).sum(1), precision)
    assert_same(lazy.mean(axis=0, backend=backend), np.concatenate(blocks, -1).mean(0), precision)


def test_functions(rng, backend, precision):
    z, x = (
        complex_sample(rng, (M, D), precision),
        sample(rng, (N, D)).astype("f4" if precision[-2:] == "64" else "f8"),
    )
    z_i, x_j = Vi(z), Vj(x)
    wide, real = z[:, None].astype("complex128"), x[None].astype("float64")
    to_complex = [
        (z_i * x_j).exp(), z_i + x_j.exp1j(), z_i * x_j.imag2complex(), z_i - x_j.real2complex(), (z_i * x_j).sum(-1),
        z_i | x_j, (z_i * 0.1).exp1j() + x_j, z_i.concat(x_j),
    ]  # fmt: skip
    product = wide * real
    dense = [
        np.exp(product), wide + np.exp(1j * real), 1j * product, wide - real, product.sum(-1, keepdims=True),
        product.sum(-1, keepdims=True), np.exp(0.1j * wide) + real,
        np.concatenate(np.broadcast_arrays(wide, real + 0j), -1),
    ]  # fmt: skip
    joined = LazyTensor.cat(to_complex).sum(axis=1, backend=backend)
    assert_same(
        joined, np.concatenate([np.broadcast_to(d, (M, N, d.shape[-1])) for d in dense], -1).sum(1), precision
    )
    w = z_i * x_j
    to_real = LazyTensor.cat([abs(w), w.real, w.imag, w.angle(), w.norm2(), w.sqnorm2()])
    sizes = (abs(product) ** 2).sum(-1, keepdims=True)
    dense = [abs(product), product.real, product.imag, np.angle(product), np.sqrt(sizes), sizes]
    found = to_real.sum(axis=1, backend=backend)
    assert found.dtype == z.real.dtype
    np.testing.assert_allclose(
        found, np.concatenate(dense, -1).sum(1), rtol=0, atol=50 * PRECISIONS[precision]
    )


def test_roles_and_layouts_of_arrays(rng):
    z = complex_sample(rng, (M, D))
    by_columns = np.asfortranarray(z)
    for tensor in (
        LazyTensor(z[:, None, :]),
        Vi(z),
        Vi(by_columns),
        Vi(z[::-1][::-1]),
        ComplexLazyTensor(z, axis=0),
    ):
        assert isinstance(tensor, ComplexLazyTensor)
        assert (tensor.shape, tensor.ndim, tensor.dtype) == ((M, 1, D), 3, np.dtype("complex128"))
        assert_same(tensor.sum(axis=1), z)
    assert np.shares_memory(Vi(z)._bindings[0].value, z)
    for parameter in (2 + 1j, [2 + 1j], np.complex64(2 + 1j), np.array(2 + 1j), Pm(2 + 1j)):
        assert_same((Vi(z) * parameter).sum(axis=1), z * (2 + 1j))
        assert_same((parameter * Vi(z.real)).sum(axis=1), z.real * (2 + 1j))
    conjugated = torch.tensor(z).conj()
    assert_same(Vi(conjugated).sum(axis=1), z.conj())
    half = (Vi(z.real.astype("float16")) * 1.0).exp1j().sum(axis=1)
    assert half.dtype == np.complex64
    assert_same(copy.deepcopy(Vi(z)).sum(axis=1), z)
    assert "ComplexLazyTensor of shape (6, 1, 3)" in repr(Vi(z))


def test_matrix_products(rng, backend):
    z, w, v = complex_sample(rng, (M, 1)), complex_sample(rng, (N, 1)), complex_sample(rng, (N, 2))
    K, dense = Vi(z) * Vj(w) + 1, z * w.T + 1
    assert_same(K @ v, dense @ v)
    assert_same(K @ v[:, 0], dense @ v[:, 0])
    assert_same(K @ v.real, dense @ v.real)
    assert_same((Vi(z.real) * Vj(w.real)) @ v, (z.real * w.real.T) @ v)
    assert_same(K.T @ z, dense.T @ z)
    assert_same(K.H.sum(axis=1, backend=backend), dense.conj().T.sum(1, keepdims=True))
    batch = np.stack([z, 2 * z])
    assert_same(LazyTensor(batch[:, :, None, :]).sum(axis=1), batch.sum(1)[:, None, :])


def test_entries(rng, backend):
    z, w = complex_sample(rng, (M, D)), complex_sample(rng, (M, D))
    product, dense = Vi(z) * Vj(w), z[:, None] * w[None]
    assert_same(product.dense(backend=backend), dense)
    assert_same(product.sum(-1).dense(backend=backend), dense.sum(-1))
    assert_same(product.diagonal(backend=backend), dense[range(M), range(M)])
    assert_same(product.sum(-1)[2:4], dense.sum(-1)[2:4])
    assert_same((Vi(z) * Vj(w[:1]))[..., 0].dense(backend=backend), dense[:, :1, 0])


def test_gradients_follow_pytorch():
    """PyTorch checks complex gradients by its own convention."""
    generator = torch.Generator().manual_seed(0)
    z, w = (torch.randn(n, 2, dtype=torch.complex128, generator=generator).requires_grad_() for n in (4, 3))

    def function(z, w, backend="reference"):
        z_i, w_j = Vi(z), Vj(w)
        product = z_i * w_j.conj() / (2 + abs(w_j)) + (0.3 * z_i * w_j).exp() + z_i.angle() * w_j.real.exp1j()
        return product.sum(axis=1, backend=backend)

    assert gradcheck(function, (z, w))
    assert gradgradcheck(function, (z, w))
    a, b = z[:, None], w[None]
    dense = (a * b.conj() / (2 + abs(b)) + (0.3 * a * b).exp() + a.angle() * (1j * b.real).exp()).sum(1)
    upstream = torch.randn(4, 2, dtype=torch.complex128, generator=generator)
    expected = torch.autograd.grad(dense, (z, w), upstream)
    found = torch.autograd.grad(function(z, w, "cpu"), (z, w), upstream)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other.numpy())


def test_moduli_have_gradient_zero_at_zero():
    z = torch.zeros(3, 1, dtype=torch.complex128, requires_grad=True)
    (gradient,) = torch.autograd.grad(abs(Vi(z)).sum(axis=1).sum(), z)
    assert torch.equal(gradient, torch.zeros_like(z))


def test_placeholders():
    transform = (Vi(0, 1) * Vj(1, 1)).exp1j().sum(axis=1)
    x, y = np.arange(3.0)[:, None], np.arange(4.0)[:, None]
    assert_same(transform(x, y), np.exp(1j * x * y.T).sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda z: z.sin(), ArrayTypeError, "sin is not defined between complex numbers"),
        (lambda z: z < 1, ArrayTypeError, "less is not defined"),
        (lambda z: abs(z) + z.real < z, ArrayTypeError, "less is not defined"),
        (lambda z: z.logsumexp(axis=1), ArrayTypeError, "logsumexp is not defined between complex numbers"),
        (lambda z: z.min(axis=1), ArrayTypeError, "min is not defined"),
        (lambda z: z.grad(z, 1.0), ArrayTypeError, "Symbolic calculus works on real formulas"),
        (lambda z: z.solve(np.zeros(4)), ArrayTypeError, "solve works on real matrices only"),
        (lambda z: z.sum(axis=1, out=np.zeros((4, 1), complex)), OptionError, "takes no out"),
        (
            lambda z: ComplexLazyTensor(np.zeros((4, 1)), axis=0),
            ArrayTypeError,
            "must be complex64 or complex128",
        ),
        (lambda z: z + Vi(np.zeros((4, 1), "complex64")), ArrayTypeError, "must share one library, dtype"),
    ],
)
def test_misuse(build, error, words):
    with pytest.raises(error, match=words):
        build(Vi(np.ones((4, 1), complex)))
