"""Run the benchmarks of all packages against their peers; print a table, write JSON and a plot.

A file `packages/*/benchmarks/bench_NAME.py` is found by itself; `benchmarking.py` says what it states.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from benchmarking import REPEATS, Case, Figure, Row, measure_case, measure_figure

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("case", "contender", "time or value", "Gpairs/s", "error", "ratio", "target", "")


def find_benchmarks() -> dict[str, Path]:
    """Benchmark files by their name, without `bench_`."""
    return {
        path.stem.removeprefix("bench_"): path
        for path in sorted(ROOT.glob("packages/*/benchmarks/bench_*.py"))
    }


def load(path: Path) -> ModuleType:
    """Import a benchmark file by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(module: ModuleType, pattern: str, repeats: int) -> Iterator[list[Row]]:
    """The rows of each case, then of each figure, whose name contains the pattern."""
    nothing: tuple[()] = ()
    cases: Iterable[Case] = getattr(module, "cases", lambda: nothing)()
    for case in cases:
        if pattern in case.name:
            yield measure_case(case, repeats)
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
        optional(row.error, ".0e"),
        optional(row.ratio, ".3g"),
        optional(row.target, "g"),
        row.verdict,
    )


def print_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """Print lines of a Markdown table."""
    widths = (36, 18, 13, 8, 6, 6, 6, 5)
    for row in rows:
        print(
            "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |",
            flush=True,
        )


def write_results(rows: list[Row], folder: Path) -> None:
    """Write results.json and results.png."""
    import matplotlib.pyplot as plt  # a slow import that --table does without

    folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    content = {**machine, "rows": [dataclasses.asdict(row) for row in rows]}
    (folder / "results.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    compared = [row for row in rows if row.gigapairs is not None]
    names = list(dict.fromkeys(row.case for row in compared))
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.6 * len(names)), layout="constrained")
    for contender in dict.fromkeys(row.contender for row in compared):
        points = [(row.gigapairs, names.index(row.case)) for row in compared if row.contender == contender]
        axes.plot(*zip(*points, strict=True), "o", label=contender)
    axes.set(xscale="log", xlabel="billion pairs per second", yticks=range(len(names)), yticklabels=names)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "results.png", dpi=150)
    print(f"\nWritten to {folder / 'results.json'} and {folder / 'results.png'}.")


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
    print_rows([COLUMNS, ("---",) * len(COLUMNS)])
    rows: list[Row] = []
    for name in arguments.names or benchmarks:
        for group in measure(load(benchmarks[name]), arguments.k, arguments.repeats):
            print_rows(map(cells, group))
            rows += group
    if not rows:
        raise SystemExit(f"No case has {arguments.k!r} in its name.")
    if not arguments.table:
        write_results(rows, Path("outputs") / "benchmarks")


if __name__ == "__main__":
    main()
