"""The CUDA backend: compiled kernels of ``native/*.cuh``, launched through CuPy on arrays of CuPy and PyTorch.

A launch runs on the caller's current stream and device, does not synchronise, and sends nothing but one structure by
value: it can be captured in a CUDA graph. Outputs come from the caller's own library.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, ArrayLibrary
from ..errors import BackendError, CompilationError
from ..formulas.reductions import Kind
from ..kernels.cuda_printing import (
    OPTIONS,
    OPTIONS_OF_CUPY,
    CudaText,
    Tiling,
    headers_digest,
    print_cuda_kernel,
)
from ..kernels.planning import Plan
from ..kernels.problems import Problem
from ..profiling import measure_compilation
from ..sparsity import BlockRanges
from .batches import MOST_BATCH_DIMS, batch_dims, parts_of
from .task_tables import make_table

READS_HALVES = True
MOST_BATCHES = (1 << 32) - 1  # counted in 32 bits
MOST_GRID = ((1 << 31) - 1, (1 << 16) - 1, (1 << 16) - 1)
LEAST_SPLIT_COLUMNS = 1024  # columns of an interval, where the columns are cut
PARTIAL_BYTES = 1 << 28  # limit of the memory for partial states
REGISTERS = 1 << 16  # of a multiprocessor
LEAST_DRIVER = 12000  # CUDA 12.0

_NO_CUPY = (
    "Reductions on a GPU need CuPy, which is not installed: `pip install symbolic-matrices[cuda13]`, or [cuda12], by "
    "the CUDA version that nvidia-smi shows. Or move the arrays to the CPU, or pass backend='reference'."
)


class LaunchShape(NamedTuple):
    """How a problem is cut: blocks of rows, problems of the batch, intervals of columns."""

    blocks: int
    grid: tuple[int, int, int]
    column_splits: int
    split_columns: int  # of all the intervals but the last


@dataclass(frozen=True)
class Variant:
    """A kernel that is compiled for a number of rows per thread and a capability of the GPU, and the one that merges
    its partial states."""

    text: CudaText
    run: Any
    merge: Any


@dataclass(frozen=True)
class CudaKernel:
    """The kernel of a plan, and what is looked up of the plan at each call. Variants are compiled when first needed."""

    cupy: ModuleType
    plan: Plan
    kinds: tuple[Kind, ...]
    output_shape: tuple[int, ...]
    variants: dict[tuple[int, int], Variant] = field(default_factory=dict, compare=False)
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False)


def compile(plan: Plan) -> CudaKernel:
    """Print and compile the kernel of a plan for the current device.

    Raises
    ------
    BackendError : CuPy, a GPU, or a recent enough driver is missing.
    CompilationError : NVRTC is missing, or refused the text.
    """
    return compile_with(find_cupy(), plan)


def launch(kernel: CudaKernel, problem: Problem) -> tuple[Array, ...]:
    """Run a kernel on the caller's current stream and return its outputs, one per kind of the reduction."""
    with _current_stream(kernel.cupy, problem.library, problem.device):
        return run(kernel, problem)


# ---------------------------------------------------------------------------- CuPy


def find_cupy() -> ModuleType:
    """CuPy, with a GPU that it can use."""
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        raise BackendError(_NO_CUPY) from error
    except (ImportError, OSError) as error:  # it makes a folder for compiled kernels: see CUPY_CACHE_DIR
        raise BackendError(f"Reductions on a GPU need CuPy, but importing it failed: {error}") from error
    runtime = cupy.cuda.runtime
    try:
        driver, count = runtime.driverGetVersion(), runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise BackendError(
            f"CuPy finds no GPU that it can use ({error}). Check with nvidia-smi that there is one and that its driver "
            "is at least as recent as CuPy's CUDA; or move the arrays to the CPU."
        ) from error
    if driver < LEAST_DRIVER:
        raise BackendError(
            f"The GPU's driver supports CUDA {driver // 1000}.{driver % 1000 // 10}, but kernels need CUDA "
            f"{LEAST_DRIVER // 1000}.0 or later; update the driver, or move the arrays to the CPU."
        )
    if count == 0:
        raise BackendError("CuPy finds no GPU; move the arrays to the CPU.")
    return cupy


class _ForeignStream(NamedTuple):
    """A stream of another library, in the words of the CUDA stream protocol."""

    pointer: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


@contextlib.contextmanager
def _current_stream(cupy: ModuleType, library: ArrayLibrary, device: str) -> Iterator[None]:
    """Make CuPy launch where the arrays are, on the stream that their library works on."""
    number = int(device.removeprefix("cuda:"))
    with cupy.cuda.Device(number):
        if library.name == "torch":
            stream = _ForeignStream(library.namespace.cuda.current_stream(number).cuda_stream)
            with cupy.cuda.Stream.from_external(stream):
                yield
        else:
            yield


def compile_with(cupy: ModuleType, plan: Plan) -> CudaKernel:
    """The kernel of a plan, for a given CuPy."""
    kernel = CudaKernel(cupy, plan, plan.reduction.kinds, plan.output_shape)
    _variant(kernel, print_cuda_kernel(plan).tiling.rows, cupy.cuda.runtime.getDevice())
    return kernel


def _variant(kernel: CudaKernel, rows_per_thread: int, device: int) -> Variant:
    """The variant for a number of rows per thread and what a device is capable of."""
    key = (rows_per_thread, _device(kernel.cupy, device).capability)
    with kernel.lock:
        if key not in kernel.variants:
            text = print_cuda_kernel(kernel.plan, *key)
            # CuPy keeps compiled kernels on disk by their text and options: the headers have to be part of them.
            own = [option for option in OPTIONS if option not in OPTIONS_OF_CUPY]  # NVRTC refuses repetitions
            options = (*own, f"--define-macro=SM_HEADERS_{headers_digest()}")
            names = (text.printed.kernel_name, text.merge_name)
            run, merge = (kernel.cupy.RawKernel(text.printed.source, name, options) for name in names)
            with measure_compilation():
                _compile_now(kernel.cupy, run, text)
            kernel.variants[key] = Variant(text, run, merge)
        return kernel.variants[key]


def _compile_now(cupy: ModuleType, raw_kernel: Any, text: CudaText) -> None:
    """Compile a kernel rather than wait for its first launch."""
    formula = text.printed.source.partition("\n")[0].removeprefix("//").strip()
    try:
        raw_kernel.compile()
    except cupy.cuda.compiler.CompileException as error:
        is_old = "--gpu-architecture" in str(error)
        advice = (
            "\nCUDA 13 knows no GPU older than Turing: use symbolic-matrices[cuda12] there." if is_old else ""
        )
        raise CompilationError(
            f"NVRTC refused the kernel of: {formula}\nIt said:\n{error}{advice}"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise CompilationError(
            f"The kernel of {formula} could not be compiled: {error}\nIf NVRTC or CUDA's headers are missing, install "
            "them with `pip install symbolic-matrices[cuda13]`, or [cuda12]."
        ) from error


# ---------------------------------------------------------------------------- launches


def choose_rows(most_rows: int, threads: int, rows: int) -> int:
    """Rows of a thread: as many as the tiling likes, unless most of a block would have none."""
    rows_per_thread = most_rows
    while rows_per_thread > 1 and rows_per_thread * threads > rows:
        rows_per_thread //= 2
    return rows_per_thread


@functools.lru_cache(maxsize=4096)
def choose_launch(
    tiling: Tiling, sizes: tuple[int, int, int], registers: int, multiprocessors: int
) -> LaunchShape:
    """Cut a problem of (rows, columns, batches): the columns too, where rows alone leave multiprocessors idle."""
    rows, columns, batches = sizes
    blocks = -(-rows // (tiling.rows * tiling.threads))
    shares = blocks * tiling.chunks
    resident = max(1, REGISTERS // max(1, registers * tiling.threads))
    wanted = -(-multiprocessors * resident // (shares * batches))
    state_bytes = rows * batches * tiling.state_bytes
    splits = max(1, min(wanted, columns // LEAST_SPLIT_COLUMNS, PARTIAL_BYTES // max(1, state_bytes)))
    tiles = -(-columns // (splits * tiling.tile_columns))
    split_columns = max(1, tiles) * tiling.tile_columns
    splits = max(1, -(-columns // split_columns))
    grid = tuple(min(size, most) for size, most in zip((shares, batches, splits), MOST_GRID, strict=True))
    return LaunchShape(blocks, (grid[0], grid[1], grid[2]), splits, split_columns)


class Tables(NamedTuple):
    """The tasks and intervals of a block-sparse problem, on the device; see :mod:`.task_tables`."""

    shape: LaunchShape
    tasks: Array | None = None
    intervals: Array | None = None


def _tables(cupy: ModuleType, problem: Problem, tiling: Tiling, device: tuple[int, int]) -> Tables:
    """How to launch a problem on a device of so many registers of a kernel's thread, and multiprocessors.

    A structure is cut and copied to the device once. CuPy's memory belongs to a stream, hence each stream has its copy.
    """
    batches, ranges, library = math.prod(problem.batch_shape), problem.ranges, problem.library
    if ranges is None:
        return Tables(choose_launch(tiling, (problem.rows, problem.columns, batches), *device))
    stream = cupy.cuda.get_current_stream()
    key = (
        "cuda", tiling, problem.rows, batches, device, library.name, problem.device,
        stream.ptr if library.name == "cupy" else 0,
    )  # fmt: skip

    def build() -> Tables:
        if stream.is_capturing():
            raise BackendError(
                "A graph cannot capture the first reduction over block ranges, which copies tables to the GPU; run it "
                "once on this stream beforehand, and keep the BlockRanges as long as the graph."
            )
        return _make_tables(problem, ranges, tiling, device)

    return ranges.remember(key, build)


def _make_tables(problem: Problem, ranges: BlockRanges, tiling: Tiling, device: tuple[int, int]) -> Tables:
    """The splits are those of a dense problem with as many columns as a covered row has on average."""
    batches, covered = math.prod(problem.batch_shape), max(1, ranges.covered_rows)
    shape = choose_launch(tiling, (covered, ranges.pairs // covered, batches), *device)
    table = make_table(ranges.cover(problem.rows), tiling.rows * tiling.threads, 1, shape.column_splits)
    shape = shape._replace(
        blocks=table.blocks, grid=(min(table.blocks * tiling.chunks, MOST_GRID[0]), *shape.grid[1:])
    )
    tasks, intervals = (
        problem.library.convert(array, "int64", problem.device) for array in (table.tasks, table.intervals)
    )
    return Tables(shape, tasks, intervals)


def run(kernel: CudaKernel, problem: Problem) -> tuple[Array, ...]:
    """Run a kernel on CuPy's current stream and device."""
    _check(problem)
    outputs = problem.allocate(kernel.kinds, kernel.output_shape)
    if problem.rows == 0 or 0 in problem.batch_shape:
        return outputs
    widest = print_cuda_kernel(kernel.plan).tiling
    rows_per_thread = choose_rows(widest.rows, widest.threads, problem.rows)
    variant = _variant(kernel, rows_per_thread, _device_number(problem))
    # Copies live until the launch: another thread must not get their memory before.
    problem = replace(problem, arrays=tuple(_contiguous(problem.library, array) for array in problem.arrays))
    for part in parts_of(problem, outputs, variant.text.variable_count):
        _launch(kernel, variant, *part)
    return outputs


def _launch(kernel: CudaKernel, variant: Variant, problem: Problem, outputs: tuple[Array, ...]) -> None:
    """Run a kernel, and the one that merges its partial states if there are any."""
    tiling, batches = variant.text.tiling, math.prod(problem.batch_shape)
    tables, partial = _prepare(kernel, variant, problem)
    shape = tables.shape
    pointers = {kind: problem.library.pointer(out) for kind, out in zip(kernel.kinds, outputs, strict=True)}
    arguments = (_pack(variant.text, problem, tables, pointers, partial),)
    block = (tiling.threads, 1, 1)
    variant.run(shape.grid, block, arguments, shared_mem=tiling.shared_bytes)
    if shape.column_splits > 1:
        merging = min(-(-problem.rows * batches * tiling.components // tiling.threads), MOST_GRID[0])
        variant.merge((merging, 1, 1), block, arguments)
    for table in (tables.tasks, tables.intervals):
        if table is not None:
            problem.library.keep_until_done(table)


def _prepare(kernel: CudaKernel, variant: Variant, problem: Problem) -> tuple[Tables, Array | None]:
    """How to cut a problem, and memory for its partial states; where there is none left, the columns stay whole.

    Memory that is given back while a kernel still reads it is used again on the same stream only, hence later.
    """
    tiling, registers, library = variant.text.tiling, variant.run.num_regs, problem.library
    multiprocessors = _device(kernel.cupy, _device_number(problem)).multiprocessors
    tables = _tables(kernel.cupy, problem, tiling, (registers, multiprocessors))
    if tables.shape.column_splits == 1:
        return tables, None
    states = tables.shape.column_splits * math.prod(problem.batch_shape) * problem.rows
    try:
        return tables, library.empty((states * tiling.state_bytes // 8,), "int64", problem.device)
    except library.out_of_memory:
        return _tables(kernel.cupy, problem, tiling, (registers, 0)), None


def _check(problem: Problem) -> None:
    if math.prod(problem.batch_shape) > MOST_BATCHES:
        raise BackendError(
            f"Kernels for GPUs take at most {MOST_BATCHES} problems at once but the batch {problem.batch_shape} holds "
            f"{math.prod(problem.batch_shape)}; reduce parts of it."
        )


def _device_number(problem: Problem) -> int:
    return int(problem.device.removeprefix("cuda:")) if problem.device.startswith("cuda:") else 0


class Device(NamedTuple):
    """What kernels and launches depend on, of a GPU; its capability is 90 for sm_90."""

    multiprocessors: int
    capability: int


@functools.lru_cache(maxsize=64)  # CuPy asks the driver for a hundred attributes at each look
def _device(cupy: ModuleType, number: int) -> Device:
    device = cupy.cuda.Device(number)
    return Device(int(device.attributes["MultiProcessorCount"]), int(device.compute_capability))


def _pack(
    text: CudaText, problem: Problem, tables: Tables, pointers: dict[Kind, int], partial: Array | None
) -> np.ndarray:
    """``Problem`` of native/staging.cuh, field by field; CuPy passes it by value."""
    library, shape = problem.library, tables.shape
    count = text.variable_count
    used = problem.arrays[:count]
    missing = count - len(used)
    batch = batch_dims(problem, count)
    rank = len(batch.shape)
    padding = (0,) * (MOST_BATCH_DIMS - rank)
    batch_strides = [strides + padding for strides in batch.strides] + [(0,) * MOST_BATCH_DIMS] * missing
    numbers = [
        problem.rows, problem.columns, math.prod(problem.batch_shape),
        shape.blocks, shape.column_splits, shape.split_columns,
        *(0 if array is None else library.pointer(array) for array in (tables.tasks, tables.intervals)),
        pointers.get(Kind.VALUES, 0), pointers.get(Kind.INDICES, 0),
        0 if partial is None else library.pointer(partial),
        rank, *batch.shape, *[1] * (MOST_BATCH_DIMS - rank),
        *(library.pointer(array) for array in used), *[0] * missing,
        *(library.strides(array)[-2] for array in used), *[0] * missing,
        *(stride for strides in batch_strides for stride in strides),
    ]  # fmt: skip
    packed = np.array(numbers, dtype="uint64" if max(numbers) >= 1 << 63 else "int64")
    return packed.view(f"V{packed.nbytes}")


def _contiguous(library: ArrayLibrary, array: Array) -> Array:
    """The array, or a copy whose components are neighbours."""
    return library.contiguous(array) if library.strides(array)[-1] != 1 and array.shape[-1] > 1 else array
