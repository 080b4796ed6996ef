"""Owns the search for the nearest columns through a tree of boxes, ``native/search.hpp``, and when it pays."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..kernels import compilation
from ..kernels.planning import Plan
from ..kernels.printing import PrintedKernel
from ..kernels.pruning import Search, find_search, print_search
from . import threads
from .arguments import Arguments
from .loading import LoadedLater

MOST_BYTES = 1 << 26  # limit of the memory for the trees of the problems that are searched at once
LONG_POINTS = 1 << 17  # rows and columns; above, the calling thread waits, so that Ctrl-C is heard
MOST_NEIGHBOURS = 1024  # the running lists of a register of rows stay in the cache, and on the stack
MOST_ROWS = (1 << 31) - 1  # their numbers are kept in lanes of 32 bits
TILE_COLUMNS, PACKET_ROWS = 32, 16  # of native/search.hpp
# Times in units of that of a pair in dimension 3, fitted to 52 measured problems and batches in dimensions 2, 3 and 6.
ROW, INSERTION = 12, 47  # pair by pair
NEAR_ROW, NEAR_PAIR, NEAR_INSERTION = 43, 3, 20  # through the tree
POINT, POINT_LEVEL = 206, 37  # arranged
LEAST_GAIN = 1.2
LEAST_PAIRS = 1 << 19  # below, waking the threads twice costs what is gained
_CANCELLED = 1 << 62


class _NativeSearch(ctypes.Structure):
    """``Search`` of native/search.hpp, field by field."""

    _fields_ = [
        ("rows", ctypes.c_int64), ("columns", ctypes.c_int64), ("batches", ctypes.c_int64),
        ("variables", ctypes.c_void_p), ("strides", ctypes.c_void_p),
        ("variable_count", ctypes.c_int64), ("memory", ctypes.c_void_p),
        ("values", ctypes.c_void_p), ("indices", ctypes.c_void_p), ("next_task", ctypes.c_void_p),
    ]  # fmt: skip


class NativeSearch(NamedTuple):
    """A loaded search; its entry points are called with the address of a ``_NativeSearch``."""

    bytes: Any
    arrange: Any
    run: Any


def load_search(source: str, name: str) -> NativeSearch:
    """Compile and load a printed search."""
    library = compilation.load(source)
    native = NativeSearch(*(getattr(library, f"{name}_{part}") for part in NativeSearch._fields))
    for function in native:
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    native.bytes.restype = ctypes.c_int64
    return native


def visited_columns(dim: int, count: int, rows: int, columns: int) -> float:
    """Columns that a row meets on its way to the K nearest of uniform points of a cube, which are the hardest.

    These are the columns of the tiles that meet a cube: that of the rows of a packet, and of the balls around them that
    hold K columns. The unit of length is the edge of a cube that holds one column.
    """
    ball = math.pi ** (dim / 2) / math.gamma(dim / 2 + 1)
    tile, packet, near = TILE_COLUMNS, PACKET_ROWS * columns / rows, count / ball
    edge = tile ** (1 / dim) + packet ** (1 / dim) + 2 * near ** (1 / dim)
    missed = max(0.0, 1 - edge / 2 / columns ** (1 / dim))
    return columns * (1 - missed**2) ** dim


@functools.lru_cache(maxsize=4096)
def expected_gain(dim: int, count: int, sizes: tuple[int, int, int], thread_count: int) -> float:
    """How many times faster than visiting all the pairs a search may be: an estimate for uniform points.

    ``sizes`` are rows, columns, and problems of the batch.
    """
    rows, columns, batches = sizes
    visited, pair = visited_columns(dim, count, rows, columns), (dim + 2) / 5
    # Random columns enter a list of the K smallest K (1 + log(N / K)) times.
    inserted, near_inserted = (
        count * (1 + math.log(max(1.0, number / count))) for number in (columns, visited)
    )
    arrangements = [size * (POINT + POINT_LEVEL * math.log2(max(size, 64) / 32)) for size in (rows, columns)]
    # Each side of each problem is arranged by one thread, while the others may have nothing to do.
    arranged = max(sum(arrangements), max(arrangements) * thread_count / batches) / rows
    everywhere = ROW + pair * columns + INSERTION * inserted
    return everywhere / (NEAR_ROW + NEAR_PAIR * pair * visited + NEAR_INSERTION * near_inserted + arranged)


@dataclass(frozen=True)
class TreeSearch:
    """The search that does what a plan says."""

    plan: Plan
    search: Search
    printed: PrintedKernel
    native: LoadedLater[NativeSearch]

    def pays(self, arguments: Arguments) -> bool:
        """Whether the search is faster than to visit all the pairs."""
        if arguments.ranges is not None:
            return False
        return self._pays(arguments.rows, arguments.columns, math.prod(arguments.batch_shape))

    def _pays(self, rows: int, columns: int, batches: int) -> bool:
        if rows > MOST_ROWS or self.search.count > MOST_NEIGHBOURS or rows * columns * batches < LEAST_PAIRS:
            return False
        return self.expected_gain(rows, columns, batches) > LEAST_GAIN

    @property
    def least_size(self) -> int:
        """The smallest power of 2 of rows, and of columns, for which it pays; 0 if there is none."""
        sizes = (1 << power for power in range(MOST_ROWS.bit_length()))
        return next((size for size in sizes if self._pays(size, size, 1)), 0)

    def expected_gain(self, rows: int, columns: int, batches: int) -> float:
        """How many times faster than visiting all the pairs the search may be, on the threads there are."""
        thread_count = threads.get_num_threads()
        return expected_gain(self.search.dim, self.search.count, (rows, columns, batches), thread_count)

    def run(self, arguments: Arguments) -> None:
        """Search all the problems of a batch, as many at once as there is memory for."""
        written = math.prod(self.plan.output_shape) * arguments.rows
        addresses = _addresses(arguments, self.plan.real.itemsize)
        outputs = ((arguments.values, self.plan.real.itemsize), (arguments.indices, 8))
        native = self.native.get()
        step = _problems_at_once(native, arguments)
        for first in range(0, len(addresses), step):
            values, indices = (
                None if output is None else output + first * written * size for output, size in outputs
            )
            run(native, arguments, addresses[first : first + step], (values, indices))


def find(plan: Plan) -> TreeSearch | None:
    """The search that does what a plan says, if its formula has the order for it."""
    found = find_search(plan)
    if found is None:
        return None
    printed = print_search(plan, found)
    native = LoadedLater(lambda: load_search(printed.source, printed.kernel_name))
    return TreeSearch(plan, found, printed, native)


def _addresses(arguments: Arguments, itemsize: int) -> np.ndarray:
    """Where each variable of each problem of a batch lies: an array of shape (problems, variables)."""
    inputs, shape = arguments.inputs, arguments.batch_shape
    positions = np.indices(shape, np.int64).reshape(len(shape), math.prod(shape))
    strides = np.array([given.batch_strides for given in inputs], np.int64).reshape(len(inputs), len(shape))
    starts = np.array([given.pointer for given in inputs], np.int64)
    return np.ascontiguousarray(starts + itemsize * (strides @ positions).T)


def _problems_at_once(native: NativeSearch, arguments: Arguments) -> int:
    call = _NativeSearch(arguments.rows, arguments.columns, 1)
    return max(1, MOST_BYTES // native.bytes(ctypes.addressof(call)))


def run(
    native: NativeSearch, arguments: Arguments, addresses: np.ndarray, outputs: tuple[int | None, int | None]
) -> None:
    """Arrange rows and columns of some problems, then search. Ctrl-C stops it within a fraction of a second."""
    rows, columns, (batches, count) = arguments.rows, arguments.columns, addresses.shape
    numbers = (ctypes.c_int64 * (1 + count))(0, *(given.stride for given in arguments.inputs))
    next_task = ctypes.addressof(numbers)  # the first number; the strides follow
    call = _NativeSearch(
        rows, columns, batches, addresses.ctypes.data, next_task + 8, count, None, *outputs, next_task
    )
    memory = np.empty(native.bytes(ctypes.addressof(call)), np.uint8)
    call.memory = memory.ctypes.data

    def cancel() -> None:
        numbers[0] = _CANCELLED

    is_short = (rows + columns) * batches <= LONG_POINTS
    stages: tuple[tuple[Callable[[int], int], int], ...] = (
        (native.arrange, 2 * batches), (native.run, rows * batches),
    )  # fmt: skip
    for stage, tasks in stages:
        numbers[0] = 0
        job = functools.partial(stage, ctypes.addressof(call))
        threads.run_on_threads(job, min(tasks, threads.get_num_threads()), cancel, is_short)
