"""Owns what people look at: the text of a kernel, and what the engine found on this machine. Computes nothing."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .backends import cuda
from .backends.threads import get_num_threads
from .compilation import Compiler, cache_directory, compiler_flags, find_compiler
from .cuda_printing import OPTIONS, print_cuda_kernel
from .errors import BackendError
from .execution import BACKENDS
from .formula_text import print_formula
from .lazy_tensor import LazyTensor
from .machine_code import inspect_kernel
from .planning import Plan, make_plan
from .printing import print_kernel
from .reductions import choose_accumulate


@dataclass(frozen=True)
class Explanation:
    """What a reduction compiles to; print it to read it.

    Attributes
    ----------
    formula : the simplified formula, as people write it.
    source : the exact text that is compiled.
    kernel_name : its entry point, also the name that profilers show.
    options : the compiler's flags.
    registers, spill_bytes, local_bytes : of a thread of a CUDA kernel; 0 for other targets.
    shared_bytes : of a block of a CUDA kernel.
    instructions_per_pair : of the inner loop of a CUDA kernel, for one row and one column, when a selection inserts
        nothing.
    """

    formula: str
    source: str
    kernel_name: str
    options: tuple[str, ...]
    registers: int = 0
    spill_bytes: int = 0
    local_bytes: int = 0
    shared_bytes: int = 0
    instructions_per_pair: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"formula: {self.formula}",
            f"kernel:  {self.kernel_name}",
            f"options: {' '.join(self.options)}",
        ]
        if self.registers:
            lines.append(
                f"code:    {self.instructions_per_pair:.2f} instructions per pair, {self.registers} registers, "
                f"{self.spill_bytes} bytes spilled, {self.local_bytes} local, {self.shared_bytes} shared"
            )
        return "\n".join([*lines, "", self.source])


def explain(
    formula: LazyTensor,
    reduction: str = "sum",
    axis: int = 1,
    *,
    count: int | None = None,
    weight: Any = None,
    accumulate: str = "auto",
    target: str = "cpu",
    arch: str = "sm_90",
) -> Explanation:
    """Show the kernel of a reduction without running it.

    Parameters
    ----------
    formula : the matrix that is reduced; its data are not read.
    reduction : a key of the table of reductions: "sum", "logsumexp", "argKmin"...
    axis : as for the reduction itself; 1 reduces j.
    count : the number of neighbours, for reductions that take one.
    weight, accumulate : as for the reduction itself.
    target : "cpu", or "cuda", which needs no GPU but NVRTC and nvdisasm: the packages nvidia-cuda-nvrtc and
        nvidia-cuda-nvdisasm.
    arch : the architecture of the GPU, where the target is "cuda": "sm_90" is an H100.

    Raises
    ------
    BackendError
        If there is no such target, or no compiler.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices import Vi, Vj, explain
    >>> x = np.zeros((10, 3), dtype="float32")
    >>> explanation = explain((-Vi(x).sqdist(Vj(x))).exp(), "sum", axis=1)
    >>> explanation.formula
    'exp(-sqdist(x0, y1))'
    """
    if target not in ("cpu", "cuda"):
        raise BackendError(f"There is no compiled target {target!r}; choose 'cpu' or 'cuda'.")
    arguments = () if count is None else (count,)
    reduced = formula._reduced_axis(reduction, axis)
    tensor, call = formula._call(reduction, arguments, weight, reduced, choose_accumulate(accumulate))
    dtype = formula._context.computed_in or "float32"
    plan = make_plan(tensor._formula, call.reduction, call.axis, dtype)
    if target == "cuda":
        return _explain_cuda(plan, arch)
    printed = print_kernel(plan)
    return Explanation(
        print_formula(plan.formula), printed.source, printed.kernel_name, _flags(find_compiler())
    )


def _explain_cuda(plan: Plan, arch: str) -> Explanation:
    text = print_cuda_kernel(plan)
    report = inspect_kernel(text, arch)
    return Explanation(
        print_formula(plan.formula),
        text.printed.source,
        text.printed.kernel_name,
        (f"--gpu-architecture={arch}", *OPTIONS),
        shared_bytes=text.tiling.shared_bytes,
        **vars(report),
    )


def _flags(compiler: Compiler | None) -> tuple[str, ...]:
    return compiler_flags(compiler) if compiler else ()


@dataclass(frozen=True)
class Configuration:
    """What the engine found on this machine; print it to read it.

    Attributes
    ----------
    backends : names of the backends that can run.
    compiler : the C++ compiler's first line about itself, or "none".
    options : the flags of every kernel.
    threads : threads that a reduction uses.
    cache_folder, cache_bytes : where compiled kernels are kept, and how much space they take.
    """

    backends: tuple[str, ...]
    compiler: str
    options: tuple[str, ...]
    threads: int
    cache_folder: str
    cache_bytes: int

    def __str__(self) -> str:
        return "\n".join(
            (
                f"backends: {', '.join(self.backends)}",
                f"compiler: {self.compiler}",
                f"options:  {' '.join(self.options)}",
                f"threads:  {self.threads}",
                f"cache:    {self.cache_folder} ({self.cache_bytes / 1e6:.1f} MB)",
            )
        )


def show_config() -> Configuration:
    """Describe the machine as the engine sees it.

    Examples
    --------
    >>> from symbolic_matrices import show_config
    >>> print(show_config())
    backends: ...
    compiler: ...
    options: ...
    threads: ...
    cache: ...
    """
    compiler = find_compiler()
    return Configuration(
        backends=tuple(name for name in BACKENDS if _can_run(name)),
        compiler=f"{' '.join(compiler.command)}: {compiler.version.splitlines()[0]}" if compiler else "none",
        options=_flags(compiler),
        threads=get_num_threads(),
        cache_folder=str(cache_directory()),
        cache_bytes=_folder_size(cache_directory()),
    )


def _can_run(backend: str) -> bool:
    """Whether this machine has what a backend needs."""
    if backend == "cpu":
        return find_compiler() is not None
    if backend != "cuda":
        return True
    try:
        cuda.find_cupy()
    except BackendError:
        return False
    return True


def _folder_size(folder: Path) -> int:
    """Bytes below a folder. Files come and go while other processes compile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_size
    return total
