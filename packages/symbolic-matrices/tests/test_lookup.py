"""Tables that are looked up by labels: values, dtypes, batches, labels out of range, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample
from torch.autograd import gradcheck, gradgradcheck

from symbolic_matrices import ArrayTypeError, Pm, ShapeError, Table, Vi, Vj, row_index

M, N, R, C = 21, 17, 4, 3


@pytest.fixture
def labels(rng):
    return rng.integers(0, R, M), rng.integers(0, C, N)


def test_two_labels(labels, rng, backend, dtype):
    a, b = labels
    table, x = sample(rng, (R, C), dtype=dtype), sample(rng, (N, 1), dtype=dtype)
    expected = (table[a[:, None], b[None, :]].astype("float64") * x[:, 0]).sum(1)[:, None]
    as_reals = (a[:, None].astype(dtype), b[None, :].astype(dtype))
    as_tensors = (Vi(as_reals[0]), Vj(as_reals[1].T))
    for given in ((a[:, None], b[None, :]), (a[:, None].astype("int32"), as_reals[1]), as_reals, as_tensors):
        found = (Table(table)[given] * Vj(x)).sum(axis=1, backend=backend)
        assert_close(found, expected, dtype)


def test_one_label(labels, rng, backend):
    table = sample(rng, (R,))
    i = row_index(M)
    assert_close(Table(table)[labels[0][:, None]].sum(axis=1, backend=backend)[:, 0], table[labels[0]])
    assert_close(Table(table)[i.mod(R)].sum(axis=1, backend=backend)[:, 0], table[np.arange(M) % R])
    assert_close((Table(table)[2] + i).sum(axis=1, backend=backend)[:, 0], table[2] + np.arange(M))


def test_batches(rng, backend):
    table, a, b = sample(rng, (R, C)), rng.integers(0, R, (2, M, 1)), rng.integers(0, C, (2, 1, N))
    assert_close(Table(table)[a, b].sum(axis=2, backend=backend)[..., 0], table[a, b].sum(-1))


def test_labels_out_of_range_give_nan(backend):
    table = np.arange(6.0).reshape(2, 3)
    a = np.array([[0.0], [1.0], [-1.0], [2.0], [np.nan], [0.4], [1e30], [-np.inf]])
    expected = np.array([[2.0], [5], [np.nan], [np.nan], [np.nan], [2], [np.nan], [np.nan]])
    np.testing.assert_array_equal(Table(table)[a, 2].sum(axis=1, backend=backend), expected)
    pairs = Table(table)[np.array([[0], [1], [2], [-1]]), np.array([[0, 2]])]  # known for each pair only
    np.testing.assert_array_equal(pairs.sum(axis=1, backend=backend)[:, 0], [2, 8, np.nan, np.nan])
    wrong = np.array([[-1], [3], [4]])
    assert np.isnan(Table(table)[0, wrong].sum(axis=1, backend=backend)).all()


def test_components_chosen_at_run_time(rng, backend):
    """``take`` looks up vectors along any axis."""
    x, k = sample(rng, (M, 5)), rng.integers(0, 5, (N, 1)).astype("float64")
    dense = np.take_along_axis(x[:, None, :] + np.zeros((M, N, 1)), k[None].astype(int), -1)
    assert_close(Vi(x).take(Vj(k)).sum(axis=1, backend=backend), dense.sum(1))
    dense = np.take_along_axis(x[None, :, :] + np.zeros((N, M, 1)), k[:, None].astype(int), -1)
    assert_close((Vj(x) * 1.0).take(Vi(k)).sum(axis=1, backend=backend), dense.sum(1))
    with pytest.raises(ShapeError, match="position must have dimension 1 but has dimension 5"):
        Vi(x).take(Vj(x))


def test_gradients_flow_to_the_table(labels):
    a, b = (torch.tensor(label) for label in labels)
    table = torch.rand(R, C, dtype=torch.float64, requires_grad=True)
    x = torch.rand(N, 1, dtype=torch.float64, requires_grad=True)

    def function(table, x, backend="reference"):
        looked_up = Table(table)[a[:, None], b[None, :]]
        return (looked_up * looked_up * Vj(x)).sum(axis=1, backend=backend)

    assert gradcheck(function, (table, x))
    assert gradgradcheck(function, (table, x))
    (expected,) = torch.autograd.grad((table[a[:, None], b] ** 2 @ x).sum(), table)
    (found,) = torch.autograd.grad(function(table, x, "cpu").sum(), table)
    assert_close(found, expected.detach())
    outside = Table(table)[a[:, None] + 100, b[None, :]]
    (gradient,) = torch.autograd.grad(outside.sum(axis=1).sum(), table)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: Table(np.zeros((0, 3))), ShapeError, r"must have shape \(R,\) or \(R, C\)"),
        (lambda: Table(np.zeros((2, 3, 1))), ShapeError, r"but has shape \(2, 3, 1\)"),
        (lambda: Table([1.0, 2.0]), ArrayTypeError, "Expected a NumPy, PyTorch or CuPy array"),
        (lambda: Table(np.zeros((2, 3)))[0], ShapeError, "needs 2 labels but got 1"),
        (lambda: Table(np.zeros(2))[np.arange(3)], ShapeError, r"give labels\[:, None\]"),
        (lambda: Table(np.zeros(2))[Pm([1.0, 2.0])], ShapeError, "must have dimension 1 but has 2"),
        (lambda: Table(np.zeros(2))[np.zeros((3, 1), bool)], ArrayTypeError, "has dtype bool"),
    ],
)
def test_misuse(build, error, words):
    with pytest.raises(error, match=words):
        build()
