"""The bridge to PyTorch: derivatives of any order and mode, transforms, compilation. Loaded by its users only."""

from __future__ import annotations

from .function import reduce
from .solving import solve

__all__ = ["reduce", "solve"]
