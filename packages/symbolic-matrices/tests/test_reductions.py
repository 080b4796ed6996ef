"""Every reduction, on every backend: values, ties, infinities, nothing at all, and any split of the columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix_testing import assert_close, sample

from symbolic_matrices import EmptyReductionError, LazyTensor, ShapeError, Vi, Vj
from symbolic_matrices.arrays import NUMPY
from symbolic_matrices.formulas.reductions import REDUCTIONS

SIZES = [(1, 1), (3, 1), (1, 3), (16, 17), (17, 16), (300, 257), (7, 1100)]
COUNTED = {name for name, row in REDUCTIONS.items() if row.is_counted}
NAMES = [name for name, row in REDUCTIONS.items() if row.make is not None]  # those that need no weight


def dense_reduction(name: str, values: np.ndarray):
    """The definition: ``values`` is (rows, columns); every output is (rows, ...)."""
    order = np.argsort(values, axis=1, kind="stable")[:, :3]
    nearest = np.take_along_axis(values, order, 1)
    one = {
        "sum": lambda: values.sum(1),
        "mean": lambda: values.mean(1),
        "count": lambda: np.count_nonzero(values, 1),
        "any": lambda: values.any(1),
        "all": lambda: values.all(1),
        "logsumexp": lambda: np.log(np.exp(values - values.max(1, keepdims=True)).sum(1)) + values.max(1),
        "min": lambda: values.min(1),
        "max": lambda: values.max(1),
        "argmin": lambda: values.argmin(1),
        "argmax": lambda: values.argmax(1),
    }
    if name in one:
        return (one[name]()[:, None],)
    if name in ("min_argmin", "max_argmax"):
        return tuple(one[part]()[:, None] for part in name.split("_"))
    missing = ((0, 0), (0, 3 - order.shape[1]))
    outputs = {
        "Kmin": np.pad(nearest, missing, constant_values=np.inf),
        "argKmin": np.pad(order, missing, constant_values=-1),
    }
    return tuple(outputs[part] for part in name.split("_"))


def reduce(tensor: LazyTensor, name: str, axis: int, backend: str):
    arguments = (3,) if name in COUNTED else ()
    outputs = tensor.reduction(name, *arguments, axis=axis, backend=backend)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def compare(outputs, expected, dtype: str) -> None:
    assert len(outputs) == len(expected)
    for actual, wanted in zip(outputs, expected, strict=True):
        if wanted.dtype.kind in "ib":
            np.testing.assert_array_equal(actual, wanted)
            assert actual.dtype == wanted.dtype
        else:
            assert_close(actual, wanted, dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("axis", [0, 1])
def test_values(name, axis, backend, dtype, rng):
    for rows, columns in SIZES:
        x, y = sample(rng, (rows, 2), dtype=dtype), sample(rng, (columns, 2), dtype=dtype)
        values = ((x[:, None, :].astype("float64") - y[None]) ** 2).sum(-1)
        # sizes of the kept and the reduced axis change roles with the axis
        outputs = reduce(Vi(x).sqdist(Vj(y)), name, axis, backend)
        compare(outputs, dense_reduction(name, values if axis == 1 else values.T), dtype)


@pytest.mark.parametrize("name", NAMES)
def test_ties_go_to_the_smallest_index(name, backend):
    x, y = np.zeros((20, 1)), np.tile([[2.0], [1.0], [1.0], [2.0], [0.0], [0.0]], (50, 1))
    values = x - y.T
    compare(reduce(Vi(x) - Vj(y), name, 1, backend), dense_reduction(name, values), "float64")


@pytest.mark.parametrize("name", ["sum", "min", "max", "argmin", "argmax", "min_argmin", "logsumexp"])
def test_nan_is_not_lost(name, backend, rng):
    y = sample(rng, (70, 1))
    y[[11, 40]] = np.nan
    compare(
        reduce(Vi(np.zeros((20, 1))) + Vj(y), name, 1, backend),
        dense_reduction(name, np.tile(y.T, (20, 1))),
        "float64",
    )


def test_logsumexp_of_extreme_exponents(backend, dtype):
    shifts = np.array([[-1e4], [0.0], [1e4]], dtype=dtype)
    y = np.array([[0.0], [1.0], [-np.inf]], dtype=dtype)
    expected = shifts.astype("float64") + np.log(1 + np.e)
    assert_close((Vi(shifts) + Vj(y)).logsumexp(axis=1, backend=backend), expected, dtype)
    nothing = np.full((5, 1), -np.inf, dtype=dtype)
    assert (Vi(shifts) + Vj(nothing)).logsumexp(axis=1, backend=backend).tolist() == [[-np.inf]] * 3


def test_float32_sums_of_many_terms_are_accurate():
    """Also of equal terms, whose rounding errors do not average out."""
    for terms in (
        np.full((100_000, 1), 1000.1, "float32"),
        np.random.default_rng(0).random((100_000, 1), "float32"),
    ):
        total = (Vi(np.zeros((3, 1), "float32")) + Vj(terms)).sum(axis=1)
        assert np.abs(total / terms.sum(dtype="float64") - 1).max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_no_columns(name, backend):
    tensor = Vi(np.zeros((4, 1))) + Vj(np.zeros((0, 1)))
    if name in ("argmin", "argmax", "min_argmin", "max_argmax"):
        with pytest.raises(EmptyReductionError, match=f"{name} over an axis of size 0"):
            reduce(tensor, name, 1, backend)
        return
    identity = {"sum": 0, "logsumexp": -np.inf, "min": np.inf, "max": -np.inf, "Kmin": np.inf, "argKmin": -1,
                "mean": np.nan, "count": 0, "any": False, "all": True}  # fmt: skip
    for output, part in zip(reduce(tensor, name, 1, backend), name.split("_"), strict=True):
        assert len(output) == 4
        np.testing.assert_array_equal(output, np.full(output.shape, identity[part]))


@pytest.mark.parametrize("name", NAMES)
def test_no_rows(name, backend):
    outputs = reduce(Vi(np.zeros((0, 1))) + Vj(np.zeros((3, 1))), name, 1, backend)
    assert all(output.shape == (0, 3 if name in COUNTED else 1) for output in outputs)


@pytest.mark.parametrize("name", ["sum", "min_argmin", "max", "Kmin_argKmin"])
def test_vector_valued_formulas(name, backend, rng):
    x, y = sample(rng, (9, 3)), sample(rng, (30, 3))
    outputs = reduce(Vi(x) * Vj(y), name, 1, backend)
    for component in range(3):
        expected = dense_reduction(name, x[:, None, component] * y[None, :, component])
        picked = tuple(output[..., component : component + 1] for output in outputs)
        if name in COUNTED:
            picked = tuple(output[..., 0] for output in picked)
        compare(picked, expected, "float64")


def test_logsumexp_needs_one_component(rng):
    with pytest.raises(
        ShapeError, match="logsumexp needs a formula of dimension 1 but this one has dimension 3"
    ):
        (Vi(sample(rng, (4, 3))) - Vj(sample(rng, (5, 3)))).logsumexp(axis=1)


def test_a_count_of_neighbours_is_positive(rng):
    with pytest.raises(ShapeError, match="K = 0"):
        Vi(sample(rng, (4, 3))).sqdist(Vj(sample(rng, (5, 3)))).argKmin(0, axis=1)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES))
def test_any_split_gives_the_same_answer(data, name):
    """The monoid law: absorb parts of the columns, merge the states in any bracketing."""
    reduction = REDUCTIONS[name](*((3,) if name in COUNTED else ()))
    entries = st.floats(-50, 50) | st.sampled_from([np.inf, -np.inf, 0.0])
    columns = data.draw(st.integers(1, 12))
    values = np.array(data.draw(st.lists(entries, min_size=columns, max_size=columns)))
    cuts = sorted(data.draw(st.lists(st.integers(0, columns), max_size=4)))
    bounds = list(zip([0, *cuts], [*cuts, columns], strict=True))
    block = values[None, :, None]
    with np.errstate(all="ignore"):
        whole = reduction.finish(NUMPY, reduction.absorb(NUMPY, block, 0))
        states = [
            reduction.absorb(NUMPY, block[:, start:stop], start)
            if stop > start
            else reduction.identity(NUMPY, np.zeros((1, 1)))
            for start, stop in bounds
        ]
        while len(states) > 1:
            at = data.draw(st.integers(0, len(states) - 2))
            states[at : at + 2] = [reduction.merge(NUMPY, states[at], states[at + 1])]
        split = reduction.finish(NUMPY, states[0])
    for one, other in zip(whole, split, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 70), columns=st.integers(1, 600), batch=st.sampled_from([(), (3,), (2, 1)]))
@pytest.mark.parametrize("name", ["sum", "logsumexp", "min_argmin", "Kmin_argKmin"])
def test_compiled_equals_reference(name, rows, columns, batch):
    rng = np.random.default_rng(rows * 1000 + columns)
    x = sample(rng, (*batch, rows, 1, 2))
    y = sample(rng, (*(3 if n == 1 else n for n in batch), 1, columns, 2))
    tensor = LazyTensor(x).sqdist(LazyTensor(y))
    axis = len(tensor._context.batch_shape) + 1
    for compiled, reference in zip(
        *(reduce(tensor, name, axis, b) for b in ("cpu", "reference")), strict=True
    ):
        np.testing.assert_allclose(compiled, reference, rtol=1e-13)


@pytest.mark.parametrize(("columns", "dim"), [(40, 3000), (9, 5000)])
def test_very_wide_columns(columns, dim, dtype, rng):
    """Columns that do not fit the first cache, one by one."""
    x, y = sample(rng, (3, dim), dtype=dtype), sample(rng, (columns, dim), dtype=dtype)
    expected = ((x[:, None].astype("float64") - y[None]) ** 2).sum(-1).sum(1)[:, None]
    assert_close(Vi(x).sqdist(Vj(y)).sum(axis=1), expected, dtype)


def test_wide_values_are_reduced_or_refused(rng):
    x, y = sample(rng, (5, 1500)), sample(rng, (6, 1))
    assert_close((Vi(x) * Vj(y)).min(axis=1), (x[:, None] * y[None]).min(1))
    with pytest.raises(ShapeError, match=r"holds 40000 components at once.*backend='reference'"):
        (Vi(np.zeros((2, 20_000))) * Vj(y)).min(axis=1)
    with pytest.raises(ShapeError, match="its reduction 100000"):
        (Vi(np.zeros((2, 100_000))) * Vj(y)).sum(axis=1)


@pytest.mark.parametrize("columns", [5000, 20_000])
def test_wide_right_hand_sides(columns, rng):
    x, y, v = sample(rng, (7, 2)), sample(rng, (9, 2)), sample(rng, (9, columns))
    dense = np.exp(-((x[:, None] - y[None]) ** 2).sum(-1))
    assert_close((-Vi(x).sqdist(Vj(y))).exp() @ v, dense @ v, factor=10)


@pytest.mark.parametrize(
    ("count", "error", "words"),
    [
        (0, ShapeError, "at least 1 but K = 0"),
        (None, TypeError, "integer but got None"),
        ("3", TypeError, "integer but got '3'"),
    ],
)
def test_numbers_of_neighbours_are_positive_integers(count, error, words):
    with pytest.raises(error, match=words):
        Vi(np.ones((3, 2))).sqdist(Vj(np.ones((4, 2)))).argKmin(count, axis=1)


def test_the_number_of_neighbours_is_not_forgotten(rng):
    with pytest.raises(TypeError, match="Kmin takes the number of neighbours K but got"):
        Vi(sample(rng, (4, 3))).sqdist(Vj(sample(rng, (5, 3)))).reduction("Kmin", axis=1)
