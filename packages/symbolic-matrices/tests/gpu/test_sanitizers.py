"""Kernels for GPUs under the address and undefined-behaviour sanitizers, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_emulator.compiler import sanitizer_runtime
from gpu import emulated
from gpu.sanitized import cases, headers_without

pytestmark = emulated.needs_emulator
# Of about the same length, for tests that run side by side.
GROUPS = {
    "extrema": ("plain min", "plain max", "plain arg", "plain K"),
    "sums": ("plain sum", "plain mean", "plain count", "plain any", "plain all", "plain logsumexp", "halves"),
    "products": ("products", "two products"),
    "tensor cores": ("tensor cores",),
    "local": ("local memory",),
    "wide": ("wide",),
}
OUT_OF_BOUNDS = """
import struct
from cuda_emulator.compiler import compile_kernels
text = '''extern "C" __global__ void one_too_far(const float* x) {
    extern __shared__ float4 memory[];
    memory[threadIdx.x].x = 1;
}'''
kernel = compile_kernels(text, sanitize=True)["one_too_far"]
kernel.launch((1,), (5,), [struct.pack("P", 0)], 4 * 16)
"""


def run_with_sanitizers(*arguments: str) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tests), *sys.path]),
        "LD_PRELOAD": sanitizer_runtime(),
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_groups_hold_all_the_cases():
    for name, _ in cases():
        assert sum(name.startswith(prefixes) for prefixes in GROUPS.values()) == 1, name


@pytest.mark.parametrize("group", GROUPS)
def test_every_reduction_and_scheme(group):
    done = run_with_sanitizers("-m", "gpu.sanitized", *GROUPS[group])
    assert done.stdout == "no complaint\n", done.stderr[-3000:]


def test_sanitizers_see_the_end_of_shared_memory():
    done = run_with_sanitizers("-c", OUT_OF_BOUNDS)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


def test_a_barrier_whose_lack_leads_to_wild_addresses(tmp_path):
    """That after the pointers of a problem of the batch are written, which all threads read."""
    headers = headers_without("staging.cuh", 1, tmp_path)
    done = run_with_sanitizers("-m", "gpu.sanitized", "--headers", str(headers), "plain mean")
    assert done.returncode != 0
    assert "runtime error" in done.stderr or "AddressSanitizer" in done.stderr
