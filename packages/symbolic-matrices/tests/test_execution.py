"""Runs: one compilation for many threads, many threads at once, measured times."""

from __future__ import annotations

import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matrix_testing import assert_close

from symbolic_matrices import Profile, Vi, Vj, execution
from symbolic_matrices.backends import cpu, reference


def distances(x):
    return Vi(x).sqdist(Vj(x + 1))


def test_threads_that_meet_a_new_formula_compile_it_once(monkeypatch):
    compilations = []
    started = threading.Barrier(4)

    class SlowBackend:
        launch = staticmethod(reference.launch)

        @staticmethod
        def compile(plan):
            compilations.append(plan)
            time.sleep(0.2)
            return plan

    def run(_):
        started.wait()
        return distances(np.ones((3, 2))).sum(axis=1, backend="slow")

    monkeypatch.setitem(execution.BACKENDS, "slow", SlowBackend)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(4)))
    assert len(compilations) == 1
    for result in results:
        assert_close(result, np.full((3, 1), 6.0))


def test_a_failed_compilation_is_reported_each_time(monkeypatch):
    class BrokenBackend:
        launch = None

        @staticmethod
        def compile(plan):
            raise RuntimeError("no luck")

    monkeypatch.setitem(execution.BACKENDS, "broken", BrokenBackend)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no luck"):
            distances(np.ones((3, 2))).sum(axis=1, backend="broken")


def test_threads_do_not_disturb_each_other():
    clouds = [np.random.default_rng(k).random((50 + k, 3)) for k in range(16)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda x: distances(x).min(axis=1), clouds))
    for x, result in zip(clouds, results, strict=True):
        assert_close(result, distances(x).min(axis=1, backend="reference"))


@pytest.mark.cpu_only  # the memory of launches is that of the emulator
def test_numbers_and_sizes_that_change_neither_compile_nor_fill_the_memory():
    x = np.random.default_rng(0).random((40, 2))

    def call(k):
        size = 2 + k % 37
        return (-Vi(x[:size]).sqdist(Vj(x)) * (1.0 + 1e-4 * k)).exp().sum(axis=1)

    for k in range(100):
        call(k)
    tracemalloc.start()
    try:
        with Profile() as profile:
            for k in range(10_000):
                call(k)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert profile.kernels == 0
    assert used < 1 << 18


def test_sizes_that_never_come_back_are_forgotten():
    traits = cpu.Traits(group_rows=16, state_bytes=64, row_bytes=12, out_dim=1)
    for rows in range(1, 10_000):
        cpu.choose_split(traits, rows, 100, 1, 2)
    held = cpu.choose_split.cache_info()
    assert held.currsize <= held.maxsize < 5000


def test_profiles_count_what_runs_inside_them():
    x = np.ones((5, 2))
    with Profile() as outer:
        distances(x).sum(axis=1)
        with Profile() as inner:
            distances(x).sum(axis=1)
    distances(x).sum(axis=1)
    assert (outer.launches, inner.launches) == (2, 1)
    assert outer.run_seconds >= inner.run_seconds > 0
    assert str(inner).startswith("0 kernels prepared")
