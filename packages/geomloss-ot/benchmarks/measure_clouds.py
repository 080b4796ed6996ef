"""The two clouds of the benchmarks of transport, and what one solve takes and gives: time, memory, pairs, errors.

``python measure_clouds.py solve 100000 0.05`` measures in a process that has loaded nothing else;
``python measure_clouds.py reference 100000 0.05`` computes and stores what errors are relative to.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

import geomloss_ot
from geomloss_ot.geometries import PointGeometry, absorbed

MOST_RUNS, PATIENCE = 5, 5.0  # seconds after which no other run starts
REFERENCES = Path(__file__).resolve().parents[3] / "outputs" / "benchmarks" / "references"
MOST_POINTS_OF_ALL_PAIRS = 20_000
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Found(NamedTuple):
    """A divergence and its gradients in both clouds."""

    value: float
    on_x: np.ndarray  # (N, D)
    on_y: np.ndarray  # (M, D)


def make_clouds(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere of radius 0.4 and eight blobs of standard deviation 0.05, in the unit cube; the same at each run."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(n, 3, generator=generator)
    sphere = 0.5 + 0.4 * directions / directions.norm(dim=1, keepdim=True)
    corners = torch.cartesian_prod(*[torch.tensor([0.25, 0.75])] * 3)
    blobs = corners[torch.arange(n) % 8] + 0.05 * torch.randn(n, 3, generator=generator)
    return sphere, blobs


def find(loss: Loss, x: torch.Tensor, y: torch.Tensor) -> Found:
    """The value and its gradients in x and y."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = loss(x, y)
    value.backward()
    assert x.grad is not None
    assert y.grad is not None
    return Found(value.item(), x.grad.numpy(), y.grad.numpy())


def value_and_gradient(loss: Loss, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """The value, (1,), after its gradients in x and y have been computed too."""
    return np.array([find(loss, x, y).value])


def reference(n: int, blur: float) -> Found:
    """The converged divergence and its gradients, computed once, in a process of its own."""
    path = REFERENCES / f"clouds-{n}-{blur}.npz"
    if not path.exists():
        print(f"Computing the reference of n={n}, blur={blur}...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, __file__, "reference", str(n), str(blur)], check=True)
    stored = np.load(path)
    return Found(float(stored["value"]), stored["on_x"], stored["on_y"])


def store_reference(n: int, blur: float) -> None:
    """In double precision: between all the points, or, where these are too many, cells of a quarter of the blur."""
    options: dict[str, Any] = {"blur": blur, "tol": 1e-5, "max_iter": 3000, "backend": "online"}
    if n > MOST_POINTS_OF_ALL_PAIRS:
        options |= {"tol": 1e-4, "backend": "multiscale", "cluster_scale": blur / 4}
    x, y = (points.double() for points in make_clouds(n))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # what has not converged is no reference
        found = find(geomloss_ot.SamplesLoss(**options), x, y)
    REFERENCES.mkdir(parents=True, exist_ok=True)
    np.savez(REFERENCES / f"clouds-{n}-{blur}.npz", **found._asdict())


def relative_errors(found: Found, expected: Found) -> dict[str, float]:
    """Of the value, and of the worse of the two gradients, in L2 norm."""
    gradients = zip(found[1:], expected[1:], strict=True)
    return {
        "value_error": abs(found.value / expected.value - 1),
        "gradient_error": max(float(np.linalg.norm(f - e) / np.linalg.norm(e)) for f, e in gradients),
    }


def measure_here(n: int, blur: float, cells: float | None) -> tuple[dict[str, float], Found]:
    """Best time after a warm-up on few points, pairs that are visited, the largest memory of this process; the result.

    Cells are those of the default, or so many blurs wide.
    """
    x, y = make_clouds(n)
    width = None if cells is None else cells * blur
    loss = geomloss_ot.SamplesLoss(blur=blur, backend="multiscale", cluster_scale=width)
    run = partial(find, loss)
    run(*make_clouds(1000))
    run(*make_clouds(3000))
    seconds: list[float] = []
    while not seconds or (len(seconds) < MOST_RUNS and sum(seconds) < PATIENCE):
        start = time.perf_counter()
        pairs, found = count_pairs(lambda: run(x, y))
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "gigabytes": largest_memory(), "pairs": pairs / 1e9}, found


def largest_memory() -> float:
    """Of this process, in GB. Linux's resource usage is at least that of the parent: its status is not."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def count_pairs(run: Callable[[], Found]) -> tuple[int, Found]:
    """How many pairs of points or cells the reductions of a run visit, but for those whose kernels are stored."""
    counts: list[int] = []

    def counting(method: Callable[..., Any], geometry_of: Callable[[Any], PointGeometry]) -> Any:
        def counted(self: Any, *arguments: Any) -> Any:
            geometry = geometry_of(self)
            ranges = geometry.ranges
            counts.append(geometry.shape[-2] * geometry.shape[-1] if ranges is None else ranges.pairs)
            return method(self, *arguments)

        return counted

    with ExitStack() as stack:
        for owner, name, geometry_of in (
            (PointGeometry, "softmin", lambda geometry: geometry),
            (PointGeometry, "apply_plan", lambda geometry: geometry),
            (absorbed._Side, "_moved", lambda side: side._geometry),
        ):
            method = counting(getattr(owner, name), geometry_of)
            stack.enter_context(mock.patch.object(owner, name, method))
        found = run()
    return sum(counts), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("solve", "reference"))
    parser.add_argument("n", type=int)
    parser.add_argument("blur", type=float)
    parser.add_argument("--cells", type=float, help="edge of the last cells, in blurs")
    parser.add_argument("--errors", action="store_true", help="compare with the reference too")
    given = parser.parse_args()
    if given.what == "reference":
        store_reference(given.n, given.blur)
        return
    measured, found = measure_here(given.n, given.blur, given.cells)
    if given.errors:
        measured |= relative_errors(found, reference(given.n, given.blur))
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
