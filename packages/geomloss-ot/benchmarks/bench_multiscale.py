"""Transport between large clouds on a CPU: against GeomLoss' multiscale back end, and POT's exact solver."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import geomloss
import numpy as np
import ot
from benchmarking import Case, Figure
from measure_clouds import make_clouds, reference, value_and_gradient

import geomloss_ot

# GeomLoss' multiscale values are 1 to 10 % away from the converged divergence, and matchings of POT's bsp are longer
# than the distance; the column of errors tells who is right.
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
VALUE_ERROR, GRADIENT_ERROR, FINE_GRADIENT_ERROR = 0.1, 2.0, 0.5  # % at most
FINE = 0.25  # edge of the cells, in blurs, of the finer setting
UNKNOWN = {(1_000_000, 0.01)}  # whose reference would take too long
GROWTH = 1.2  # exponent at most


def divergence_case(n: int, blur: float, target: float = 20.0, slow: bool = False) -> Case:
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
        reference=lambda: np.array([reference(n, blur).value]),
        tolerance=TOLERANCE,
        targets={"geomloss multiscale": target},
        slow=slow,
    )


def distance_case(n: int, accuracy: float) -> Case:
    """W2 without entropy."""
    x, y = (points.double().numpy() for points in make_clouds(n))
    weights = np.full(n, 1 / n)
    ours = partial(geomloss_ot.wasserstein_distance, x, y)
    peers = {"POT emd2": lambda: np.sqrt([ot.emd2(weights, weights, ot.dist(x, y), numItermax=10_000_000)])}
    if accuracy > 0:
        peers["POT bsp"] = lambda: np.sqrt([ot.bsp.compute_bspot_bijection(x, y)[0]])
    return Case(
        name=f"W2 up to {accuracy:.0%}, n={n}" if accuracy > 0 else f"exact W2, n={n}",
        work=float(n) ** 2,
        ours=lambda: np.array([ours(accuracy=accuracy).value]),
        peers=peers,
        reference=(lambda: np.array([ours(accuracy=0).value])) if accuracy > 0 else None,
        tolerance=TOLERANCE if accuracy > 0 else 1e-6,
        targets={"POT emd2": 100.0} if accuracy > 0 else {},
    )


def cases() -> Iterator[Case]:
    """The sizes that peers can manage in seconds, and, among the slow ones, in minutes."""
    yield divergence_case(10_000, 0.05)
    yield divergence_case(10_000, 0.01)
    yield distance_case(10_000, 1e-2)
    yield distance_case(10_000, 0.0)
    yield divergence_case(100_000, 0.05, target=150.0, slow=True)
    yield divergence_case(100_000, 0.01, target=80.0, slow=True)


def figures() -> Iterator[Figure]:
    """Time, memory, pairs and errors, in a process of their own; how times grow."""
    for n, blur, seconds, pairs in SIZES:
        name = f"n={n}, blur={blur}"
        measured = partial(figure_of, n, blur)
        yield Figure(f"divergence + gradient, {name}", partial(measured, "seconds"), "s", seconds)
        yield Figure(f"pairs visited, {name}", partial(measured, "pairs"), "1e9", pairs)
        yield Figure(f"peak memory, {name}", partial(measured, "gigabytes"), "GB", MEMORY)
        if (n, blur) not in UNKNOWN:
            yield Figure(f"error of the value, {name}", partial(measured, "value_error"), "%", VALUE_ERROR)
            yield Figure(
                f"error of gradients, {name}", partial(measured, "gradient_error"), "%", GRADIENT_ERROR
            )
    for n in (10_000, 100_000):
        fine = partial(figure_of, n, 0.05, "gradient_error", FINE)
        name = f"error of gradients, n={n}, blur=0.05, cluster_scale=blur/{1 / FINE:g}"
        yield Figure(name, fine, "%", FINE_GRADIENT_ERROR)
    for blur in (0.05, 0.01):
        yield Figure(
            f"exponent of times from 10,000 to 1,000,000, blur={blur}", partial(growth, blur), "", GROWTH
        )


def figure_of(n: int, blur: float, key: str, cells: float | None = None) -> float:
    """One of the numbers of ``measure_apart``; errors in per cent."""
    value = measure_apart(n, blur, cells)[key]
    return 100 * value if key.endswith("error") else value


def growth(blur: float) -> float:
    """The exponent e for which times grow as N^e."""
    few, many = (figure_of(n, blur, "seconds") for n in (10_000, 1_000_000))
    return math.log(many / few) / math.log(100)


@functools.cache
def measure_apart(n: int, blur: float, cells: float | None) -> dict[str, float]:
    """What ``measure_clouds`` finds in a fresh process."""
    command = [sys.executable, str(Path(__file__).with_name("measure_clouds.py")), "solve", str(n), str(blur)]
    command += [] if cells is None else ["--cells", str(cells)]
    command += [] if (n, blur) in UNKNOWN else ["--errors"]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found
