"""What a benchmark file states, and how it is measured. Knows no package.

A benchmark file `packages/*/benchmarks/bench_*.py` defines `cases()`, `figures()` or both. Machines are shared and
noisy, so a `Case` is a ratio: all contenders run in turn in the same process, on the same data, after their results
have been compared. A `Figure` is an absolute number with a limit (a memory peak, the time of a first call).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

REPEATS = 5
Contender = Callable[[], Any]  # one run; returns an array of any library, or a tuple of arrays


@dataclass(frozen=True)
class Case:
    """One job, done by us and by peers.

    `reference` returns the exact result in float64, or its first rows only. `tolerance` is the largest difference to
    the peers' results and to the reference, relative to the largest value. `targets` are ratios: how many times
    faster than that peer we mean to be.
    """

    name: str
    work: float  # pairs (i, j) per run
    ours: Contender
    peers: Mapping[str, Contender]
    reference: Contender | None = None
    tolerance: float = 1e-4
    targets: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """One number with a limit that it should not exceed."""

    name: str
    measure: Callable[[], float]
    unit: str
    limit: float


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: str
    contender: str
    value: float
    unit: str
    gigapairs: float | None = None  # per second
    error: float | None = None  # relative to float64
    ratio: float | None = None  # ours is so many times faster (or the limit over the value)
    target: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the target is met, where there is one."""
        if self.ratio is None or self.target is None:
            return ""
        return "ok" if self.ratio >= self.target else "below"


def measure_case(case: Case, repeats: int = REPEATS) -> list[Row]:
    """Compare the results of all contenders, then time them in turn: the best of the repeats."""
    contenders = {"ours": case.ours, **case.peers}
    errors = compare_results(case, contenders)
    seconds = dict.fromkeys(contenders, float("inf"))
    for _ in range(repeats):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return [
        Row(
            case=case.name,
            contender=name,
            value=seconds[name],
            unit="s",
            gigapairs=case.work / seconds[name] / 1e9,
            error=errors.get(name),
            ratio=None if name == "ours" else seconds[name] / seconds["ours"],
            target=case.targets.get(name),
        )
        for name in contenders
    ]


def compare_results(case: Case, contenders: Mapping[str, Contender]) -> dict[str, float]:
    """Run each contender once, which also warms it up, and raise if two of them disagree.

    Returns the errors relative to the reference, if there is one.
    """
    results = {name: as_arrays(contender()) for name, contender in contenders.items()}
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
