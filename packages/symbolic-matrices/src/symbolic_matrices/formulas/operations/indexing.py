"""Rows of the operations that move components: slices, concatenation and their adjoints."""

from __future__ import annotations

from ...arrays import Array, Namespace
from ...errors import ShapeError
from .pointwise import REALS, multiply
from .table import Operand, Operation, row
from .vectors import one_hot


def _extract_dim(dims: tuple[int, ...], start: int, length: int) -> int:
    if not (start >= 0 and length > 0 and start + length <= dims[0]):
        raise ShapeError(
            f"Components {start} to {start + length - 1} of a vector of dimension {dims[0]} do not exist; "
            f"valid ones are 0 to {dims[0] - 1}."
        )
    return length


def _pad_statement(out: Operand, x: Operand, start: int, total: int) -> str:
    return (
        f"for (int k = 0; k < {total}; ++k) {out['k']} = V();\n"
        f"for (int k = 0; k < {x.dim}; ++k) {out[f'{start} + k']} = {x['k']};"
    )


def _pad_reference(xp: Namespace, x: Array, start: int, total: int) -> Array:
    before = xp.zeros_like(x[..., :1])
    blocks = [before] * start + [x] + [before] * (total - start - x.shape[-1])
    return xp.concatenate(blocks, -1)


def _concat_statement(out: Operand, x: Operand, y: Operand) -> str:
    return (
        f"for (int k = 0; k < {x.dim}; ++k) {out['k']} = {x['k']};\n"
        f"for (int k = 0; k < {y.dim}; ++k) {out[f'{x.dim} + k']} = {y['k']};"
    )


def _concat_reference(xp: Namespace, x: Array, y: Array) -> Array:
    shape = xp.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    blocks = [xp.broadcast_to(block, (*shape, block.shape[-1])) for block in (x, y)]
    return xp.concatenate(blocks, -1)


def _take_statement(out: Operand, x: Operand, position: Operand) -> str:
    return f"{out[0]} = take<{x.dim}>([&](int k) {{ return {x['k']}; }}, {position[0]});"


def _take_reference(xp: Namespace, x: Array, position: Array) -> Array:
    rounded = xp.round(position)
    exists = (rounded >= 0) & (rounded < x.shape[-1])
    leading = xp.broadcast_shapes(x.shape[:-1], position.shape[:-1])
    places = xp.broadcast_to(xp.where(exists, rounded, xp.zeros_like(rounded)), (*leading, 1))
    taken = xp.take_component(xp.broadcast_to(x, (*leading, x.shape[-1])), places)
    return xp.where(exists, taken, xp.full_like(taken, float("nan")))


def _take_dim(dims: tuple[int, ...]) -> int:
    if dims[1] != 1:
        raise ShapeError(f"take: the position must have dimension 1 but has dimension {dims[1]}.")
    return 1


# fmt: off
extract: Operation = row(
    name="extract", doc="Components ``start`` to ``start + length - 1``.", domain=(REALS,), dims=(5,),
    attributes=(1, 3), dim=_extract_dim, method=False,
    statement=lambda out, x, start, length: (
        f"for (int k = 0; k < {length}; ++k) {out['k']} = {x[f'{start} + k']};"
    ),
    assigns_once=True, reads_operands_once=True,
    reference=lambda xp, x, start, length: x[..., start : start + length],
    derivative=lambda g, x, start, length: (pad(g, attributes=(start, x.dim)),),
)
pad: Operation = row(
    name="pad", doc="Zeros, the components of x from position ``start`` on, zeros up to ``total`` components.",
    domain=(REALS,), dims=(2,), attributes=(1, 5), dim=lambda dims, start, total: total, method=False,
    statement=_pad_statement, reference=_pad_reference,
    derivative=lambda g, x, start, total: (extract(g, attributes=(start, x.dim)),),
)
take: Operation = row(
    name="take", doc="The component of x at a position, rounded, that is known at run time; NaN where there is none.",
    domain=(REALS, (-0.4, 3.4)), dims=(4, 1), dim=_take_dim, statement=_take_statement, reference=_take_reference,
    smooth=False,
    derivative=lambda g, x, position: (multiply(g, one_hot(position, attributes=(x.dim,))), None),
)
concat: Operation = row(
    name="concat", doc="The components of x, then those of y.", domain=(REALS, REALS), dims=(2, 3), method=False,
    dim=lambda dims: dims[0] + dims[1], statement=_concat_statement, reference=_concat_reference,
    assigns_once=True, reads_operands_once=True,
    derivative=lambda g, x, y: (extract(g, attributes=(0, x.dim)), extract(g, attributes=(x.dim, y.dim))),
)
# fmt: on
