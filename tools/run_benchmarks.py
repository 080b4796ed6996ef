"""Run the benchmarks of all packages against their peers; print a table, write JSON and a plot.

A file `packages/*/benchmarks/bench_NAME.py` is found by itself; `benchmarking.py` says what it states.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarking import REPEATS, Case, Figure, Row, measure_case, measure_figure
from fma_peak import REAL_BITS, measure_fma_peak

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {
    "case": 36, "contender": 20, "time or value": 13, "Gpairs/s": 8, "of peak": 7, "error": 6, "first call": 10,
    "memory": 9, "ratio": 6, "target": 6, "": 5,
}  # fmt: skip


def find_benchmarks() -> dict[str, Path]:
    """Benchmark files by their name, without `bench_`."""
    return {
        path.stem.removeprefix("bench_"): path
        for path in sorted(ROOT.glob("packages/*/benchmarks/bench_*.py"))
    }


def load(path: Path) -> ModuleType:
    """Import a benchmark file by its path; files beside it may be imported by their names."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(
    module: ModuleType, pattern: str, repeats: int, fma_peak: Mapping[str, float]
) -> Iterator[list[Row]]:
    """The rows of each case, then of each figure, whose name contains the pattern."""
    nothing: tuple[()] = ()
    cases: Iterable[Case] = getattr(module, "cases", lambda: nothing)()
    for case in cases:
        if pattern in case.name:
            yield measure_case(case, fma_peak, repeats)
    figures: Iterable[Figure] = getattr(module, "figures", lambda: nothing)()
    for figure in figures:
        if pattern in figure.name:
            yield [measure_figure(figure)]


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table as text."""

    def optional(value: float | None, style: str) -> str:
        return "" if value is None else format(value, style)

    return (
        row.case,
        row.contender,
        f"{row.value:.4g} {row.unit}",
        optional(row.gigapairs, ".3g"),
        optional(row.peak_share, ".0%"),
        optional(row.error, ".0e"),
        optional(row.first_call, ".3g") + (" s" if row.first_call is not None else ""),
        optional(row.megabytes, ".0f") + (" MB" if row.megabytes is not None else ""),
        optional(row.ratio, ".3g"),
        optional(row.target, "g"),
        row.verdict,
    )


def print_rows(rows: Iterable[Iterable[str]]) -> None:
    """Print lines of a Markdown table."""
    for row in rows:
        padded = (text.ljust(width) for text, width in zip(row, COLUMNS.values(), strict=True))
        print(f"| {' | '.join(padded)} |", flush=True)


def write_results(rows: list[Row], fma_peak: Mapping[str, float], folder: Path) -> None:
    """Write results.json, a plot of the cases and one of the curves."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "fused multiply-adds per second": dict(fma_peak),
    }
    content = {**machine, "rows": [dataclasses.asdict(row) for row in rows]}
    (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    compared = [row for row in rows if row.gigapairs is not None]
    plot_cases([row for row in compared if row.point is None], folder / "results.png")
    plot_curves([row for row in compared if row.point is not None], folder / "curves.png")
    print(f"\nWritten to {folder}.")


def plot_cases(rows: list[Row], path: Path) -> None:
    """One line per case, one mark per contender."""
    import matplotlib.pyplot as plt  # a slow import that --table does without

    names = list(dict.fromkeys(row.case for row in rows))
    if not names:
        return
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.6 * len(names)), layout="constrained")
    for contender in dict.fromkeys(row.contender for row in rows):
        points = [(row.gigapairs, names.index(row.case)) for row in rows if row.contender == contender]
        axes.plot(*zip(*points, strict=True), "o", label=contender)
    axes.set(xscale="log", xlabel="billion pairs per second", yticks=range(len(names)), yticklabels=names)
    axes.invert_yaxis()
    finish_plot(figure, axes, path)


def plot_curves(rows: list[Row], path: Path) -> None:
    """One log-log picture per curve: the time against what varies."""
    import matplotlib.pyplot as plt

    curves: dict[str, list[Row]] = {}
    for row in rows:
        assert row.point is not None
        curves.setdefault(row.point.curve, []).append(row)
    if not curves:
        return
    figure, grid = plt.subplots(
        1, len(curves), figsize=(6.5 * len(curves), 5), layout="constrained", squeeze=False
    )
    for axes, (name, members) in zip(grid[0], curves.items(), strict=True):
        for contender in dict.fromkeys(row.contender for row in members):
            points = [
                (row.point.value, row.value) for row in members if row.point and row.contender == contender
            ]
            axes.plot(*zip(*points, strict=True), "o-", label=contender)
        variable = members[0].point.variable if members[0].point else ""
        axes.set(title=name, xscale="log", yscale="log", xlabel=variable, ylabel="seconds")
        axes.grid(alpha=0.3)
    finish_plot(figure, grid[0][0], path)


def finish_plot(figure: Any, axes: Any, path: Path) -> None:
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def parse_arguments(known: Iterable[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("-k", default="", metavar="TEXT", help="only the cases whose name contains this")
    parser.add_argument(
        "--repeats", type=int, default=REPEATS, help="best of so many runs (default: %(default)s)"
    )
    parser.add_argument("--table", action="store_true", help="print the table, write no file")
    arguments = parser.parse_args()
    if unknown := set(arguments.names).difference(known):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return arguments


def main() -> None:
    """Measure what the command line asks for."""
    benchmarks = find_benchmarks()
    arguments = parse_arguments(benchmarks)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SYMBOLIC_MATRICES_CACHE"] = cache  # first calls compile, as for a user's first call
        rows, fma_peak = measure_all(arguments, benchmarks)
    if not rows:
        raise SystemExit(f"No case has {arguments.k!r} in its name.")
    if not arguments.table:
        write_results(rows, fma_peak, Path("outputs") / "benchmarks")


def measure_all(
    arguments: argparse.Namespace, benchmarks: Mapping[str, Path]
) -> tuple[list[Row], dict[str, float]]:
    """All the rows, printed as they come, and the machine's peak."""
    fma_peak = {dtype: measure_fma_peak(dtype) for dtype in REAL_BITS}
    for dtype, peak in fma_peak.items():
        print(f"{dtype}: {peak / 1e9:.0f} billion fused multiply-adds per second at most")
    print_rows([COLUMNS, ["-" * width for width in COLUMNS.values()]])
    rows: list[Row] = []
    for name in arguments.names or benchmarks:
        for group in measure(load(benchmarks[name]), arguments.k, arguments.repeats, fma_peak):
            print_rows(map(cells, group))
            rows += group
    return rows, fma_peak


if __name__ == "__main__":
    main()
