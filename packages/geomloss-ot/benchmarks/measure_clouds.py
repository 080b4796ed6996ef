"""The two clouds of the benchmarks of transport, and what one solve takes: time, memory and pairs.

``python measure_clouds.py 100000 0.05`` measures in a process that has loaded nothing else.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import geomloss_ot
from geomloss_ot.geometries import PointGeometry

MOST_RUNS, PATIENCE = 5, 5.0  # seconds after which no other run starts


def make_clouds(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere of radius 0.4 and eight blobs of standard deviation 0.05, in the unit cube; the same at each run."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(n, 3, generator=generator)
    sphere = 0.5 + 0.4 * directions / directions.norm(dim=1, keepdim=True)
    corners = torch.cartesian_prod(*[torch.tensor([0.25, 0.75])] * 3)
    blobs = corners[torch.arange(n) % 8] + 0.05 * torch.randn(n, 3, generator=generator)
    return sphere, blobs


def value_and_gradient(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """The value, (1,), after its gradients in x and y have been computed too."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = loss(x, y)
    value.backward()
    return value.detach()[None]


def measure_here(n: int, blur: float) -> dict[str, float]:
    """Best time after a warm-up on few points, pairs that are visited, and the largest memory of this process."""
    x, y = make_clouds(n)
    run = partial(value_and_gradient, geomloss_ot.SamplesLoss(blur=blur, backend="multiscale"))
    run(*make_clouds(1000))
    run(*make_clouds(3000))
    seconds: list[float] = []
    while not seconds or (len(seconds) < MOST_RUNS and sum(seconds) < PATIENCE):
        start = time.perf_counter()
        pairs = count_pairs(lambda: run(x, y))
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": min(seconds), "gigabytes": peak, "pairs": pairs / 1e9}


def count_pairs(run: Callable[[], Any]) -> int:
    """How many pairs of points or cells the reductions of a run visit, but for those whose kernels are stored."""
    counts: list[int] = []
    original = {name: getattr(PointGeometry, name) for name in ("softmin", "apply_plan")}

    def counting(name: str) -> Any:
        def method(self: PointGeometry, *arguments: Any) -> Any:
            counts.append(self.shape[-2] * self.shape[-1] if self.ranges is None else self.ranges.pairs)
            return original[name](self, *arguments)

        return method

    try:
        for name in original:
            setattr(PointGeometry, name, counting(name))
        run()
    finally:
        for name, method in original.items():
            setattr(PointGeometry, name, method)
    return sum(counts)


if __name__ == "__main__":
    print(json.dumps(measure_here(int(sys.argv[1]), float(sys.argv[2]))))
