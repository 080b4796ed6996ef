"""Time reductions on a GPU beside KeOps, dense PyTorch and torch.compile; write JSON and a Markdown table.

Times are those of CUDA events on the current stream, around several runs in a row, the best of several turns. Our
result is compared with the first rows in float64, and the results of peers with ours, before anything is timed. A
peer that is not installed, does not fit, fails or differs is named with its reason; a failure of ours is one of this
program, at its end. The results are written after each case. `--dry-run` needs no GPU: tiny sizes, our kernels in the
emulator.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gpu_peers
import torch
from benchmarking import as_arrays, relative_difference

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5
LEAST_TURN = 0.05  # seconds of runs in a row
MOST_DENSE_BYTES = 8 << 30  # of a stored matrix
MOST_PAIRS_OF_PEERS = 2e10
TINY = 64  # points of a dry run
Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A formula of contenders.py on clouds of n points."""

    name: str
    formula: str
    n: int
    dim: int = 3
    columns: int = 1
    dtype: str = "float32"
    tolerance: float = 1e-3


@dataclass(frozen=True)
class Row:
    """What one contender took for a case, or why it did not run."""

    case: str
    contender: str
    seconds: float | None
    gigapairs_per_second: float | None
    first_call: float | None
    difference: float | None  # to our result, relative to the largest value
    reason: str = ""


def cases() -> Iterator[Case]:
    """The CUDA table of docs/gpu.md at three sizes, then high dimension and wide right-hand sides."""
    for n in (10_000, 100_000, 1_000_000):
        for formula in ("gaussian", "logsumexp", "laplacian", "gaussian_gradient", "nearest", "ten_nearest"):
            yield Case(f"{formula} D=3 N={n}", formula, n)
    for n in (10_000, 100_000):
        yield Case(f"gaussian D=10 N={n}", "gaussian", n, dim=10)
        yield Case(f"gaussian D=64 N={n}", "gaussian", n, dim=64)
        yield Case(f"ten_nearest D=64 N={n}", "ten_nearest", n, dim=64)
        yield Case(f"gaussian D=3 64 columns N={n}", "gaussian", n, columns=64)
        yield Case(f"attention D=64 64 columns N={n}", "attention", n, dim=64, columns=64)
        # GeomLoss stops at the end of its schedule, some percent away.
        yield Case(f"divergence D=3 N={n}", "divergence", n, tolerance=0.15)
    yield Case("gaussian D=3 float64 N=10000", "gaussian", 10_000, dtype="float64")


def contenders_of(case: Case, contenders: Any, device: str) -> dict[str, Run | str]:
    """Our run and the peers', or why a peer does not take part."""
    data = tuple(
        array.to(device)
        for array in contenders.make_data(case.n, case.n, case.dim, case.columns, getattr(torch, case.dtype))
    )
    formula = getattr(contenders, case.formula, None) or getattr(gpu_peers, case.formula)
    peers: dict[str, Run | str] = {"ours": contenders.ours(formula, data)}
    if float(case.n) ** 2 > MOST_PAIRS_OF_PEERS:
        return peers
    if case.formula != "divergence":
        peers["KeOps"] = _keops(formula, data)
    if hasattr(contenders, case.formula):
        peers |= _dense_peers(case, contenders, data)
    return {**peers, **gpu_peers.peers_of(case.formula, data)}


def _dense_peers(case: Case, contenders: Any, data: tuple[torch.Tensor, ...]) -> dict[str, Run | str]:
    formula = getattr(contenders, case.formula)
    if case.n**2 * data[0].element_size() > MOST_DENSE_BYTES:
        return {"torch dense": "the matrix does not fit", "torch.compile": "the matrix may not fit"}
    return {
        "torch dense": partial(formula, contenders.Dense, *data),
        "torch.compile": contenders.compiled(formula, data),
    }


def _keops(formula: Callable[..., Any], data: tuple[torch.Tensor, ...]) -> Run | str:
    if importlib.util.find_spec("pykeops") is None:
        return "not installed"
    return partial(formula, importlib.import_module("pykeops.torch").LazyTensor, *data)


def measure(case: Case, peers: dict[str, Run | str], exact: Any, device: str) -> Iterator[Row]:
    """Our row, then those of the peers, whose results must agree with ours; ``exact`` are the first rows."""
    ours: Any = None
    for name, run in peers.items():
        if isinstance(run, str):
            yield Row(case.name, name, None, None, None, None, run)
            continue
        try:
            start = time.perf_counter()
            result = as_arrays(run())  # copied to the CPU, hence complete
            first_call = time.perf_counter() - start
            if name == "ours":
                ours = result
                if exact is not None:
                    _check(case, [result[0][: len(exact[0])]], exact)
            difference = _check(case, result, ours)
            seconds = min(timed(run, device) for _ in range(REPEATS))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split()).replace("|", "/")
            yield Row(case.name, name, None, None, None, None, reason[:200])
            if name == "ours":
                return  # there is nothing to compare with
            continue
        yield Row(case.name, name, seconds, float(case.n) ** 2 / seconds / 1e9, first_call, difference)


def _check(case: Case, result: Any, expected: Any) -> float:
    difference = relative_difference(result, expected)
    if not difference <= case.tolerance:
        raise AssertionError(f"the result differs by {difference:.1e} of the largest value")
    return difference


def exact_rows(case: Case, contenders: Any, device: str) -> Any:
    """The first rows in double precision; None for what has no formula on stored matrices."""
    formula = getattr(contenders, case.formula, None)
    if formula is None:
        return None
    data = contenders.make_data(case.n, case.n, case.dim, case.columns, getattr(torch, case.dtype))
    return as_arrays(contenders.in_float64(formula, *(array.to(device) for array in data)))


def timed(run: Run, device: str) -> float:
    """Seconds of a run, from two events around many on the current stream; wall time where there is no GPU."""
    if device == "cpu":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    once = _between_events(run, 1)
    return once if once >= LEAST_TURN else _between_events(run, math.ceil(LEAST_TURN / max(once, 1e-5)))


def _between_events(run: Run, count: int) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        run()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1e3 / count


def as_markdown(title: str, rows: list[Row]) -> str:
    lines = [f"# {title}", "", "| case | contender | seconds | Gpairs/s | first call | difference | |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in rows:
        numbers = (row.seconds, row.gigapairs_per_second, row.first_call, row.difference)
        cells = ("" if number is None else f"{number:.3g}" for number in numbers)
        lines.append(f"| {row.case} | {row.contender} | {' | '.join(cells)} | {row.reason} |")
    return "\n".join(lines) + "\n"


def emulate() -> None:
    """Let our reductions of arrays in main memory run in the emulator."""
    sys.path.insert(0, str(ROOT / "packages/symbolic-matrices/tests"))
    emulated = importlib.import_module("gpu.emulated")
    importlib.import_module("symbolic_matrices.execution").BACKENDS["cpu"] = emulated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-k", default="", metavar="TEXT", help="only the cases whose name contains this")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/gpu"), help="folder (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, without a GPU, in the emulator")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "packages/symbolic-matrices/benchmarks"))
    contenders = importlib.import_module("contenders")
    device = "cpu" if arguments.dry_run else "cuda"
    title = "dry run: no GPU, no timings" if arguments.dry_run else torch.cuda.get_device_name()
    if arguments.dry_run:
        emulate()
    rows: list[Row] = []
    arguments.output.mkdir(parents=True, exist_ok=True)
    for case in cases():
        if arguments.k not in case.name:
            continue
        sized = Case(**{**asdict(case), "n": TINY}) if arguments.dry_run else case
        exact = exact_rows(sized, contenders, device)
        for row in measure(sized, contenders_of(sized, contenders, device), exact, device):
            print(row, flush=True)
            rows.append(row)
        write(arguments.output, title, rows)
    if not rows:
        raise SystemExit(f"No case has {arguments.k!r} in its name.")
    print(f"Written to {arguments.output}.")
    failed = [f"{row.case}: {row.reason}" for row in rows if row.contender == "ours" and row.seconds is None]
    if failed:
        raise SystemExit("Our own reductions failed:\n" + "\n".join(failed))


def write(folder: Path, title: str, rows: list[Row]) -> None:
    record = {"device": title, "torch": torch.__version__, "python": platform.python_version()}
    text = json.dumps({**record, "rows": [asdict(row) for row in rows]}, indent=1)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    (folder / "results.md").write_text(as_markdown(title, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
