"""Owns the measurement of where time goes: compiling kernels or running them. Costs nothing while nobody measures."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any


class Profile:
    """Counts the kernels that are compiled and launched inside a ``with`` block, in any thread.

    Attributes
    ----------
    kernels, compile_seconds : kernels that were prepared (compiled, or loaded from the cache), and the time it took.
    launches, run_seconds : reductions that ran, and the time they took.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices import Profile, Vi, Vj
    >>> x = np.zeros((100, 3))
    >>> with Profile() as profile:
    ...     total = Vi(x).sqdist(Vj(x)).sum(axis=1)
    >>> profile.launches
    1
    """

    def __init__(self) -> None:
        self.kernels, self.compile_seconds = 0, 0.0
        self.launches, self.run_seconds = 0, 0.0

    def __enter__(self) -> Profile:
        with _lock:
            _active.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        with _lock:
            _active.remove(self)

    def __str__(self) -> str:
        return (
            f"{self.kernels} kernels prepared in {self.compile_seconds:.2f} s, "
            f"{self.launches} launches in {self.run_seconds:.2f} s"
        )


_active: list[Profile] = []
_measured = threading.local()  # seconds that this thread has spent in measured blocks
_lock = threading.Lock()


def is_measuring() -> bool:
    return bool(_active)


@contextlib.contextmanager
def measure(count: str, seconds: str) -> Iterator[None]:
    """Add one to an attribute of the active profiles, and the time that the block takes to another.

    What blocks inside of it measure themselves, such as a kernel that a launch compiles, is theirs alone.
    """
    before, start = getattr(_measured, "seconds", 0.0), time.perf_counter()
    yield
    elapsed = time.perf_counter() - start
    own = elapsed - (getattr(_measured, "seconds", 0.0) - before)
    _measured.seconds = before + elapsed
    with _lock:
        for profile in _active:
            setattr(profile, count, getattr(profile, count) + 1)
            setattr(profile, seconds, getattr(profile, seconds) + own)


def measure_compilation() -> contextlib.AbstractContextManager[None]:
    return measure("kernels", "compile_seconds")


def measure_launch() -> contextlib.AbstractContextManager[None]:
    return measure("launches", "run_seconds")
