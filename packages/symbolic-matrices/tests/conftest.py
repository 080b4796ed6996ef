"""Fixtures of all the tests of the package."""

from __future__ import annotations

import numpy as np
import pytest
from matrix_testing import BACKENDS, DTYPES


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param
