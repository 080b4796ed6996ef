"""What a user waits for and pays beside the arithmetic: first calls, the overhead of a small call, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from benchmarking import Figure

from symbolic_matrices import LazyTensor, Vi, Vj

PREAMBLE = """
    import re, resource, time
    from pathlib import Path
    import numpy as np
    from symbolic_matrices import LazyTensor

    def gaussian(n):
        x = np.random.default_rng(0).random((n, 3), dtype=np.float32)
        return (-LazyTensor(x[:, None, :]).sqdist(LazyTensor(x[None, :, :])) * 3.0).exp().sum(axis=1)
"""
FIRST_CALL = """
    start = time.perf_counter()
    gaussian(100)
    print(time.perf_counter() - start)
"""
PEAK = """
    gaussian(100_000)
    status = Path("/proc/self/status")
    if status.exists():  # Linux' getrusage starts from the memory of the parent process
        print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) / 1024)
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def fresh_process(program: str, cache: str) -> float:
    """The number that a program prints, in a new interpreter with its own folder of kernels, and of bytecode."""
    bytecode = {"PYTHONPYCACHEPREFIX": os.path.join(cache, "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    environment = {**os.environ, **bytecode, "SYMBOLIC_MATRICES_CACHE": cache}
    source = textwrap.dedent(PREAMBLE) + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def first_call(warm: bool) -> float:
    """Seconds of the first call of a formula in a process, compiling it or finding it in the cache."""
    seconds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            if warm:
                fresh_process(FIRST_CALL, cache)
            seconds.append(fresh_process(FIRST_CALL, cache))
    return min(seconds)


def peak_memory() -> float:
    """Resident megabytes of a 100k x 100k Gaussian sum."""
    with tempfile.TemporaryDirectory() as cache:
        return fresh_process(PEAK, cache)


def import_time() -> float:
    """Seconds of processor time that ``import symbolic_matrices`` takes once NumPy is there."""
    program = """
        import time, numpy
        start = time.process_time()
        import symbolic_matrices
        print(time.process_time() - start)
    """
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-c", textwrap.dedent(program)]
        runs = [
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            for _ in range(5)
        ]
    return min(float(run.stdout) for run in runs)


def best_milliseconds(call: Callable[[], Any]) -> float:
    """The best of many calls; the first ones compile."""
    milliseconds = []
    for _ in range(500):
        start = time.perf_counter()
        call()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return min(milliseconds)


def product(x: Any, b: Any) -> Any:
    """A Gaussian product of 100 x 100 pairs, its formula included."""
    return (-LazyTensor(x[:, None, :]).sqdist(LazyTensor(x[None, :, :])) * 3.0).exp() @ b


def small_call(module: ModuleType) -> float:
    """Milliseconds of a small product, once it is compiled."""
    return best_milliseconds(partial(product, module.ones((100, 3)), module.ones((100, 1))))


def small_gradient() -> float:
    """Milliseconds of a small product and its gradient, as in the inner loop of an optimisation."""
    x, b = torch.rand(100, 3, requires_grad=True), torch.rand(100, 1)
    return best_milliseconds(lambda: torch.autograd.grad(product(x, b).sum(), x))


def small_neighbors() -> float:
    """Milliseconds to find the five nearest of 100 points for each."""
    x = np.random.default_rng(0).random((100, 3), dtype=np.float32)
    return best_milliseconds(lambda: Vi(x).sqdist(Vj(x)).argKmin(5, axis=1))


def figures() -> Iterator[Figure]:
    """Absolute figures, with their limits."""
    yield Figure("import, beyond NumPy", import_time, "s", limit=0.1)
    yield Figure("first call, compiling", lambda: first_call(warm=False), "s", limit=0.6)
    yield Figure("first call, from the cache", lambda: first_call(warm=True), "s", limit=0.05)
    yield Figure("small call 100 x 100, NumPy", lambda: small_call(np), "ms", limit=0.1)
    yield Figure("small call 100 x 100, PyTorch", lambda: small_call(torch), "ms", limit=0.15)
    yield Figure("small call and gradient 100 x 100, PyTorch", small_gradient, "ms", limit=0.4)
    yield Figure("small call, 5 nearest of 100, NumPy", small_neighbors, "ms", limit=0.1)
    yield Figure("peak memory, 100k x 100k", peak_memory, "MB", limit=500)
