"""Owns the search for the nearest columns through a tree of boxes, ``native/search.hpp``, and when it pays."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import compilation
from ..planning import Plan
from ..profiling import measure_compilation
from ..pruning import Search, find_search, print_search
from . import threads
from .arguments import Arguments

LONG_POINTS = 1 << 17  # rows and columns; above, the calling thread waits, so that Ctrl-C is heard
MOST_NEIGHBOURS = 1024  # the running lists of a register of rows stay in the cache, and on the stack
MOST_ROWS = (1 << 31) - 1  # their numbers are kept in lanes of 32 bits
TILE_COLUMNS, PACKET_ROWS = 32, 16  # of native/search.hpp
# Times in units of that of a pair in dimension 3, as measured; a search must promise the gain to be chosen.
INSERTION, NEAR_INSERTION, ARRANGEMENT = 40, 20, 200
LEAST_GAIN = 1.25
LEAST_PAIRS = 1 << 19  # below, waking the threads twice costs what is gained
_CANCELLED = 1 << 62


class _NativeSearch(ctypes.Structure):
    """``Search`` of native/search.hpp, field by field."""

    _fields_ = [
        ("rows", ctypes.c_int64), ("columns", ctypes.c_int64), ("variables", ctypes.c_void_p),
        ("strides", ctypes.c_void_p), ("variable_count", ctypes.c_int64), ("memory", ctypes.c_void_p),
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
def expected_gain(dim: int, count: int, rows: int, columns: int, thread_count: int) -> float:
    """How many times faster than visiting all the pairs a search may be: an estimate for uniform points."""
    visited, levels = visited_columns(dim, count, rows, columns), math.log2(max(rows, columns, 64) / 32)
    pair = (dim + 2) / 5
    # Random columns enter a list of the K smallest K (1 + log(N / K)) times.
    inserted, near_inserted = (
        count * (1 + math.log(max(1.0, number / count))) for number in (columns, visited)
    )
    arranged = levels * max(rows, columns) / rows * max(1.0, thread_count / 2)  # on two threads at most
    everywhere = pair * columns + INSERTION * inserted
    return everywhere / (pair * visited + NEAR_INSERTION * near_inserted + ARRANGEMENT * arranged)


@dataclass(frozen=True)
class TreeSearch:
    """The search that does what a plan says, compiled when it is first needed."""

    plan: Plan
    search: Search

    @functools.cached_property
    def native(self) -> NativeSearch:
        printed = print_search(self.plan, self.search)
        with measure_compilation():
            return load_search(printed.source, printed.kernel_name)

    def pays(self, arguments: Arguments) -> bool:
        """Whether the search is faster than to visit all the pairs."""
        rows, columns = arguments.rows, arguments.columns
        if arguments.ranges is not None or rows > MOST_ROWS or self.search.count > MOST_NEIGHBOURS:
            return False
        if rows * columns < LEAST_PAIRS:
            return False
        gain = expected_gain(self.search.dim, self.search.count, rows, columns, threads.get_num_threads())
        return gain > LEAST_GAIN

    def run(self, arguments: Arguments) -> None:
        """Search each problem of the batch."""
        written = math.prod(self.plan.output_shape)
        for problem in _problems(arguments, self.plan.real.itemsize, written):
            run(self.native, problem)


def find(plan: Plan) -> TreeSearch | None:
    """The search that does what a plan says, if its formula has the order for it."""
    found = find_search(plan)
    return TreeSearch(plan, found) if found is not None else None


class _Problem(NamedTuple):
    """One problem of a batch."""

    rows: int
    columns: int
    variables: list[int]  # addresses
    strides: list[int]  # elements from one row or column to the next
    values: int | None
    indices: int | None


def _problems(arguments: Arguments, itemsize: int, written: int) -> Iterator[_Problem]:
    """``written`` numbers go to each output per row."""
    strides = [given.stride for given in arguments.inputs]
    positions = itertools.product(*map(range, arguments.batch_shape))
    for number, position in enumerate(positions):
        variables = [
            given.pointer + itemsize * sum(map(int.__mul__, position, given.batch_strides))
            for given in arguments.inputs
        ]
        before = number * arguments.rows * written
        values, indices = (
            None if output is None else output + before * size
            for output, size in ((arguments.values, itemsize), (arguments.indices, 8))
        )
        yield _Problem(arguments.rows, arguments.columns, variables, strides, values, indices)


def run(native: NativeSearch, problem: _Problem) -> None:
    """Arrange rows and columns, then search. Ctrl-C stops it within a fraction of a second."""
    count = len(problem.variables)
    numbers = (ctypes.c_int64 * (1 + 2 * count))(0, *problem.variables, *problem.strides)
    next_task = ctypes.addressof(numbers)  # the first number; the addresses and strides follow
    call = _NativeSearch(
        problem.rows, problem.columns, next_task + 8, next_task + 8 + 8 * count, count, None,
        problem.values, problem.indices, next_task,
    )  # fmt: skip
    memory = np.empty(native.bytes(ctypes.addressof(call)), np.uint8)
    call.memory = memory.ctypes.data

    def cancel() -> None:
        numbers[0] = _CANCELLED

    is_short = problem.rows + problem.columns <= LONG_POINTS
    stages: tuple[tuple[Callable[[int], int], int], ...] = ((native.arrange, 2), (native.run, problem.rows))
    for stage, tasks in stages:
        numbers[0] = 0
        job = functools.partial(stage, ctypes.addressof(call))
        threads.run_on_threads(job, min(tasks, threads.get_num_threads()), cancel, is_short)
