"""The host side of the CUDA backend on the real CuPy, with NVIDIA's compiler, on top of an emulated driver.

Each test is a process of its own, as the driver has to be in place before CuPy is imported. What CuPy warns of is an
error. The kernels run in the emulator.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gpu import emulated

from symbolic_matrices.kernels import nvrtc

pytestmark = [
    emulated.needs_emulator,
    pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed"),
    pytest.mark.skipif(not nvrtc.is_available(), reason="there is no NVRTC"),
]

PREAMBLE = """
from types import SimpleNamespace
import numpy as np
from cuda_emulator.driver import Machine, install
machine = Machine()
cupy = install(machine)
from symbolic_matrices import BlockRanges, CompilationError, LazyTensor, Vi, Vj
from symbolic_matrices.arrays import library_named
from symbolic_matrices.backends import cuda
rng = np.random.default_rng(0)

def arrays(*shapes):
    return [rng.random(shape, "float32") for shape in shapes]

def gaussian(x, y, **options):
    return (-LazyTensor(x).sqdist(LazyTensor(y))).exp().sum(axis=x.ndim - 2, **options)

def check(host, **options):
    '''The real CuPy gives what the reference does.'''
    found = gaussian(*map(cupy.asarray, host), **options)
    assert type(found) is cupy.ndarray and found.dtype == "float32"
    np.testing.assert_allclose(found.get(), gaussian(*host, backend="reference", **options), rtol=2e-6)

def launches():
    return [event for event in machine.events if event[0] != "wait"]
"""

REDUCTIONS = """
check(arrays((30, 1, 3), (1, 40, 3)))
check(arrays((300, 1, 40), (1, 90, 40)))                   # products in tiles
check(arrays((20, 1, 3), (1, 5000, 3)))                    # columns in intervals, merged by a second kernel
assert [name.endswith("_merge") for name, *_ in launches()] == [False, False, False, True]
check(arrays((2, 30, 1, 3), (1, 1, 40, 3)))                # a batch
check(arrays((30, 1, 3), (1, 40, 3)), ranges=BlockRanges([[0, 20]], [1], [[5, 30]]))
x, y = arrays((30, 3), (40, 3))
found = Vi(cupy.asarray(x)).sqdist(Vj(cupy.asarray(y))).argKmin(3, axis=1)
assert found.dtype == "int64"
np.testing.assert_array_equal(found.get(), Vi(x).sqdist(Vj(y)).argKmin(3, axis=1, backend="reference"))
strided = cupy.asarray(np.repeat(x, 2, 0))[::2]
np.testing.assert_allclose((Vi(strided) - Vj(cupy.asarray(y))).sum(axis=1).get(), 40 * x - y.sum(0), atol=1e-4)
"""

STREAMS = """
x, y = map(cupy.asarray, arrays((30, 1, 3), (1, 5000, 3)))
gaussian(x, y)
machine.events.clear()
with cupy.cuda.Stream(non_blocking=True) as stream:
    gaussian(x, y)
assert [event[1:] for event in machine.events] == [(0, stream.ptr)] * 2, machine.events  # and nothing waits
with cupy.cuda.Device(1):
    there = [cupy.asarray(array.get()) for array in (x, y)]
machine.events.clear()
found = gaussian(*there)
assert [event[1:] for event in machine.events] == [(1, 0)] * 2, machine.events
assert found.device.id == 1 and machine.current == 0
torch = SimpleNamespace(name="torch", namespace=SimpleNamespace(cuda=SimpleNamespace(
    current_stream=lambda number: SimpleNamespace(cuda_stream=0xABC0 + number))))
with cuda._current_stream(cupy, torch, "cuda:1"):
    assert cupy.cuda.get_current_stream().ptr == 0xABC1 and machine.current == 1
assert cupy.cuda.get_current_stream().ptr == 0 and machine.current == 0
"""

REFUSALS = """
cuda.OPTIONS = ("--include-path=/nowhere",)
try:
    gaussian(*map(cupy.asarray, arrays((30, 1, 3), (1, 40, 3))))
except CompilationError as error:
    assert "sqdist" in str(error) and "reduce.cuh" in str(error), error
else:
    raise AssertionError("compiled")
"""


@pytest.mark.parametrize("script", [REDUCTIONS, STREAMS, REFUSALS], ids=["reductions", "streams", "refusals"])
def test_on_the_real_cupy(script, tmp_path):
    tests = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "CUPY_CACHE_DIR": str(tmp_path / "a folder"),
        "PYTHONPATH": os.pathsep.join([str(tests), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", PREAMBLE + script],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
