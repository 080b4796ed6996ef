"""Interpolates between four shapes: Wasserstein barycentres of images, with weights that vary over a square.

Run: python image_barycenters.py [picture.png] [pixels per side]
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from geomloss_ot import barycenter_grid

STEPS = 4


def shapes(size: int) -> np.ndarray:
    """A disc, a square, a ring and a cross, as images of mass one: (4, size, size)."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = np.hypot(x, y)
    bars = (np.abs(x) < 0.15) | (np.abs(y) < 0.15)
    masks = [radius < 0.5, np.maximum(np.abs(x), np.abs(y)) < 0.5, np.abs(radius - 0.6) < 0.12]
    images = np.stack([*masks, bars & (np.maximum(np.abs(x), np.abs(y)) < 0.7)]).astype(np.float64)
    return images / images.sum((1, 2), keepdims=True)


def weights() -> np.ndarray:
    """Bilinear weights of the four corners: (STEPS * STEPS, 4)."""
    s, t = (grid.ravel() for grid in np.mgrid[0 : 1 : STEPS * 1j, 0 : 1 : STEPS * 1j])
    return np.stack([(1 - s) * (1 - t), (1 - s) * t, s * (1 - t), s * t], 1)


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "image_barycenters.png"
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    images = np.repeat(shapes(size)[None], STEPS**2, 0)
    means = barycenter_grid(images, weights(), blur=1.5 / size, axes=((0, 1), (0, 1)), tol=1e-2)
    print(
        f"masses of the {len(means)} barycentres: {means.sum((1, 2)).min():.4f} to {means.sum((1, 2)).max():.4f}"
    )
    figure, axes = plt.subplots(STEPS, STEPS, figsize=(6, 6), layout="constrained")
    for axis, image in zip(axes.ravel(), means, strict=True):
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=images.max())
        axis.set(xticks=[], yticks=[])
    figure.savefig(file, dpi=120)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
