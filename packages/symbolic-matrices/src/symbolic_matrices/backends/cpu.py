"""The CPU backend: compiled kernels of ``native/reduce.hpp``, launched on plain Python threads.

A call into a kernel releases the interpreter's lock, so threads that take tasks from a shared counter are all that is
needed; there is no OpenMP, hence no clash with the threads of other libraries.
"""

from __future__ import annotations

import ctypes
import functools
import math
from array import array as Numbers
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..arrays import Array, ArrayLibrary
from ..errors import BackendError
from ..formulas.reductions import Kind
from ..kernels import compilation
from ..kernels.planning import Plan
from ..kernels.printing import print_kernel
from ..kernels.problems import Problem
from ..sparsity import BlockRanges
from . import search, threads
from .arguments import Arguments, Input
from .loading import LoadedLater
from .task_tables import TaskTable, make_table

READS_HALVES = False
ROW_BLOCK = 512  # rows of a task: enough to pay for staging the columns, few enough to balance the threads
STAGED_BYTES = 1 << 18  # staged rows of a task and their states stay in the L2 cache
# Below, waking a thread (60 to 100 us on two cores) costs more than it saves. Measured, two threads were as fast as one
# at 2^18.5 pairs of a Gaussian in dimension 3 (13 operations each), at 2^16.6 in dimension 64 (74), and at 2^16.7 pairs
# of powers, roots and sines (32): at 4.8, 7.4 and 3.4 million operations.
INLINE_OPERATIONS = 5_000_000
LONG_PAIRS = 1 << 24  # above, the calling thread waits, so that Ctrl-C is heard
LEAST_SPLIT_COLUMNS = 2048  # columns of an interval, where the columns are cut
MOST_COLUMNS = {"float32": (1 << 31) - 1, "float64": (1 << 62)}  # counted in lanes of the dtype's width
PARTIAL_BYTES = 1 << 28  # limit of the memory for partial states
_CANCELLED = 1 << 62
_OUT_OF_MEMORY = 2
_HEADER = 20  # numbers of a call before its lists: the counter of tasks and the fields of ``Problem``
_ALIGNMENT = 64  # of the partial states: vectors are loaded from there


class _NativeTraits(ctypes.Structure):
    """``Traits`` of native/reduce.hpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("group_rows", "state_bytes", "row_bytes", "out_dim")]


class Traits(NamedTuple):
    """What the host must know of a kernel."""

    group_rows: int  # rows that share one state; row blocks are multiples of it
    state_bytes: int  # size of the state of a group
    row_bytes: int  # size of the staged values of one row
    out_dim: int  # numbers written per row
    operations: int = 16  # of a pair, roughly


@dataclass(frozen=True)
class NativeKernel:
    """A loaded kernel; its entry points are called with the address of a ``Problem``."""

    run: Any
    merge: Any
    traits: Traits


@dataclass(frozen=True)
class CpuKernel:
    """The kernel of a plan, and what is looked up of the plan at each call."""

    native: LoadedLater[NativeKernel]
    kinds: tuple[Kind, ...]
    output_shape: tuple[int, ...]
    search: search.TreeSearch | None = None  # what does the same for large problems, where there is one


class Split(NamedTuple):
    """How a problem is cut into tasks: ``blocks`` of rows, each against ``column_splits`` parts of its columns.

    ``groups`` counts the registers of rows of all the blocks. Without a table, the blocks have equal sizes.
    """

    row_block: int
    column_splits: int
    blocks: int
    groups: int
    table: TaskTable | None = None


class _NativeCall:
    """One ``Problem`` of native/reduce.hpp, with the memory that it points to.

    All of it is one block of 64-bit numbers, as structures of ctypes take longer to fill than small kernels to run:
    the counter of tasks, the fields of the problem, then the lists that some fields are the addresses of.
    """

    def __init__(self, kernel: NativeKernel, arguments: Arguments, split: Split) -> None:
        rows, columns, batch_shape, inputs, values, indices, _ = arguments
        rank, count, batches = len(batch_shape), len(inputs), math.prod(batch_shape)
        self._partial: ctypes.Array[ctypes.c_char] | None = None
        partial_states = 0
        if split.column_splits > 1:
            size = split.column_splits * batches * split.groups * kernel.traits.state_bytes
            self._partial = ctypes.create_string_buffer(size + _ALIGNMENT)
            partial_states = -(-ctypes.addressof(self._partial) // _ALIGNMENT) * _ALIGNMENT
        self._table = table = split.table
        tasks, intervals = (table.tasks.ctypes.data, table.intervals.ctypes.data) if table else (0, 0)
        numbers = Numbers("q", [
            0,  # next_task
            rows, columns, batches, rank, 0, count, 0, 0, 0, split.row_block, split.column_splits, partial_states,
            split.groups, values or 0, indices or 0, 0, split.blocks, tasks, intervals,
            *batch_shape, *[given.pointer for given in inputs], *[given.stride for given in inputs],
            *[stride for given in inputs for stride in given.batch_strides],
        ])  # fmt: skip
        self._numbers, start = numbers, numbers.buffer_info()[0]
        shape = start + 8 * _HEADER
        variables = shape + 8 * rank
        strides = variables + 8 * count
        numbers[5], numbers[7], numbers[8], numbers[9] = shape, variables, strides, strides + 8 * count
        numbers[16] = start
        self.address = start + 8

    def cancel(self) -> None:
        self._numbers[0] = _CANCELLED


def compile(plan: Plan) -> CpuKernel:
    """Print, compile and load the kernel of a plan; the first launch decides, where a search may do instead of it."""
    printed = print_kernel(plan)
    native = LoadedLater(lambda: load_kernel(printed.source, printed.kernel_name, plan.operations))
    kernel = CpuKernel(native, plan.reduction.kinds, plan.output_shape, search.find(plan))
    if kernel.search is None:
        native.get()
    return kernel


def load_kernel(source: str, name: str, operations: int = 16) -> NativeKernel:
    """Compile and load a printed kernel, whose pairs take so many operations."""
    library = compilation.load(source)
    run, merge = getattr(library, name), getattr(library, f"{name}_merge")
    for function in (run, merge):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    traits = _NativeTraits()
    getattr(library, f"{name}_traits")(ctypes.byref(traits))
    given = [getattr(traits, name) for name in Traits._fields[:-1]]
    return NativeKernel(run, merge, Traits._make([*given, operations]))


@functools.lru_cache(maxsize=4096)
def choose_split(traits: Traits, rows: int, columns: int, batches: int, thread_count: int) -> Split:
    """Cut a problem into tasks: blocks of rows, and also intervals of columns where there are too few blocks.

    Small enough blocks keep the staged rows in cache and the threads evenly busy; columns are cut only if needed, as
    each cut costs a state per row.
    """
    row_block = _row_block(traits, rows, columns, batches, thread_count)
    blocks, groups = -(-rows // row_block), -(-rows // traits.group_rows)
    splits = _column_splits(
        traits, (blocks * batches, groups * batches), rows * batches, columns, thread_count
    )
    return Split(row_block, splits, blocks, groups)


def split_ranges(traits: Traits, ranges: BlockRanges, rows: int, batches: int, thread_count: int) -> Split:
    """The same for the blocks of a structure, which remembers the answer."""
    return ranges.remember(
        (traits, rows, batches, thread_count),
        lambda: _split_ranges(traits, ranges, rows, batches, thread_count),
    )


def _split_ranges(traits: Traits, ranges: BlockRanges, rows: int, batches: int, thread_count: int) -> Split:
    columns = ranges.pairs // max(1, ranges.covered_rows)
    row_block = _row_block(traits, max(1, ranges.covered_rows), columns, batches, thread_count)
    cover = ranges.cover(rows)
    table = make_table(cover, row_block, traits.group_rows, 1)
    sizes = (table.blocks * batches, table.groups * batches)
    splits = _column_splits(traits, sizes, ranges.covered_rows * batches, columns, thread_count)
    if splits > 1:
        table = make_table(cover, row_block, traits.group_rows, splits)
    return Split(row_block, splits, table.blocks, table.groups, table)


def _is_shared(traits: Traits, pairs: int, thread_count: int) -> bool:
    return thread_count > 1 and pairs * traits.operations > INLINE_OPERATIONS


def _row_block(traits: Traits, rows: int, columns: int, batches: int, thread_count: int) -> int:
    """Rows of a task: a multiple of those that share a register."""
    group = traits.group_rows
    row_bytes = traits.row_bytes + traits.state_bytes // group
    block = min(ROW_BLOCK, STAGED_BYTES // max(1, row_bytes))
    if _is_shared(traits, rows * batches * columns, thread_count):
        # Several tasks per thread, so that few threads idle while the last ones finish.
        block = min(block, max(4 * group, rows * batches // (4 * thread_count)))
    return group * -(-max(1, min(block, rows)) // group)


def _column_splits(traits: Traits, sizes: tuple[int, int], rows: int, columns: int, thread_count: int) -> int:
    """Parts that columns are cut into; ``sizes`` counts the blocks of rows, and the registers of rows in them."""
    blocks, groups = sizes
    if not _is_shared(traits, rows * columns, thread_count) or blocks >= 2 * thread_count:
        return 1
    largest = min(columns // LEAST_SPLIT_COLUMNS, PARTIAL_BYTES // max(1, groups * traits.state_bytes))
    return max(1, min(-(-2 * thread_count // blocks), largest))


def launch(kernel: CpuKernel, problem: Problem) -> tuple[Array, ...]:
    """Run a kernel and return its outputs, one per kind of the reduction."""
    if problem.columns > MOST_COLUMNS[problem.dtype]:
        raise BackendError(
            f"A {problem.dtype} kernel reduces at most {MOST_COLUMNS[problem.dtype]} entries but got "
            f"{problem.columns}; reduce parts of them, or use float64."
        )
    outputs = problem.allocate(kernel.kinds, kernel.output_shape)
    if problem.rows == 0 or 0 in problem.batch_shape:
        return outputs
    library = problem.library
    values = indices = None
    for kind, output in zip(kernel.kinds, outputs, strict=True):
        if kind is Kind.VALUES:
            values = library.pointer(output)
        else:
            indices = library.pointer(output)
    rank = len(problem.batch_shape)
    inputs = [_input(library, array, rank) for array in problem.arrays]
    arguments = Arguments(
        problem.rows, problem.columns, problem.batch_shape, inputs, values, indices, problem.ranges
    )
    if kernel.search is not None and kernel.search.pays(arguments):
        kernel.search.run(arguments)
    else:
        run(kernel.native.get(), arguments)
    return outputs


def _input(library: ArrayLibrary, array: Array, rank: int) -> Input:
    """Where an array of shape (*batch, size, D) lies, seen as one with ``rank`` batch dimensions."""
    strides = library.strides(array)
    if strides[-1] != 1 and array.shape[-1] > 1:
        array = library.contiguous(array)
        strides = library.strides(array)
    if rank == 0:
        return Input(array, library.pointer(array), strides[-2], [])
    own = [0 if size == 1 else stride for size, stride in zip(array.shape[:-2], strides[:-2], strict=True)]
    return Input(array, library.pointer(array), strides[-2], [0] * (rank - len(own)) + own)


def run(kernel: NativeKernel, arguments: Arguments) -> None:
    """Run a kernel on data and write its outputs. Ctrl-C stops it within a fraction of a second."""
    rows, ranges, batches = arguments.rows, arguments.ranges, math.prod(arguments.batch_shape)
    thread_count = threads.get_num_threads()
    if ranges is None:
        pairs = rows * arguments.columns * batches
        split = choose_split(kernel.traits, rows, arguments.columns, batches, thread_count)
    else:
        pairs = ranges.pairs * batches
        split = split_ranges(kernel.traits, ranges, rows, batches, thread_count)
    native = _NativeCall(kernel, arguments, split)
    count = min(thread_count, split.blocks * split.column_splits * batches)
    is_long = pairs > LONG_PAIRS
    if not is_long and (count == 1 or not _is_shared(kernel.traits, pairs, thread_count)):
        outcomes = [kernel.run(native.address)]
    else:
        outcomes = threads.run_on_threads(
            lambda: kernel.run(native.address), count, native.cancel, not is_long
        )
    if _OUT_OF_MEMORY in outcomes:
        raise MemoryError(f"No memory to stage {split.row_block} rows of {kernel.traits.row_bytes} bytes.")
    if split.column_splits > 1:
        kernel.merge(native.address)
