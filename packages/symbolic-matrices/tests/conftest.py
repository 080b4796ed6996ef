"""Fixtures of all the tests of the package, and the option that adds a backend to those that visit them all."""

from __future__ import annotations

import numpy as np
import pytest
from gpu import copied, emulated
from matrix_testing import BACKENDS, DTYPES

from symbolic_matrices import execution

MORE_BACKENDS = {emulated.NAME: emulated, copied.NAME: copied}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend", action="append", default=[], choices=list(MORE_BACKENDS),
        help="visit this backend too: kernels for GPUs, in an emulator, or on a GPU with copies of the arrays",
    )  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--backend")
        execution.BACKENDS.update((name, MORE_BACKENDS[name]) for name in chosen)
        metafunc.parametrize("backend", (*BACKENDS, *chosen))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param
