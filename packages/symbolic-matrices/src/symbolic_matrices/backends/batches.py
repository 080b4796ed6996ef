"""Owns how the batch of a problem becomes dimensions of a kernel on GPUs: neighbours merge, and a host loop takes the
outermost ones where too many remain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from ..arrays import Array, ArrayLibrary
from ..kernels.problems import Problem

MOST_BATCH_DIMS = 8  # mirrors native/staging.cuh


class BatchDims(NamedTuple):
    """The dimensions of a batch, and the strides of each array along them."""

    shape: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]


def batch_dims(problem: Problem, count: int) -> BatchDims:
    """The dimensions that a kernel of ``count`` arrays sees."""
    rank = len(problem.batch_shape)
    strides = tuple(_batch_strides(problem.library, array, rank) for array in problem.arrays[:count])
    return merge_batch_dims(problem.batch_shape, strides)


def _batch_strides(library: ArrayLibrary, array: Array, rank: int) -> tuple[int, ...]:
    """Strides along the dimensions of the batch, 0 where the array is broadcast."""
    strides = library.strides(array)
    own = [0 if size == 1 else stride for size, stride in zip(array.shape[:-2], strides[:-2], strict=True)]
    own = own[max(0, len(own) - rank) :]
    return (*[0] * (rank - len(own)), *own)


def merge_batch_dims(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> BatchDims:
    """The same batch with fewer dimensions: neighbours along which every array steps evenly become one.

    >>> merge_batch_dims((2, 1, 3, 4), ((12, 0, 4, 1), (0, 0, 0, 1)))
    BatchDims(shape=(6, 4), strides=((4, 1), (0, 1)))
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if sizes and all(own[-1] == size * array[axis] for own, array in zip(steps, strides, strict=True)):
            sizes[-1] *= size
            for own, array in zip(steps, strides, strict=True):
                own[-1] = array[axis]
        else:
            sizes.append(size)
            for own, array in zip(steps, strides, strict=True):
                own.append(array[axis])
    return BatchDims(tuple(sizes), tuple(map(tuple, steps)))


class Part(NamedTuple):
    """A problem that one launch solves, and where its results go."""

    problem: Problem
    outputs: tuple[Array, ...]


def parts_of(problem: Problem, outputs: tuple[Array, ...], count: int) -> Iterator[Part]:
    """The problem itself; or, where too many dimensions of its batch do not merge, one part per index of the first."""
    rank = len(problem.batch_shape)
    if rank <= MOST_BATCH_DIMS or len(batch_dims(problem, count).shape) <= MOST_BATCH_DIMS:
        yield Part(problem, outputs)
        return
    for index in range(problem.batch_shape[0]):
        arrays = tuple(_at(array, index, rank) for array in problem.arrays)
        part = replace(problem, arrays=arrays, batch_shape=problem.batch_shape[1:])
        yield from parts_of(part, tuple(output[index] for output in outputs), count)


def _at(array: Array, index: int, rank: int) -> Array:
    """The array at an index of the first dimension of a batch, which it may lack, or be broadcast along."""
    if len(array.shape) - 2 < rank:
        return array
    return array[index if array.shape[0] > 1 else 0]
