"""Owns the worker threads of the CPU backend and how many of them work at once."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable

STACK_BYTES = 16 << 20  # of a worker: kernels hold their running values there
THREADS_VARIABLE = "SYMBOLIC_MATRICES_NUM_THREADS"


def available_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _default_num_threads() -> int:
    text = os.environ.get(THREADS_VARIABLE)
    if text is None:
        return available_cpus()
    return _checked(int(text) if text.strip().isdecimal() else 0, f"{THREADS_VARIABLE}={text!r}")


def _checked(count: int, given: str) -> int:
    if count < 1:
        raise ValueError(f"The number of threads must be a positive integer but got {given}.")
    return count


class WorkerPool:
    """Threads that wait for jobs, started when first needed and kept until the process ends."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._started = 0
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], None], count: int) -> None:
        """Run a job on ``count`` threads."""
        if self._started < count:
            self._start(count)
        for _ in range(count):
            self._jobs.put(job)

    def _start(self, count: int) -> None:
        with self._lock:
            previous = threading.stack_size(STACK_BYTES)
            for _ in range(self._started, count):
                threading.Thread(target=self._work, name="symbolic-matrices", daemon=True).start()
            threading.stack_size(previous)
            self._started = max(self._started, count)

    def _work(self) -> None:
        while True:
            self._jobs.get()()


_pool = WorkerPool()
_num_threads: int | None = None


def _forget_threads() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = WorkerPool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def get_num_threads() -> int:
    """Number of threads that reductions on the CPU use."""
    global _num_threads
    if _num_threads is None:
        _num_threads = _default_num_threads()
    return _num_threads


def set_num_threads(count: int) -> None:
    """Choose how many threads reductions on the CPU use, from now on.

    Parameters
    ----------
    count : at least 1. The default is ``SYMBOLIC_MATRICES_NUM_THREADS``, or the CPUs that this process may use.

    Raises
    ------
    ValueError : ``count`` is not a positive integer.

    Examples
    --------
    >>> from symbolic_matrices import get_num_threads, set_num_threads
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _num_threads
    _num_threads = _checked(count if isinstance(count, int) else 0, repr(count))


def run_on_threads(
    job: Callable[[], int], count: int, cancel: Callable[[], None], join_in: bool
) -> list[int]:
    """Run a job ``count`` times at once and return what the runs return.

    With ``join_in``, the calling thread takes one of the runs. Without, it only waits and so hears Ctrl-C, since
    Python delivers signals between bytecodes and not inside of a long call. On any exception: ``cancel``, wait for
    the runs that have begun, raise. A run that begins after ``cancel`` must return without touching the data.
    """
    begun: list[None] = []
    outcomes: list[int | BaseException] = []
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def work() -> None:
        begun.append(None)
        try:
            outcomes.append(job())
        except BaseException as failure:
            outcomes.append(failure)
        ended.put(None)

    try:
        _pool.submit(work, count - 1 if join_in else count)
        if join_in:
            work()
        while len(outcomes) < count:
            _wait(ended)
    except BaseException:
        _cancel_and_wait(cancel, lambda: len(outcomes) == len(begun), ended)
        raise
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, int)]


def _wait(ended: queue.SimpleQueue[None]) -> None:
    """Until a run ends, or a moment: an endless wait cannot be interrupted on Windows."""
    with contextlib.suppress(queue.Empty):
        ended.get(timeout=0.2)


def _cancel_and_wait(
    cancel: Callable[[], None], all_ended: Callable[[], bool], ended: queue.SimpleQueue[None]
) -> None:
    """Further Ctrl-C do not cut this short: the runs write into memory that the caller is about to free."""
    while True:
        try:
            cancel()
            while not all_ended():
                _wait(ended)
            return
        except KeyboardInterrupt:
            continue
