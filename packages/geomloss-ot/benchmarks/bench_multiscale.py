"""Transport between large clouds on a CPU: against GeomLoss' multiscale back end, and POT's exact solver."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import geomloss
import numpy as np
import ot
import torch
from benchmarking import Case, Figure
from measure_clouds import make_clouds, value_and_gradient

import geomloss_ot

# GeomLoss' multiscale values are 1 to 10 % away from the converged divergence; the column of errors tells who is right.
TOLERANCE = 0.15
# Points, blur, seconds and billions of pairs that we mean to need at most; the latter from a prototype in C++.
SIZES = (
    (10_000, 0.05, 0.12, 0.08),
    (10_000, 0.01, 0.5, 0.61),
    (100_000, 0.05, 1.0, 0.28),
    (100_000, 0.01, 4.0, 2.7),
    (1_000_000, 0.05, 15.0, 3.0),
    (1_000_000, 0.01, 60.0, 22.0),
)
MEMORY = 3.0  # GB at most


def converged_value(x: torch.Tensor, y: torch.Tensor, blur: float) -> torch.Tensor:
    """Over all pairs of points, in double precision, with marginals that are right to four digits."""
    loss = geomloss_ot.SamplesLoss(blur=blur, tol=1e-4, max_iter=1000, backend="online")
    return loss(x.double(), y.double())[None]


def divergence_case(n: int, blur: float) -> Case:
    """Value and gradients, everything included."""
    x, y = make_clouds(n)
    ours, theirs = (
        partial(value_and_gradient, library.SamplesLoss(blur=blur, backend="multiscale"), x, y)
        for library in (geomloss_ot, geomloss)
    )
    return Case(
        name=f"divergence + gradient, n={n}, blur={blur}",
        work=float(n) ** 2,
        ours=ours,
        peers={"geomloss multiscale": theirs},
        reference=partial(converged_value, x, y, blur),
        tolerance=TOLERANCE,
        targets={"geomloss multiscale": 20.0},
    )


def distance_case(n: int, accuracy: float) -> Case:
    """W2 without entropy."""
    x, y = (points.double().numpy() for points in make_clouds(n))
    weights = np.full(n, 1 / n)
    return Case(
        name=f"W2 up to {accuracy:.0%}, n={n}" if accuracy > 0 else f"exact W2, n={n}",
        work=float(n) ** 2,
        ours=lambda: np.array([geomloss_ot.wasserstein_distance(x, y, accuracy=accuracy).value]),
        peers={
            "POT emd2": lambda: np.sqrt([ot.emd2(weights, weights, ot.dist(x, y), numItermax=10_000_000)])
        },
        tolerance=max(accuracy, 1e-6),
        targets={"POT emd2": 100.0} if accuracy > 0 else {},
    )


def cases() -> Iterator[Case]:
    """The sizes that peers can manage in seconds."""
    yield divergence_case(10_000, 0.05)
    yield divergence_case(10_000, 0.01)
    yield distance_case(10_000, 1e-2)
    yield distance_case(10_000, 0.0)


def figures() -> Iterator[Figure]:
    """Time, memory and pairs, in a process of their own."""
    for n, blur, seconds, pairs in SIZES:
        name = f"n={n}, blur={blur}"

        def measure(key: str, n: int = n, blur: float = blur) -> float:
            return measure_apart(n, blur)[key]

        yield Figure(f"divergence + gradient, {name}", partial(measure, "seconds"), "s", seconds)
        yield Figure(f"pairs visited, {name}", partial(measure, "pairs"), "1e9", pairs)
        yield Figure(f"peak memory, {name}", partial(measure, "gigabytes"), "GB", MEMORY)


@functools.cache
def measure_apart(n: int, blur: float) -> dict[str, float]:
    """What ``measure_clouds`` finds in a fresh process."""
    command = [sys.executable, str(Path(__file__).with_name("measure_clouds.py")), str(n), str(blur)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found
