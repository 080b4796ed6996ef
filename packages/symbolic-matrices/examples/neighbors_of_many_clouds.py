"""Local dimension of many point clouds of unequal sizes, in one launch.

Each cloud is a sample of a circle or of a sphere. The nearest neighbours of each point, within its own cloud, tell
which: on a curve, the distance to neighbour number k grows like k; on a surface, like the square root of k. The clouds
are stored one after the other, and a ragged structure keeps them apart.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from symbolic_matrices import Profile, Vi, Vj, ragged

NEIGHBORS = 5


def sample_clouds(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3), the sizes of the clouds, and whether each is a surface."""
    lengths = rng.integers(50, 151, count)
    is_surface = rng.random(count) < 0.5
    angle = rng.uniform(0, 2 * np.pi, lengths.sum())
    height = np.where(np.repeat(is_surface, lengths), rng.uniform(-1, 1, len(angle)), 0)
    radius = np.sqrt(1 - height**2)
    points = np.stack((radius * np.cos(angle), radius * np.sin(angle), height), 1)
    return points.astype("float32"), lengths, is_surface


def local_dimensions(points: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The maximum-likelihood estimate of Levina and Bickel (2004), averaged over each cloud."""
    squared = Vi(points).sqdist(Vj(points)).Kmin(NEIGHBORS + 1, axis=1, ranges=ragged(lengths))[:, 1:]
    log_ratio = 0.5 * np.log(squared[:, -1:] / np.maximum(squared[:, :-1], 1e-12)).mean(1)
    starts = np.cumsum(lengths) - lengths
    return lengths / np.add.reduceat(log_ratio, starts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clouds", type=int, default=1000)
    count = parser.parse_args().clouds
    points, lengths, is_surface = sample_clouds(count, np.random.default_rng(0))
    local_dimensions(points, lengths)  # compiles the kernel
    start = time.perf_counter()
    with Profile() as profile:
        dimensions = local_dimensions(points, lengths)
    seconds = time.perf_counter() - start
    found = dimensions > 1.5
    print(
        f"{count} clouds, {len(points)} points, {(lengths**2).sum():.3g} pairs: {1e3 * seconds:.1f} ms, {profile}"
    )
    print(f"median dimension of curves:   {np.median(dimensions[~is_surface]):.2f}")
    print(f"median dimension of surfaces: {np.median(dimensions[is_surface]):.2f}")
    print(f"told apart: {100 * np.mean(found == is_surface):.1f} % of the clouds")


if __name__ == "__main__":
    main()
