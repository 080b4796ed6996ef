"""Owns how exact the products of a reduction have to be: what a user allows kernels to gain time by."""

from __future__ import annotations

import enum

from .errors import OptionError


class Precision(enum.Enum):
    """How exact inner products and squared distances in high dimension are, where a GPU has tensor cores.

    ``AUTO`` uses them where nothing is lost: for inner products of numbers in half precision, whose products are exact
    in float32. ``TF32`` rounds float32 numbers to 10 digits after the point (of 23) before they are multiplied, and
    ``TF32X3`` to 21, by three products in the place of one. Both allow squared distances of numbers in half precision
    too. All are added up in float32. Nothing else changes: neither other operations, nor other backends, nor float64.
    """

    AUTO = "auto"
    TF32X3 = "tf32x3"
    TF32 = "tf32"


_NAMED = {choice.value: choice for choice in Precision}


def choose_precision(name: str) -> Precision:
    """The precision that an option names."""
    if not (isinstance(name, str) and name in _NAMED):
        raise OptionError(f"precision must be one of {', '.join(map(repr, _NAMED))} but got {name!r}.")
    return _NAMED[name]
