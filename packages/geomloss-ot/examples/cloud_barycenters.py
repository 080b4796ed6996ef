"""Averages three clouds: Wasserstein barycentres with free support, for weights that vary over a triangle.

Run: python cloud_barycenters.py [picture.png] [points]
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from geomloss_ot import barycenter_sample

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.9]])
STEPS = 3


def clouds(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """A disc, a thin ring, and a cross."""
    angles, radii = rng.uniform(0, 2 * np.pi, (2, n)), np.sqrt(rng.uniform(size=n))
    circle = np.stack([np.cos(angles), np.sin(angles)], -1)  # (2, N, 2)
    bars = rng.uniform([-1, -0.2], [1, 0.2], (n, 2))
    cross = np.where(np.arange(n)[:, None] % 2, bars, bars[:, ::-1])
    return [radii[:, None] * circle[0], (0.9 + 0.1 * radii[:, None]) * circle[1], cross]


def weights() -> np.ndarray:
    """Barycentric coordinates of a grid over a triangle: (10, 3)."""
    grid = [(i, j, STEPS - i - j) for i in range(STEPS + 1) for j in range(STEPS + 1 - i)]
    return np.array(grid) / STEPS


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "cloud_barycenters.png"
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    rng = np.random.default_rng(0)
    measures, start = clouds(n, rng), rng.uniform(-1, 1, (n, 2))
    figure, axis = plt.subplots(figsize=(7, 6.4), layout="constrained")
    for shares in weights():
        mean = barycenter_sample(measures, start, weights=shares, blur=0.1, n_steps=10, tol=1e-2)
        centre = shares @ CORNERS
        axis.scatter(*(centre + 0.13 * mean).T, s=4, color=[shares], linewidths=0)
        print(f"weights {shares.round(2)}: mean radius {np.linalg.norm(mean, axis=1).mean():.3f}")
    axis.set(aspect="equal", xticks=[], yticks=[], title="disc (left), ring (right), cross (top)")
    figure.savefig(file, dpi=100)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
