"""What a user waits for and pays beside the arithmetic: first calls, the overhead of a small call, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator

import numpy as np
from benchmarking import Figure

from symbolic_matrices import LazyTensor

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
    """The number that a program prints, in a new interpreter with its own folder of kernels."""
    environment = {**os.environ, "SYMBOLIC_MATRICES_CACHE": cache}
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


def small_call() -> float:
    """Milliseconds to build a formula of 100 x 100 pairs and reduce it, once it is compiled."""
    x = np.random.default_rng(0).random((100, 3), dtype=np.float32)
    milliseconds = []
    for _ in range(200):
        start = time.perf_counter()
        (-LazyTensor(x[:, None, :]).sqdist(LazyTensor(x[None, :, :])) * 3.0).exp().sum(axis=1)
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return min(milliseconds)


def figures() -> Iterator[Figure]:
    """Absolute figures, with their limits."""
    yield Figure("first call, compiling", lambda: first_call(warm=False), "s", limit=0.8)
    yield Figure("first call, from the cache", lambda: first_call(warm=True), "s", limit=0.05)
    yield Figure("small call 100 x 100, NumPy", small_call, "ms", limit=0.1)
    yield Figure("peak memory, 100k x 100k", peak_memory, "MB", limit=500)
