"""Soft dynamic time warping against an enumeration of all the paths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample
from torch.autograd import gradcheck, gradgradcheck

from symbolic_matrices import ShapeError, Vi, Vj

M, N, STEPS = 3, 4, (4, 3)
GAMMA = 0.4


def paths(k: int, l: int):  # noqa: E741
    """All the monotone paths from (0, 0) to (k, l)."""
    if (k, l) == (0, 0):
        yield [(0, 0)]
        return
    for before in ((k - 1, l), (k, l - 1), (k - 1, l - 1)):
        if min(before) >= 0:
            yield from ([*path, (k, l)] for path in paths(*before))


def enumerated(x: torch.Tensor, y: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """-gamma log sum exp(-cost / gamma), over the paths of each pair of sequences."""
    costs = (x[:, None, :, None] - y[None, :, None, :]) ** 2
    sums = [sum(costs[..., k, step] for k, step in path) for path in paths(x.shape[-1] - 1, y.shape[-1] - 1)]
    return -gamma * torch.logsumexp(-torch.stack(sums, -1) / gamma, -1)


@pytest.fixture
def sequences(rng):
    return [torch.tensor(sample(rng, (size, steps))) for size, steps in zip((M, N), STEPS, strict=True)]


def test_values(sequences, backend, dtype):
    x, y = sequences
    expected = enumerated(x, y, torch.tensor(GAMMA, dtype=torch.float64)).sum(1)[:, None]
    narrow = [tensor.numpy().astype(dtype) for tensor in sequences]
    found = Vi(narrow[0]).softdtw_sqdist(Vj(narrow[1]), GAMMA).sum(axis=1, backend=backend)
    assert_close(found, expected, dtype, factor=3)


def test_gradients(sequences, backend):
    """First derivatives, in both sequences and in gamma, of the minimum over paths made smooth."""
    data = [*sequences, torch.tensor([GAMMA], dtype=torch.float64)]
    for tensor in data:
        tensor.requires_grad_()
    lazy = Vi(data[0]).softdtw_sqdist(Vj(data[1]), data[2]).sum(axis=1, backend=backend)
    found = torch.autograd.grad(lazy.sum(), data)
    expected = torch.autograd.grad(enumerated(*data).sum(), data)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, factor=10)


def test_higher_derivatives(sequences):
    data = [
        *(t.requires_grad_() for t in sequences),
        torch.tensor([GAMMA], dtype=torch.float64, requires_grad=True),
    ]

    def function(x, y, gamma):
        return Vi(x).softdtw_sqdist(Vj(y), gamma).sum(axis=1, backend="reference")

    assert gradcheck(function, data)
    assert gradgradcheck(function, data)
    third = []
    for energy in (function(*data).sum(), enumerated(*data).sum()):
        (first,) = torch.autograd.grad(energy, data[0], create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), data[0], create_graph=True)
        third.append(torch.autograd.grad((second**2).sum(), data[0])[0])
    assert_close(*third, factor=1000)


def test_low_temperatures_neither_overflow_nor_underflow(backend):
    x, y = np.array([[0.0, 30.0, -50.0]], "float32"), np.array([[0.0, 30.0, 30.0, -50.0]], "float32")
    found = Vi(x).softdtw_sqdist(Vj(y), 1e-3).sum(axis=1, backend=backend)
    assert abs(float(found[0, 0])) < 1e-5
    far = Vi(x).softdtw_sqdist(Vj(y + 100), 1e-3).sum(axis=1, backend=backend)
    assert np.isfinite(far).all()


def test_gamma_must_be_a_number():
    with pytest.raises(ShapeError, match="needs 6 costs and a number gamma"):
        Vi(np.zeros((1, 2))).softdtw_sqdist(Vj(np.zeros((1, 3))), [1.0, 2.0])
