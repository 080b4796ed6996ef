"""Draw the pictures of the page on multiscale transport: time against error, and the blocks that are kept.

``python plot_multiscale.py errors`` takes about two minutes, ``python plot_multiscale.py blocks`` seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from measure_clouds import make_clouds, value_and_gradient

import geomloss_ot
from geomloss_ot.multiscale import converging

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "benchmarks"
POINTS, BLUR = 10_000, 0.05
BLOCKS_POINTS, BLOCKS_BLUR = 20_000, 0.01
REPEATS = 3


def measure_errors() -> dict[str, list[tuple[str, float, float]]]:
    """Per solver: (setting, seconds, relative error) of values; of W2 for the two last ones."""
    import geomloss
    import ot

    x, y = make_clouds(POINTS)
    exact_loss = geomloss_ot.SamplesLoss(blur=BLUR, tol=1e-5, max_iter=1000, backend="online")
    exact = exact_loss(x.double(), y.double()).item()
    found: dict[str, list[tuple[str, float, float]]] = {}

    def add(
        solver: str, setting: str, run: Callable[[], Any], expected: float, repeats: int = REPEATS
    ) -> None:
        seconds = []
        for _ in range(1 + repeats):
            start = time.perf_counter()
            value = float(run())
            seconds.append(time.perf_counter() - start)
        found.setdefault(solver, []).append((setting, min(seconds), abs(value / expected - 1)))

    for width, tol in ((2.0, 1e-2), (1.0, 1e-2), (1.0, 1e-3), (0.5, 1e-3), (0.25, 1e-3), (0.125, 1e-4)):
        ours = geomloss_ot.SamplesLoss(blur=BLUR, backend="multiscale", cluster_scale=width * BLUR, tol=tol)
        setting = f"cells of {width:g} blur, tol={tol:g}"
        add("geomloss-ot, divergence", setting, lambda ours=ours: value_and_gradient(ours, x, y), exact)
    for scaling in (0.3, 0.5, 0.7, 0.9):
        theirs = geomloss.SamplesLoss(blur=BLUR, backend="multiscale", scaling=scaling)
        setting = f"scaling={scaling}"
        add("geomloss, divergence", setting, lambda loss=theirs: value_and_gradient(loss, x, y), exact, 1)
    points = [z.double().numpy() for z in (x, y)]
    weights = np.full(POINTS, 1 / POINTS)
    start = time.perf_counter()
    distance = ot.emd2(weights, weights, ot.dist(*points), numItermax=10_000_000) ** 0.5
    found["POT emd2, W2"] = [("exact", time.perf_counter() - start, 1e-7)]
    for accuracy in (0.1, 0.03, 0.01):
        run = lambda accuracy=accuracy: geomloss_ot.wasserstein_distance(*points, accuracy=accuracy)  # noqa: E731
        add("geomloss-ot, W2", f"accuracy={accuracy}", run, distance, 1)
    return found


def write_errors() -> None:
    """Measure, and draw."""
    found = measure_errors()
    (FOLDER / "multiscale-errors.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw_errors(found)


def draw_errors(found: dict[str, list[tuple[str, float, float]]]) -> None:
    """Time against error, log-log."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for (solver, runs), marker in zip(found.items(), "os*^", strict=True):
        axes.loglog([run[1] for run in runs], [max(run[2], 1e-8) for run in runs], marker + "-", label=solver)
    axes.set_xlabel("seconds")
    axes.set_ylabel("relative error of the value")
    axes.set_title(f"Sphere to blobs, {POINTS:,} points; blur {BLUR}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
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
    torch.manual_seed(0)
    {"errors": write_errors, "blocks": draw_blocks}[sys.argv[1]]()
