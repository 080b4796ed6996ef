"""Owns the way from a formula and its data to the arrays that a user gets: run, finish, round, write."""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace
from typing import Any

from ..arrays import Array
from ..errors import ArrayTypeError
from ..execution import Request, execute
from ..formulas.expressions import Axis, Node, constant
from ..formulas.reductions import Count, Kind, Reduction, ReductionCall
from .bindings import Binding
from .contexts import Context, resolve
from .outputs import write


def run(
    formula: Node, bindings: tuple[Binding, ...], context: Context, call: ReductionCall, out: Any
) -> tuple[Array, ...]:
    """The outputs of a reduction, written to ``out`` if it is given."""
    request = request_of(formula, context, call)
    arrays = tuple([resolve(binding, context, keeps_halves=True) for binding in bindings])
    outputs = launch(request, arrays)
    if call.finish is not None:
        outputs = (call.finish(request.library, outputs[0], _visited(request)),)
    if context.dtype != request.dtype:
        outputs = _rounded(outputs, call.reduction, context)
    return outputs if out is None else write(outputs, out, arrays, request.library)


def request_of(formula: Node, context: Context, call: ReductionCall) -> Request:
    """A reduction of a formula, without its data."""
    if context.library is None:
        raise ArrayTypeError("A reduction needs at least one array, but this formula holds numbers only.")
    rows = 1 if context.rows is None else context.rows
    columns = 1 if context.columns is None else context.columns
    if context.ranges is not None:
        context.ranges.check_fits(rows, columns)
    return Request(
        formula, call.reduction, call.axis, (rows, columns), context.batch_shape, context.library, context.computed_in,
        context.device, call.backend, context.ranges, call.precision,
    )  # fmt: skip


def launch(request: Request, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Execute a reduction, under PyTorch as a differentiable function."""
    if request.library.name != "torch":
        return execute(request, arrays)
    return _torch_bridge().reduce(request, arrays)


@functools.cache
def _torch_bridge() -> Any:
    # loaded on first use: it imports PyTorch, which only users of its tensors need to have
    return importlib.import_module("..torch_bridge", __package__)


def _visited(request: Request) -> Any:
    """How many entries each output sums over: a number, or an array where the matrix is block-sparse."""
    if request.ranges is None:
        return request.sizes[1] if request.axis is Axis.J else request.sizes[0]
    counting = replace(request, formula=constant(1.0), reduction=Count(), batch_shape=())
    return execute(counting, ())[0]


def _rounded(outputs: tuple[Array, ...], reduction: Reduction, context: Context) -> tuple[Array, ...]:
    """The values in the half precision of the data, which kernels do not compute in."""
    library = context.library
    assert library is not None
    return tuple(
        library.astype(output, context.dtype) if kind is Kind.VALUES else output
        for output, kind in zip(outputs, reduction.kinds, strict=True)
    )
