"""Benchmarks of a part of the cases leave the results of the others where they are."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import benchmarking
import pytest
import run_benchmarks

BENCHMARK = """
import numpy as np
from benchmarking import Case, Figure, Point

def cases():
    run = lambda: np.ones(3)
    yield Case("first", 1e6, run, {"peer": run}, point=Point("curve", "n", 1.0))
    yield Case("second", 1e6, run, {"peer": run})
    yield Case("slow", 1e6, run, {}, slow=True)

def figures():
    yield Figure("first", lambda: 2.0, "s", 3.0)
"""


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measure the cases of the benchmark whose names contain a text; the rows of the file afterwards."""
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarking, "LEAST_TURN", 1e-5)
    path = Path("packages/toy/benchmarks/bench_toy.py")
    path.parent.mkdir(parents=True)

    def run(text: str, slow: bool = False, benchmark: str = BENCHMARK) -> dict[tuple[str, str], float]:
        path.write_text(benchmark, encoding="utf-8")
        arguments = argparse.Namespace(k=text, slow=slow, repeats=1, table=False, docs=False)
        assert run_benchmarks.measure_file(path.absolute(), arguments, {"float32": 1e9})
        written = json.loads(Path("outputs/benchmarks/toy/toy.json").read_text(encoding="utf-8"))["rows"]
        return {
            (row["case"], f"{row['contender']} in {row['unit']} {row['target']}"): row["value"]
            for row in written
        }

    return run


def test_parts_replace_their_rows_and_keep_the_others(measure):
    first = measure("first")
    assert [case for case, _ in first] == ["first", "first", "first"]  # ours, the peer and the figure
    both = measure("second")
    assert [case for case, _ in both] == ["first", "first", "second", "second", "first"]
    assert {key: both[key] for key in first} == first
    changed = measure("first", benchmark=BENCHMARK.replace("2.0", "2.5"))
    assert list(changed) == list(both)
    assert changed["first", "ours in s 1.0"] == 2.5
    assert all(changed[key] == both[key] for key in both if key[0] == "second")
    assert changed["first", "ours in s None"] != both["first", "ours in s None"]


def test_slow_cases_are_measured_on_demand_and_then_stay(measure):
    assert ("slow", "ours in s None") not in measure("")
    slow = measure("slow", slow=True)
    assert len(slow) == 6
    assert measure("")["slow", "ours in s None"] == slow["slow", "ours in s None"]


def test_rows_of_cases_that_are_gone_are_dropped(measure):
    measure("")
    found = measure("second", benchmark=BENCHMARK.replace('"first", 1e6', '"other", 1e6'))
    assert [case for case, _ in found] == ["second", "second", "first"]
