"""What a benchmark file states, and how it is measured. Knows no package.

A benchmark file `packages/*/benchmarks/bench_*.py` defines `cases()`, `figures()` or both. Machines are shared and
noisy, so a `Case` is a ratio: all contenders run in turn in the same process, on the same data, after their results
have been compared. A `Figure` is an absolute number with a limit (a memory peak, the time of a first call).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

REPEATS = 5
PATIENCE = 10.0  # seconds that one contender may spend on its repeats: slow peers run less often
ONCE = 60.0  # seconds: what takes longer runs once, and its first call counts
LEAST_TURN = (
    0.2  # seconds: a fast contender runs again, so that what ran before it does not weigh on its best time
)
Contender = Callable[[], Any]  # one run; returns an array of any library, or a tuple of arrays


@dataclass(frozen=True)
class Point:
    """Where a case stands on a curve: the curve's name, what varies along it, and its value."""

    curve: str
    variable: str
    value: float


@dataclass(frozen=True)
class Case:
    """One job, done by us and by peers.

    `reference` returns the exact result in float64, or its first rows only. `tolerance` is the largest difference to
    the peers' results and to the reference, relative to the largest value; for an approximate result, such as a method
    that prunes, state why it is not smaller. `targets` are ratios: how many times faster than that peer we mean to be.
    `multiply_adds` counts the arithmetic that one pair needs at least, in fused multiply-adds of the format `dtype`.
    """

    name: str
    work: float  # pairs (i, j) per run
    ours: Contender
    peers: Mapping[str, Contender]
    reference: Contender | None = None
    tolerance: float = 1e-4
    targets: Mapping[str, float] = field(default_factory=dict)
    multiply_adds: float | None = None
    dtype: str = "float32"
    point: Point | None = None
    slow: bool = False


@dataclass(frozen=True)
class Figure:
    """One number with a limit that it should not exceed. Slow ones, like slow cases, are measured on demand."""

    name: str
    measure: Callable[[], float]
    unit: str
    limit: float
    slow: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: str
    contender: str
    value: float
    unit: str
    gigapairs: float | None = None  # per second
    peak_share: float | None = None  # of the machine's fused multiply-adds per second
    error: float | None = None  # relative to float64
    first_call: float | None = None  # seconds, compilation included
    megabytes: float | None = None  # of resident memory that a run adds at its peak
    ratio: float | None = None  # ours is so many times faster (or the limit over the value)
    target: float | None = None
    point: Point | None = None

    @property
    def verdict(self) -> str:
        """Whether the target is met, where there is one."""
        if self.ratio is None or self.target is None:
            return ""
        return "ok" if self.ratio >= self.target else "below"


@dataclass(frozen=True)
class FirstRun:
    """What the first run of a contender gave and took."""

    arrays: list[NDArray[np.float64]]
    seconds: float
    megabytes: float | None


def measure_case(case: Case, fma_peak: Mapping[str, float], repeats: int = REPEATS) -> list[Row]:
    """Compare the results of all contenders, then time them in turn: the best of the repeats.

    `fma_peak` is the number of fused multiply-adds per second that the machine reaches, by dtype.
    """
    contenders = {"ours": case.ours, **case.peers}
    first_runs = {name: run_first(contender) for name, contender in contenders.items()}
    errors = compare_results(case, {name: first.arrays for name, first in first_runs.items()})
    once = {name: first.seconds for name, first in first_runs.items() if first.seconds > ONCE}
    others = {name: contender for name, contender in contenders.items() if name not in once}
    seconds = {**once, **best_times(others, repeats)}
    needed = None if case.multiply_adds is None else case.work * case.multiply_adds
    return [
        Row(
            case=case.name,
            contender=name,
            value=seconds[name],
            unit="s",
            gigapairs=case.work / seconds[name] / 1e9,
            peak_share=None if needed is None else needed / seconds[name] / fma_peak[case.dtype],
            error=errors.get(name),
            first_call=first_runs[name].seconds,
            megabytes=first_runs[name].megabytes,
            ratio=None if name == "ours" else seconds[name] / seconds["ours"],
            target=case.targets.get(name),
            point=case.point,
        )
        for name in contenders
    ]


def best_times(contenders: Mapping[str, Contender], repeats: int) -> dict[str, float]:
    """Seconds of the best run of each contender; they take turns, and each stops once it lost PATIENCE."""
    best, spent = dict.fromkeys(contenders, float("inf")), dict.fromkeys(contenders, 0.0)
    for repeat in range(repeats):
        for name, contender in contenders.items():
            if repeat > 0 and spent[name] > PATIENCE:
                continue
            times = take_turn(contender)
            best[name], spent[name] = min(best[name], *times), spent[name] + sum(times)
    return best


def take_turn(contender: Contender) -> list[float]:
    """Seconds of one run, or of several fast ones."""
    times, spent = [], 0.0
    while spent < LEAST_TURN:
        start = time.perf_counter()
        contender()
        times.append(time.perf_counter() - start)
        spent += times[-1]
    return times


def run_first(contender: Contender) -> FirstRun:
    """Run a contender for the first time, which also warms it up."""
    before = resident_megabytes("VmRSS")
    reset_peak_memory()
    start = time.perf_counter()
    result = contender()
    seconds = time.perf_counter() - start
    peak = resident_megabytes("VmHWM")
    added = None if before is None or peak is None else max(0.0, peak - before)
    return FirstRun(as_arrays(result), seconds, added)


def resident_megabytes(field_name: str) -> float | None:
    """VmRSS (now) or VmHWM (peak) of this process; None where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    found = re.search(rf"{field_name}:\s+(\d+) kB", status.read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else None


def reset_peak_memory() -> None:
    """Let VmHWM start again from the memory in use, where the system can."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5", encoding="ascii")


def compare_results(case: Case, results: Mapping[str, list[NDArray[np.float64]]]) -> dict[str, float]:
    """Raise if two contenders disagree; return their errors relative to the reference, if there is one."""
    for name, result in results.items():
        difference = relative_difference(result, results["ours"])
        if not difference <= case.tolerance:
            raise AssertionError(
                f"{case.name}: the result of {name} differs from ours by {difference:.1e}, relative to the largest "
                f"value; at most {case.tolerance:.1e} was expected."
            )
    if case.reference is None:
        return {}
    exact = as_arrays(case.reference())
    first_rows = {
        name: [a[: len(e)] for a, e in zip(arrays, exact, strict=True)] for name, arrays in results.items()
    }
    return {name: relative_difference(arrays, exact) for name, arrays in first_rows.items()}


def as_arrays(result: Any) -> list[NDArray[np.float64]]:
    """The result of a contender as NumPy arrays in float64."""
    parts = result if isinstance(result, tuple) else (result,)
    return [
        np.asarray(part.detach().cpu() if hasattr(part, "detach") else part, dtype=np.float64)
        for part in parts
    ]


def relative_difference(given: list[NDArray[np.float64]], expected: list[NDArray[np.float64]]) -> float:
    """The largest |given - expected| over the largest |expected|, over all arrays."""
    return max(float(np.abs(g - e).max() / np.abs(e).max()) for g, e in zip(given, expected, strict=True))


def measure_figure(figure: Figure) -> Row:
    """Measure once: what is measured decides how often to repeat."""
    value = figure.measure()
    return Row(figure.name, "ours", value, figure.unit, ratio=figure.limit / value, target=1.0)
