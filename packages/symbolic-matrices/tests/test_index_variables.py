"""Positions as formulas: masks, sizes, libraries, transposition, batches, derivatives, exactness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample
from torch.autograd import gradcheck, gradgradcheck

from symbolic_matrices import ArrayTypeError, LazyTensor, ShapeError, Vi, Vj, column_index, indices, row_index

M, N = 37, 23


@pytest.fixture
def clouds(rng, dtype):
    return sample(rng, (M, 2), dtype=dtype), sample(rng, (N, 2), dtype=dtype)


MASKS = (
    lambda i, j: i != j,
    lambda i, j: j <= i,
    lambda i, j: abs(i - j) <= 3,
    lambda i, j: (i > 4) & (j < 9),
    lambda i, j: (i + 2 * j + 1) / 64,
)


def test_masks(clouds, backend, dtype):
    x, y = clouds
    K = Vi(x).sqdist(Vj(y))
    dense = ((x[:, None].astype("float64") - y[None]) ** 2).sum(-1)[..., None]
    weights = np.stack([mask(*np.indices((M, N), "float64")) for mask in MASKS], -1)
    lazy = LazyTensor.cat([mask(row_index(K), column_index(K)) for mask in MASKS]) * K
    assert_close(lazy.sum(axis=1, backend=backend), (weights * dense).sum(1), dtype)
    assert_close(lazy.sum(axis=0, backend=backend), (weights * dense).sum(0), dtype)
    assert_close(lazy.T.sum(axis=1, backend=backend), (weights * dense).sum(0), dtype)


def test_positions_without_data(backend):
    i, j = indices(4, 6)
    assert i.shape == (4, 1)
    assert (i - j).shape == (4, 6)
    expected = np.subtract(*np.indices((4, 6))).astype("float64")
    assert_close((i - j).sum(axis=1, backend=backend)[:, 0], expected.sum(1))
    assert_close((i - j) @ np.ones(6), expected.sum(1))
    torch_product = (i - j) @ torch.ones(6)
    assert torch_product.dtype == torch.float32
    assert_close(torch_product, expected.sum(1), "float32")
    assert "positions along i, 4 of them" in repr(i)
    assert len((row_index(4) - i)._bindings) == 1  # counted once


def test_positions_of_a_matrix_follow_its_library():
    x = torch.rand(5, 2)
    K = Vi(x).sqdist(Vj(x))
    count = (row_index(K) < column_index(K)).sum(axis=1)
    assert isinstance(count, torch.Tensor)
    assert_close(count[:, 0], [4.0, 3, 2, 1, 0], "float32")


def test_empty_axes(backend):
    i, j = indices(0, 3)
    assert (i * j).sum(axis=1, backend=backend).shape == (0, 1)
    assert_close((i * j).sum(axis=0, backend=backend), np.zeros((3, 1)))


def test_positions_in_placeholders():
    pairs = ((row_index(4) != column_index(4)) * Vi(0, 1) * Vj(1, 1)).sum(axis=1)
    x = np.arange(4.0)[:, None]
    assert_close(pairs(x, x)[:, 0], x[:, 0] * (6 - x[:, 0]))
    with pytest.raises(ShapeError, match="same length M"):
        pairs(x[:3], x)


def test_reductions_that_find_positions(backend):
    i, j = indices(6, 9)
    nearest = abs(i * 1.5 - j).argKmin(2, axis=1, backend=backend)
    expected = np.argsort(abs(np.arange(6)[:, None] * 1.5 - np.arange(9)), axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(nearest, expected)


REDUCTIONS = {
    "sum": lambda F, axis: F.sum(axis=axis, backend="reference"),
    "logsumexp": lambda F, axis: F.logsumexp(axis=axis, backend="reference"),
    "max": lambda F, axis: F.max(axis=axis, backend="reference"),
    "Kmin": lambda F, axis: F.Kmin(2, axis=axis, backend="reference"),
}


@pytest.mark.parametrize(
    ("name", "batch", "axis"),
    [
        ("sum", (), 0),
        ("logsumexp", (2,), 1),
        ("max", (), 0),
        ("max", (2,), 1),
        ("Kmin", (), 1),
        ("Kmin", (2,), 0),
    ],
)
def test_derivatives(name, batch, axis):
    """The weight of a pair depends on i and j, so an entry that is selected must keep its own."""
    generator = torch.Generator().manual_seed(3)
    x, y = (
        torch.rand(*batch, n, 2, dtype=torch.float64, generator=generator).requires_grad_() for n in (4, 5)
    )
    i, j = indices(4, 5)

    def function(x, y):
        K = LazyTensor(x[..., :, None, :]).sqdist(LazyTensor(y[..., None, :, :]))
        return REDUCTIONS[name](K * (1 + i) / (1 + 2 * j), len(batch) + axis)

    dense = ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)
    dense = dense * (1 + torch.arange(4)[:, None]) / (1 + 2 * torch.arange(5))
    if name == "max":
        assert_close(function(x, y).detach()[..., 0], dense.amax(len(batch) + axis).detach())
    assert gradcheck(function, (x, y))
    assert gradgradcheck(function, (x, y))
    assert gradcheck(function, (x, y), check_forward_ad=True, check_backward_ad=False)


def test_positions_are_counted_exactly(backend):
    """Beyond 2^24, float32 skips integers: an error there, exact counts in float64."""
    size = (1 << 24) + 3
    with pytest.raises(ArrayTypeError, match="float32 counts exactly to 16777216 only"):
        row_index(size) - Vj(np.zeros((1, 1), "float32"))
    last = (column_index(size) == size - 1) & (row_index(1) == 0)
    assert float((last * column_index(size)).sum(axis=1, backend=backend)[0, 0]) == size - 1


def test_bad_sizes():
    with pytest.raises(ShapeError, match="must be 0 or more but is -1"):
        row_index(-1)
    with pytest.raises(TypeError):
        row_index(2.5)
    with pytest.raises(ShapeError, match="same length M"):
        row_index(3) + Vi(np.zeros((4, 1)))
