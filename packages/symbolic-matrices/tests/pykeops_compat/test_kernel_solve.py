"""KernelSolve: solutions and gradients against dense linear algebra, for kernels of numbers and of matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample

from symbolic_matrices import ConvergenceWarning
from symbolic_matrices.errors import ArrayTypeError, FormulaError, ShapeError
from symbolic_matrices.pykeops_compat import KernelSolve

GAUSSIAN = "Exp(-g * SqDist(x, y)) * a"
ALIASES = ["x = Vi(2)", "y = Vj(2)", "a = Vj(2)", "g = Pm(1)"]
# a kernel whose values are 2 x 2 matrices: k(x, y) (Id + x y' ), symmetric as a whole
MATRIX = "Exp(-g * SqDist(x, y)) * (a + (y | a) * x)"
EXACT = {"alpha": 0.5, "eps": 1e-12}


@pytest.fixture
def data(rng):
    return sample(rng, (7, 2)), sample(rng, (7, 2)), np.array([0.8])


def solution(formula, x, b, g, alpha):
    """By a dense solve, in PyTorch, so that its gradients are a reference too."""
    x, b, g = (torch.as_tensor(z) for z in (x, b, g))
    k = torch.exp(-g * ((x[:, None] - x[None]) ** 2).sum(-1))
    block = torch.eye(2, dtype=x.dtype).expand(7, 7, 2, 2)
    if formula == MATRIX:
        block = block + x[:, None, :, None] * x[None, :, None, :]
    A = (k[..., None, None] * block).permute(0, 2, 1, 3).reshape(14, 14)
    return torch.linalg.solve(A + alpha * torch.eye(14, dtype=x.dtype), b.reshape(14, 1)).reshape(7, 2)


@pytest.mark.parametrize("formula", [GAUSSIAN, MATRIX])
def test_solutions(formula, data, backend):
    x, b, g = data
    expected = solution(formula, x, b, g, 0.5)
    solve = KernelSolve(formula, ALIASES, "a", axis=1)
    assert_close(solve(x, x, b, g, backend=backend, **EXACT), expected, factor=100)
    tensors = [torch.tensor(z) for z in (x, x, b, g)]
    assert_close(solve(*tensors, backend=backend, **EXACT), expected, factor=100)


def test_reduction_over_i(data):
    x, b, g = data
    solve = KernelSolve(
        "Exp(-g * SqDist(x, y)) * a", ["x = Vi(2)", "y = Vj(2)", "a = Vi(2)", "g = Pm(1)"], "a"
    )
    assert_close(solve(x, x, b, g, **EXACT), solution(GAUSSIAN, x, b, g, 0.5), factor=100)


def test_unknowns_without_names(data):
    x, b, g = data
    solve = KernelSolve("Exp(-g * SqDist(x, y)) * Var(3, 2, 1)", ["x = Vi(2)", "y = Vj(2)", "g = Pm(1)"],
                        "Var(3,2,1)", axis=1)  # fmt: skip
    assert_close(solve(x, x, g, b, **EXACT), solution(GAUSSIAN, x, b, g, 0.5), factor=100)


def test_batches(data, rng):
    _, b, g = data
    others = sample(rng, (3, 7, 2))
    result = KernelSolve(GAUSSIAN, ALIASES, "a", axis=1)(others, others, b, g, **EXACT)
    expected = np.stack([solution(GAUSSIAN, other, b, g, 0.5) for other in others])
    assert_close(result, expected, factor=100)


@pytest.mark.parametrize("formula", [GAUSSIAN, MATRIX])
def test_gradients(formula, data):
    solve = KernelSolve(formula, ALIASES, "a", axis=1)
    tensors = [torch.tensor(z, requires_grad=True) for z in data]

    def ours(x, b, g):
        return solve(x, x, b, g, backend="reference", **EXACT)

    weights = torch.linspace(-1, 1, 14, dtype=torch.float64).reshape(7, 2)
    for derive in (ours, lambda x, b, g: solution(formula, x, b, g, 0.5)):
        first = torch.autograd.grad((derive(*tensors) * weights).sum(), tensors, create_graph=True)
        second = torch.autograd.grad(sum((z**2).sum() for z in first), tensors)
        if derive is ours:
            results = (*first, *second)
    for actual, expected in zip(results, (*first, *second), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-8)


def test_gradients_of_the_right_hand_side_alone(data):
    x, b, g = (torch.tensor(z) for z in data)
    b.requires_grad_()
    solve = KernelSolve(GAUSSIAN, ALIASES, "a", axis=1)
    (ours,) = torch.autograd.grad(solve(x, x, b, g, backend="reference", **EXACT).sum(), b)
    (expected,) = torch.autograd.grad(solution(GAUSSIAN, x, b, g, 0.5).sum(), b)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_residuals_that_stay_too_large(data):
    x, b, _ = data
    with pytest.warns(ConvergenceWarning):
        KernelSolve(GAUSSIAN, ALIASES, "a", axis=1)(x, x, b, 0.01, alpha=0.0, eps=1e-300, backend="reference")


@pytest.mark.parametrize(
    ("formula", "unknown", "message"),
    [
        (GAUSSIAN, "c", "There is no variable 'c'"),
        (GAUSSIAN, "x", "vary along j"),
        (GAUSSIAN, "g", "vary along j"),
        ("Exp(-g * SqDist(x, y)) * SqNorm2(a)", "a", "dimension 1 of the formula"),
        ("x * y", "a", "must be read by the formula"),
        ("Exp(-g * SqDist(x, y)) * a ** 2", "a", "must be linear in the unknown 'a'"),
        ("Exp(a)", "a", "must be linear"),
    ],
)
def test_bad_formulas(formula, unknown, message):
    with pytest.raises(FormulaError, match=message):
        KernelSolve(formula, ALIASES, unknown, axis=1)


def test_bad_calls(data):
    x, b, g = data
    solve = KernelSolve(GAUSSIAN, ALIASES, "a", axis=1)
    with pytest.raises(ShapeError, match="must be square"):
        solve(x[:5], x, b, g)
    with pytest.raises(ShapeError, match="Expected 4 arguments"):
        solve(x, x, b)
    with pytest.raises(ArrayTypeError, match="right-hand side must be an array but is float"):
        solve(x, x, 1.0, g)
