"""Interpolates between two shapes: each point goes straight to its image by the transport map, at constant speed.

Run: python interpolate_shapes.py [picture.png] [points]
"""

from __future__ import annotations

import sys
import time

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt

from geomloss_ot import SamplesLoss, wasserstein_distance

TIMES = (0.0, 0.25, 0.5, 0.75, 1.0)


def star(n: int, rng: np.random.Generator) -> np.ndarray:
    """Points in a star of five branches."""
    angles = rng.uniform(0, 2 * np.pi, n)
    radii = (0.25 + 0.13 * np.cos(5 * angles)) * np.sqrt(rng.uniform(size=n))
    return 0.4 + radii[:, None] * np.stack([np.sin(angles), np.cos(angles)], 1)


def rings(n: int, rng: np.random.Generator) -> np.ndarray:
    """Points in two rings."""
    angles, radii = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.13, 0.18, n)
    centres = np.where(np.arange(n)[:, None] % 2, [1.2, 0.3], [1.4, 0.7])
    return centres + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


def transport_map(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Images of the points: minus the gradient of the divergence, over the weights 1/N, is where they want to go."""
    live = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(SamplesLoss(blur=0.01)(live, y), live)
    return x - len(x) * gradient


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "interpolate_shapes.png"
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(shape(n, rng)).float() for shape in (star, rings))
    start = time.perf_counter()
    image = transport_map(x, y)
    print(f"map of {n} points to {n} others: {time.perf_counter() - start:.2f} s")
    left = 2 * SamplesLoss(blur=0.01)(image, y).item() / ((image - x) ** 2).sum(1).mean().item()
    print(f"squared distance that the map leaves: {left:.2%}")
    distance = wasserstein_distance(x, y, accuracy=0.02)
    print(f"the distance lies between {distance.lower:.4f} and {distance.upper:.4f}")
    figure, axis = plt.subplots(figsize=(12, 3.1), layout="constrained")
    for k, t in enumerate(TIMES):
        points = ((1 - t) * x + t * image).numpy() + np.array([0.45 * k, 0.0])
        axis.scatter(
            *points.T, s=0.4, c=np.arctan2(*(x - x.mean(0)).numpy().T), cmap="twilight", linewidths=0
        )
    axis.set(title="t = 0, 1/4, 1/2, 3/4, 1", aspect="equal", xticks=[], yticks=[])
    figure.savefig(file, dpi=110)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
