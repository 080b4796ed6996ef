"""The options of a reduction: ways to add up terms, arrays that take the result; conditions and means; KeOps' names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample
from torch.autograd import forward_ad, gradcheck

from symbolic_matrices import (
    BlockRanges,
    DifferentiationError,
    LazyTensor,
    OptionError,
    SymbolicMatricesError,
    Vi,
    Vj,
    explain,
)
from symbolic_matrices.execution import make_plan
from symbolic_matrices.formulas.expressions import Axis
from symbolic_matrices.formulas.reductions import REDUCTIONS, Accumulate, Sum

# ---------------------------------------------------------------------- accumulate

# Alternating large terms, and ones that vanish beside them: 300 ones are left.
LARGE, ONES = 1e8, 300
HARD = np.concatenate([[LARGE], np.ones(ONES // 2), [-LARGE], [LARGE], np.ones(ONES // 2), [-LARGE]])[:, None]


def columns(terms: np.ndarray) -> LazyTensor:
    return Vi(np.zeros((3, 1), terms.dtype)) + Vj(terms)


@pytest.mark.parametrize(("accumulate", "is_exact"), [("auto", False), ("float64", True), ("kahan", True)])
def test_hard_sums_of_float32(accumulate, is_exact, backend):
    total = columns(HARD.astype("float32")).sum(axis=1, accumulate=accumulate, backend=backend)
    assert total.dtype == np.float32
    assert (total == ONES).all() == is_exact
    mean = columns(HARD.astype("float32")).mean(axis=1, accumulate=accumulate, backend=backend)
    assert (mean == np.float32(ONES / len(HARD))).all() == is_exact


@pytest.mark.parametrize(("accumulate", "is_exact"), [("auto", False), ("float64", False), ("kahan", True)])
@pytest.mark.parametrize(("dtype", "large"), [("float32", 1e30), ("float64", 1e30)])
def test_compensation_holds_more_digits_than_double_precision(accumulate, is_exact, dtype, large, backend):
    terms = np.array([[large], [1.0], [-large], [1.0], [1.0], [large], [-large]], dtype)
    total = columns(terms).sum(axis=1, accumulate=accumulate, backend=backend)
    assert (total == 3).all() == is_exact


@pytest.mark.parametrize(("accumulate", "is_exact"), [("auto", False), ("float64", True), ("kahan", True)])
def test_hard_sums_of_exponentials(accumulate, is_exact, backend):
    exponents = Vi(np.full((3, 1), 5.0, "float32")) + Vj(np.zeros((len(HARD), 1), "float32"))
    weight, options = HARD.astype("float32"), {"accumulate": accumulate, "backend": backend}
    result = exponents.logsumexp(axis=1, weight=weight, **options)
    assert (abs(result - (5 + np.log(ONES))) < 1e-5).all() == is_exact
    average = exponents.sumsoftmaxweight(weight, axis=1, **options)
    assert (abs(average / (ONES / len(HARD)) - 1) < 1e-6).all() == is_exact


@pytest.mark.parametrize("accumulate", ["float64", "kahan"])
def test_accurate_accumulation_of_easy_sums(accumulate, backend, rng):
    """Tails, splits of the columns, infinities and NaN."""
    x, y = sample(rng, (37, 2), dtype="float32"), sample(rng, (20_001, 2), dtype="float32")
    formula = Vi(x) * Vj(y)
    expected = (x[:, None].astype("float64") * y[None]).sum(1)
    assert_close(formula.sum(axis=1, accumulate=accumulate, backend=backend), expected, "float32")
    y[7], y[300] = np.inf, np.nan
    total = (Vi(x + 2) * Vj(y)).sum(axis=1, accumulate=accumulate, backend=backend)
    assert np.isnan(total).all()
    total = (Vi(x + 2) * Vj(y[:300])).sum(axis=1, accumulate=accumulate, backend=backend)
    assert (total == np.inf).all()


def test_gradients_are_added_up_in_the_same_way():
    x = torch.ones(3, 1, requires_grad=True)
    y = torch.tensor(HARD, dtype=torch.float32)
    for accumulate, is_exact in (("auto", False), ("float64", True), ("kahan", True)):
        total = (Vi(x) * Vj(y)).sum(axis=1, accumulate=accumulate)
        (gradient,) = torch.autograd.grad(total.sum(), x)
        assert bool((gradient == ONES).all()) == is_exact
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), torch.ones_like(x))
        total = (Vi(dual) * Vj(y)).sum(axis=1, accumulate="kahan")
        assert (forward_ad.unpack_dual(total).tangent == ONES).all()


def test_float64_data_need_no_other_kernel():
    formula = (Vi(np.zeros((3, 1))) + Vj(HARD))._formula
    plans = {make_plan(formula, Sum(how), Axis.J, "float64") for how in (Accumulate.AUTO, Accumulate.FLOAT64)}
    assert len(plans) == 1


def test_selections_add_nothing_up(rng):
    x = sample(rng, (4, 2))
    assert (Vi(x).sqdist(Vj(x)).argmin(axis=1, accumulate="kahan")[:, 0] == np.arange(4)).all()


def test_explanations_show_the_choice(rng):
    formula, weight = Vi(np.zeros((3, 1), "float32")) + Vj(np.zeros((4, 1), "float32")), np.ones(4, "float32")
    assert "Sum<Formula::dim, InDouble>" in explain(formula, "sum", accumulate="float64").source
    assert (
        "SumSoftmax<1, Kahan>"
        in explain(formula, "sumsoftmaxweight", weight=weight, accumulate="kahan").source
    )


# ---------------------------------------------------------------------- out


@pytest.fixture
def distances(rng) -> LazyTensor:
    return Vi(sample(rng, (6, 2))).sqdist(Vj(sample(rng, (5, 2))))


@pytest.mark.parametrize("name", ["sum", "mean", "min", "argmin", "count", "any"])
def test_out_takes_the_result(name, distances, backend):
    expected = distances.reduction(name, axis=1)
    for out in (np.empty_like(expected), np.empty((6, 3), expected.dtype)[:, 1:2]):
        assert distances.reduction(name, axis=1, out=out, backend=backend) is out
        np.testing.assert_array_equal(out, distances.reduction(name, axis=1, backend=backend))


def test_out_of_several_outputs_and_of_symbolic_reductions(distances, rng):
    out = np.empty((6, 1)), np.empty((6, 1), "int64")
    result = distances.min_argmin(axis=1, out=out)
    assert result[0] is out[0]
    assert result[1] is out[1]
    np.testing.assert_array_equal(out[1], distances.argmin(axis=1))
    x, y = sample(rng, (6, 2)), sample(rng, (5, 2))
    total = np.empty((6, 1))
    assert Vi(0, 2).sqdist(Vj(1, 2)).sum(axis=1)(x, y, out=total) is total
    assert_close(total, Vi(x).sqdist(Vj(y)).sum(axis=1))


def test_out_of_tensors():
    x, y = torch.rand(6, 2, requires_grad=True), torch.rand(5, 2)
    out = torch.empty(6, 1)
    with torch.no_grad():
        assert Vi(x).sqdist(Vj(y)).sum(axis=1, out=out) is out
    assert_close(out, Vi(x).sqdist(Vj(y)).sum(axis=1).detach(), "float32")
    nearest = torch.empty(6, 1, dtype=torch.int64)
    Vi(x).sqdist(Vj(y)).argmin(axis=1, out=nearest)  # indices have no gradient
    half = torch.empty(6, 1, dtype=torch.float16)
    Vi(x.detach().half()).sqdist(Vj(y.half())).sum(axis=1, out=half)
    assert (half - out).abs().max() < 1e-2


DATA = np.ones((6, 2))
TENSOR = torch.ones(6, 2, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        (lambda: Vi(DATA).sum(axis=1, out=np.empty((6, 1))), OptionError,
         r"must have shape \(6, 2\) and dtype float64, on cpu, but has shape \(6, 1\) and dtype float64"),
        (lambda: Vi(DATA).sum(axis=1, out=np.empty((6, 2), "float32")), OptionError, "but has .* dtype float32"),
        (lambda: Vi(DATA).argmin(axis=1, out=np.empty((6, 2))), OptionError, "dtype int64, on cpu, but"),
        (lambda: Vi(DATA).sum(axis=1, out=torch.empty(6, 2)), OptionError, "must be a numpy array.* but got Tensor"),
        (lambda: Vi(DATA).sum(axis=1, out=[0.0]), OptionError, "but got list"),
        (lambda: Vi(DATA.copy()).min_argmin(axis=1, out=np.empty((6, 2))), OptionError, "must hold 2 arrays"),
        (lambda: (lambda x: Vi(x).sum(axis=1, out=x))(DATA.copy()), OptionError, "shares memory with the data"),
        (lambda: (lambda x: Vi(x[:, ::-1]).sum(axis=1, out=x))(DATA.copy()), OptionError, "shares memory"),
        (lambda: Vi(TENSOR).sum(axis=1, out=torch.empty(6, 2, dtype=torch.float64)), DifferentiationError,
         "has no derivatives.*under torch.no_grad"),
        (lambda: Vi(TENSOR.detach()).sum(axis=1, out=(2 * TENSOR)), DifferentiationError, "or out require a gradient"),
        (lambda: Vi(0, 2).sum(axis=1, out=DATA), OptionError, "when it is called with its arrays"),
        (lambda: Vi(DATA).sum(-1, out=np.empty((6, 1))), OptionError, "along the vector dimension is a formula again"),
        (lambda: Vi(DATA).sum(axis=1, accumulate="float128"), OptionError,
         "must be one of 'auto', 'float64', 'kahan' but got 'float128'"),
    ],
)  # fmt: skip
def test_messages(attempt, error, words):
    with pytest.raises(error, match=words) as caught:
        attempt()
    assert isinstance(caught.value, SymbolicMatricesError)


# ---------------------------------------------------------------------- means, conditions


def test_means(backend, dtype, rng):
    x, y = sample(rng, (6, 3), (0.5, 1), dtype), sample(rng, (700, 3), (0.5, 1), dtype)
    expected = (x[:, None].astype("float64") * y[None]).mean(1)
    assert_close((Vi(x) * Vj(y)).mean(axis=1, backend=backend), expected, dtype)
    tensors = torch.rand(4, 3, dtype=torch.float64, requires_grad=True), torch.rand(5, 3, dtype=torch.float64)
    assert gradcheck(lambda a: (Vi(a) * Vj(tensors[1])).exp().mean(axis=0), tensors[:1])
    assert np.isnan((Vi(x) * Vj(y[:0])).mean(axis=1, backend=backend)).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_conditions(axis, backend, dtype, rng):
    x, y = sample(rng, (60, 2), dtype=dtype), sample(rng, (400, 2), dtype=dtype)
    x[5], y[9] = 9.0, -9.0
    dense = x[:, None] < y[None]
    condition = Vi(x) < Vj(y)
    np.testing.assert_array_equal(condition.count(axis=axis, backend=backend), dense.sum(axis))
    np.testing.assert_array_equal(condition.any(axis=axis, backend=backend), dense.any(axis))
    np.testing.assert_array_equal(condition.all(axis=axis, backend=backend), dense.all(axis))
    assert condition.count(axis=axis).dtype == np.int64
    assert condition.any(axis=axis).dtype == condition.all(axis=axis).dtype == np.bool_
    assert (~((Vi(x) >= Vj(y)) | condition).all(axis=axis)).sum() == 0


def test_counts_of_nan_and_of_tensors():
    values = np.array([[0.0], [np.nan], [-0.0], [np.inf], [1e-300]])
    assert Vj(values).count(axis=1).tolist() == [[np.count_nonzero(values)]]
    x = torch.rand(5, 2, requires_grad=True)
    counted = (Vi(x) < Vj(x)).count(axis=1)
    assert counted.dtype == torch.int64
    assert not counted.requires_grad
    assert (Vi(x) < Vj(x)).any(axis=1).dtype == torch.bool
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), torch.ones(5, 2))
        assert torch.equal((Vi(dual) < Vj(dual)).count(axis=1), counted)


# ---------------------------------------------------------------------- KeOps' names


@pytest.mark.parametrize("name", [name for name, row in REDUCTIONS.items() if row.is_in_keops])
def test_names_of_keops(name, distances):
    arguments = {"Kmin": (2,), "argKmin": (2,), "Kmin_argKmin": (2,), "sumsoftmaxweight": (np.ones(5),)}
    given = arguments.get(name, ())
    first, second = (getattr(distances, n)(*given, axis=1) for n in (name, f"{name}_reduction"))
    np.testing.assert_array_equal(first, second)


def test_block_sparse_means_and_conditions(backend):
    """Over the entries that are visited; the last rows visit none."""
    ranges = BlockRanges([[0, 2], [2, 3]], [1, 3], [[0, 3], [1, 2], [4, 6]])
    x, y = np.arange(5.0)[:, None], np.arange(6.0)[:, None]
    visited = np.zeros((5, 6), bool)
    visited[:2, :3] = visited[2, 1:2] = visited[2, 4:] = True
    expected = [(x[i] + y[visited[i], 0]).mean() if visited[i].any() else np.nan for i in range(5)]
    mean = (Vi(x) + Vj(y)).mean(axis=1, ranges=ranges, backend=backend)
    np.testing.assert_allclose(mean[:, 0], expected)
    condition = Vi(x) + Vj(y) < 4.5
    dense = x + y.T < 4.5
    options = {"axis": 1, "ranges": ranges, "backend": backend}
    np.testing.assert_array_equal(condition.all(**options)[:, 0], (dense | ~visited).all(1))
    np.testing.assert_array_equal(condition.any(**options)[:, 0], (dense & visited).any(1))
    np.testing.assert_array_equal(condition.count(**options)[:, 0], (dense & visited).sum(1))
