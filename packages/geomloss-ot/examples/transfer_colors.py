"""Gives a picture the colours of another: transports the first palette onto the second, in the cube of colours.

Run: python transfer_colors.py [picture.png] [pixels per side]
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from geomloss_ot import solve_sample


def sunset(size: int) -> np.ndarray:
    """A picture in warm colours: (size, size, 3) between 0 and 1."""
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    sun = np.exp(-((x - 0.6) ** 2 + (y - 0.55) ** 2) / 0.02)
    return np.clip(np.stack([0.5 + 0.5 * y + sun, 0.15 + 0.4 * y + 0.6 * sun, 0.35 - 0.25 * y], -1), 0, 1)


def sea(size: int) -> np.ndarray:
    """A picture in cold colours."""
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    waves = 0.08 * np.sin(25 * x + 6 * np.sin(9 * y))
    return np.clip(np.stack([0.1 + 0.2 * y + waves, 0.35 + 0.4 * y + waves, 0.9 - 0.3 * y], -1), 0, 1)


def transfer(source: np.ndarray, target: np.ndarray, blur: float = 0.03) -> np.ndarray:
    """Every pixel takes the mean of the colours that its own is transported to."""
    result = solve_sample(source.reshape(-1, 3), target.reshape(-1, 3), blur=blur, tol=1e-3)
    print(result)
    return np.asarray(result.a_to_b).reshape(source.shape)


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "transfer_colors.png"
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    pictures = [sunset(size), sea(size)]
    pictures.append(transfer(*pictures))
    distances = [
        np.abs(np.sort(p.reshape(-1, 3), 0) - np.sort(pictures[1].reshape(-1, 3), 0)).mean() for p in pictures
    ]
    print(f"distance to the second palette, channel by channel: {distances[0]:.3f} -> {distances[2]:.3f}")
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
    for axis, picture, title in zip(
        axes, pictures, ("source", "palette", "source with this palette"), strict=True
    ):
        axis.imshow(np.clip(picture, 0, 1), origin="lower")
        axis.set(title=title, xticks=[], yticks=[])
    figure.savefig(file, dpi=120)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
