"""Run the benchmarks of all packages against their peers; print a table, write JSON, a summary and plots.

A file `packages/*/benchmarks/bench_NAME.py` is found by itself; `benchmarking.py` says what it states.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from benchmark_report import cells, print_header, print_rows, write_results
from benchmarking import REPEATS, Case, Figure, Row, measure_case, measure_figure
from fma_peak import REAL_BITS, measure_fma_peak

ROOT = Path(__file__).resolve().parent.parent


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


def parse_arguments(known: Iterable[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("-k", default="", metavar="TEXT", help="only the cases whose name contains this")
    parser.add_argument(
        "--repeats", type=int, default=REPEATS, help="best of so many runs (default: %(default)s)"
    )
    written = parser.add_mutually_exclusive_group()
    written.add_argument("--table", action="store_true", help="print the table, write no file")
    written.add_argument("--docs", action="store_true", help="write to packages/*/docs/benchmarks")
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
        fma_peak = {dtype: measure_fma_peak(dtype) for dtype in REAL_BITS}
        for dtype, peak in fma_peak.items():
            print(f"{dtype}: {peak / 1e9:.0f} billion fused multiply-adds per second at most")
        print_header()
        measured = {
            name: measure_file(benchmarks[name], arguments, fma_peak)
            for name in arguments.names or benchmarks
        }
    if not any(measured.values()):
        raise SystemExit(f"No case has {arguments.k!r} in its name.")
    for name, rows in measured.items():
        if rows and not arguments.table:
            write_results(name, rows, fma_peak, folder_of_results(benchmarks[name], arguments.docs))


def measure_file(path: Path, arguments: argparse.Namespace, fma_peak: Mapping[str, float]) -> list[Row]:
    """The rows of one benchmark file, printed as they come."""
    rows: list[Row] = []
    for group in measure(load(path), arguments.k, arguments.repeats, fma_peak):
        print_rows(map(cells, group))
        rows += group
    return rows


def folder_of_results(benchmark: Path, for_docs: bool) -> Path:
    package = benchmark.parent.parent
    return package / "docs" / "benchmarks" if for_docs else Path("outputs") / "benchmarks" / package.name


if __name__ == "__main__":
    main()
