"""The native functions against mpmath: error in units in the last place, over the whole domain, and special values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import mpmath
import numpy as np
import pytest
from native.kernels import Result, formula, load, run

from symbolic_matrices.backends import cpu

INF, NAN = np.inf, np.nan
Exact = Callable[..., mpmath.mpf]


class Function(NamedTuple):
    """A native function and its definition; arguments are drawn between ``low`` and ``high``.

    Errors are counted in units in the last place of the exact value or of ``scale``, if that is larger: near a root of
    the function inside of a sum, only the absolute error is small.
    """

    text: str
    exact: Exact
    low: float = -INF
    high: float = INF
    ulp: float = 2.0
    scale: float = 0.0
    every: int = 1  # of the arguments: some definitions are slow


def rounded(x: mpmath.mpf) -> mpmath.mpf:
    """Half to even, as NumPy does."""
    return mpmath.mpf(round(mpmath.mpf(x)))


def exact_gelu(x: mpmath.mpf) -> mpmath.mpf:
    return x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def exact_lgamma(x: mpmath.mpf) -> mpmath.mpf:
    return mpmath.loggamma(x).real if x > 0 else mpmath.log(abs(mpmath.gamma(x)))


UNARY = {
    "exp": Function("exp(x)", mpmath.exp, -800, 800),
    "exp2": Function("exp2(x)", lambda x: mpmath.mpf(2) ** x, -1200, 1100),
    "expm1": Function("expm1(x)", mpmath.expm1, -800, 800),
    "log": Function("log(x)", mpmath.log, 0),
    "log1p": Function("log1p(x)", mpmath.log1p, -1),
    "sqrt": Function("sqrt(x)", mpmath.sqrt, 0, ulp=0.5),
    "rsqrt": Function("rsqrt(x)", lambda x: 1 / mpmath.sqrt(x), 0),
    "cbrt": Function("cbrt(x)", lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x))),
    "sin": Function("sin(x)", mpmath.sin),
    "cos": Function("cos(x)", mpmath.cos),
    "tan": Function("tan(x)", mpmath.tan),
    "sinc": Function("sinc(x)", mpmath.sincpi, -1e20, 1e20),
    "asin": Function("asin(x)", mpmath.asin, -1, 1),
    "acos": Function("acos(x)", mpmath.acos, -1, 1),
    "atan": Function("atan(x)", mpmath.atan),
    "sinh": Function("sinh(x)", mpmath.sinh, -800, 800),
    "cosh": Function("cosh(x)", mpmath.cosh, -800, 800),
    "tanh": Function("tanh(x)", mpmath.tanh, -800, 800),
    "sigmoid": Function("sigmoid(x)", lambda x: 1 / (1 + mpmath.exp(-x)), -800, 800),
    "softplus": Function("softplus(x)", lambda x: mpmath.log1p(mpmath.exp(x)), -800, 800),
    "erf": Function("erf(x)", mpmath.erf, -40, 40),
    "erfc": Function("erfc(x)", mpmath.erfc, -40, 40),
    "gelu": Function("gelu(x)", exact_gelu, -50, 50),
    # The C library, and sums of a few terms with roots at negative numbers
    "lgamma": Function("lgamma(x)", exact_lgamma, -100, 1e30, ulp=4, scale=1, every=4),
    "digamma": Function("digamma(x)", mpmath.digamma, -60, 1e30, ulp=4, scale=4, every=4),
    "trigamma": Function("polygamma<1>(x)", lambda x: mpmath.psi(1, x), -60, 1e15, ulp=4, every=8),
    "polygamma": Function(
        "polygamma<4>(x)", lambda x: mpmath.psi(4, x), -60, 1e7, ulp=8, scale=2000, every=8
    ),
    "floor": Function("floor(x)", mpmath.floor, ulp=0),
    "ceil": Function("ceil(x)", mpmath.ceil, ulp=0),
    "round": Function("round(x)", rounded, ulp=0),
    "abs": Function("abs(x)", abs, ulp=0),
    "sign": Function("sign(x)", mpmath.sign, ulp=0),
}
BINARY = {
    "pow": Function("pow(x, y)", mpmath.power),
    "atan2": Function("atan2(x, y)", mpmath.atan2),
}
FUNCTIONS = UNARY | BINARY
# Where the native functions change course, or leave the range of numbers.
THRESHOLDS = (
    *(0.25, 0.375, 0.5, 0.7, 0.75, 0.5**0.5, 1, 1.25, 1.4616321449683622, 1.5, 2**0.5, 2, 3, 4, 6, 10, 20),
    *(
        10.0542,
        14.2,
        26.55,
        27.5,
        38.6,
        87.336,
        88.7228,
        89.4159,
        103.972,
        126,
        128,
        149,
        709.7827,
        710.4758,
        745.133,
    ),
    *(k * np.pi / 4 for k in (1, 2, 3, 4, 5, 400)),
    *(1e5, 1e9, 2.0**22, 2.0**23, 2.0**52, 2.0**53, 1022, 1024, 1074, 1075),
)


@functools.cache
def arguments(dtype: str) -> np.ndarray:
    """Every order of magnitude, the usual ranges, and what is next to the thresholds, with both signs."""
    rng = np.random.default_rng(7)
    info = np.finfo(dtype)
    magnitudes = 2.0 ** rng.uniform(np.log2(float(info.smallest_subnormal)), np.log2(info.max), 300)
    ranges = [rng.uniform(0, width, 120) for width in (1e-3, 1, 1, 4, 30, 110, 750, 1e5)]
    thresholds = np.array(THRESHOLDS, dtype)
    near = [np.nextafter(thresholds, np.array(towards, dtype)) for towards in (0, INF)]
    limits = (info.tiny, info.smallest_subnormal, info.max)
    near_one = 1 + rng.normal(0, 0.01, 120)
    x = np.concatenate([limits, magnitudes, *ranges, thresholds, *near, near_one]).astype(dtype)
    return np.concatenate([x, -x])


@functools.cache
def pairs(dtype: str) -> np.ndarray:
    """Arguments x > 0 and y of any sign, half of which have an x^y in the range of numbers; shape (N, 2)."""
    rng = np.random.default_rng(8)
    y = rng.permutation(arguments(dtype))
    x = abs(rng.permutation(y))
    with np.errstate(over="ignore", divide="ignore"):
        exponents = (
            np.log2(np.finfo(dtype).max) * rng.uniform(-1.1, 1, len(x)) / np.log2(x.astype(np.float64))
        )
    is_moderate = rng.random(len(x)) < 0.5
    return np.stack([x, np.where(is_moderate & np.isfinite(exponents), exponents, y)], -1).astype(dtype)


class ExactValues(NamedTuple):
    """The arguments of a function, shape (N, 1 or 2), and its values as sums of two float64 numbers."""

    x: np.ndarray
    high: np.ndarray
    low: np.ndarray


@functools.cache
def exact_values(name: str, dtype: str) -> ExactValues:
    """One evaluation in 50 digits serves all the processors."""
    function = FUNCTIONS[name]
    x = pairs(dtype) if name in BINARY else arguments(dtype)[:, None]
    x = x[(x[:, 0] >= function.low) & (x[:, 0] <= function.high)][:: function.every]
    high, low = np.empty(len(x)), np.empty(len(x))
    with mpmath.workdps(50):
        for n, row in enumerate(x):
            try:
                value = function.exact(*(mpmath.mpf(float(v)) for v in row))
            except (ValueError, ZeroDivisionError):  # a pole
                value = mpmath.nan
            high[n] = value
            low[n] = value - high[n] if np.isfinite(high[n]) else 0
    is_defined = ~np.isnan(high)
    return ExactValues(x[is_defined], high[is_defined], low[is_defined])


def errors_in_ulp(got: np.ndarray, exact: ExactValues, scale: float) -> np.ndarray:
    """Distance to the exact value in units in the last place; infinite where signs or infinities differ."""
    with np.errstate(over="ignore", invalid="ignore"):
        expected = exact.high.astype(got.dtype)
        unit = np.spacing(
            np.maximum(np.where(np.isfinite(expected), abs(expected), 1), scale).astype(got.dtype)
        )
        error = np.abs((got.astype(np.float64) - exact.high) - exact.low) / unit
    same = got == expected
    differ = (np.signbit(got) != np.signbit(expected)) & (unit < abs(expected))
    differ |= (np.isfinite(got) != np.isfinite(expected)) | np.isnan(got)
    return np.where(differ, INF, np.where(same & np.isinf(got), 0, error))


@functools.cache
def kernel(dtype: str, target: str) -> cpu.NativeKernel:
    """One kernel applies every function to each row. The minimum over one column keeps NaN and -0."""
    lines = "\n".join(f"out[{k}] = {function.text};" for k, function in enumerate(FUNCTIONS.values()))
    count = len(FUNCTIONS)
    body = formula(2, 0, count, f"const V x = r[0], y = r[1];\n{lines}")
    return load(
        body, f"Extremum<{count}, Order::smallest, Outputs::values>", dtype, "#define SM_MOST_COLUMNS 1"
    )


def evaluate(name: str, x: np.ndarray, target: str) -> np.ndarray:
    rows = np.broadcast_to(x, (len(x), 2)) if x.shape[1] == 1 else x
    result: Result = run(kernel(str(x.dtype), target), np.ascontiguousarray(rows), np.zeros((1, 1), x.dtype))
    return result.values[:, list(FUNCTIONS).index(name)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_within_two_ulp(name: str, target: str, dtype: str) -> None:
    exact = exact_values(name, dtype)
    assert len(exact.x) > 200
    got = evaluate(name, exact.x, target)
    error = errors_in_ulp(got, exact, FUNCTIONS[name].scale)
    worst = int(np.argmax(error))
    assert error[worst] <= FUNCTIONS[name].ulp, (
        f"{name}{tuple(exact.x[worst])} = {got[worst]!r}, not {exact.high[worst]!r}: {error[worst]} ulp off"
    )


SPECIAL_ARGUMENTS = (0.0, -0.0, INF, -INF, NAN, -1.0, -2.0)
SPECIAL_VALUES = {
    "exp": (1, 1, INF, 0, NAN),
    "exp2": (1, 1, INF, 0, NAN, 0.5, 0.25),
    "expm1": (0.0, -0.0, INF, -1, NAN),
    "log": (-INF, -INF, INF, NAN, NAN, NAN, NAN),
    "log1p": (0.0, -0.0, INF, NAN, NAN, -INF, NAN),
    "sqrt": (0.0, -0.0, INF, NAN, NAN, NAN, NAN),
    "rsqrt": (0, 0, 0.0, NAN, NAN, NAN, NAN),
    "cbrt": (0.0, -0.0, INF, -INF, NAN, -1),
    "sin": (0.0, -0.0, NAN, NAN, NAN),
    "cos": (1, 1, NAN, NAN, NAN),
    "tan": (0.0, -0.0, NAN, NAN, NAN),
    "sinc": (1, 1, NAN, NAN, NAN, -0.0, 0.0),
    "asin": (0.0, -0.0, NAN, NAN, NAN, -np.pi / 2, NAN),
    "acos": (np.pi / 2, np.pi / 2, NAN, NAN, NAN, np.pi, NAN),
    "atan": (0.0, -0.0, np.pi / 2, -np.pi / 2, NAN, -np.pi / 4),
    "sinh": (0.0, -0.0, INF, -INF, NAN),
    "cosh": (1, 1, INF, INF, NAN),
    "tanh": (0.0, -0.0, 1, -1, NAN),
    "sigmoid": (0.5, 0.5, 1, 0, NAN),
    "softplus": (np.log(2), np.log(2), INF, 0, NAN),
    "erf": (0.0, -0.0, 1, -1, NAN),
    "erfc": (1, 1, 0, 2, NAN),
    "gelu": (0.0, -0.0, INF, -0.0, NAN),
    "lgamma": (INF, INF, INF, INF, NAN, INF, INF),
    "digamma": (-INF, INF, INF, NAN, NAN, NAN, NAN),
    "trigamma": (INF, INF, 0, INF, NAN, INF, INF),
    "polygamma": (-INF, -INF, -0.0, -INF, NAN, -INF, -INF),
    "floor": (0.0, -0.0, INF, -INF, NAN, -1, -2),
    "ceil": (0.0, -0.0, INF, -INF, NAN, -1, -2),
    "round": (0.0, -0.0, INF, -INF, NAN, -1, -2),
    "abs": (0, 0, INF, INF, NAN, 1, 2),
    "sign": (0, 0, 1, -1, NAN, -1, -1),
}


@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str, target: str, dtype: str) -> None:
    expected = np.array(SPECIAL_VALUES[name]).astype(dtype)
    x = np.array(SPECIAL_ARGUMENTS[: len(expected)], dtype)
    assert_special(evaluate(name, x[:, None], target), expected, x)


@pytest.mark.parametrize(("name", "reference"), [("pow", np.power), ("atan2", np.arctan2)])
def test_special_pairs(name: str, reference: Callable[..., np.ndarray], target: str, dtype: str) -> None:
    """All pairs of special values have what the C standard asks, which NumPy has too."""
    info = np.finfo(dtype)
    size = (0, info.smallest_subnormal, 0.5, 1, 2, 3, 2.5, 2.0**24, 2.0**53, info.max, INF)
    special = np.array([*size, *(-np.array(size)), NAN], dtype)
    x, y = (part.ravel() for part in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        expected = reference(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    got = evaluate(name, np.stack([x, y], -1), target)
    assert_special(got, expected, np.stack([x, y], -1))


def assert_special(got: np.ndarray, expected: np.ndarray, x: np.ndarray) -> None:
    """The same 0, -0, 1, infinities and NaN, and other values within 2 ulp."""
    with np.errstate(invalid="ignore", over="ignore"):
        near = abs(got - expected) <= np.where(abs(expected) == 1, 0, 2 * np.spacing(abs(expected)))
    same = np.where(np.isfinite(expected) & (expected != 0), near, got == expected)
    same &= np.signbit(got) == np.signbit(expected)
    wrong = np.flatnonzero(~(same | (np.isnan(got) & np.isnan(expected))))[:20]
    assert not len(wrong), f"at {x[wrong]}: {got[wrong]}, not {expected[wrong]}"


def test_conventions(dtype: str) -> None:
    """rsqrt(0) = 0, step(0) = 1, rounding half to even, NaN in minimum and maximum, powers."""
    x = np.array([0.0, -0.0, 4.0, 2.5, -1.5, np.nan, np.inf], dtype)
    names = ("rsqrt", "step", "round")
    two_argument = (
        "minimum(r[0], V(1))",
        "minimum(V(1), r[0])",
        "maximum(r[0], V(1))",
        "maximum(V(1), r[0])",
    )
    expressions = [
        *(f"{name}(r[0])" for name in names),
        *two_argument,
        "powi<3>(r[0])", "powi<0>(r[0])", "powi<-2>(r[0])", "pow(r[0], V(2))",
        "as_real((r[0] > REAL(1)) | !(r[0] >= REAL(0)))", "select(r[0] == REAL(4), V(7), 2 * r[0])",
    ]  # fmt: skip
    lines = "\n".join(f"out[{k}] = {text};" for k, text in enumerate(expressions))
    kernel = load(
        formula(1, 0, len(expressions), lines),
        f"Extremum<{len(expressions)}, Order::smallest, Outputs::values>",
        dtype,
    )
    with np.errstate(all="ignore"):
        expected = np.stack(
            [
                np.where(x == 0, 0, 1 / np.sqrt(x)), x >= 0, np.rint(x),
                *[np.minimum(x, 1)] * 2, *[np.maximum(x, 1)] * 2,
                x * x * x, np.ones_like(x), 1 / (x * x), x**2,
                (x > 1) | ~(x >= 0), np.where(x == 4, 7, 2 * x),
            ],
            -1,
        )  # fmt: skip
    np.testing.assert_array_equal(
        run(kernel, x[:, None], np.zeros((1, 1), dtype)).values, expected.astype(dtype)
    )
