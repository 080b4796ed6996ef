"""Fixtures of all the tests of the package, and the option that runs them on another backend than the CPU's."""

from __future__ import annotations

import numpy as np
import pytest
from gpu import copied, emulated
from matrix_testing import BACKENDS, DTYPES

from symbolic_matrices import execution

IN_PLACE_OF_CPU = {emulated.NAME: emulated, copied.NAME: copied}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend", choices=list(IN_PLACE_OF_CPU),
        help="run everything on this backend in place of the CPU's: kernels for GPUs, in an emulator, or on a GPU with "
        "copies of the arrays",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cpu_only: tests what no other backend has; skipped with --backend")
    chosen = config.getoption("--backend", default=None)
    if chosen is not None:
        execution.BACKENDS["cpu"] = execution.BACKENDS[chosen] = IN_PLACE_OF_CPU[chosen]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--backend")
        names = [name if name != "cpu" or chosen is None else chosen for name in BACKENDS]
        metafunc.parametrize("backend", names)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.getoption("--backend")
    for item in items:
        is_cpu_only = item.get_closest_marker("cpu_only") or item.path.parent.name == "native"
        if chosen is not None and is_cpu_only:
            item.add_marker(
                pytest.mark.skip(reason=f"not for {chosen}: tests what only the CPU's backend has")
            )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param
