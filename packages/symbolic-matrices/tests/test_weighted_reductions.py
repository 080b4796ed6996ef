"""log sum w e^f and sum e^f g / sum e^f: values, derivatives of any order, zero and negative weights, infinities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix_testing import assert_close, sample
from torch.autograd import gradcheck, gradgradcheck

from symbolic_matrices import LazyTensor, Profile, ShapeError, Vi, Vj
from symbolic_matrices.arrays import NUMPY
from symbolic_matrices.formulas.reductions import SumSoftmax, WeightedLogSumExp

NAMES = ("logsumexp", "sumsoftmaxweight")
INF = np.inf


def dense(name: str, exponents: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The definition: (M, N) exponents and (N, D) weights, in float64."""
    exponents = exponents.astype("float64")
    largest = exponents.max(-1, keepdims=True)
    terms = np.exp(exponents - largest)
    if name == "logsumexp":
        return np.log(terms @ weights) + largest
    return terms @ weights / terms.sum(-1, keepdims=True)


def reduce(name: str, formula: LazyTensor, weight, axis: int = 1, backend: str = "auto"):
    return formula.reduction(name, axis=axis, weight=weight, backend=backend)


def squared_distances(x, y):
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


@pytest.mark.parametrize("name", NAMES)
def test_values(name, backend, dtype, rng):
    for rows, columns in [(1, 1), (3, 1), (16, 17), (300, 257), (7, 1100)]:
        x, y = sample(rng, (rows, 2), dtype=dtype), sample(rng, (columns, 2), dtype=dtype)
        exponents = -squared_distances(x.astype("float64"), y)
        w, u = sample(rng, (columns, 2), (0.5, 2), dtype), sample(rng, (rows, 2), (0.5, 2), dtype)
        formula = -Vi(x).sqdist(Vj(y))
        assert_close(reduce(name, formula, w, 1, backend), dense(name, exponents, w), dtype)
        assert_close(reduce(name, formula, u, 0, backend), dense(name, exponents.T, u), dtype)


@pytest.mark.parametrize("name", NAMES)
def test_ways_to_give_the_weight(name, rng):
    x, y, w = sample(rng, (6, 2)), sample(rng, (5, 2)), sample(rng, (5, 1), (0.5, 2))
    formula = -Vi(x).sqdist(Vj(y))
    expected = dense(name, -squared_distances(x, y), w)
    for weight in (w, w[:, 0], Vj(w), w[None]):
        assert_close(reduce(name, formula, weight), expected)
    symbolic = reduce(name, -Vi(0, 2).sqdist(Vj(1, 2)), Vj(2, 1))
    assert_close(symbolic(x, y, w), expected)


def test_methods(rng):
    x, y, w = sample(rng, (6, 2)), sample(rng, (5, 2)), sample(rng, (5, 2), (0.5, 2))
    formula, exponents = -Vi(x).sqdist(Vj(y)), -squared_distances(x, y)
    assert_close(formula.logsumexp(axis=1, weight=w), dense("logsumexp", exponents, w))
    assert_close(formula.sumsoftmaxweight(w, axis=1), dense("sumsoftmaxweight", exponents, w))
    assert formula.sumsoftmaxweight(w, axis=1).flags.c_contiguous


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_both_indices_and_batches(name, rng):
    """Attention: the exponent and the values vary along i, j and the batch."""
    x, y = sample(rng, (3, 1, 6, 2)), sample(rng, (2, 5, 2))
    x_i, y_j = LazyTensor(x[..., :, None, :]), LazyTensor(y[..., None, :, :])
    result = reduce(name, -x_i.sqdist(y_j), (x_i * y_j).exp(), axis=3)
    exponents = -squared_distances(x, y)
    weights = np.exp(x[..., :, None, :] * y[..., None, :, :])
    total = np.exp(exponents)[..., None] * weights
    expected = {"logsumexp": np.log(total.sum(-2)),
                "sumsoftmaxweight": total.sum(-2) / np.exp(exponents).sum(-1)[..., None]}  # fmt: skip
    assert_close(result, expected[name], factor=3)


@pytest.mark.parametrize("name", NAMES)
def test_large_exponents(name, backend, dtype):
    exponents = np.array([[1e4], [1e4 - 1], [-1e4], [-INF], [3.0]], dtype)
    w = np.array([[2.0, 0.5], [1.0, 3.0], [7.0, 1.0], [5.0, 1.0], [2.0, 4.0]], dtype)
    for shift in (0.0, -2e4, 1e4):
        formula = Vi(np.full((3, 1), shift, dtype)) + Vj(exponents)
        expected = dense(name, shift + exponents.T, w.astype("float64"))
        assert_close(reduce(name, formula, w, 1, backend), np.tile(expected, (3, 1)), dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [np.full((40, 1), -INF), np.zeros((0, 1))])
def test_nothing(name, backend, columns):
    """log 0 is -inf; the average of nothing is 0; no gradient is NaN."""
    w = np.ones((len(columns), 2))
    expected = {"logsumexp": -INF, "sumsoftmaxweight": 0.0}[name]
    result = reduce(name, Vi(np.zeros((3, 1))) + Vj(columns), w, 1, backend)
    np.testing.assert_array_equal(result, np.full((3, 2), expected))
    data = [torch.tensor(array, requires_grad=True) for array in (np.zeros((3, 1)), columns, w)]
    out = reduce(name, Vi(data[0]) + Vj(data[1]), Vj(data[2]))
    first = torch.autograd.grad(out, data, torch.ones_like(out), create_graph=True)
    energy = sum(gradient.sum() for gradient in first)
    second = torch.autograd.grad(energy, data, allow_unused=True) if energy.requires_grad else ()
    for gradient in (*first, *second):
        assert gradient is None or not gradient.any()


def test_terms_of_weight_zero_do_not_count(backend, dtype):
    """Not even where their exponent is far larger than the others: e^{1e4} times 0 is 0."""
    exponents = np.array([[1e4], [0.0], [1.0]], dtype)
    w = np.array([0.0, 2.0, 1.0], dtype)
    result = reduce("logsumexp", Vi(np.zeros((2, 1), dtype)) + Vj(exponents), w, 1, backend)
    assert_close(result, np.full((2, 1), np.log(2 + np.e)), dtype)


def test_gradient_at_weights_of_zero():
    exponents = torch.tensor([[1e4], [0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    w = torch.tensor([[0.0], [2.0], [1.0]], dtype=torch.float64, requires_grad=True)
    out = reduce("logsumexp", Vi(x) + Vj(exponents), w)
    of_x, of_exponents, of_w = torch.autograd.grad(out.sum(), (x, exponents, w))
    total = 2 + np.e
    assert_close(of_x, [[1.0]])
    assert_close(of_exponents, [[0.0], [2 / total], [np.e / total]])
    assert_close(of_w[1:], [[1 / total], [np.e / total]])
    assert_close(of_w[:1], [[np.exp(80.0)]])  # bounded, where the derivative is e^{1e4} / total
    zero = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    near = torch.tensor([[0.5], [0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    exact = torch.tensor([[0.3], [-0.2], [0.1]], dtype=torch.float64, requires_grad=True)
    for weights in (zero, near):
        out = reduce("logsumexp", Vi(x) + Vj(exact), weights)
        dense_out = torch.log((weights.T * torch.exp(x + exact.T)).sum(1))
        both = []
        for value in (out, dense_out):
            gradients = torch.autograd.grad(value.sum(), (x, exact, weights), create_graph=True)
            square = sum((g * g).sum() for g in gradients)
            both.append([*gradients, *torch.autograd.grad(square, (x, exact, weights))])
        for found, expected in zip(*both, strict=True):
            np.testing.assert_allclose(found.detach(), expected.detach(), rtol=1e-12, atol=1e-12)


def test_negative_weights(backend, dtype):
    """Their sum may be positive, zero or negative: its logarithm is a number, -inf or NaN."""
    exponents = np.zeros((3, 1), dtype)
    w = np.array([[-1.0, 1.0, -1.0], [2.0, -2.0, 0.5], [1.5, 1.0, -1.0]], dtype)
    result = reduce("logsumexp", Vi(np.zeros((2, 1), dtype)) + Vj(exponents), w, 1, backend)
    np.testing.assert_allclose(result, np.tile([np.log(2.5), -INF, np.nan], (2, 1)), rtol=1e-6)
    average = reduce("sumsoftmaxweight", Vi(np.zeros((2, 1), dtype)) + Vj(exponents), w, 1, backend)
    assert_close(average, np.tile(w.astype("float64").mean(0), (2, 1)), dtype)


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(*shape, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize(("name", "axis"), [("logsumexp", 1), ("sumsoftmaxweight", 0)])
def test_first_and_second_order(name, axis):
    data = random(5, 3), random(4, 3), random((5, 4)[axis], 2)

    def function(x, y, w):
        weight = Vj(w + 0.1) if axis else Vi(w + 0.1)
        return reduce(name, -Vi(x).sqdist(Vj(y)), weight, axis)

    assert gradcheck(function, data, check_forward_ad=True)
    assert gradgradcheck(function, data, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_float32_gradients_of_large_exponents(name):
    scale = 2e3
    x, y, w = (t.detach().float().requires_grad_() for t in (random(30, 3), random(40, 3), random(40, 2)))
    wide = [t.detach().double().requires_grad_() for t in (x, y, w)]
    out = reduce(name, -scale * Vi(x).sqdist(Vj(y)), Vj(w))
    exponents = -scale * squared_distances(*wide[:2])
    if name == "logsumexp":
        expected = torch.logsumexp(exponents[..., None] + wide[2].log(), 1)
    else:
        expected = torch.softmax(exponents, 1) @ wide[2]
    upstream = torch.rand(out.shape)
    for found, exact in zip(
        torch.autograd.grad(out, (x, y, w), upstream),
        torch.autograd.grad(expected, wide, upstream.double()),
        strict=True,
    ):
        assert_close(found, exact, "float32", factor=200)  # exponents of 2e3 are exact to 1e-4 only


def test_a_backward_pass_launches_two_kernels_at_most():
    x, y, w = random(20, 3), random(30, 3), random(30, 2)
    out = (-Vi(x).sqdist(Vj(y))).sumsoftmaxweight(Vj(w), axis=1)
    with Profile() as profile:
        torch.autograd.grad(out.sum(), (x, y, w))
    assert profile.launches == 2


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from([SumSoftmax, WeightedLogSumExp]))
def test_any_split_gives_the_same_answer(data, kind):
    reduction = kind(weights=2)
    columns = data.draw(st.integers(2, 12))
    entries = st.lists(st.floats(-50, 50) | st.just(-INF), min_size=columns, max_size=columns)
    f = np.array(data.draw(entries))
    g = np.linspace(0.5, 2, 2 * columns).reshape(columns, 2)
    block = np.concatenate((f[:, None], g), 1)[None]
    cut = data.draw(st.integers(1, columns - 1))
    with np.errstate(all="ignore"):
        (whole,) = reduction.finish(NUMPY, reduction.absorb(NUMPY, block, 0))
        states = (reduction.absorb(NUMPY, block[:, :cut], 0), reduction.absorb(NUMPY, block[:, cut:], cut))
        empty = reduction.identity(NUMPY, np.zeros((1, 3)))
        merged = reduction.merge(NUMPY, empty, reduction.merge(NUMPY, *states))
        (split,) = reduction.finish(NUMPY, merged)
    np.testing.assert_allclose(split, whole, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        (lambda f: f.min(axis=1, weight=np.ones(5)), TypeError, "min takes no weight; multiply"),
        (lambda f: f.reduction("sumsoftmaxweight", axis=1), TypeError, r"needs a weight: sumsoftmaxweight\(weight"),
        (lambda f: f.logsumexp(axis=1, weight=np.ones(4)), ShapeError, "j-variables must have the same length N"),
        (lambda f: f.concat(f).logsumexp(axis=1, weight=np.ones(5)), ShapeError,
         "logsumexp with a weight needs a formula of dimension 1 but this one has dimension 2"),
    ],
)  # fmt: skip
def test_messages(attempt, error, words):
    formula = Vi(np.ones((4, 3))).sqdist(Vj(np.ones((5, 3))))
    with pytest.raises(error, match=words):
        attempt(formula)
