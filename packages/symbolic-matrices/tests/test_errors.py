"""Every message that a user can meet says what was given, what was expected and what to do."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from matrix_testing import assert_close

import symbolic_matrices.execution as execution
from symbolic_matrices import (
    ArrayTypeError,
    AxisError,
    BackendError,
    LazyTensor,
    OptionError,
    Pm,
    ShapeError,
    SlowBackendWarning,
    SymbolicMatricesError,
    UnknownReductionError,
    Vi,
    Vj,
    explain,
)
from symbolic_matrices.arrays import library_of
from symbolic_matrices.clustering import grid_cluster
from symbolic_matrices.formulas.expressions import Axis
from symbolic_matrices.formulas.reductions import REDUCTIONS
from symbolic_matrices.kernels import compilation

X, Y = np.ones((4, 3)), np.ones((5, 3))


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        (
            lambda: LazyTensor(X),
            AxisError,
            r"2-D array of shape \(4, 3\) may be x_i or y_j: .*axis=0 or axis=1",
        ),
        (lambda: LazyTensor(X, axis=3), AxisError, "axis must be 0 .* but got 3"),
        (lambda: LazyTensor(np.ones((4, 5, 3))), ShapeError, r"\(4, 5, 3\) varies along both i and j"),
        (
            lambda: LazyTensor(X[:, None], axis=0),
            ShapeError,
            r"must have shape \(size, D\) but got \(4, 1, 3\)",
        ),
        (lambda: Pm(X), ShapeError, r"must have shape \(1, D\) but got \(4, 3\)"),
        (lambda: Vi(np.ones(4)), ShapeError, r"must have shape \(size, D\) but got \(4,\)"),
        (lambda: Vi(np.ones((4, 0))), ShapeError, "dimension D must be at least 1"),
        (lambda: LazyTensor("points"), ArrayTypeError, "but got builtins.str"),
        (lambda: LazyTensor([1.0, "two"]), ArrayTypeError, "real numbers only"),
        (lambda: Vi(np.ones((4, 3), dtype=int)), ArrayTypeError, "dtype int64; convert it"),
        (lambda: library_of([1.0]), ArrayTypeError, "but got builtins.list; convert it"),
        (
            lambda: Vi(X) + Vi(Y),
            ShapeError,
            r"i-variables must have the same length M.*\n.*\(4, 3\).*\n.*\(5, 3\)",
        ),
        (
            lambda: Vi(X) + Vj(Y.astype("float32")),
            ArrayTypeError,
            r"share one library, dtype and device.*\n.*\n.*float32",
        ),
        (
            lambda: Vi(X) + Vj(torch.ones(5, 3, dtype=torch.float64)),
            ArrayTypeError,
            r"numpy array.*\n.*torch array",
        ),
        (
            lambda: Vi(torch.ones(4, 3)) + Vj(torch.ones(5, 3, device="meta")),
            ArrayTypeError,
            r"on cpu\n.*on meta",
        ),
        (
            lambda: LazyTensor(np.ones((2, 4, 1, 3))) + LazyTensor(np.ones((3, 1, 5, 3))),
            ShapeError,
            r"batch dimensions do not broadcast:\n.*\(2, 4, 1, 3\)",
        ),
        (
            lambda: Vi(X).sqdist(Vj(Y)).logsumexp(),
            AxisError,
            r"logsumexp needs axis=0 \(over i\) or axis=1 \(over j\)",
        ),
        (lambda: Vi(X).sqdist(Vj(Y)).argKmin(2, axis=2), AxisError, "argKmin cannot reduce axis 2"),
        (lambda: Vi(X).sqdist(Vj(Y)).sum(axis=-4), AxisError, "sum cannot reduce axis -4"),
        (lambda: Vi(X).sqdist(Vj(Y)).argmin(axis=1, dim=1), AxisError, "axis=1 and dim=1 are synonyms"),
        (
            lambda: Vi(X).norm(axis=0),
            AxisError,
            "norm works along the vector dimension, axis=-1, but got axis=0",
        ),
        (lambda: LazyTensor.concatenate([]), ShapeError, "at least one tensor"),
        (lambda: LazyTensor.cat([Vi(X)], dim=0), AxisError, "got axis=0"),
        (lambda: Vi(X)[0, 1], AxisError, r"tensor\[\.\.\., k\]"),
        (
            lambda: Vi(X).sqdist(Vj(Y)) @ np.ones(4),
            ShapeError,
            r"K has shape \(4, 5\) but v has shape \(4,\)",
        ),
        (lambda: Vi(X).sqdist(Vj(Y)) @ [1.0] * 5, ArrayTypeError, "needs an array v but got list"),
        (lambda: Pm(2.0).sum(axis=1), ArrayTypeError, "at least one array"),
        (
            lambda: Vi(X).grad(Vi(X) + 1, 1.0),
            ShapeError,
            "with respect to variables, such as .*, but got x0 [+] p1",
        ),
        (
            lambda: Vi(X).grad(Vi(X), [1.0, 2.0]),
            ShapeError,
            "cotangent has dimension 2 but the formula has 3",
        ),
        (lambda: Vi(0, 0), ShapeError, "dimension >= 1 but got 0 and 0"),
        (lambda: Vi(0, 3).sum(axis=1)(Y[:, :2]), ShapeError, r"Argument 0 must have dimension 3"),
        (lambda: Vi(1, 3).sum(axis=1)(Y), ShapeError, "takes 2 arguments but 1 were given"),
        (lambda: Vi(0, 3).sum(axis=1)(Y, Y), ShapeError, "takes 1 arguments but 2 were given"),
        (lambda: Vi(X).sum(axis=1, dim=1), AxisError, "axis=1 and dim=1 are synonyms"),
        (lambda: Vi(X).sum(axis="x"), AxisError, "must be an integer but got 'x'"),
        (lambda: Vi(X).sum(axis=(0, 1)), AxisError, "one axis at a time"),
        (lambda: LazyTensor(X, axis=1.0), AxisError, "but got 1.0"),
        (
            lambda: Vi(X).reduction("median", axis=1),
            UnknownReductionError,
            "no reduction 'median'; choose one of sum",
        ),
        (lambda: Vi(X).grad(2.0, 1.0), ShapeError, "such as Vi.x., but got 2.0"),
        (lambda: Vi(X).grad(Vi(X.copy()), 1.0), ShapeError, "x0 does not read the variable"),
        (lambda: Pm([]), ShapeError, r"at least 1 but the array has shape \(0,\)"),
        (lambda: Vi(X) * np.array(["a"]), ArrayTypeError, "real numbers but .* str"),
        (
            lambda: Vi(np.ma.masked_array(X, X > 2)),
            ArrayTypeError,
            r"masked array of shape \(4, 3\); fill it",
        ),
        (lambda: Vi(torch.eye(3).to_sparse()), ArrayTypeError, "sparse_coo .*to_dense"),
        (lambda: Vi(X)[..., 7], AxisError, r"vector dimension, here 3, .*\(Ellipsis, 7\)"),
        (lambda: Vi(X)[..., 2:1], AxisError, r"slice\(2, 1, None\)"),
        (lambda: Vi(0, 3).sum(axis=1)(np.ones(3)), ShapeError, r"shape \(\.\.\., size, D\) but got \(3,\)"),
        (lambda: (Pm(0, 3) * Vi(1, 3)).sum(axis=1)(Y, Y), ShapeError, r"\(\.\.\., 1, D\) but got \(5, 3\)"),
        (
            lambda: Vi(X).sum(axis=1, backend="gpu"),
            BackendError,
            "no backend 'gpu'; choose 'auto' or one of 'reference'",
        ),
        (lambda: explain(Vi(X), target="tpu"), BackendError, "no compiled target 'tpu'"),
    ],
)
def test_messages(attempt, error, words):
    with pytest.raises(error, match=words) as caught:
        attempt()
    assert isinstance(caught.value, SymbolicMatricesError)


@pytest.mark.parametrize(
    ("chosen", "device", "words"),
    [
        ("auto", "mps:0", "live on 'mps:0', where no compiled backend runs"),
        ("cpu", "cuda:0", "needs arrays in main memory but they live on 'cuda:0'"),
        ("cuda", "cpu", "needs arrays on a GPU but they live on 'cpu'"),
    ],
)
def test_backends_refuse_the_devices_of_others(chosen, device, words):
    matrix = Vi(X)
    sum_over_j = REDUCTIONS["sum"]()
    request = execution.Request(
        matrix._formula, sum_over_j, Axis.J, (4, 1), (), library_of(X), "float64", device, chosen
    )
    with pytest.raises(BackendError, match=words):
        execution.execute(request, (X,))


def test_no_compiler_falls_back_with_one_warning(monkeypatch):
    monkeypatch.setattr(compilation, "find_compiler", lambda: None)
    execution._has_compiler.cache_clear()
    try:
        with pytest.warns(SlowBackendWarning, match=r"pip install symbolic-matrices\[compiler\]") as caught:
            first = Vi(X).sqdist(Vj(2 * Y)).sum(axis=1)
        assert [warning.filename for warning in caught] == [__file__]  # the line of the user, not one of ours
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            second = Vi(X).sqdist(Vj(2 * Y)).sum(axis=1)
    finally:
        execution._has_compiler.cache_clear()
    assert_close(first, np.full((4, 1), 15.0))
    assert_close(second, np.full((4, 1), 15.0))


def test_data_of_nan_only_give_nan(backend):
    x = np.full((4, 3), np.nan)
    assert np.isnan((-Vi(x).sqdist(Vj(Y))).exp().sum(axis=1, backend=backend)).all()


def test_a_torch_array_on_the_left_of_an_unsupported_rank():
    with pytest.raises(SymbolicMatricesError):
        Vi(torch.ones(4, 3)) * torch.ones(4, 3)


@pytest.mark.parametrize("use", [bool, np.asarray, list, lambda t: 1.0 in t])
def test_a_symbolic_matrix_is_no_array(use):
    with pytest.raises(TypeError):
        use(Vi(X) == Vj(Y))


@pytest.mark.parametrize(
    "attempt", [lambda x: x.Kmin(2.7, axis=1), lambda x: x.elem(1.7), lambda x: Vi(0.7, 3)]
)
def test_counts_are_not_truncated(attempt):
    with pytest.raises(TypeError):
        attempt(Vi(X))


@pytest.mark.cpu_only  # kernels for GPUs count in 64 bits
def test_columns_beyond_the_reach_of_float32_lanes():
    huge = torch.zeros(1, 1, 1).expand(1, (1 << 31) + 8, 1)  # no memory behind
    with pytest.raises(BackendError, match="at most 2147483647 entries but got 2147483656"):
        LazyTensor(huge).sum(axis=1)


def read_only():
    out = np.zeros((4, 1))
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        (lambda K: K.sum(axis=1, out=read_only()), OptionError, r"read-only array of shape \(4, 1\)"),
        (lambda K: K.sum(axis=1, accumulate=[]), OptionError, r"accumulate must be one of .* but got \[\]"),
        (lambda K: K.sum(axis=1, backend=[]), BackendError, r"no backend \[\]"),
        (
            lambda K: K.logsumexp(1, weight=np.ones((5, 1), complex)),
            ArrayTypeError,
            "real weights but got complex",
        ),
        (lambda K: K.logsumexp(1, weight=Vj(np.ones((5, 1), complex))), ArrayTypeError, "real weights"),
        (lambda K: K.keops_tensordot(K, 3, 3, 3, 3), ShapeError, "sequences of integers but got 3"),
        (lambda K: grid_cluster(np.ones((4, 1), complex), 0.1), ArrayTypeError, "of dtype complex128"),
        (lambda K: grid_cluster(np.ones((4, 1), object), 0.1), ArrayTypeError, "of dtype object"),
        (lambda K: grid_cluster(X, "a"), ArrayTypeError, "size must be a positive number.* got 'a'"),
    ],
)
def test_options_of_unexpected_kinds(attempt, error, words):
    with pytest.raises(error, match=words):
        attempt(Vi(X).sqdist(Vj(Y)))
