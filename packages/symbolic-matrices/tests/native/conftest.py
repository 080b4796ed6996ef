"""Fixtures of the native tests: they need a C++ compiler, and visit every vector width that this processor has."""

from __future__ import annotations

import platform

import pytest

from symbolic_matrices.kernels import compilation

TARGETS = {"native": (), "x86-64-v3": ("avx2", "fma"), "x86-64": ()}


@pytest.fixture(autouse=True)
def _need_a_compiler() -> None:
    if compilation.find_compiler() is None:
        pytest.skip("there is no C++ compiler")


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Compile for another processor: other vector widths, other instructions."""
    if request.param != "native":
        if platform.machine().lower() not in ("x86_64", "amd64"):
            pytest.skip(f"{request.param} is a processor of another family")
        if any(feature not in compilation.processor() for feature in TARGETS[request.param]):
            pytest.skip(f"this processor is older than {request.param}")
    monkeypatch.setenv(compilation.TARGET_VARIABLE, request.param)
    return request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param
