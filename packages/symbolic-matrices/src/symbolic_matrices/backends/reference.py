"""The reference backend: dense blocks in the user's own array library. It is the definition of every formula.

It needs no compiler, runs wherever the arrays live, and every other backend is tested against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..arrays import Array, ArrayLibrary
from ..formulas.expressions import Axis, Call, Constant, Index, Node, Variable, topological
from ..formulas.operations import Operation
from ..formulas.reductions import Kind
from ..kernels.planning import Plan
from ..kernels.problems import Problem

READS_HALVES = False
BLOCK_ENTRIES = 1 << 21  # numbers of the largest temporary array: bounds memory, keeps blocks in cache


def compile(plan: Plan) -> Plan:
    """There is nothing to compile: the plan is evaluated as it stands."""
    return plan


def launch(plan: Plan, problem: Problem) -> tuple[Array, ...]:
    """Evaluate the formula block by block, absorb and merge."""
    if problem.rows == 0:
        return problem.allocate(plan.reduction.kinds, plan.output_shape)
    row_block, column_block = _block_sizes(plan, problem)
    with np.errstate(all="ignore"):
        blocks = [
            _reduce_rows(plan, problem, rows, _cut(columns, column_block))
            for block, columns in _blocks(problem)
            for rows in _cut([block], row_block)
        ]
    axis = -1 - len(plan.output_shape)
    join = problem.library.namespace.concatenate
    return tuple(parts[0] if len(parts) == 1 else join(parts, axis) for parts in zip(*blocks, strict=True))


def _block_sizes(plan: Plan, problem: Problem) -> tuple[int, int]:
    widest = max(node.dim for node in topological(plan.definition))
    entries = max(1, BLOCK_ENTRIES // (widest * max(1, int(np.prod(problem.batch_shape)))))
    column_block = max(1, min(problem.columns, entries))
    return max(1, entries // column_block), column_block


def _blocks(problem: Problem) -> Iterator[tuple[slice, list[slice]]]:
    """All the rows in order, and the columns that they are reduced over."""
    if problem.ranges is None:
        yield slice(0, problem.rows), [slice(0, problem.columns)]
        return
    rows, offsets, columns = problem.ranges.cover(problem.rows)
    for (start, stop), first, last in zip(rows.tolist(), offsets[:-1], offsets[1:], strict=True):
        yield slice(start, stop), [slice(*interval) for interval in columns[first:last].tolist()]


def _cut(intervals: Iterable[slice], size: int) -> Iterator[slice]:
    """Pieces of a given size, at most."""
    for interval in intervals:
        for start in range(interval.start, interval.stop, size):
            yield slice(start, min(start + size, interval.stop))


def _reduce_rows(plan: Plan, problem: Problem, rows: slice, columns: Iterable[slice]) -> tuple[Array, ...]:
    library, reduction = problem.library, plan.reduction
    shape = (*problem.batch_shape, rows.stop - rows.start, plan.definition.dim)
    state = reduction.identity(library, library.full(shape, 0.0, problem.dtype, problem.device))
    for part in columns:
        block = evaluate(plan.definition, problem, rows, part)
        state = reduction.merge(library, state, reduction.absorb(library, block, part.start))
    return tuple(
        library.astype(output, problem.dtype) if kind is Kind.VALUES else output
        for output, kind in zip(reduction.finish(library, state), reduction.kinds, strict=True)
    )


def evaluate(formula: Node, problem: Problem, rows: slice, columns: slice) -> Array:
    """The values of a formula on a block, as an array of shape (*batch, rows, columns, D)."""
    library = problem.library
    values: dict[Node, Array] = {}
    for node in topological(formula):
        if isinstance(node, Call):
            operation = node.operation
            assert isinstance(operation, Operation)
            arguments = (values[argument] for argument in node.arguments)
            values[node] = operation.reference(library.namespace, *arguments, *node.attributes)
        else:
            values[node] = _leaf(node, problem, rows, columns)
    shape = (*problem.batch_shape, rows.stop - rows.start, columns.stop - columns.start, formula.dim)
    return library.namespace.broadcast_to(values[formula], shape)


def _leaf(node: Node, problem: Problem, rows: slice, columns: slice) -> Array:
    """Data of shape (*batch, rows or 1, columns or 1, D)."""
    library: ArrayLibrary = problem.library
    if isinstance(node, Constant):
        return library.full((1,), node.value, problem.dtype, problem.device)
    along_rows = node.axes == Axis.I
    if isinstance(node, Index):
        part = rows if along_rows else columns
        positions = library.integers(part.start, part.stop, problem.device)[:, None]
        array = library.astype(positions, problem.dtype)
    else:
        assert isinstance(node, Variable)
        array = problem.arrays[node.index]
        if node.axes != Axis.PARAMETER:
            array = array[..., rows if along_rows else columns, :]
    return array[..., :, None, :] if along_rows else array[..., None, :, :]
