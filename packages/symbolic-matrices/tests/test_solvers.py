"""Linear systems against NumPy's dense solver: columns, batches, preconditioners, derivatives, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import sample
from torch.autograd import gradcheck, gradgradcheck

from symbolic_matrices import (
    ArrayTypeError,
    BlockRanges,
    ConvergenceWarning,
    IndefiniteMatrixError,
    LazyTensor,
    OptionError,
    ShapeError,
    SolveReport,
    Vi,
    Vj,
)

SIZE = 40


def gaussian(x, scale=3.0):
    return (-scale * LazyTensor(x[..., :, None, :]).sqdist(LazyTensor(x[..., None, :, :]))).exp()


def dense_gaussian(x, scale=3.0):
    return np.exp(-scale * ((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(-1))


@pytest.fixture
def points(rng):
    return sample(rng, (SIZE, 2))


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
@pytest.mark.parametrize("shape", [(SIZE,), (SIZE, 1), (SIZE, 3)])
def test_solutions(convert, shape, points, rng, backend):
    b = sample(rng, shape)
    x = gaussian(convert(points)).solve(convert(b), alpha=0.1, eps=1e-12, backend=backend)
    assert isinstance(x, type(convert(b)))
    expected = np.linalg.solve(dense_gaussian(points) + 0.1 * np.eye(SIZE), b)
    np.testing.assert_allclose(x, expected, atol=1e-9)


def test_float32(points, rng):
    b = sample(rng, (SIZE, 2), dtype="float32")
    x, report = gaussian(points.astype("float32")).solve(b, alpha=0.1, eps=1e-5, report=True)
    assert report.converged
    assert x.dtype == np.float32
    expected = np.linalg.solve(dense_gaussian(points) + 0.1 * np.eye(SIZE), b)
    np.testing.assert_allclose(x, expected, atol=1e-3)


def test_variables_and_axes(points, rng):
    """KeOps' way: the right-hand side is a variable; the reduced axis is named."""
    b = sample(rng, (SIZE, 2))
    K = gaussian(points)
    expected = K.solve(b, alpha=0.1)
    for given, options in ((Vi(b), {}), (Vj(b), {"axis": 1}), (b, {"dim": 1}), (b, {"axis": 0})):
        np.testing.assert_allclose(K.solve(given, 0.1, **options), expected, atol=1e-5)


def test_batches(rng):
    points, b = sample(rng, (2, 3, 20, 2)), sample(rng, (3, 20, 2))
    x, report = gaussian(points).solve(b, alpha=0.1, eps=1e-12, report=True)
    expected = np.linalg.solve(dense_gaussian(points) + 0.1 * np.eye(20), np.broadcast_to(b, (2, 3, 20, 2)))
    np.testing.assert_allclose(x, expected, atol=1e-9)
    assert report.residuals.shape == (2, 3, 2)


def test_a_shift_for_each_point(points, rng):
    b, alpha = sample(rng, (SIZE,)), sample(rng, (SIZE,), (0.1, 1))
    expected = np.linalg.solve(dense_gaussian(points) + np.diag(alpha), b)
    for shift in (alpha, alpha[:, None]):
        np.testing.assert_allclose(gaussian(points).solve(b, alpha=shift, eps=1e-12), expected, atol=1e-9)


def test_columns_stop_on_their_own(points):
    """A zero column, an easy one (an eigenvector) and a hard one: residuals are relative to each of them."""
    values, vectors = np.linalg.eigh(dense_gaussian(points))
    b = np.stack([np.zeros(SIZE), 1e-8 * vectors[:, -1], 1e3 * vectors.sum(1)], 1)
    x, report = gaussian(points).solve(b, alpha=1e-2, eps=1e-9, report=True)
    assert isinstance(report, SolveReport)
    assert report.converged
    assert (report.residuals <= 1e-9).all()
    assert not x[:, 0].any()
    np.testing.assert_allclose(x[:, 1], b[:, 1] / (values[-1] + 1e-2), rtol=1e-6)
    residual = b - dense_gaussian(points) @ x - 1e-2 * x
    np.testing.assert_allclose(np.linalg.norm(residual, axis=0)[1:] / np.linalg.norm(b, axis=0)[1:],
                               report.residuals[1:], atol=1e-12)  # fmt: skip


def test_nothing_to_solve(points):
    x, report = gaussian(points).solve(np.zeros(SIZE), report=True)
    assert not x.any()
    assert (report.iterations, report.converged) == (0, True)
    assert gaussian(points[:0]).solve(np.zeros((0, 2))).shape == (0, 2)


def ill_conditioned(rng) -> tuple[LazyTensor, np.ndarray, np.ndarray]:
    """Values of very different sizes on the diagonal, and a smooth kernel with a condition number of 1e6."""
    x = np.linspace(0, 1, 200)[:, None]
    return gaussian(x, 10.0), dense_gaussian(x, 10.0), sample(rng, (200, 2))


def test_preconditioners(rng):
    K, dense, b = ill_conditioned(rng)
    expected = np.linalg.solve(dense + 1e-4 * np.eye(200), b)
    iterations = {}
    inverse = np.linalg.inv(dense + 1e-4 * np.eye(200))
    for choice in (None, "jacobi", "nystrom", lambda r: inverse @ r):
        x, report = K.solve(b, alpha=1e-4, eps=1e-9, preconditioner=choice, report=True)
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        iterations[choice if isinstance(choice, str) else bool(choice)] = report.iterations
    assert iterations["nystrom"] <= iterations[False] / 4
    assert iterations[True] <= 3
    scales = 10.0 ** np.linspace(-2, 2, 200)[:, None]
    scaled = Vi(scales) * K * Vj(scales) + (Vi(scales) == Vj(scales)) * Vi(scales) ** 2
    _, jacobi = scaled.solve(b, alpha=0.0, eps=1e-8, preconditioner="jacobi", report=True)
    assert jacobi.converged
    with pytest.warns(ConvergenceWarning):
        scaled.solve(b, alpha=0.0, eps=1e-8, max_iter=10 * jacobi.iterations)


def test_preconditioners_of_tensors_and_batches(rng):
    points, b = torch.tensor(sample(rng, (3, 80, 1))), torch.tensor(sample(rng, (3, 80, 2)))
    expected = gaussian(points).solve(b, alpha=1e-2, eps=1e-10)
    for choice in ("jacobi", "nystrom"):
        x = gaussian(points).solve(
            b, alpha=torch.tensor(1e-2, requires_grad=True), eps=1e-10, preconditioner=choice
        )
        torch.testing.assert_close(x.detach(), expected, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------- derivatives


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(*shape, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize("preconditioner", [None, "jacobi"])
def test_first_and_second_order(preconditioner):
    data = random(6, 2), random(6, 2), torch.tensor(0.3, dtype=torch.float64, requires_grad=True), random(1)

    def solution(points, b, alpha, scale):
        return gaussian(points, scale).solve(b, alpha=alpha, eps=1e-13, preconditioner=preconditioner)

    assert gradcheck(solution, data, check_forward_ad=True)
    assert gradgradcheck(solution, data)


def test_gradients_of_shifts_and_flat_sides_against_dense_pytorch():
    points, b, alpha = random(6, 2), random(6), (random(6) + 0.1).detach().requires_grad_()
    dense = torch.exp(-3 * torch.cdist(points, points) ** 2) + torch.diag(alpha)
    upstream = torch.rand(6, dtype=torch.float64)
    expected = torch.autograd.grad(torch.linalg.solve(dense, b), (b, alpha), upstream)
    found = torch.autograd.grad(gaussian(points).solve(b, alpha=alpha, eps=1e-13), (b, alpha), upstream)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_second_order_in_rows_and_columns_apart():
    """The matrix is symmetric where it is evaluated, but its rows and columns move on their own."""
    x, y, b = random(6, 2), random(6, 2), random(6, 1)
    eye = 0.3 * torch.eye(6, dtype=torch.float64)
    kernel = (-3 * Vi(x).sqdist(Vj(y))).exp()
    dense = torch.exp(-3 * ((x[:, None] - y[None]) ** 2).sum(-1))
    weights = torch.arange(36.0, dtype=torch.float64).reshape(6, 6)[:, :2] / 36
    both = []
    for solution in (kernel.solve(b, alpha=0.3, eps=1e-14), torch.linalg.solve(dense + eye, b)):
        gradients = torch.autograd.grad((solution**2).sum(), (x, y, b), create_graph=True)
        energy = (gradients[0] * weights).sum() + (gradients[1] ** 2).sum()
        both.append([*gradients, *torch.autograd.grad(energy, (x, y, b))])
    for found, expected in zip(*both, strict=True):
        torch.testing.assert_close(found, expected)


def test_transforms_of_torch_func():
    points, b = random(6, 2).detach(), random(6).detach()

    def energy(x):
        return (gaussian(x).solve(b, alpha=0.3, eps=1e-13) * b).sum()

    variable = points.clone().requires_grad_()
    (expected,) = torch.autograd.grad(energy(variable), variable)
    torch.testing.assert_close(torch.func.grad(energy)(points), expected)


def test_no_gradient_is_asked_for(points):
    with torch.no_grad():
        x = gaussian(torch.tensor(points, requires_grad=True)).solve(
            torch.ones(SIZE, dtype=torch.float64), alpha=0.1
        )
    assert not x.requires_grad


# ---------------------------------------------------------------------- what goes wrong


def test_too_few_iterations(rng):
    K, dense, b = ill_conditioned(rng)
    with pytest.warns(
        ConvergenceWarning, match=r"after 3 iterations .* Raise max_iter.*preconditioner='nystrom'"
    ) as w:
        x, report = K.solve(b, alpha=1e-4, max_iter=3, report=True)
    assert w[0].filename == __file__
    assert (report.iterations, report.converged) == (3, False)
    residual = b - dense @ x - 1e-4 * x
    np.testing.assert_allclose(np.linalg.norm(residual, axis=0) / np.linalg.norm(b, axis=0), report.residuals)


def test_a_tolerance_beyond_the_precision(rng):
    """Rounding errors, also of p'Ap, are told from an indefinite matrix; the search does not go on for ever."""
    x = np.linspace(0, 1, 300, dtype="float32")[:, None]
    with pytest.warns(ConvergenceWarning, match="relative residual"):
        solution, report = gaussian(x, 1.0).solve(
            sample(rng, (300, 2), dtype="float32"), alpha=0.0, eps=1e-12, max_iter=300, report=True
        )
    assert np.isfinite(solution).all()
    assert not report.converged


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_matrices(dtype, rng):
    """Of rank 2, and a right-hand side out of reach: where p'Ap is rounding errors of both signs, no step is taken."""
    x, b = sample(rng, (300, 2), dtype=dtype), sample(rng, (300, 4), dtype=dtype)
    with pytest.warns(ConvergenceWarning):
        solution, report = (Vi(x) | Vj(x)).solve(b, alpha=0.0, max_iter=50, report=True)
    least_squares = np.linalg.lstsq((x @ x.T).astype("float64"), b.astype("float64"), rcond=1e-5)[0]
    residual = b - x @ (x.T @ least_squares)
    np.testing.assert_allclose(
        report.residuals, np.linalg.norm(residual, axis=0) / np.linalg.norm(b, axis=0), rtol=1e-2
    )
    assert np.abs(solution).max() < 1e3
    assert report.iterations < 20


def test_data_of_nan(points):
    points[3] = np.nan
    with pytest.warns(ConvergenceWarning):
        x, report = gaussian(points).solve(np.ones(SIZE), alpha=0.1, report=True)
    assert not report.converged
    assert np.isnan(x).any()


@pytest.mark.parametrize("sign", [-1.0, "distance"])
def test_indefinite_matrices(sign, points):
    K = -gaussian(points) if sign == -1.0 else Vi(points).sqdist(Vj(points))
    with pytest.raises(IndefiniteMatrixError, match=r"not positive definite: p'Ap = -.* raise alpha"):
        K.solve(np.linspace(-1, 1, SIZE), alpha=1e-3)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_nystrom_needs_a_semi_definite_matrix(convert, points):
    with pytest.raises(
        IndefiniteMatrixError, match=r"preconditioner='nystrom' needs a positive semi-definite K"
    ):
        (-gaussian(convert(points))).solve(convert(np.ones(SIZE)), alpha=5.0, preconditioner="nystrom")


X = np.ones((6, 2))


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        (lambda: Vi(X).sqdist(Vj(X[:5])).solve(np.ones(6)), ShapeError, r"solve needs a square matrix .* \(6, 5\)"),
        (lambda: (Vi(X) - Vj(X)).solve(np.ones(6)), ShapeError, "vectors of dimension 2"),
        (lambda: gaussian(X).solve(np.ones(5)), ShapeError, r"\(6, 6\) but b has shape \(5,\)"),
        (lambda: gaussian(X).solve(np.ones((3, 6, 1))), ShapeError, "batch dimensions beyond those of K"),
        (lambda: gaussian(X).solve([1.0] * 6), ArrayTypeError, r"needs an array b, or .* Vi\(b\), but got list"),
        (lambda: gaussian(X).solve(np.ones(6, "float32")), ArrayTypeError, "float32, on cpu, and the data are float64"),
        (lambda: gaussian(X).solve(torch.ones(6)), ArrayTypeError, "b is a torch array"),
        (lambda: gaussian(X.astype("float16")).solve(np.ones(6, "float32")), ArrayTypeError, "data are float16"),
        (lambda: gaussian(X).solve(np.ones(6), eps=0), OptionError, "eps, .* must be a positive number but is 0"),
        (lambda: gaussian(X).solve(np.ones(6), max_iter=0), OptionError, "max_iter must be an integer of at least 1"),
        (lambda: gaussian(X).solve(np.ones(6), preconditioner="lu"), OptionError, "'jacobi', 'nystrom' or a function"),
        (lambda: gaussian(X).solve(np.ones(6), alpha=np.ones(6), preconditioner="nystrom"), OptionError, "one number"),
        (lambda: Vi(0, 2).sqdist(Vj(1, 2)).solve(np.ones(1)), ShapeError, "solve needs data, but .* placeholders"),
    ],
)  # fmt: skip
def test_messages(attempt, error, words):
    with pytest.raises(error, match=words):
        attempt()


def test_block_sparse_systems(rng):
    """Two systems side by side, of unequal sizes."""
    points, b = sample(rng, (30, 2)), sample(rng, (30,))
    ranges = BlockRanges([[0, 10], [10, 30]], [1, 2], [[0, 10], [10, 30]])
    K = gaussian(points)
    K.ranges = ranges
    dense = dense_gaussian(points)
    dense[:10, 10:] = dense[10:, :10] = 0
    expected = np.linalg.solve(dense + 0.1 * np.eye(30), b)
    np.testing.assert_allclose(K.solve(b, alpha=0.1, eps=1e-12), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"alpha": None}, OptionError, "alpha must be a number or an array .* got NoneType"),
        ({"alpha": "1"}, OptionError, "got str"),
        ({"alpha": [1.0, 2.0]}, OptionError, "got list"),
        ({"alpha": 1j}, OptionError, "got complex"),
        ({"alpha": np.ones((6, 1), complex)}, OptionError, "real numbers but has dtype complex128"),
        (
            {"alpha": np.ones((5, 1))},
            ShapeError,
            r"shape \(5, 1\), which does not broadcast .* shape \(6, 1\)",
        ),
        ({"alpha": np.ones((6, 2))}, ShapeError, r"shape \(6, 2\), which does not broadcast"),
        ({"alpha": np.ones((3, 6, 1))}, ShapeError, r"shape \(3, 6, 1\), which does not broadcast"),
        ({"alpha": torch.ones(6, 1)}, OptionError, r"\('numpy', 'cpu'\), but is of \('torch', 'cpu'\)"),
        ({"eps": "a"}, OptionError, "eps.* must be a positive number but is 'a'"),
        ({"max_iter": 2.5}, OptionError, "max_iter must be an integer of at least 1 but is 2.5"),
        ({"max_iter": None}, OptionError, "but is None"),
        ({"preconditioner": np.eye(6)}, OptionError, "'jacobi', 'nystrom' or a function"),
    ],
)
def test_options_of_every_kind_are_checked(options, error, words):
    K = (-Vi(X).sqdist(Vj(X))).exp()
    with pytest.raises(error, match=words):
        K.solve(np.ones((6, 1)), **{"alpha": 1.0, **options})
