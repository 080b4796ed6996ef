"""Count iterations on hard small problems, with and without acceleration: the table of docs/performance.md.

``python count_iterations.py`` prints it; ``--fast`` leaves plain annealing out.
"""

from __future__ import annotations

import argparse
import itertools
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest import mock

import numpy as np
from scipy.special import logsumexp

from geomloss_ot import solve_grid, solve_sample
from geomloss_ot.acceleration import Acceleration
from geomloss_ot.annealing import epsilon_schedule

POINTS = 250
MOST = 2000  # iterations
TOLERANCE = 1e-3
REACHES = (None, 1.0, 0.3)
UPDATES_BEFORE, RATES, LARGEST_FACTOR = 8, 3, 1.98  # of over-relaxation: plain updates tell the factor


class Case(NamedTuple):
    """A problem between two shapes."""

    shapes: str
    p: int
    blur: float
    reach: float | None


SHOWN = (
    Case("sphere to blobs", 2, 0.1, None),
    Case("sphere to blobs", 2, 0.05, None),
    Case("sphere to blobs", 2, 0.05, 0.3),
    Case("sphere to blobs", 2, 0.01, None),
    Case("sphere to blobs", 1, 0.01, None),
    Case("two samples of a cube", 2, 0.05, None),
    Case("two samples of a cube", 2, 0.01, 0.3),
    Case("two samples of a cube", 1, 0.01, 1.0),
    Case("sphere to helix", 2, 0.05, None),
    Case("two far blobs", 2, 0.05, None),
    Case("two far blobs", 2, 0.05, 1.0),
)


def make_shapes(n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of clouds of n points, or fewer, in the unit cube."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(n, 3))
    sphere = 0.5 + 0.4 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    corners = np.stack(np.meshgrid(*[[0.25, 0.75]] * 3), -1).reshape(-1, 3)
    blobs = corners[np.arange(n) % 8] + 0.05 * rng.normal(size=(n, 3))
    ends = np.where(np.arange(n)[:, None] % 2, 0.1, 0.9) + 0.03 * rng.normal(size=(n, 3))
    turns = np.linspace(0, 6 * np.pi, n)
    helix = np.stack([0.5 + 0.3 * np.cos(turns), 0.5 + 0.3 * np.sin(turns), np.linspace(0.1, 0.9, n)], -1)
    return {
        "sphere to blobs": (sphere, blobs),
        "two samples of a cube": (rng.uniform(size=(n, 3)), rng.uniform(size=(n, 3))),
        "sphere to helix": (sphere, helix),
        "two far blobs": (ends, ends[: n // 3]),
    }


SHAPES = make_shapes(POINTS)
CASES = tuple(Case(*case) for case in itertools.product(SHAPES, (1, 2), (0.1, 0.05, 0.01), REACHES))


@contextmanager
def no_acceleration() -> Iterator[None]:
    """Plain annealing: no extrapolation, and no Newton's steps."""
    plain = mock.patch.object(Acceleration, "extrapolate", lambda self, state, residual: state + residual)
    endless = mock.patch("geomloss_ot.sinkhorn.patience", return_value=math.inf)
    with plain, endless:
        yield


def count(case: Case) -> int:
    """Iterations until the marginals are right, annealing included; MOST if they never are."""
    x, y = SHAPES[case.shapes]
    metric = "euclidean" if case.p == 1 else "sqeuclidean"
    options = {"metric": metric, "blur": case.blur, "reach": case.reach, "max_iter": MOST, "tol": TOLERANCE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return solve_sample(x, y, **options).n_iter


def count_over_relaxed(case: Case) -> int:
    """Iterations of over-relaxed updates, for balanced problems: the factor follows from how fast plain ones converge.

    Sources: Thibault et al., *Overrelaxed Sinkhorn-Knopp algorithm* (arXiv 1711.01851), and Lehmann et al., *A note on
    overrelaxation in the Sinkhorn algorithm* (2020), for the factor 2 / (1 + sqrt(1 - rate)).
    """
    x, y = SHAPES[case.shapes]
    costs = ((x[:, None] - y) ** 2).sum(-1) ** (case.p / 2)
    epsilon = 2 * case.blur**2 if case.p == 2 else case.blur
    f, g = np.zeros(len(x)), np.zeros(len(y))
    schedule = epsilon_schedule(float(costs.max()), epsilon, 0.5**case.p)[:-1]
    for warm in schedule:
        f, g = next_potentials(costs, warm, (f, g), 1.0)
    factor, last, rates = 1.0, math.inf, []
    for done in range(MOST - len(schedule)):
        f_next, g_next = next_potentials(costs, epsilon, (f, g), factor)
        rows = np.exp((f_next - softmin(costs, epsilon, g_next)) / epsilon)
        columns = np.exp((g_next - softmin(costs.T, epsilon, f_next)) / epsilon)
        if max(abs(rows - 1).mean(), abs(columns - 1).mean()) <= TOLERANCE:
            return len(schedule) + done + 1
        if factor == 1:
            change = abs(g_next - g - (g_next - g).mean()).max()
            rates.append(min(change / last, 1.0))
            last = change
            if len(rates) == UPDATES_BEFORE:
                factor = min(2 / (1 + math.sqrt(1 - np.median(rates[-RATES:]))), LARGEST_FACTOR)
        f, g = f_next, g_next
    return MOST


def next_potentials(
    costs: np.ndarray, epsilon: float, potentials: tuple[np.ndarray, np.ndarray], factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Both updates of a balanced problem of uniform weights, ``factor`` times as far."""
    f, g = potentials
    f = f + factor * (softmin(costs, epsilon, g) - f)
    return f, g + factor * (softmin(costs.T, epsilon, f) - g)


def softmin(costs: np.ndarray, epsilon: float, g: np.ndarray) -> np.ndarray:
    return -epsilon * logsumexp((g - costs) / epsilon - math.log(len(g)), axis=1)


def count_of_images(size: int) -> int:
    """Of two images at the blur of a pixel: temperatures of coarser images, and iterations on the finest."""
    axis = (np.arange(size) + 0.5) / size
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    bumps = ((0.3, 0.4, 0.01), (0.7, 0.5, 0.02))
    a, b = (np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / width) for row, column, width in bumps)
    return solve_grid(a / a.sum(), b / b.sum(), blur=1 / size, tol=TOLERANCE).n_iter


def geometric_mean(counts: list[int]) -> float:
    return math.exp(sum(map(math.log, counts)) / len(counts))


def spell(number: int | None) -> str:
    if number is None:
        return ""
    return f"above {MOST:,}" if number >= MOST else f"{number:,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="leave plain annealing out")
    is_fast = parser.parse_args().fast
    found = {case: count(case) for case in CASES}
    over_relaxed = {case: count_over_relaxed(case) for case in SHOWN if case.reach is None}
    plain: dict[Case, int] = {}
    if not is_fast:
        with no_acceleration():
            plain = {case: count(case) for case in CASES}
    print("| | p | blur | reach | plain annealing | over-relaxed | here |\n|---|---|---|---|---|---|---|")
    for case in SHOWN:
        blur, reach = (f"{number:g}".lstrip("0") if number else "" for number in (case.blur, case.reach))
        numbers = " | ".join(spell(counts.get(case)) for counts in (plain, over_relaxed, found))
        print(f"| {case.shapes} | {case.p} | {blur} | {reach} | {numbers} |")
    means = [f"{geometric_mean(list(counts.values())):.1f}" for counts in (plain, found) if counts]
    print(f"\nGeometric mean of {len(CASES)} problems: {' and '.join(means)}.")
    print(f"Never right: {[case for case in CASES if found[case] >= MOST]}.")
    print(f"Images of 128 x 128: {count_of_images(128)}.")


if __name__ == "__main__":
    main()
