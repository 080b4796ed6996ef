"""Owns the record of what a kernel on the CPU runs on: sizes, and where data and outputs lie in memory."""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array
from ..sparsity import BlockRanges


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
    ranges: BlockRanges | None = None
