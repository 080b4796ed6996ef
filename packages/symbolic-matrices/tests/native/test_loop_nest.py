"""Every reduction of the loop nest against NumPy: tails, splits, batches, strides, ties, NaN, infinities."""

from __future__ import annotations

import numpy as np
import pytest
from native.kernels import SQDIST, Result, formula, load, run

from symbolic_matrices.backends import cpu

TOLERANCES = {"float32": 2e-6, "float64": 4e-15}
SIZES = [(1, 1), (1, 300), (15, 16), (16, 15), (17, 9), (255, 256), (257, 257), (3, 10_000)]

DISTANCE = formula(3, 3, 1, f"{SQDIST} out[0] = d2;")
MINUS_DISTANCE = formula(3, 3, 1, f"{SQDIST} out[0] = -d2;")
PAIR_OF_VALUES = formula(3, 3, 2, f"{SQDIST} out[0] = d2; out[1] = r[0] * c[1];")
WEIGHTED = formula(3, 5, 3, f"{SQDIST} out[0] = -d2; out[1] = c[3]; out[2] = c[4];")
COLUMN_VALUE = formula(1, 1, 1, "out[0] = c[0];")


def points(
    rng: np.random.Generator, dtype: str, size: int, dim: int = 3, batch: tuple[int, ...] = ()
) -> np.ndarray:
    return rng.random((*batch, size, dim)).astype(dtype)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(..., M, N), in float64."""
    difference = x[..., :, None, :3].astype(np.float64) - y[..., None, :, :3]
    return (difference**2).sum(-1)


def assert_close(result: Result, expected: np.ndarray) -> None:
    tolerance = TOLERANCES[result.values.dtype.name]
    np.testing.assert_allclose(result.values, expected, rtol=tolerance, atol=tolerance)


def logsumexp(exponents: np.ndarray) -> np.ndarray:
    largest = exponents.max(-1)
    return largest + np.log(np.exp(exponents - largest[..., None]).sum(-1))


@pytest.fixture(params=SIZES, ids=str)
def clouds(request: pytest.FixtureRequest, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    rows, columns = request.param
    return points(rng, dtype, rows), points(rng, dtype, columns, 5)


def test_sum(target: str, dtype: str, clouds: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = clouds
    d2 = squared_distances(x, y)
    expected = np.stack([d2.sum(1), x[:, 0].astype(np.float64) * y[:, 1].sum(dtype=np.float64)], -1)
    assert_close(run(load(PAIR_OF_VALUES, "Sum<2>", dtype), x, y), expected)


def test_logsumexp(target: str, dtype: str, clouds: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = clouds
    expected = logsumexp(-squared_distances(x, y))[:, None]
    assert_close(run(load(MINUS_DISTANCE, "LogSumExp<>", dtype), x, y), expected)


def test_weighted_exponentials(dtype: str, clouds: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = clouds
    kernel = np.exp(-squared_distances(x, y))
    weighted = kernel @ y[:, 3:].astype(np.float64)
    total = kernel.sum(1, keepdims=True)
    expected = np.concatenate((weighted / total, np.log(total)), 1)
    assert_close(run(load(WEIGHTED, "SumSoftmax<2>", dtype), x, y), expected)
    assert_close(run(load(WEIGHTED, "WeightedLogSumExp<2>", dtype), x, y), np.log(weighted))


@pytest.mark.parametrize("order", ["smallest", "largest"])
def test_extremum(target: str, dtype: str, order: str, clouds: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = clouds
    result = run(load(PAIR_OF_VALUES, f"Extremum<2, Order::{order}, Outputs::both>", dtype), x, y)
    values = np.stack([squared_distances(x, y), x[:, None, 0].astype(np.float64) * y[None, :, 1]], -1)
    assert_close(result, values.min(1) if order == "smallest" else values.max(1))
    assert_close(Result(np.take_along_axis(values, result.indices[:, None], 1)[:, 0].astype(dtype), result.indices),
                 result.values)  # fmt: skip


@pytest.mark.parametrize("count", [1, 40])
def test_smallest(dtype: str, count: int, clouds: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = clouds
    y = np.round(8 * y) / 8  # many ties
    x = np.round(8 * x) / 8
    result = run(load(DISTANCE, f"Smallest<{count}, 1, Outputs::both>", dtype), x, y)
    d2 = squared_distances(x, y)  # exact, also in float32
    order = np.argsort(d2, 1, kind="stable")[:, :count]
    found = order.shape[1]
    np.testing.assert_array_equal(result.indices[:, :found], order)
    np.testing.assert_array_equal(result.values[:, :found], np.take_along_axis(d2, order, 1))
    np.testing.assert_array_equal(result.indices[:, found:], -1)
    np.testing.assert_array_equal(result.values[:, found:], np.inf)


def test_smallest_of_vectors(target: str, dtype: str) -> None:
    rng = np.random.default_rng(2)
    x, y = points(rng, dtype, 20), points(rng, dtype, 50)
    result = run(load(formula(3, 3, 3, "for (int k = 0; k < 3; ++k) out[k] = r[k] * c[k];"),
                      "Smallest<4, 3, Outputs::both>", dtype), x, y)  # fmt: skip
    order = np.argsort(x[:, None] * y, 1, kind="stable")[:, :4]  # (M, K, D)
    np.testing.assert_array_equal(result.indices.reshape(20, 4, 3), order)


@pytest.mark.parametrize(
    ("reduction", "empty"),
    [
        ("Sum<1>", 0.0),
        ("LogSumExp<>", -np.inf),
        ("Extremum<1, Order::smallest, Outputs::both>", np.inf),
        ("Extremum<1, Order::largest, Outputs::both>", -np.inf),
        ("Smallest<3, 1, Outputs::both>", np.inf),
    ],
)
def test_no_columns(dtype: str, reduction: str, empty: float) -> None:
    x = np.ones((5, 3), dtype)
    result = run(load(DISTANCE, reduction, dtype), x, x[:0])
    np.testing.assert_array_equal(result.values, empty)


@pytest.mark.parametrize("splits", [2, 7])
@pytest.mark.parametrize(
    "reduction",
    [
        "Sum<3>", "SumSoftmax<2>", "WeightedLogSumExp<2>",
        "Extremum<3, Order::largest, Outputs::both>", "Smallest<5, 3, Outputs::both>",
    ],
)  # fmt: skip
def test_splits_of_the_columns_agree(
    monkeypatch: pytest.MonkeyPatch, dtype: str, reduction: str, splits: int
) -> None:
    rng = np.random.default_rng(3)
    x, y = points(rng, dtype, 37, batch=(2,)), points(rng, dtype, 301, 5, batch=(2,))
    kernel = load(WEIGHTED, reduction, dtype)
    whole = run(kernel, x, y)
    monkeypatch.setattr(
        cpu, "choose_split", lambda *_: cpu.Split(32, splits, 2, -(-37 // kernel.traits.group_rows))
    )
    parts = run(kernel, x, y)
    assert_close(parts, whole.values)
    np.testing.assert_array_equal(parts.indices, whole.indices)


def test_batches_broadcast_and_strides_are_followed(dtype: str) -> None:
    rng = np.random.default_rng(4)
    x = points(rng, dtype, 40, batch=(5, 1))[..., ::2, :]  # every other row
    y = np.broadcast_to(points(rng, dtype, 1, 3), (33, 3))  # zero stride
    y = y + points(rng, dtype, 1, 3, batch=(2,))
    scale = points(rng, dtype, 1, 1, batch=(5, 2))
    body = formula(3, 3, 1, f"{SQDIST} out[0] = p[0] * d2;", parameter_dim=1)
    expected = (scale.astype(np.float64) * squared_distances(x, y)).sum(-1)[..., None]
    assert_close(run(load(body, "Sum<1>", dtype), x, y, scale), expected)


def test_parameters_rows_and_columns_only(dtype: str) -> None:
    """Stages without values: nothing per row, nothing per column."""
    x, y = np.ones((20, 1), dtype), np.arange(30, dtype=dtype)[:, None]
    assert_close(
        run(load(formula(0, 1, 1, "out[0] = c[0];"), "Sum<1>", dtype), x, y), np.full((20, 1), 435.0)
    )
    assert_close(run(load(formula(1, 0, 1, "out[0] = r[0];"), "Sum<1>", dtype), x, y), np.full((20, 1), 30.0))


def test_float32_sums_of_many_columns_are_exact_to_1e_6() -> None:
    rng = np.random.default_rng(5)
    x, y = points(rng, "float32", 16), points(rng, "float32", 100_000)
    result = run(load(formula(3, 3, 1, f"{SQDIST} out[0] = exp(-d2);"), "Sum<1>", "float32"), x, y)
    expected = np.exp(-squared_distances(x, y)).sum(1)
    assert np.abs(result.values[:, 0] / expected - 1).max() < 1e-6


@pytest.mark.parametrize("accumulate", ["Kahan", "InDouble"])
def test_hard_sums_in_float32(target: str, accumulate: str) -> None:
    column = np.array(([1e8] + [1.0] * 30 + [-1e8] + [1.0] * 10) * 20, "float32")[:, None]
    result = run(load(COLUMN_VALUE, f"Sum<1, {accumulate}>", "float32"), np.zeros((70, 1), "float32"), column)
    np.testing.assert_array_equal(result.values, 800.0)


def test_infinite_and_missing_exponents(dtype: str) -> None:
    """log-sum-exp of -inf alone is -inf, of anything with +inf is +inf, and NaN stays."""
    rows = np.zeros((3, 1), dtype)
    kernel = load(COLUMN_VALUE, "LogSumExp<>", dtype)
    big = 200.0
    cases = {
        -np.inf: [-np.inf] * 9,
        0.0: [-np.inf] * 300 + [0.0],
        np.inf: [1.0, np.inf] + [-big] * 600,
        big: [-np.inf, big, -big] + [-np.inf] * 600,
        -big: [-big] + [-np.inf] * 600,
    }
    for expected, column in cases.items():
        np.testing.assert_allclose(
            run(kernel, rows, np.array(column, dtype)[:, None]).values, expected, rtol=1e-6
        )
    nan = np.array([0.0] * 300 + [np.nan] + [0.0] * 300, dtype)[:, None]
    assert np.isnan(run(kernel, rows, nan).values).all()


def test_infinite_sums(dtype: str) -> None:
    rows, kernel = np.zeros((1, 1), dtype), load(COLUMN_VALUE, "Sum<1>", dtype)
    column = np.ones((1000, 1), dtype)
    column[500] = np.inf
    assert run(kernel, rows, column).values == np.inf
    column[700] = -np.inf
    assert np.isnan(run(kernel, rows, column).values)


@pytest.mark.parametrize("order", ["smallest", "largest"])
def test_extremum_of_nan_infinities_and_ties(dtype: str, order: str) -> None:
    """As in NumPy: the first NaN wins, the first of equal values wins, an infinite value is a value."""
    reach = np.argmin if order == "smallest" else np.argmax
    kernel = load(COLUMN_VALUE, f"Extremum<1, Order::{order}, Outputs::both>", dtype)
    rows = np.zeros((2, 1), dtype)
    nan, inf = np.nan, np.inf
    for column in (
        [inf] * 20,
        [-inf] * 20,
        [3.0, 1.0, 1.0, 3.0] * 9,
        [1.0] * 300 + [nan, 0.0, nan] + [2.0] * 300,
        [nan] * 5,
    ):
        array = np.array(column, dtype)[:, None]
        result = run(kernel, rows, array)
        where = reach(array[:, 0])
        np.testing.assert_array_equal(result.indices, where)
        np.testing.assert_array_equal(result.values, array[where, 0])


def test_smallest_puts_nan_after_the_numbers(dtype: str) -> None:
    column = np.array([np.nan, np.inf, 2.0, np.nan, 1.0, 2.0, -np.inf], dtype)[:, None]
    result = run(load(COLUMN_VALUE, "Smallest<9, 1, Outputs::both>", dtype), np.zeros((1, 1), dtype), column)
    np.testing.assert_array_equal(result.indices[0], [6, 4, 2, 5, 1, 0, 3, -1, -1])
    np.testing.assert_array_equal(
        result.values[0], np.array([-np.inf, 1, 2, 2, np.inf, np.nan, np.nan, np.inf, np.inf], dtype)
    )


@pytest.mark.parametrize("dim", [16, 64])
def test_wide_values_and_high_dimension(dtype: str, dim: int) -> None:
    rng = np.random.default_rng(6)
    x, y = points(rng, dtype, 33, dim), points(rng, dtype, 530, dim)
    body = formula(
        dim, dim, dim, f"{SQDIST} const V w = exp(-d2); for (int k = 0; k < dim; ++k) out[k] = w * c[k];"
    )
    difference = x[:, None].astype(np.float64) - y
    expected = np.exp(-(difference**2).sum(-1)) @ y.astype(np.float64)
    got = run(load(body, f"Sum<{dim}>", dtype), x, y).values
    np.testing.assert_allclose(got, expected, rtol=10 * TOLERANCES[dtype])
