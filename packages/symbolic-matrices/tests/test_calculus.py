"""Symbolic calculus against closed forms of the Gaussian kernel and against dense PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample

from symbolic_matrices import LazyTensor, ShapeError, Vi, Vj

M, N, D = 6, 5, 3


@pytest.fixture
def points(rng, dtype):
    return (
        sample(rng, (M, D), dtype=dtype),
        sample(rng, (N, D), dtype=dtype),
        sample(rng, (N, D), dtype=dtype),
    )


def test_gaussian_kernel(points, backend, dtype):
    """For k = exp(-|x - y|^2 / 2): dk = -k (x - y), div(k b) = -k <x - y, b>, laplacian k = k (|x - y|^2 - D)."""
    x, y, b = points
    x_i, y_j, b_j = Vi(x), Vj(y), Vj(b)
    K = (-x_i.sqdist(y_j) / 2).exp()
    lazy = LazyTensor.cat(
        [
            K.grad(x_i, 1.0),
            K.diff(x_i, b_j),
            (K * b_j).divergence(x_i),
            K.laplacian(x_i),
            K.grad(x_i, 1.0).grad_matrix(x_i),
        ]
    )
    d = x[:, None].astype("float64") - y[None]
    k = np.exp(-(d**2).sum(-1, keepdims=True) / 2)
    along_b = (d * b).sum(-1, keepdims=True)
    hessian = k[..., None] * (d[..., :, None] * d[..., None, :] - np.eye(D))
    expected = [-k * d, -k * along_b, -k * along_b, k * ((d**2).sum(-1, keepdims=True) - D)]
    dense = np.concatenate([*expected, hessian.reshape(M, N, D * D)], -1)
    assert_close(lazy.sum(axis=1, backend=backend), dense.sum(1), dtype, factor=3)
    assert_close(K.laplacian(y_j).sum(axis=0, backend=backend), expected[3].sum(0), dtype, factor=3)


def test_jacobians_of_vectors(rng):
    """A field of another dimension than its variable, row by row, and its derivative along a direction."""
    x, e = (torch.tensor(sample(rng, (M, D))) for _ in range(2))
    weights = torch.tensor(sample(rng, (2, D)))

    def field(x):
        return torch.stack([(x * weights[0]).sum().sin(), (x**2 * weights[1]).sum()])

    x_i = Vi(x)
    lazy = LazyTensor.cat([(x_i | weights[0]).sin(), x_i**2 | weights[1]])
    jacobian = torch.stack([torch.autograd.functional.jacobian(field, point) for point in x])
    assert_close(lazy.grad_matrix(x_i).sum(axis=1, backend="reference"), jacobian.reshape(M, 2 * D))
    assert_close(
        lazy.diff(x_i, Vi(e)).sum(axis=1, backend="reference"), torch.einsum("mkd,md->mk", jacobian, e)
    )


def test_calculus_is_differentiable():
    x = torch.rand(M, 2, dtype=torch.float64, requires_grad=True)
    y = torch.rand(N, 2, dtype=torch.float64)

    def laplacian(x):
        x_i = Vi(x)
        return (-x_i.sqdist(Vj(y))).exp().laplacian(x_i).sum(axis=1, backend="reference")

    assert torch.autograd.gradcheck(laplacian, x)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda x, y: x.sqdist(y).divergence(x), "The variable has dimension 3 but the formula has 1"),
        (lambda x, y: (x - y).laplacian(x), "needs a formula of dimension 1 but this one has 3"),
        (lambda x, y: x.sqdist(y).diff(x, 1.0), "The direction has dimension 1 but the variable has 3"),
        (lambda x, y: (x - y).grad(x, 1.0), "The cotangent has dimension 1 but the formula has 3"),
        (lambda x, y: (x * 2).grad_matrix(y), "does not read the variable"),
        (lambda x, y: (x - y).grad_matrix(x - y), "with respect to variables"),
    ],
)
def test_misuse(build, words, rng):
    with pytest.raises(ShapeError, match=words):
        build(Vi(sample(rng, (M, D))), Vj(sample(rng, (N, D))))
