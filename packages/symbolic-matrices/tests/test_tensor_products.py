"""Products of tensors against NumPy, and B-splines against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample
from scipy.interpolate import BSpline
from torch.autograd import gradcheck, gradgradcheck

from symbolic_matrices import Pm, ShapeError, Vi, Vj

CASES = {
    "outer product": ([2, 3], [4], [], [], ()),
    "matrix product": ([2, 3], [3, 4], [1], [0], ()),
    "all axes": ([2, 3], [3, 2], [0, 1], [1, 0], ()),
    "no order of the axes is special": ([2, 4, 3], [4, 2, 5], [1, 0], [0, 1], (1, 0)),
    "every axis moves": ([2, 3], [5, 4], [], [], (2, 0, 3, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_tensordot(case, rng, backend):
    """Axis k of NumPy's product goes to position order[k]."""
    *shapes_and_axes, order = CASES[case]
    shape_a, shape_b, axes_a, axes_b = shapes_and_axes
    a, b = sample(rng, (1, int(np.prod(shape_a)))), sample(rng, (1, int(np.prod(shape_b))))
    expected = np.tensordot(a.reshape(shape_a), b.reshape(shape_b), (axes_a, axes_b))
    if order:
        expected = np.moveaxis(expected, range(expected.ndim), order)
    for given in ((order,), order) if order else ((),):
        product = Vi(a).keops_tensordot(Vj(b), shape_a, shape_b, axes_a, axes_b, *given)
        assert_close(product.sum(axis=1, backend=backend)[0], expected.ravel())


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_tensordot(case, rng):
    *shapes_and_axes, order = CASES[case]
    a, b = (
        torch.tensor(sample(rng, (1, int(np.prod(shape)))), requires_grad=True)
        for shape in shapes_and_axes[:2]
    )

    def product(a, b):
        return Vi(a).keops_tensordot(Vj(b), *shapes_and_axes, order).sum(axis=1, backend="reference")

    assert gradcheck(product, (a, b))
    assert gradgradcheck(product, (a, b))


def test_kronecker_products(rng, backend):
    dims, other_dims = [3, 1, 2], [2, 3, 2]
    a, b = sample(rng, (1, 6)), sample(rng, (1, 12))
    expected = np.kron(a.reshape(dims), b.reshape(other_dims)).ravel()
    assert_close(Vi(a).kron(Vj(b), dims, other_dims).sum(axis=1, backend=backend)[0], expected)
    assert_close(Vi(a).keops_kron(Vj(b), dims, other_dims).sum(axis=1, backend=backend)[0], expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([2, 3], [3, 4], [1], []), "contracted pair by pair but got 1 and 0"),
        (([2, 2], [3, 4], [], []), r"first vector has dimension 6, which is no tensor of shape \(2, 2\)"),
        (([2, 3], [3, 4], [0], [0]), r"contracted axes have lengths \[2\] and \[3\]"),
        (([2, 3], [3, 4], [2], [0]), "must be distinct and exist"),
        (([2, 3], [3, 4], [1], [0], [0, 2]), "no permutation of the 2 axes"),
    ],
)
def test_tensors_that_do_not_fit(arguments, words):
    with pytest.raises(ShapeError, match=words):
        Vi(np.zeros((1, 6))).keops_tensordot(Vj(np.zeros((1, 12))), *arguments)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_bsplines(degree, backend, dtype):
    knots = np.array([0.0, 0.5, 1.0, 1.0, 2.5, 3.0, 4.0], dtype)  # one of them double
    x = np.array([-0.3, 0.0, 0.2, 0.5, 0.9, 1.0, 1.7, 2.5, 3.9, 4.0, 5.0], dtype)[:, None]
    count = len(knots) - degree - 1
    expected = np.zeros((len(x), count))
    inside = (x[:, 0] >= 0) & (x[:, 0] < 4)
    for k in range(count):
        piece = knots[k : k + degree + 2].astype("float64")
        if piece[0] < piece[-1]:
            spline = BSpline.basis_element(piece, extrapolate=False)
            values = np.nan_to_num(spline(x[:, 0].astype("float64")))
            expected[:, k] = np.where(inside & (x[:, 0] < piece[-1]), values, 0)
    assert_close(Pm(knots).bspline(Vi(x), degree).sum(axis=1, backend=backend), expected, dtype)


def test_gradients_of_bsplines():
    """In x and in the knots, any order; finite where knots coincide."""
    knots = torch.tensor([0.0, 0.5, 1.1, 1.6, 2.5, 3.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.2], [0.7], [1.9], [2.9]], dtype=torch.float64, requires_grad=True)

    def splines(knots, x):
        return Pm(knots).bspline(Vi(x), 3).sum(axis=1, backend="reference")

    assert gradcheck(splines, (knots, x))
    assert gradgradcheck(splines, (knots, x))
    double = torch.tensor([0.0, 0.5, 0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Pm(double).bspline(Vi(x), 2).sum(axis=1).sum(), double)
    assert torch.isfinite(gradient).all()


def test_knots_that_are_too_few():
    with pytest.raises(
        ShapeError, match=r"at least degree \+ 2 knots, but x has dimension 1 and there are 4 knots"
    ):
        Pm([0.0, 1.0, 2.0, 3.0]).bspline(Vi(np.zeros((2, 1))), 3)
