"""Owns what people look at: the text of a kernel, and what the engine found on this machine. Computes nothing."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .arrays import HALVES
from .backends import cuda, search
from .backends.threads import get_num_threads
from .errors import BackendError
from .execution import BACKENDS
from .formulas.reductions import choose_accumulate
from .formulas.text import print_formula
from .kernels.compilation import Compiler, cache_directory, compiler_flags, find_compiler
from .kernels.cuda_printing import OPTIONS, print_cuda_kernel
from .kernels.planning import Formats, Plan, make_plan
from .kernels.printing import print_kernel
from .machine_code.cpu import inspect_cpu_kernel
from .machine_code.cuda import capability_of, inspect_kernel
from .machine_code.instructions import InnerLoop
from .matrices.lazy_tensor import LazyTensor
from .precision import choose_precision


@dataclass(frozen=True)
class Explanation:
    """What a reduction compiles to; print it to read it.

    Attributes
    ----------
    formula : the simplified formula, as people write it.
    source : the exact text that is compiled.
    kernel_name : its entry point, also the name that profilers show.
    options : the compiler's flags.
    loop : the inner loop of the machine code, with the kinds of its instructions and their listing: of a CUDA kernel,
        and of a CPU kernel where ``arch`` was given; else None.
    registers, spill_bytes, local_bytes : of a thread of a CUDA kernel; 0 for other targets.
    shared_bytes : of a block of a CUDA kernel.
    products : the inner products and squared distances that a CUDA kernel computes as products of matrices, and how.
    instructions_per_pair : of the inner loop, for one column and one row of a thread on a GPU, or the rows of a
        register (``loop.lanes``) on a processor; 0 where there is no ``loop``.
    search_source : the text of the search through a tree of boxes that large problems run instead on a processor, where
        the formula has the order for it; else "".
    searched_from : how many rows and as many columns it takes for the search to pay, on the threads there are; 0 where
        it never does.
    """

    formula: str
    source: str
    kernel_name: str
    options: tuple[str, ...]
    loop: InnerLoop | None = None
    registers: int = 0
    spill_bytes: int = 0
    local_bytes: int = 0
    shared_bytes: int = 0
    products: tuple[str, ...] = ()
    search_source: str = ""
    searched_from: int = 0

    @property
    def instructions_per_pair(self) -> float:
        return self.loop.instructions_per_pair if self.loop else 0.0

    def __str__(self) -> str:
        parts = [
            f"formula: {self.formula}",
            f"kernel:  {self.kernel_name}",
            f"options: {' '.join(self.options)}",
        ]
        if self.registers:
            parts.append(
                f"code:    {self.registers} registers, {self.spill_bytes} bytes spilled, {self.local_bytes} local, "
                f"{self.shared_bytes} shared"
            )
        if self.products:
            parts.append(f"products: {'; '.join(self.products)}")
        if self.searched_from:
            parts.append(
                f"search:  a tree of boxes, from some {self.searched_from:,} rows and as many columns on"
            )
        parts += ["", str(self.loop)] if self.loop else []
        parts += ["", self.source]
        parts += ["inner loop:", *self.loop.listing] if self.loop else []
        return "\n".join(parts)


def explain(
    formula: LazyTensor,
    reduction: str = "sum",
    axis: int = 1,
    *,
    count: int | None = None,
    weight: Any = None,
    accumulate: str = "auto",
    precision: str = "auto",
    target: str = "cpu",
    arch: str | None = None,
) -> Explanation:
    """Show the kernel of a reduction without running it.

    Parameters
    ----------
    formula : the matrix that is reduced; its data are not read.
    reduction : a key of the table of reductions: "sum", "logsumexp", "argKmin"...
    axis : as for the reduction itself; 1 reduces j.
    count : the number of neighbours, for reductions that take one.
    weight, accumulate, precision : as for the reduction itself.
    target : "cpu", or "cuda", which needs no GPU but NVRTC and nvdisasm: the packages nvidia-cuda-nvrtc and
        nvidia-cuda-nvdisasm.
    arch : the processor whose machine code is wanted too. Where the target is "cpu": "native", "baseline" (any
        processor of this machine's family), "avx512", "avx2", "sse2" or "neon", as far as the C++ compiler compiles for
        it; clang and the ziglang wheel do for all of them. The code is never run, so that the processor need not be
        here. Where the target is "cuda": "sm_90", the default, is an H100.

    Raises
    ------
    BackendError
        If there is no such target or processor, or the compiler does not know it.
    CompilerNotFoundError
        If machine code is wanted, and there is no compiler.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices import Vi, Vj, explain
    >>> x = np.zeros((10, 3), dtype="float32")
    >>> explanation = explain((-Vi(x).sqdist(Vj(x))).exp(), "sum", axis=1)
    >>> explanation.formula
    'exp(-sqdist(x0, y1))'

    What the compiler makes of it, for a register of pairs:

    >>> loop = explain((-Vi(x).sqdist(Vj(x))).exp(), "sum", axis=1, arch="native").loop
    >>> loop.pairs % loop.lanes
    0
    >>> loop.per_pair("add") >= 3  # three differences
    True
    """
    if target not in ("cpu", "cuda"):
        raise BackendError(f"There is no compiled target {target!r}; choose 'cpu' or 'cuda'.")
    arguments = () if count is None else (count,)
    reduced = formula._reduced_axis(reduction, axis)
    tensor, call = formula._call(reduction, arguments, weight, reduced, choose_accumulate(accumulate))
    dtype = formula._context.computed_in or "float32"
    stored = _stored(tensor, dtype) if target == "cuda" else ()
    formats = Formats(dtype, stored, choose_precision(precision))
    plan = make_plan(tensor._formula, call.reduction, call.axis, formats)
    if target == "cuda":
        return _explain_cuda(plan, arch or "sm_90")
    return _explain_cpu(plan, arch)


def _stored(tensor: LazyTensor, dtype: str) -> tuple[str, ...]:
    """The dtypes of the arrays as kernels for GPUs read them."""
    return tuple(
        binding.stored_dtype if binding.stored_dtype in HALVES and not binding.is_flexible else dtype
        for binding in tensor._bindings
    )


def _explain_cpu(plan: Plan, arch: str | None) -> Explanation:
    printed = print_kernel(plan)
    if arch is None:
        options, loop = _flags(find_compiler()), None
    else:
        options, loop = inspect_cpu_kernel(printed, arch)
    found = search.find(plan)
    return Explanation(
        print_formula(plan.formula), printed.source, printed.kernel_name, options, loop,
        search_source="" if found is None else found.printed.source,
        searched_from=0 if found is None else found.least_size,
    )  # fmt: skip


def _explain_cuda(plan: Plan, arch: str) -> Explanation:
    text = print_cuda_kernel(plan, capability=capability_of(arch))
    report = inspect_kernel(text, arch)
    return Explanation(
        print_formula(plan.formula),
        text.printed.source,
        text.printed.kernel_name,
        (f"--gpu-architecture={arch}", *OPTIONS),
        shared_bytes=text.tiling.shared_bytes,
        products=tuple(map(str, text.products)),
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
