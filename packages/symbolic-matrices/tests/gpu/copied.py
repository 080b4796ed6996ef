"""The backend "cuda-copied": the CUDA backend on copies of arrays of the CPU, for machines with a GPU."""

from __future__ import annotations

from dataclasses import replace

from symbolic_matrices.arrays import Array, library_named
from symbolic_matrices.backends import cuda
from symbolic_matrices.backends.cuda import compile
from symbolic_matrices.kernels.problems import Problem

__all__ = ["NAME", "READS_HALVES", "compile", "launch"]
NAME = "cuda-copied"
READS_HALVES = True
DEVICE = "cuda:0"


def launch(kernel: cuda.CudaKernel, problem: Problem) -> tuple[Array, ...]:
    """Tensors stay tensors; NumPy arrays become CuPy's, and come back."""
    if problem.library.name == "torch":
        tensors = tuple(tensor.to(DEVICE) for tensor in problem.arrays)
        return tuple(
            out.cpu() for out in cuda.launch(kernel, replace(problem, arrays=tensors, device=DEVICE))
        )
    library = library_named("cupy")
    arrays = tuple(kernel.cupy.asarray(array) for array in problem.arrays)
    copied = replace(problem, library=library, arrays=arrays, device=DEVICE)
    return tuple(library.to_numpy(out) for out in cuda.launch(kernel, copied))
