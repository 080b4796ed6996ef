"""Owns kernels that are compiled when they are first needed, once, whichever thread comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..profiling import measure_compilation

Loaded = TypeVar("Loaded")


class LoadedLater(Generic[Loaded]):
    """Calls a function that loads a kernel when the kernel is first asked for; other threads wait for it."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None

    def get(self) -> Loaded:
        if self._loaded is None:
            with self._lock:
                if self._loaded is None:
                    with measure_compilation():
                        self._loaded = self._load()
        return self._loaded
