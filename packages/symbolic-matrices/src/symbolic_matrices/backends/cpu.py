"""The CPU backend: compiled kernels of ``native/reduce.hpp``, launched on plain Python threads.

A call into a kernel releases the interpreter's lock, so threads that take tasks from a shared counter are all that is
needed; there is no OpenMP, hence no clash with the threads of other libraries.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import compilation
from ..arrays import Array, ArrayLibrary
from ..planning import Plan
from ..printing import print_kernel
from ..problems import Problem
from ..reductions import Kind
from . import threads

ROW_BLOCK = 512  # rows of a task: enough to pay for staging the columns, few enough to balance the threads
STAGED_BYTES = 1 << 18  # staged rows of a task stay in the L2 cache
INLINE_PAIRS = 1 << 15  # below, waking a thread costs more than it saves
LONG_PAIRS = 1 << 24  # above, the calling thread waits, so that Ctrl-C is heard
PARTIAL_BYTES = 1 << 28  # limit of the memory for partial states
_CANCELLED = 1 << 62
_OUT_OF_MEMORY = 2
_ALIGNMENT = 64  # of the partial states: vectors are loaded from there


class _NativeProblem(ctypes.Structure):
    """``Problem`` of native/reduce.hpp, field by field."""

    _fields_ = [
        ("rows", ctypes.c_int64), ("columns", ctypes.c_int64), ("batches", ctypes.c_int64),
        ("batch_rank", ctypes.c_int64), ("batch_shape", ctypes.c_void_p),
        ("variable_count", ctypes.c_int64), ("variables", ctypes.c_void_p), ("strides", ctypes.c_void_p),
        ("batch_strides", ctypes.c_void_p), ("row_block", ctypes.c_int64), ("column_splits", ctypes.c_int64),
        ("partial_states", ctypes.c_void_p), ("values", ctypes.c_void_p), ("indices", ctypes.c_void_p),
        ("next_task", ctypes.c_void_p),
    ]  # fmt: skip


class _NativeTraits(ctypes.Structure):
    """``Traits`` of native/reduce.hpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("group_rows", "state_bytes", "row_bytes", "out_dim")]


@dataclass(frozen=True)
class NativeKernel:
    """A loaded kernel.

    Attributes
    ----------
    run, merge : entry points, called with the address of a ``_NativeProblem``.
    group_rows : rows that share one state; row blocks are multiples of it.
    state_bytes : size of the state of a group.
    row_bytes : size of the staged values of one row.
    out_dim : numbers written per row.
    """

    run: Any
    merge: Any
    group_rows: int
    state_bytes: int
    row_bytes: int
    out_dim: int


@dataclass(frozen=True)
class CpuKernel:
    """The kernel of a plan."""

    plan: Plan
    native: NativeKernel


class Input(NamedTuple):
    """Where a variable lies; strides count elements."""

    array: Array  # kept alive
    pointer: int
    stride: int  # from one row or column to the next
    batch_strides: list[int]  # one per batch dimension, 0 where it is broadcast


class Arguments(NamedTuple):
    """What a kernel runs on: sizes, inputs in the order of the formula's variables, addresses of the outputs."""

    rows: int
    columns: int
    batch_shape: tuple[int, ...]
    inputs: list[Input]
    values: int | None
    indices: int | None


class Split(NamedTuple):
    """How a problem is cut into tasks."""

    row_block: int
    column_splits: int
    tasks: int


class _NativeCall:
    """One ``_NativeProblem``, with the memory that it points to."""

    def __init__(self, kernel: NativeKernel, arguments: Arguments, split: Split) -> None:
        rows, columns, batch_shape, inputs, values, indices = arguments
        rank, count, batches = len(batch_shape), len(inputs), math.prod(batch_shape)
        numbers = [0, *batch_shape]
        numbers += [given.pointer for given in inputs]
        numbers += [given.stride for given in inputs]
        for given in inputs:
            numbers += given.batch_strides
        self._numbers = (ctypes.c_int64 * len(numbers))(*numbers)
        start = ctypes.addressof(self._numbers)
        shape = start + 8  # the first number is the shared counter of tasks
        variables = shape + 8 * rank
        self._partial: ctypes.Array[ctypes.c_char] | None = None
        partial_states = None
        if split.column_splits > 1:
            groups = -(-rows // kernel.group_rows)
            size = split.column_splits * batches * groups * kernel.state_bytes
            self._partial = ctypes.create_string_buffer(size + _ALIGNMENT)
            partial_states = -(-ctypes.addressof(self._partial) // _ALIGNMENT) * _ALIGNMENT
        self._problem = _NativeProblem(
            rows, columns, batches, rank, shape, count, variables, variables + 8 * count, variables + 16 * count,
            split.row_block, split.column_splits, partial_states, values, indices, start,
        )  # fmt: skip
        self.address = ctypes.addressof(self._problem)

    def cancel(self) -> None:
        self._numbers[0] = _CANCELLED


def compile(plan: Plan) -> CpuKernel:
    """Print, compile and load the kernel of a plan."""
    printed = print_kernel(plan)
    return CpuKernel(plan, load_kernel(printed.source, printed.kernel_name))


def load_kernel(source: str, name: str) -> NativeKernel:
    """Compile and load a printed kernel."""
    library = compilation.load(source)
    run, merge = getattr(library, name), getattr(library, f"{name}_merge")
    for function in (run, merge):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    traits = _NativeTraits()
    getattr(library, f"{name}_traits")(ctypes.byref(traits))
    return NativeKernel(run, merge, traits.group_rows, traits.state_bytes, traits.row_bytes, traits.out_dim)


def choose_split(kernel: NativeKernel, rows: int, columns: int, batches: int, thread_count: int) -> Split:
    """Cut a problem into tasks: blocks of rows, and also intervals of columns where there are too few blocks.

    Small enough blocks keep the staged rows in cache and the threads evenly busy; columns are cut only if needed, as each
    cut costs a state per row.
    """
    group = kernel.group_rows
    largest = min(ROW_BLOCK, max(group, STAGED_BYTES // max(1, kernel.row_bytes)))
    if thread_count > 1 and rows * columns * batches > INLINE_PAIRS:
        wanted = 4 * thread_count  # tasks: the last ones to finish leave few threads idle
        largest = min(largest, max(4 * group, math.ceil(rows * batches / wanted)))
    row_block = group * math.ceil(min(largest, rows) / group)
    blocks = math.ceil(rows / row_block) * batches
    splits = 1
    if thread_count > 1 and blocks < 2 * thread_count:
        splits = max(1, min(math.ceil(2 * thread_count / blocks), columns // 2048))
    state_bytes = math.ceil(rows / group) * batches * kernel.state_bytes
    splits = max(1, min(splits, PARTIAL_BYTES // max(1, state_bytes)))
    return Split(row_block, splits, blocks * splits)


def launch(kernel: CpuKernel, problem: Problem) -> tuple[Array, ...]:
    """Run a kernel and return its outputs, one per kind of the reduction."""
    kinds = kernel.plan.reduction.kinds
    outputs = problem.allocate(kinds, kernel.plan.output_shape)
    batches = math.prod(problem.batch_shape)
    if problem.rows == 0 or batches == 0:
        return outputs
    library = problem.library
    inputs = [_inputs(library, array, len(problem.batch_shape)) for array in problem.arrays]
    pointers = {kind: library.pointer(output) for kind, output in zip(kinds, outputs, strict=True)}
    arguments = Arguments(
        problem.rows, problem.columns, problem.batch_shape, inputs,
        pointers.get(Kind.VALUES), pointers.get(Kind.INDICES),
    )  # fmt: skip
    run(kernel.native, arguments)
    return outputs


def _inputs(library: ArrayLibrary, array: Array, rank: int) -> Input:
    """Where an array of shape (*batch, size, D) lies, seen as one with ``rank`` batch dimensions."""
    strides = library.strides(array)
    if array.shape[-1] > 1 and strides[-1] != 1:
        array = library.contiguous(array)
        strides = library.strides(array)
    own = [0 if size == 1 else stride for size, stride in zip(array.shape[:-2], strides[:-2], strict=True)]
    return Input(array, library.pointer(array), strides[-2], [0] * (rank - len(own)) + own)


def run(kernel: NativeKernel, arguments: Arguments) -> None:
    """Run a kernel on data and write its outputs. Ctrl-C stops it within a fraction of a second."""
    batches = math.prod(arguments.batch_shape)
    pairs = arguments.rows * arguments.columns * batches
    thread_count = threads.get_num_threads()
    split = choose_split(kernel, arguments.rows, arguments.columns, batches, thread_count)
    native = _NativeCall(kernel, arguments, split)
    count = min(thread_count, split.tasks)
    is_long = pairs > LONG_PAIRS
    if pairs <= INLINE_PAIRS or (count == 1 and not is_long):
        outcomes = [kernel.run(native.address)]
    else:
        outcomes = threads.run_on_threads(
            lambda: kernel.run(native.address), count, native.cancel, not is_long
        )
    if _OUT_OF_MEMORY in outcomes:
        raise MemoryError(f"No memory to stage {split.row_block} rows of {kernel.row_bytes} bytes.")
    if split.column_splits > 1:
        kernel.merge(native.address)
