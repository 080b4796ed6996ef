"""Worker threads: how many, their failures, forks, and Ctrl-C during a long reduction."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from native.kernels import SQDIST, formula, load, run

from symbolic_matrices import Vi, Vj
from symbolic_matrices.backends import cpu, threads

BODY = formula(3, 3, 1, f"{SQDIST} out[0] = exp(-d2);")

LONG_REDUCTION = """
import sys, time
import numpy as np
from native.kernels import load, run
from symbolic_matrices.backends import threads
from native.test_threads import BODY
threads.set_num_threads(int(sys.argv[1]))
kernel = load(BODY, "Sum<1>", "float32")
points = np.random.default_rng(0).random((1_000_000, 3), dtype=np.float32)
try:
    print("started", flush=True)
    run(kernel, points, points)
except KeyboardInterrupt:
    print("interrupted", time.time(), flush=True)
    small = points[:1000]
    print("works again", np.isfinite(run(kernel, small, small).values).all(), flush=True)
"""


@pytest.fixture
def restored_count():
    before = threads.get_num_threads()
    yield before
    threads.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_any_number_of_threads_gives_the_same_sums(restored_count: int, count: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((700, 3)), rng.random((900, 3))
    threads.set_num_threads(count)
    assert threads.get_num_threads() == count
    expected = np.exp(-((x[:, None] - y) ** 2).sum(-1)).sum(1)
    np.testing.assert_allclose(run(load(BODY, "Sum<1>", "float64"), x, y).values[:, 0], expected, rtol=1e-14)


@pytest.mark.parametrize("count", [0, -1, 1.5, "2"])
def test_wrong_numbers_of_threads_are_refused(count: object) -> None:
    with pytest.raises(ValueError, match="positive integer"):
        threads.set_num_threads(count)


def test_number_of_threads_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv(threads.THREADS_VARIABLE, "3")
    assert threads.get_num_threads() == 3
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv(threads.THREADS_VARIABLE, "many")
    with pytest.raises(ValueError, match=threads.THREADS_VARIABLE):
        threads.get_num_threads()
    monkeypatch.delenv(threads.THREADS_VARIABLE)
    assert threads.get_num_threads() == threads.available_cpus()


@pytest.mark.parametrize("join_in", [False, True])
def test_failure_of_a_thread_is_raised(join_in: bool) -> None:
    def job() -> int:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("broken job")
        return 0

    with pytest.raises(RuntimeError, match="broken job"):
        threads.run_on_threads(job, 2, lambda: None, join_in)


def test_interrupted_callers_wait_for_the_runs_that_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the memory that the runs write into would be freed under their feet."""
    cancelled, begun, ended = threading.Event(), [], []
    interrupts = iter([KeyboardInterrupt, KeyboardInterrupt, KeyboardInterrupt])
    wait = threads._wait

    def interrupted_wait(*arguments: object) -> None:
        for interrupt in interrupts:
            raise interrupt
        wait(*arguments)

    def begun_job() -> int:
        begun.append(None)
        cancelled.wait(10)
        time.sleep(0.1)
        ended.append(None)
        return 0

    monkeypatch.setattr(threads, "_wait", interrupted_wait)
    with pytest.raises(KeyboardInterrupt):
        threads.run_on_threads(begun_job, 2, cancelled.set, join_in=False)
    assert len(begun) == len(ended)


def test_calls_from_several_threads_at_once(restored_count: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.random((600, 3))
    threads.set_num_threads(2)
    kernel = load(BODY, "Sum<1>", "float64")
    expected = run(kernel, x, x).values
    results: list[np.ndarray] = []
    callers = [threading.Thread(target=lambda: results.append(run(kernel, x, x).values)) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(results) == len(callers)
    for values in results:
        np.testing.assert_array_equal(values, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_starts_its_own_threads(restored_count: int) -> None:
    x = np.random.default_rng(2).random((600, 3))
    threads.set_num_threads(2)
    kernel = load(BODY, "Sum<1>", "float64")
    expected = run(kernel, x, x).values
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(run(kernel, x, x).values, expected) else 1)
    deadline = time.time() + 30
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.time() < deadline:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert done == (child, 0)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to a process")
@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c_stops_a_long_reduction_within_a_second(count: int) -> None:
    path = os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", LONG_REDUCTION, str(count)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(0.5)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        word, stopped = process.stdout.readline().split()
        assert word == "interrupted"
        assert float(stopped) - sent < 1
        assert process.stdout.readline() == "works again True\n"


# ---------------------------------------------------------------------------- how problems are cut


def split_of(rows: int, columns: int, batches: int, thread_count: int, row_bytes: int = 12) -> cpu.Split:
    traits = cpu.Traits(group_rows=16, state_bytes=128, row_bytes=row_bytes, out_dim=1)
    return cpu.choose_split(traits, rows, columns, batches, thread_count)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 1000, 100_000])
@pytest.mark.parametrize("columns", [0, 1, 3000, 1_000_000])
@pytest.mark.parametrize("batches", [1, 1000])
@pytest.mark.parametrize("thread_count", [1, 2, 64])
def test_split_is_valid(rows: int, columns: int, batches: int, thread_count: int) -> None:
    split = split_of(rows, columns, batches, thread_count)
    assert split.row_block % 16 == 0
    assert 0 < split.row_block <= cpu.ROW_BLOCK
    assert 1 <= split.column_splits <= max(1, columns)
    assert (split.blocks - 1) * split.row_block < rows <= split.blocks * split.row_block
    assert split.groups == -(-rows // 16)


def test_small_problems_stay_on_the_thread_of_the_caller(
    restored_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads.set_num_threads(2)
    shared: list[int] = []
    run_on_threads = threads.run_on_threads
    monkeypatch.setattr(
        threads, "run_on_threads", lambda *given: (shared.append(1), run_on_threads(*given))[1]
    )

    def is_shared(size: int, dim: int) -> bool:
        shared.clear()
        x = np.ones((size, dim), "float32")
        Vi(x).sqdist(Vj(x)).exp().sum(axis=1)
        return bool(shared)

    assert not is_shared(100, 3)
    assert not is_shared(500, 3)
    assert is_shared(500, 64)  # a pair takes longer
    assert is_shared(1000, 3)


def test_split_occupies_the_threads() -> None:
    assert split_of(10_000, 10_000, 1, 8).blocks >= 16
    assert split_of(16, 1_000_000, 1, 8).column_splits >= 8  # too few rows: the columns are cut
    assert split_of(16, 1_000_000, 1, 1).column_splits == 1
    assert split_of(100, 100, 1000, 8) == cpu.Split(112, 1, 1, 7)  # one task per problem of a batch
    assert split_of(10_000, 10_000, 1, 1, row_bytes=1 << 14).row_block == 16  # wide rows stay in cache
