"""Run the benchmarks of all packages against their peers; print a table, write JSON, a summary and plots.

A file `packages/*/benchmarks/bench_NAME.py` is found by itself; `benchmarking.py` says what it states.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

from benchmark_report import cells, merge_rows, print_header, print_rows, read_rows, write_results
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


def find_jobs(module: ModuleType) -> list[Case | Figure]:
    """The cases, then the figures, of a benchmark file."""
    jobs: list[Case | Figure] = []
    for kind in ("cases", "figures"):
        if hasattr(module, kind):
            jobs += getattr(module, kind)()
    return jobs


def is_chosen(job: Case | Figure, arguments: argparse.Namespace) -> bool:
    return arguments.k in job.name and (arguments.slow or not job.slow)


def parse_arguments(known: Iterable[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("-k", default="", metavar="TEXT", help="only the cases whose name contains this")
    parser.add_argument("--slow", action="store_true", help="the cases that take minutes too")
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
        found = [
            measure_file(benchmarks[name], arguments, fma_peak) for name in arguments.names or benchmarks
        ]
    if not any(found):
        raise SystemExit(f"No case has {arguments.k!r} in its name, or only slow ones, for --slow.")


def measure_file(path: Path, arguments: argparse.Namespace, fma_peak: Mapping[str, float]) -> bool:
    """Measure the chosen cases of one file, printed as they come, and write them; False if none is chosen.

    What was written before stays, for the cases that are not measured now.
    """
    jobs = find_jobs(load(path))
    rows: list[Row] = []
    for job in jobs:
        if is_chosen(job, arguments):
            group = (
                measure_case(job, fma_peak, arguments.repeats)
                if isinstance(job, Case)
                else [measure_figure(job)]
            )
            print_rows(map(cells, group))
            rows += group
    if rows and not arguments.table:
        name, folder = path.stem.removeprefix("bench_"), folder_of_results(path, arguments.docs)
        write_results(name, merge_rows(rows, read_rows(folder / f"{name}.json"), jobs), fma_peak, folder)
    return bool(rows)


def folder_of_results(benchmark: Path, for_docs: bool) -> Path:
    package = benchmark.parent.parent
    return package / "docs" / "benchmarks" if for_docs else Path("outputs") / "benchmarks" / package.name


if __name__ == "__main__":
    main()
