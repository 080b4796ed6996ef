"""What a symbolic matrix does as a matrix: wide products, entries, rows, diagonals, SciPy's operators."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from matrix_testing import assert_close, sample
from torch.autograd import gradcheck, gradgradcheck

from symbolic_matrices import (
    ArrayTypeError,
    BlockRanges,
    EntryError,
    LazyTensor,
    MissingLibraryError,
    Pm,
    Profile,
    ShapeError,
    Vi,
    Vj,
    column_index,
    row_index,
)


def gaussian(x, y):
    return (-LazyTensor(x[..., :, None, :]).sqdist(LazyTensor(y[..., None, :, :]))).exp()


def dense_gaussian(x, y):
    exp = torch.exp if isinstance(x, torch.Tensor) else np.exp
    return exp(-((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1))


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(*shape, dtype=torch.float64, generator=generator).requires_grad_()


# ---------------------------------------------------------------------- products


@pytest.mark.parametrize("width", [129, 320])
def test_wide_products(width, dtype, rng):
    x, y, v = (sample(rng, shape, dtype=dtype) for shape in ((7, 2), (9, 2), (9, width)))
    expected = dense_gaussian(x.astype("float64"), y) @ v
    assert_close(gaussian(x, y) @ v, expected, dtype, factor=2)
    u = sample(rng, (7, width), dtype=dtype)
    assert_close(u.T @ gaussian(x, y).T.T.dense(), (gaussian(x, y).T @ u).T, dtype, factor=5)


@pytest.mark.parametrize("sizes", [(7, 0), (0, 9), (0, 0)])
def test_wide_products_of_nothing(sizes):
    K = gaussian(np.ones((sizes[0], 2)), np.ones((sizes[1], 2)))
    assert_close(K @ np.ones((sizes[1], 130)), np.zeros((sizes[0], 130)))


def test_wide_products_share_one_kernel(rng):
    K = gaussian(sample(rng, (7, 2)), sample(rng, (9, 2)))
    K @ sample(rng, (9, 130))
    with Profile() as profile:
        for width in (190, 512):
            K @ sample(rng, (9, width))
    assert (profile.kernels, profile.launches) == (0, 2)


def test_wide_products_of_batches_and_their_gradients(rng):
    x, y, v = sample(rng, (2, 1, 7, 2)), sample(rng, (3, 9, 2)), sample(rng, (3, 9, 130))
    assert_close(gaussian(x, y) @ v, dense_gaussian(x, y) @ v, factor=2)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, y, v)]
    upstream = torch.rand(2, 3, 7, 130, dtype=torch.float64)
    gradients = [
        torch.autograd.grad(kernel(*tensors[:2]) @ tensors[2], tensors, upstream)
        for kernel in (gaussian, dense_gaussian)
    ]
    for found, expected in zip(*gradients, strict=True):
        assert_close(found, expected, factor=10)


def test_products_with_symbolic_vectors_and_of_vector_valued_matrices(rng):
    x, y, v, w = (sample(rng, shape) for shape in ((7, 3), (9, 3), (9, 2), (9, 3)))
    assert_close(gaussian(x, y) @ Vj(v), dense_gaussian(x, y) @ v)
    vectors = Vi(x) * Vj(y)
    dense = x[:, None] * y[None]
    assert_close(vectors @ w, (dense * w[None]).sum(1))
    assert_close(vectors @ v[:, :1], (dense * v[None, :, :1]).sum(1))
    assert_close(vectors @ v[:, 0], (dense * v[None, :, :1]).sum(1))


# ---------------------------------------------------------------------- entries


@pytest.mark.parametrize("sizes", [(6, 5), (1, 4), (4, 1), (60, 3), (0, 3), (3, 0)])
def test_dense_matrices(sizes, backend, dtype, rng):
    x, y = sample(rng, (sizes[0], 2), dtype=dtype), sample(rng, (sizes[1], 2), dtype=dtype)
    assert_close(gaussian(x, y).dense(backend), dense_gaussian(x.astype("float64"), y), dtype)
    vectors = x[:, None].astype("float64") - y[None]
    assert_close((Vi(x) - Vj(y)).dense(backend), vectors, dtype)


def test_dense_matrices_of_one_axis_of_parameters_and_of_batches(rng):
    x, p = sample(rng, (4, 2)), np.array([0.5, 2.0])
    assert_close((Vi(x) * p).dense(), (x * p)[:, None])
    assert_close((Vj(x) * p).dense(), (x * p)[None])
    assert_close((2 * Pm(p)).dense(), 2 * p[None, None])
    batch = sample(rng, (2, 1, 4, 2)), sample(rng, (3, 5, 2))
    scale = sample(rng, (3, 1, 1, 1))
    K = gaussian(*batch) * LazyTensor(scale)
    assert_close(K.dense(), dense_gaussian(*batch) * scale[..., 0])
    assert_close(K[1], (dense_gaussian(*batch) * scale[..., 0])[..., 1, :])
    assert_close(K[1:3], (dense_gaussian(*batch) * scale[..., 0])[..., 1:3, :])
    square = gaussian(batch[0], batch[0])
    assert_close(square.diagonal(), np.ones((2, 1, 4)))


def test_positions_are_entries_too(rng):
    x = sample(rng, (5, 2))
    K = gaussian(x, x)
    i, j = row_index(K), column_index(K)
    expected = dense_gaussian(x, x) * (np.arange(5)[:, None] * 10 + np.arange(5))
    masked = K * (10 * i + j)
    assert_close(masked.dense(), expected)
    assert_close(masked[[3, 1]], expected[[3, 1]])
    assert_close(masked.diagonal(), expected.diagonal())
    assert_close((i - j).dense(), np.arange(5.0)[:, None] - np.arange(5.0))


@pytest.mark.parametrize(
    "rows",
    [0, -1, np.int64(2), slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(4, 2), [0, 0, -2],
     np.array([3, 1]), np.arange(6) % 2 == 0, torch.tensor([2, 2]), []],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_rows(rows, convert, rng):
    x, y = sample(rng, (6, 2)), sample(rng, (5, 2))
    places = np.arange(6)[np.asarray(rows, dtype=int) if isinstance(rows, list) else rows]
    expected = dense_gaussian(x, y)[places]
    found = gaussian(convert(x), convert(y))[rows]
    assert isinstance(found, type(convert(x)))
    assert_close(found, expected)


def test_rows_that_are_all_the_same(rng):
    y = sample(rng, (5, 2))
    assert_close(Vj(y)[[0, 0]], np.stack([y, y]))
    assert_close((Vi(y) * Vj(y))[2], y[2] * y)
    assert_close((Vi(y) * Vj(y))[..., 1].dense(), y[:, 1:] * y[:, 1])


def test_half_precision_entries(rng):
    x = torch.tensor(sample(rng, (4, 2)), dtype=torch.float16)
    assert gaussian(x, x).dense().dtype == torch.float16
    assert_close(gaussian(x, x).diagonal().float(), np.ones(4), "float32")


@pytest.mark.parametrize(
    "entries",
    [
        lambda x, y: gaussian(x, y).dense(),
        lambda x, y: (Vi(x) * Vj(y))[[2, 0, 2]],
        lambda x, y: gaussian(x, x * y[:1]).diagonal(),
    ],
)
def test_derivatives_of_entries(entries):
    data = random(4, 2), random(3, 2)
    assert gradcheck(entries, data, check_forward_ad=True)
    assert gradgradcheck(entries, data)


def test_a_diagonal_takes_linear_time(rng):
    size = 300_000  # a dense matrix would take 720 GB
    x = sample(rng, (size, 2))
    assert_close((Vi(x) | Vj(x)).diagonal(), (x * x).sum(-1))


# ---------------------------------------------------------------------- SciPy


@pytest.fixture
def square(rng):
    x = sample(rng, (40, 2))
    return gaussian(x, x), dense_gaussian(x, x)


def test_linear_operators(square, rng):
    K, dense = square
    v, wide = sample(rng, (40,)), sample(rng, (40, 3))
    for operator in (K.aslinearoperator(), scipy.sparse.linalg.aslinearoperator(K)):
        assert operator.shape == (40, 40)
        assert operator.dtype == np.float64
        assert_close(operator.matvec(v), dense @ v)
        assert_close(operator.rmatvec(v), dense.T @ v)
        assert_close(operator.matmat(wide), dense @ wide)
        assert_close(operator.H @ v, dense.T @ v)
        np.testing.assert_allclose(operator @ (v + 2j * v), dense @ v * (1 + 2j), rtol=1e-12)
    assert_close((2 * K.aslinearoperator()) @ v, 2 * dense @ v)


def test_rectangular_operators_on_tensors_of_any_precision(rng):
    x, y, v, u = sample(rng, (7, 2)), sample(rng, (9, 2)), sample(rng, (9,)), sample(rng, (7, 2))
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 1e-1)):
        data = (torch.tensor(a, dtype=dtype).requires_grad_() for a in (x, y))
        operator = gaussian(*data).aslinearoperator()
        np.testing.assert_allclose(operator @ v, dense_gaussian(x, y) @ v, atol=tolerance)
        np.testing.assert_allclose(operator.rmatmat(u), dense_gaussian(x, y).T @ u, atol=tolerance)


def test_eigenvalues_and_solvers_of_scipy(square, rng):
    K, dense = square
    found = scipy.sparse.linalg.eigsh(K, k=3, return_eigenvectors=False)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(dense)[-3:], rtol=1e-10)
    identity = scipy.sparse.linalg.aslinearoperator(np.eye(40))
    shifted, b = K.aslinearoperator() + 0.5 * identity, sample(rng, (40,))
    expected = np.linalg.solve(dense + 0.5 * np.eye(40), b)
    for solver in (scipy.sparse.linalg.cg, scipy.sparse.linalg.gmres):
        x, status = solver(shifted, b, rtol=1e-12)
        assert status == 0
        np.testing.assert_allclose(x, expected, rtol=1e-8)


def test_without_scipy(square, monkeypatch):
    def refuse(name, package=None):
        raise ModuleNotFoundError("No module named 'scipy'")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingLibraryError, match=r"pip install symbolic-matrices\[scipy\]"):
        square[0].aslinearoperator()


# ---------------------------------------------------------------------- messages

X, Y = np.ones((6, 2)), np.ones((5, 2))


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        (lambda: gaussian(X, Y)[6], EntryError, r"K\[6\]: the matrix has 6 rows, numbered 0 to 5"),
        (lambda: gaussian(X, Y)[[0, 7]], EntryError, "the matrix has 6 rows"),
        (lambda: gaussian(torch.tensor(X), torch.tensor(Y))[[0, 7]], EntryError, "the matrix has 6 rows"),
        (lambda: gaussian(X, Y)[np.ones(5, bool)], EntryError, "the matrix has 6 rows"),
        (lambda: gaussian(X, Y)[[0.5]], EntryError, r"takes a number, a slice, a mask of 6 rows .* got \[0.5\]"),
        (lambda: gaussian(X, Y)["rows"], EntryError, "got 'rows'"),
        (lambda: gaussian(X, Y)[np.zeros((2, 2), int)], EntryError, "a 1-D array of integers"),
        (lambda: gaussian(X, Y).diagonal(), ShapeError, r"diagonal\(\) needs a square matrix .* \(6, 5\)"),
        (lambda: Vi(0, 2).sqdist(Vj(1, 2)).dense(), ShapeError, r"dense\(\) needs data, but .* placeholders"),
        (lambda: (Pm(1.0) + 2).dense(), ArrayTypeError, r"dense\(\) needs at least one array"),
        (lambda: gaussian(X, Y)._with_ranges(BlockRanges([[0, 6]], [1], [[0, 5]])).dense(), ShapeError,
         "block-sparse matrix is not defined; set its ranges to None"),
        (lambda: gaussian(X[None], Y[None]).aslinearoperator(), ShapeError, r"\(M, N\) but .* \(1, 6, 5\)"),
        (lambda: (Pm(1.0) + 2).matvec(X), ArrayTypeError, "holds numbers only"),
    ],
)  # fmt: skip
def test_messages(attempt, error, words):
    with pytest.raises(error, match=words):
        attempt()
