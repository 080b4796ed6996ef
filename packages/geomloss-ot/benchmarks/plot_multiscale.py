"""Draw the pictures of the page on multiscale transport: time against error, and the blocks that are kept.

``python plot_multiscale.py errors`` measures all solvers, in some five minutes; ``errors NAME...`` those whose names
start like this, and keeps the other measurements; ``draw`` draws what was measured; ``blocks`` takes seconds. OTT-JAX
runs in an environment of its own: OTT_PYTHON is the path of its interpreter.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import geomloss
import matplotlib.pyplot as plt
import numpy as np
import ot
from measure_clouds import find, make_clouds, reference

import geomloss_ot
from geomloss_ot.multiscale import converging

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
RESULTS = FOLDER / "multiscale-errors.json"
POINTS, BLUR = 10_000, 0.05
BLOCKS_POINTS, BLOCKS_BLUR = 20_000, 0.01
REPEATS, PATIENCE = 3, 5.0  # what takes longer, in seconds, runs once
DIGITS = 1e-9  # errors below are drawn there
Job = Callable[[], Any]


class Run(NamedTuple):
    """One point of the picture."""

    setting: str
    seconds: float
    error: float  # relative


def best_time(job: Job) -> tuple[float, float]:
    """Seconds of the best of several runs, after a warm-up unless they take long, and the value."""
    best = float("inf")
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        value = float(job())
        best = min(best, time.perf_counter() - start)
        if best > PATIENCE:
            break
    return best, value


# ---------------------------------------------------------------------- divergences, with gradients


def run_ours() -> Iterator[Run]:
    settings = (
        (2.0, 1e-2),
        (1.0, 1e-2),
        (1.0, 1e-3),
        (0.5, 1e-3),
        (0.25, 1e-3),
        (0.125, 1e-4),
        (0.0625, 1e-5),
    )
    for width, tol in settings:
        loss = geomloss_ot.SamplesLoss(blur=BLUR, backend="multiscale", cluster_scale=width * BLUR, tol=tol)
        yield divergence(f"cells of {width:g} blur, tol={tol:g}", loss)


def run_geomloss() -> Iterator[Run]:
    for scaling in (0.3, 0.5, 0.7, 0.9, 0.95):
        loss = geomloss.SamplesLoss(blur=BLUR, backend="multiscale", scaling=scaling)
        yield divergence(f"scaling={scaling}", loss)


def divergence(setting: str, loss: Any) -> Run:
    x, y = make_clouds(POINTS)
    seconds, value = best_time(lambda: find(loss, x, y).value)
    return Run(setting, seconds, abs(value / reference(POINTS, BLUR).value - 1))


def run_ott() -> Iterator[Run]:
    """In its own environment, if there is one."""
    python = os.environ.get("OTT_PYTHON")
    if python is None:
        print("OTT-JAX is left out: OTT_PYTHON does not say which interpreter has it.", flush=True)
        return
    thresholds = ["1e-1", "1e-2", "1e-3"]
    with tempfile.TemporaryDirectory() as folder:
        clouds = Path(folder) / "clouds.npz"
        np.savez(clouds, **dict(zip("xy", (points.numpy() for points in make_clouds(POINTS)), strict=True)))
        script = Path(__file__).with_name("measure_ott.py")
        command = [python, str(script), str(clouds), str(BLUR), *thresholds]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
    for threshold, (seconds, value) in zip(thresholds, json.loads(found), strict=True):
        yield Run(f"threshold={threshold}", seconds, abs(value / reference(POINTS, BLUR).value - 1))


# ---------------------------------------------------------------------- W2


@functools.cache
def exact_distance() -> float:
    """Between bounds that agree up to rounding."""
    return geomloss_ot.wasserstein_distance(*double_clouds(), accuracy=0).value


def double_clouds() -> list[np.ndarray]:
    return [points.double().numpy() for points in make_clouds(POINTS)]


def run_our_distance() -> Iterator[Run]:
    for accuracy in (0.1, 0.03, 0.01, 0.003, 0.0):
        ours = functools.partial(geomloss_ot.wasserstein_distance, *double_clouds(), accuracy=accuracy)
        yield distance(f"accuracy={accuracy}", ours)


def run_emd2() -> Iterator[Run]:
    x, y = double_clouds()
    weights = np.full(POINTS, 1 / POINTS)
    yield distance("exact", lambda: ot.emd2(weights, weights, ot.dist(x, y), numItermax=10_000_000) ** 0.5)


def run_bsp() -> Iterator[Run]:
    """Matchings by binary space partitions, merged."""
    x, y = double_clouds()
    for plans in (16, 64, 256, 1024):

        def match(plans: int = plans) -> float:
            return float(ot.bsp.compute_bspot_bijection(x, y, n_plans=plans)[0]) ** 0.5

        yield distance(f"n_plans={plans}", match)


def distance(setting: str, job: Job) -> Run:
    seconds, value = best_time(job)
    return Run(setting, seconds, abs(value / exact_distance() - 1))


# ---------------------------------------------------------------------- pictures

SOLVERS: dict[str, Callable[[], Iterator[Run]]] = {
    "geomloss-ot, divergence": run_ours,
    "geomloss multiscale, divergence": run_geomloss,
    "OTT-JAX, divergence": run_ott,
    "geomloss-ot, W2": run_our_distance,
    "POT emd2, W2": run_emd2,
    "POT bsp, W2": run_bsp,
}


def write_errors(starts: list[str]) -> None:
    """Measure the solvers whose names start like this, or all of them, and draw all that is known."""
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for solver, runs in SOLVERS.items():
        if not starts or any(solver.startswith(start) for start in starts):
            found = []
            for run in runs():
                print(f"{solver}, {run.setting}: {run.seconds:.3g} s, error of {run.error:.1e}", flush=True)
                found.append(run)
            if found:
                stored[solver] = found
    known = {solver: stored[solver] for solver in SOLVERS if solver in stored}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    draw_errors()


def draw_errors() -> None:
    """Time against error, log-log."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    figure, axes = plt.subplots(figsize=(7.5, 5), layout="constrained")
    for (solver, runs), marker in zip(found.items(), "os*^Pv", strict=False):
        style = "-" if "divergence" in solver else ":"
        _, seconds, errors = zip(*runs, strict=True)
        axes.loglog(seconds, [max(error, DIGITS) for error in errors], marker + style, label=solver)
    axes.set_xlabel("seconds")
    axes.set_ylabel("relative error of the value")
    axes.set_title(
        f"Sphere to blobs, {POINTS:,} points; divergences and gradients at blur {BLUR}", fontsize=10
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(FOLDER / "multiscale-errors.png", dpi=90)


def draw_blocks() -> None:
    """The pairs of cells that are visited, one picture per scale."""
    masked: list[tuple[float, tuple[int, ...], Any]] = []
    original = converging.masked_problem

    def record(problem: Any, *others: Any) -> Any:
        found = original(problem, *others)
        if not problem.symmetric:
            masked.append((problem.epsilon**0.5, found.geometry.shape, found.geometry.ranges))
        return found

    converging.masked_problem = record
    converging.WORTH_PRUNING = 0
    x, y = make_clouds(BLOCKS_POINTS)
    geomloss_ot.SamplesLoss(blur=BLOCKS_BLUR, backend="multiscale")(x, y)
    converging.masked_problem = original
    shown = {shape: (blur, shape, ranges) for blur, shape, ranges in masked if len(ranges.slices) > 20}
    figure, axes = plt.subplots(1, len(shown), figsize=(2.6 * len(shown), 3), layout="constrained")
    for axis, (blur, shape, ranges) in zip(axes, shown.values(), strict=True):
        axis.imshow(
            picture(shape, ranges),
            cmap="Greys",
            vmin=0,
            vmax=1,
            extent=(0, shape[1], shape[0], 0),
            aspect="auto",
        )
        share = ranges.pairs / (shape[0] * shape[1])
        axis.set_title(f"blur {blur:.2g}: {share:.0%} of\n{shape[0]} x {shape[1]} cells", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(FOLDER / "multiscale-blocks.png", dpi=80)


def picture(shape: tuple[int, ...], ranges: Any, size: int = 200) -> np.ndarray:
    """Which of size x size pixels hold pairs that are visited."""
    found = np.zeros((size, size))
    of_block = np.repeat(np.arange(len(ranges.slices)), np.diff(ranges.slices, prepend=0))
    rows = ranges.row_ranges[of_block] * size // shape[0]
    columns = ranges.column_ranges * size // shape[1]
    for (top, bottom), (left, right) in zip(rows, columns, strict=True):
        found[top : max(bottom, top + 1), left : max(right, left + 1)] = 1
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # rough settings stop early
    what, *names = sys.argv[1:]
    {"errors": lambda: write_errors(names), "draw": draw_errors, "blocks": draw_blocks}[what]()
