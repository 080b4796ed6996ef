"""The emulator finds what it is there to find: missing and divergent barriers, wrong addresses, wrong arguments."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from cuda_emulator.compiler import EmulationError, compile_kernels
from cuda_emulator.stand_in import make_cupy
from gpu import emulated, formulas
from gpu.sanitized import BARRIER, BARRIERS, headers_without

from symbolic_matrices.arrays import NUMPY
from symbolic_matrices.backends import cuda, reference
from symbolic_matrices.formulas.expressions import Axis, variable
from symbolic_matrices.formulas.operations.pointwise import multiply
from symbolic_matrices.kernels.compilation import NATIVE_FOLDER
from symbolic_matrices.kernels.planning import Plan
from symbolic_matrices.kernels.problems import Problem
from symbolic_matrices.precision import Precision

pytestmark = emulated.needs_emulator
ORDERS = (0, 1, 2, 3)  # ascending, descending, two random ones

EXCHANGES = """
template <class T, int n> __device__ T reversed(T x) {
    __shared__ T tile[n];
    tile[threadIdx.x] = x;
    BARRIER
    return tile[n - 1 - threadIdx.x];
}
extern "C" __global__ void __launch_bounds__(64) exchange(const float* x, float* y, int* count) {
    extern __shared__ float4 memory[];
    float* const tile = reinterpret_cast<float*>(memory);
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = reversed<float, 64>(x[i]);
    __syncthreads();
    float total = tile[threadIdx.x];
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    const unsigned large = __ballot_sync(0xffffffffu, tile[threadIdx.x] > 0.5f);
    if (threadIdx.x % 32 == 0) atomicAdd(count, __builtin_popcount(large));
    y[i] = total + __shfl_down_sync(0xffffffffu, tile[threadIdx.x], 1);
}
extern "C" __global__ void diverge(const float* x) {
    if (threadIdx.x < 32) __syncthreads();
    else if (x)
        __syncthreads();
}
extern "C" __global__ void return_early() {
    if (threadIdx.x < 32) return;
    __syncthreads();
}
"""


def pointers(*arrays: np.ndarray) -> list[bytes]:
    return [struct.pack("P", array.ctypes.data) for array in arrays]


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory_shuffles_votes_and_atomics(order):
    x = np.random.default_rng(0).random(128, "float32")
    y, count = np.zeros_like(x), np.zeros(1, "int32")
    kernels = compile_kernels(EXCHANGES.replace("BARRIER", "__syncthreads();"))
    kernels["exchange"].launch((2,), (64,), pointers(x, y, count), 256, order)
    backwards = x.reshape(2, 64)[:, ::-1].reshape(4, 32)
    next_lane = np.concatenate([backwards[:, 1:], backwards[:, -1:]], 1)
    np.testing.assert_allclose(y.reshape(4, 32), backwards.sum(1, keepdims=True) + next_lane, rtol=1e-6)
    assert count == (x > 0.5).sum()


def test_missing_barriers_read_nan():
    x, y, count = np.ones(64, "float32"), np.zeros(64, "float32"), np.zeros(1, "int32")
    kernel = compile_kernels(EXCHANGES.replace("BARRIER", ""))["exchange"]
    kernel.launch((1,), (64,), pointers(x, y, count), 256)
    assert np.isnan(y).any()


def test_misused_barriers_are_reported():
    kernels = compile_kernels(EXCHANGES.replace("BARRIER", "__syncthreads();"))
    with pytest.raises(EmulationError, match="divergent barriers: threads wait at lines"):
        kernels["diverge"].launch((1,), (64,), pointers(np.zeros(1)))
    with pytest.raises(EmulationError, match="32 of 64 threads returned while the others wait"):
        kernels["return_early"].launch((1,), (64,), [])


def test_launches_that_a_gpu_refuses():
    kernel = compile_kernels(EXCHANGES.replace("BARRIER", "__syncthreads();"))["return_early"]
    with pytest.raises(EmulationError, match="1 to 1024 threads"):
        kernel.launch((1,), (1025,), [])
    with pytest.raises(EmulationError, match="blocks but got"):
        kernel.launch((1, 65536), (1,), [])
    with pytest.raises(EmulationError, match="bytes of shared memory"):
        kernel.launch((1,), (1,), [], 50_000)
    with pytest.raises(EmulationError, match="takes 0 arguments but got 1"):
        kernel.launch((1,), (1,), [b"12345678"])


# Without the second one of staging.cuh, threads read wild addresses: see test_sanitizers.py.
LEFT_OUT = [
    (header, barrier)
    for header, count in BARRIERS.items()
    for barrier in (None, *range(count))
    if (header, barrier) != ("staging.cuh", 1)
]


def test_all_the_barriers_are_known():
    """So that the tests below, and that of the sanitizers, leave out each of them."""
    counts = {path.name: path.read_text().count(BARRIER) for path in NATIVE_FOLDER.glob("*.cuh")}
    assert {name: count for name, count in counts.items() if count} == BARRIERS


def plan_of_loop_nest(header: str) -> Plan:
    """A formula that takes every barrier of a header, with a parameter that differs from problem to problem."""
    if header == "wide.cuh":
        return formulas.wide_softmax(20, "float64")
    scale = variable(2, Axis.PARAMETER, 1)
    if header == "tensor_cores.cuh":
        in_float32 = formulas.plan(multiply(formulas.sqdist(40), scale))
        return replace(in_float32, precision=Precision.TF32X3)
    dim = 40 if header == "products.cuh" else 2
    return formulas.plan(multiply(formulas.sqdist(dim), scale), dtype="float64")


@pytest.mark.parametrize(("header", "barrier"), LEFT_OUT)
def test_a_missing_barrier_of_a_loop_nest_is_noticed(header, barrier, tmp_path, monkeypatch):
    """Some order of the threads then gives other results. One block takes all the problems of a batch."""
    options = (f"--include-path={headers_without(header, barrier, tmp_path)}",)
    monkeypatch.setattr(cuda, "OPTIONS", options)
    monkeypatch.setattr(cuda, "MOST_GRID", (1, 1, 1))
    cuda.choose_launch.cache_clear()
    plan = plan_of_loop_nest(header)
    dim, dtype = plan.variables[0].dim, plan.dtype
    tolerance = 1e-4 if dtype == "float32" else 1e-8
    rng = np.random.default_rng(0)
    arrays = tuple(rng.random(shape, dtype) for shape in ((150, dim), (263, dim), (3, 1, 1)))
    problem = Problem(NUMPY, dtype, "cpu", arrays, 150, 263, (3,))
    (expected,) = reference.launch(plan, problem)
    is_right = []
    for order in ORDERS:
        (got,) = cuda.run(cuda.compile_with(make_cupy(order), plan), problem)
        is_right.append(np.allclose(got, expected, rtol=tolerance))
    cuda.choose_launch.cache_clear()
    assert all(is_right) == (barrier is None)
