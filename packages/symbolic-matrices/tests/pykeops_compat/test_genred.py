"""Genred and its shorthands: every reduction along both axes, arguments, gradients, options, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample

from symbolic_matrices.errors import (
    ArrayTypeError,
    AxisError,
    BackendError,
    FormulaError,
    OptionError,
    ShapeError,
    UnknownReductionError,
)
from symbolic_matrices.pykeops_compat import (
    Genred,
    generic_argkmin,
    generic_argmin,
    generic_logsumexp,
    generic_sum,
)

SCALAR = "SqDist(x, y) - g"
VECTOR = "x * y - g"
ALIASES = ["x = Vi(2)", "y = Vj(2)", "g = Pm(1)"]


@pytest.fixture
def data(rng):
    return sample(rng, (6, 2)), sample(rng, (5, 2)), np.array([0.25])


def scalar(x, y, g):  # (M, N, 1)
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1, keepdims=True) - g


def vector(x, y, g):  # (M, N, 2)
    return x[..., :, None, :] * y[..., None, :, :] - g


def logsumexp(F, axis):
    return np.log(np.exp(F).sum(axis))


def nearest(F, axis):
    """The three smallest values along an axis, and their positions, (size, 3, D), or (size, 3) for D = 1."""
    order = np.moveaxis(np.argsort(F, axis, kind="stable"), axis, 1)[:, :3]
    values = np.take_along_axis(np.moveaxis(F, axis, 1), order, 1)
    return [z[..., 0] if F.shape[-1] == 1 else z for z in (values, order)]


# name -> the outputs, from the (M, N, D) array of values and the position of the reduced axis
REDUCTIONS = {
    "Sum": lambda F, axis: [F.sum(axis)],
    "Min": lambda F, axis: [F.min(axis)],
    "ArgMin": lambda F, axis: [F.argmin(axis)],
    "Min_ArgMin": lambda F, axis: [F.min(axis), F.argmin(axis)],
    "MinArgMin": lambda F, axis: [F.min(axis), F.argmin(axis)],
    "Max": lambda F, axis: [F.max(axis)],
    "ArgMax": lambda F, axis: [F.argmax(axis)],
    "Max_ArgMax": lambda F, axis: [F.max(axis), F.argmax(axis)],
    "MaxArgMax": lambda F, axis: [F.max(axis), F.argmax(axis)],
    "KMin": lambda F, axis: nearest(F, axis)[:1],
    "ArgKMin": lambda F, axis: nearest(F, axis)[1:],
    "KMin_ArgKMin": nearest,
    "KMinArgKMin": nearest,
}


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, axis, data):
    for formula, dense in ((SCALAR, scalar), (VECTOR, vector)):
        check_reduction(name, axis, formula, REDUCTIONS[name](dense(*data), axis), data, "reference")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["Sum", "Max_ArgMax", "KMin_ArgKMin"])
def test_reductions_compile(name, axis, data):
    check_reduction(name, axis, SCALAR, REDUCTIONS[name](scalar(*data), axis), data, "CPU")


def check_reduction(name, axis, formula, expected, data, backend):
    count = 3 if "K" in name else None
    routine = Genred(formula, ALIASES, reduction_op=name, axis=axis, opt_arg=count)
    results = routine(*data, backend=backend)
    for result, target in zip(results if len(expected) > 1 else [results], expected, strict=True):
        assert_close(result, target, str(target.dtype))


@pytest.mark.parametrize("axis", [0, 1])
def test_logsumexp(axis, data, backend, dtype):
    routine = Genred(SCALAR, ALIASES, "LogSumExp", axis)
    arguments = [z.astype(dtype) for z in data]
    assert_close(routine(*arguments, backend=backend), logsumexp(scalar(*data), axis), dtype)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("weight", ["s * y", "s"])
def test_weights(weight, axis, data, backend, rng):
    s = sample(rng, (6, 1), (0.5, 1.0))
    x, y, g = data
    aliases, arguments = ["x = Vi(2)", "y = Vj(2)", "g = Pm(1)", "s = Vi(1)"], (x, abs(y), g, s)
    W = s[:, None] * (abs(y)[None] if weight == "s * y" else np.ones((1, 5, 1)))
    F = np.exp(scalar(x, abs(y), g))
    total, normalised = (F * W).sum(axis), (F * W).sum(axis) / F.sum(axis)
    for name, expected in (("LogSumExp", np.log(total)), ("LogSumExpWeight", np.log(total)),
                           ("SumSoftMaxWeight", normalised), ("SoftMax", normalised)):  # fmt: skip
        routine = Genred(SCALAR, aliases, name, axis, formula2=weight)
        assert_close(routine(*arguments, backend=backend), expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_states_of_log_sum_exp(axis, data):
    """KeOps' Max_SumShiftExp: the largest exponent m, then sums of exp(F - m)."""
    F, y = scalar(*data), data[1]
    m = F.max(axis, keepdims=True)
    expected = np.concatenate([np.take(m, 0, axis), np.exp(F - m).sum(axis)], -1)
    assert_close(Genred(SCALAR, ALIASES, "Max_SumShiftExp", axis)(*data, backend="reference"), expected)
    expected = np.concatenate([np.take(m, 0, axis), (np.exp(F - m) * y).sum(axis)], -1)
    routine = Genred(SCALAR, ALIASES, "Max_SumShiftExpWeight", axis, formula2="y")
    assert_close(routine(*data, backend="reference"), expected)
    nothing = Genred("Log(0 * x)", ["x = Vi(1)", "y = Vj(1)"], "Max_SumShiftExp", axis=1)
    ones = np.ones((2, 1))
    with np.errstate(divide="ignore"):
        assert np.array_equal(nothing(ones, ones, backend="reference"), [[-np.inf, 0]] * 2)
    with pytest.raises(OptionError, match="takes no out"):
        routine(*data, out=expected)


def test_default_axis_reduces_over_i(data):
    assert Genred(SCALAR, ALIASES)(*data, backend="reference").shape == (5, 1)


# ---------------------------------------------------------------------- arguments


def test_libraries_give_their_own_arrays(data):
    routine = Genred(SCALAR, ALIASES, axis=1)
    numpy = routine(*data)
    tensor = routine(*map(torch.tensor, data))
    assert isinstance(numpy, np.ndarray)
    assert isinstance(tensor, torch.Tensor)
    assert_close(tensor, numpy)


@pytest.mark.parametrize("parameter", [0.25, [0.25], np.array(0.25), np.array([0.25]), np.array([[0.25]])])
def test_parameters(parameter, data):
    result = Genred(SCALAR, ALIASES, axis=1)(data[0], data[1], parameter, backend="reference")
    assert_close(result, scalar(*data).sum(1))


def test_batches(rng):
    routine = Genred(SCALAR, ALIASES, axis=1)
    x, y, g = sample(rng, (3, 1, 6, 2)), sample(rng, (2, 5, 2)), sample(rng, (3, 2, 1))
    expected = scalar(x, y, g[..., None, None, :]).sum(-2)
    assert expected.shape == (3, 2, 6, 1)
    assert_close(routine(x, y, g, backend="reference"), expected)
    assert_close(routine(x, y, 0.5, backend="reference"), scalar(x, y, 0.5).sum(-2))


def test_arguments_that_the_formula_does_not_read_tell_sizes(data, backend):
    x, y, g = data
    assert_close(Genred("x", ALIASES, axis=1)(x, y, g, backend=backend), 5 * x)
    assert_close(Genred("IntCst(2)", ALIASES, axis=0)(x, y, g, backend=backend), np.full((5, 1), 12.0))
    assert_close(Genred("x", ["x = Vi(2)"], axis=1)(x, backend=backend), x)
    gradient = torch.tensor(x, requires_grad=True)
    Genred("x", ALIASES, axis=1)(gradient, torch.tensor(y), torch.tensor(g)).sum().backward()
    assert_close(gradient.grad, np.full((6, 2), 5.0))


def test_arrays_that_occur_twice(data):
    x = data[0]
    assert_close(Genred(SCALAR, ALIASES, axis=1)(x, x, 0.0, backend="reference"), scalar(x, x, 0).sum(1))


# ---------------------------------------------------------------------- gradients


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", ["Sum", "LogSumExp", "Min", "KMin"])
def test_gradients(name, axis, data):
    routine = Genred(f"Exp(-{SCALAR}) * (x | y)", ALIASES, name, axis, opt_arg=2 if name == "KMin" else None)
    tensors = [torch.tensor(z, requires_grad=True) for z in data]

    def reduce(*arguments):
        return routine(*arguments, backend="reference")

    assert torch.autograd.gradcheck(reduce, tensors)
    if name in ("Sum", "LogSumExp"):
        assert torch.autograd.gradgradcheck(reduce, tensors)


# ---------------------------------------------------------------------- shorthands


def test_shorthands(data):
    F = scalar(*data)
    expected = {
        generic_sum: (F.sum(1), F.sum(0)),
        generic_logsumexp: (logsumexp(F, 1), logsumexp(F, 0)),
        generic_argmin: (F.argmin(1), F.argmin(0)),
        generic_argkmin: (nearest(F, 1)[1], nearest(F, 0)[1]),
    }
    for make, targets in expected.items():
        dim = 3 if make is generic_argkmin else 1
        for category, target in zip(("Vi", "Vj"), targets, strict=True):
            routine = make(SCALAR, f"a = {category}({dim})", *ALIASES)
            assert_close(routine(*data, backend="reference"), target, str(target.dtype))
    with pytest.raises(FormulaError, match="varies along i or j"):
        generic_sum(SCALAR, "a = Pm(1)", *ALIASES)


# ---------------------------------------------------------------------- options and errors


def test_options_of_keops_are_understood(data):
    for options in (
        {"dtype": "float32", "cuda_type": "float"},
        {"enable_chunks": False, "use_fast_math": False, "rec_multVar_highdim": True},
        {"dtype_acc": "auto", "sum_scheme": "block_sum"},
    ):
        result = Genred(SCALAR, ALIASES, axis=1, **options)(*data, device_id=0, backend="CPU")
        assert_close(result, scalar(*data).sum(1))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dtype_acc": "float65"}, ValueError, "dtype_acc must be one of 'auto'"),
        ({"sum_scheme": "kahan"}, ValueError, "sum_scheme must be one of .*'kahan_scheme'"),
        ({"use_double_acc": True, "dtype_acc": "float32"}, ValueError, "use_double_acc means"),
        ({"use_double": True}, TypeError, "no option 'use_double'"),
        ({"reduction_op": "Mean"}, UnknownReductionError, "There is no reduction 'Mean'; choose one of Sum"),
        ({"reduction_op": "KMin"}, TypeError, "KMin needs the number of neighbours, opt_arg=K"),
        ({"reduction_op": "LogSumExpWeight"}, TypeError, "LogSumExpWeight needs a weight, formula2"),
        ({"formula2": "x"}, TypeError, "Sum takes no weight"),
        ({"axis": 2}, AxisError, "axis must be 0 .* or 1"),
    ],
)
def test_bad_constructions(options, error, message):
    with pytest.raises(error, match=message):
        Genred(SCALAR, ALIASES, **options)


def test_bad_calls(data):
    x, y, g = data
    routine = Genred(SCALAR, ALIASES, axis=1)
    with pytest.raises(ShapeError, match="Expected 3 arguments, x, y, g, but 2 were given"):
        routine(x, y)
    with pytest.raises(ShapeError, match="Argument 1 must have dimension 2"):
        routine(x, y[:, :1], g)
    with pytest.raises(ShapeError, match="must be an array of shape"):
        routine(x, y[:, 0], g)
    with pytest.raises(ShapeError, match="must be an array of shape"):
        routine(x, 3.0, g)
    with pytest.raises(ArrayTypeError, match="must share one library, dtype and device"):
        routine(x, y.astype("float32"), g)
    with pytest.raises(BackendError, match="There is no backend 'TPU'"):
        routine(x, y, g, backend="TPU")
    with pytest.raises(BackendError):
        routine(x, y, g, backend="GPU_1D")  # the arrays are in main memory


def test_representation():
    assert repr(Genred("x", ["x = Vi(2)"], "Max", 1)) == "Genred('x', ['x = Vi(2)'], 'Max', axis=1)"


# ---------------------------------------------------------------------- block sparsity, accumulation, outputs


def blocks(integers):
    """Rows 0-1 meet columns 0-2, rows 4-5 meet columns 1 and 3-4: KeOps' six arrays, and a mask."""
    mask = np.zeros((6, 5), dtype=bool)
    mask[0:2, 0:3], mask[4:6, 1:2], mask[4:6, 3:5] = True, True, True
    arrays = (
        [[0, 2], [4, 6]], [1, 3], [[0, 3], [1, 2], [3, 5]],
        [[0, 1], [1, 2], [2, 3], [3, 5]], [1, 3, 4, 5], [[0, 2], [0, 2], [4, 6], [0, 2], [4, 6]],
    )  # fmt: skip
    return tuple(integers(array) for array in arrays), mask


@pytest.mark.parametrize(
    "integers", [lambda a: np.array(a, "int32"), lambda a: torch.tensor(a, dtype=torch.int32)]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_ranges_of_keops(axis, integers, data, backend):
    ranges, mask = blocks(integers)
    F = scalar(*data)
    expected = np.where(mask[..., None], F, 0).sum(axis)
    routine = Genred(SCALAR, ALIASES, axis=axis)
    assert_close(routine(*data, ranges=ranges, backend=backend), expected)
    with np.errstate(divide="ignore"):
        expected = np.log(np.where(mask[..., None], np.exp(F), 0).sum(axis))
    routine = Genred(SCALAR, ALIASES, "LogSumExp", axis=axis)
    result = routine(*data, ranges=ranges, backend=backend)
    assert_close(result, expected)
    assert np.array_equal(np.isneginf(result), np.isneginf(expected))


@pytest.mark.parametrize(
    "options", [{"use_double_acc": True}, {"dtype_acc": "float64"}, {"sum_scheme": "kahan_scheme"}]
)
def test_accumulation(options):
    """Terms that float32 sums lose: (1e8 + 1) - 1e8."""
    x, y = np.zeros((3, 1), "float32"), np.tile(np.array([[1e8], [1], [-1e8]], "float32"), (100, 1))
    aliases = ["x = Vi(1)", "y = Vj(1)"]
    assert (Genred("x + y", aliases, axis=1)(x, y) != 100).all()
    assert (Genred("x + y", aliases, axis=1, **options)(x, y) == 100).all()


def test_outputs_are_written_in_place(data):
    out = np.empty((6, 1))
    result = Genred(SCALAR, ALIASES, axis=1)(*data, out=out)
    assert result is out
    assert_close(out, scalar(*data).sum(1))
