"""Shared by the tests: tolerances in one table, comparisons that raise, random data."""

from __future__ import annotations

import numpy as np

BACKENDS = ("reference", "cpu")
DTYPES = ("float32", "float64")
# relative to the largest entry of the expected array
TOLERANCES = {"float32": 2e-6, "float64": 1e-13, "int64": 0.0}


def assert_close(actual, expected, dtype: str = "float64", factor: float = 1.0) -> None:
    """Shapes, dtypes and values agree, to the tolerance of the dtype."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"shape {actual.shape} instead of {expected.shape}"
    assert actual.dtype == np.dtype(dtype), f"dtype {actual.dtype} instead of {dtype}"
    finite = np.isfinite(expected)
    scale = np.abs(expected[finite]).max() if finite.any() else 1.0
    np.testing.assert_allclose(
        actual.astype("float64"), expected, rtol=0, atol=factor * TOLERANCES[dtype] * max(scale, 1e-30)
    )


def sample(rng: np.random.Generator, shape: tuple[int, ...], interval=(-1.0, 1.0), dtype: str = "float64"):
    low, high = interval
    return rng.uniform(low, high, shape).astype(dtype)
