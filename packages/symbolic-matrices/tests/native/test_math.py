"""math.hpp against NumPy in a wider format: error in units in the last place, over the whole domain."""

from __future__ import annotations

import numpy as np
import pytest
from native.kernels import formula, load, run

from symbolic_matrices.backends import cpu

FUNCTIONS = ("exp", "exp2", "log", "log1p", "expm1", "sin", "cos", "tanh", "sqrt", "floor", "abs", "sign")
TOLERANCE = 2.0  # units in the last place
WIDER = {"float32": np.float64, "float64": np.longdouble}
SPECIAL = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    np.inf,
    -np.inf,
    np.nan,
    0.75,
    1.5,
    0.5,
    np.pi / 2,
    1e5,
    1e9,
    710.0,
    -745.0,
    88.72,
    -87.4,
)


def arguments(dtype: str) -> np.ndarray:
    """Every order of magnitude, every sign, the usual ranges, and the values where functions change course."""
    rng = np.random.default_rng(7)
    info = np.finfo(dtype)
    integer = np.int32 if dtype == "float32" else np.int64
    bits = rng.integers(np.iinfo(integer).min, np.iinfo(integer).max, 40_000, dtype=integer).view(dtype)
    limits = (info.tiny, info.smallest_subnormal, info.max, -info.tiny, -info.smallest_subnormal, -info.max)
    ranges = [rng.uniform(-width, width, 20_000) for width in (1e-3, 1.0, 4.0, 30.0, 110.0, 750.0, 1e5)]
    near_one = 1 + rng.normal(0, 0.01, 20_000)
    with np.errstate(invalid="ignore"):  # some of the bits are signalling NaN
        return np.concatenate([SPECIAL, limits, bits, *ranges, near_one]).astype(dtype)


def errors_in_ulp(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance to the exact value in units in the last place; infinite where signs, infinities or NaN differ."""
    expected = exact.astype(got.dtype)
    unit = np.spacing(np.abs(np.where(np.isfinite(expected), expected, 1)))
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    error = np.abs(np.where(same, 0, got.astype(exact.dtype) - exact) / unit)
    signs_differ = (np.signbit(got) != np.signbit(expected)) & ~np.isnan(expected)
    return np.where(signs_differ | (np.isfinite(got) != np.isfinite(expected)), np.inf, error)


@pytest.fixture
def all_functions(target: str, dtype: str) -> cpu.NativeKernel:
    """One kernel that applies every function to each row. The minimum over one column keeps NaN and -0."""
    lines = "\n".join(f"out[{k}] = {name}(r[0]);" for k, name in enumerate(FUNCTIONS))
    reduction = f"Extremum<{len(FUNCTIONS)}, Order::smallest, Outputs::values>"
    return load(formula(1, 0, len(FUNCTIONS), lines), reduction, dtype)


def test_functions_are_within_two_ulp(all_functions: cpu.NativeKernel, dtype: str) -> None:
    if np.finfo(WIDER[dtype]).eps >= np.finfo(dtype).eps:
        pytest.skip("NumPy has no wider format than float64 here")
    x = arguments(dtype)
    got = run(all_functions, x[:, None], np.zeros((1, 1), dtype)).values
    with np.errstate(all="ignore"):
        for k, name in enumerate(FUNCTIONS):
            error = errors_in_ulp(got[:, k], getattr(np, name)(x.astype(WIDER[dtype])))
            worst = int(np.argmax(error))
            assert error[worst] <= TOLERANCE, (
                f"{name}({x[worst]!r}) = {got[worst, k]!r}: {error[worst]} ulp off"
            )


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
