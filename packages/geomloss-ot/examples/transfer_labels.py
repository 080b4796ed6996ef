"""Labels a deformed point cloud from a labelled one: labels travel with the mass of the transport plan.

Run: python transfer_labels.py [picture.png] [points]
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from geomloss_ot import solve_sample


def labelled_ring(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points of a ring, and the quarter of each."""
    angles, radii = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.3, 0.45, n)
    points = 0.5 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    return points, (angles // (np.pi / 2)).astype(int)


def deform(points: np.ndarray) -> np.ndarray:
    """A smooth deformation, close to the gradient of a convex function."""
    x, y = points.T
    return np.stack([0.1 + 1.2 * x + 0.05 * np.sin(3 * y), 0.8 * y + 0.05 * np.sin(3 * x)], 1)


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "transfer_labels.png"
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    rng = np.random.default_rng(0)
    x, labels = labelled_ring(n, rng)
    z, truth = labelled_ring(n, rng)
    y = deform(z)
    result = solve_sample(x, y, blur=0.03, tol=1e-3)
    # Mass that each target point receives from each label: a product with the transposed plan.
    received = result.plan_operator.T @ np.eye(4)[labels]
    found = received.argmax(1)
    print(f"labels that are right: {(found == truth).mean():.1%}")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for axis, points, colors, title in ((axes[0], x, labels, "labelled"), (axes[1], y, found, "transferred")):
        axis.scatter(*points.T, s=5, c=colors, cmap="tab10", vmax=9, linewidths=0)
        axis.set(title=title, aspect="equal", xticks=[], yticks=[])
    figure.savefig(file, dpi=120)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
