"""The backend "cuda-emulated": the kernels and the host code of the CUDA backend, on arrays in main memory."""

from __future__ import annotations

import functools
import shutil
import sys
from types import ModuleType

import pytest
from cuda_emulator.compiler import compiler_command
from cuda_emulator.stand_in import make_cupy

from symbolic_matrices.arrays import Array
from symbolic_matrices.backends import cuda
from symbolic_matrices.kernels.planning import Plan
from symbolic_matrices.kernels.problems import Problem

NAME = "cuda-emulated"
READS_HALVES = True

needs_emulator = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which(compiler_command()) is None,
    reason="the emulator needs Linux and g++",
)


@functools.cache
def stand_in() -> ModuleType:
    return make_cupy()


def compile(plan: Plan) -> cuda.CudaKernel:
    return cuda.compile_with(stand_in(), plan)


def launch(kernel: cuda.CudaKernel, problem: Problem) -> tuple[Array, ...]:
    """There is neither a stream nor a device to choose: the pointers are those of the CPU."""
    return cuda.run(kernel, problem)
