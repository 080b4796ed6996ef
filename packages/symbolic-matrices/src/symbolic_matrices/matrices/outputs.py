"""Owns the option ``out``: arrays of the user that take the results of a reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arrays import Array, ArrayLibrary, find_library
from ..errors import DifferentiationError, OptionError


def write(
    outputs: tuple[Array, ...], out: Any, inputs: Sequence[Array], library: ArrayLibrary
) -> tuple[Array, ...]:
    """Copy the outputs into the arrays ``out``: an array, or a tuple where there are several outputs."""
    targets = out if isinstance(out, tuple) else (out,)
    if len(targets) != len(outputs):
        raise OptionError(f"out must hold {len(outputs)} arrays, one per output, but holds {len(targets)}.")
    for target, output in zip(targets, outputs, strict=True):
        _check(target, output, library)
        if any(_may_overlap(target, array, library) for array in inputs):
            raise OptionError(
                "out shares memory with the data of the formula, which the result would overwrite; "
                "pass an array of its own."
            )
    for target, output in zip(targets, outputs, strict=True):
        target[...] = output
    return tuple(targets)


def _check(target: Any, output: Array, library: ArrayLibrary) -> None:
    if find_library(target) is not library:
        raise OptionError(
            f"out must be a {library.name} array, as the data are, but got {type(target).__qualname__}."
        )
    if not library.is_writable(target):
        raise OptionError(
            f"out is a read-only array of shape {tuple(target.shape)}; pass one that may be written to."
        )
    if library.needs_gradient(output) or library.needs_gradient(target):
        raise DifferentiationError(
            "A reduction with out=... has no derivatives, but its data or out require a gradient: "
            "leave out away, or work under torch.no_grad()."
        )
    given, expected = (
        (tuple(array.shape), library.dtype_name(array), library.device(array)) for array in (target, output)
    )
    if given != expected:
        raise OptionError(
            f"out must have shape {expected[0]} and dtype {expected[1]}, on {expected[2]}, but has shape {given[0]} "
            f"and dtype {given[1]}, on {given[2]}."
        )


def _may_overlap(first: Array, second: Array, library: ArrayLibrary) -> bool:
    """Whether the memory between the first and the last byte of two arrays meets."""
    if library.device(first) != library.device(second):
        return False
    (start, stop), (other_start, other_stop) = _extent(first, library), _extent(second, library)
    return start < other_stop and other_start < stop


def _extent(array: Array, library: ArrayLibrary) -> tuple[int, int]:
    if 0 in array.shape:
        return 0, 0
    steps = [(n - 1) * stride for n, stride in zip(array.shape, library.strides(array), strict=True)]
    first, last = sum(min(step, 0) for step in steps), sum(max(step, 0) for step in steps)
    start = library.pointer(array)
    return start + first * array.itemsize, start + (last + 1) * array.itemsize
