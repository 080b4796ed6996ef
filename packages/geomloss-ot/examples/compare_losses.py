"""Compares losses by their gradient flows: kernel norms screen far points, or gather them; transport moves them all.

Run: python compare_losses.py [picture.png] [points]
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import torch
from matplotlib import pyplot as plt

from geomloss_ot import SamplesLoss

STEPS = 30
SNAPSHOTS = (3, 8, 30)
LOSSES = {  # with the steps of their flows
    "gaussian, blur .2": (SamplesLoss("gaussian", blur=0.2), 0.04),
    "energy": (SamplesLoss("energy"), 0.1),
    "laplacian, blur .2": (SamplesLoss("laplacian", blur=0.2), 0.03),
    "sinkhorn, blur .05": (SamplesLoss("sinkhorn", blur=0.05), 0.2),
    "sinkhorn, reach .3": (SamplesLoss("sinkhorn", blur=0.05, reach=0.3), 0.2),
}


def discs(n: int, centres: list[tuple[float, float]], radius: float, seed: int) -> torch.Tensor:
    """Points in discs of equal masses."""
    generator = torch.Generator().manual_seed(seed)
    angles = 2 * torch.pi * torch.rand(n, generator=generator)
    radii = radius * torch.rand(n, generator=generator).sqrt()
    middle = torch.tensor(centres)[torch.arange(n) % len(centres)]
    return middle + radii[:, None] * torch.stack([angles.cos(), angles.sin()], 1)


def flow(loss: SamplesLoss, rate: float, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Explicit Euler steps, in which each point moves along minus its gradient over its weight 1/N."""
    path = [x]
    for _ in range(STEPS):
        x = path[-1].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x, y), x)
        path.append((x - rate * len(x) * gradient).detach())
    return path


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "compare_losses.png"
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 600
    x = discs(n, [(0.2, 0.25), (0.2, 0.75)], 0.1, seed=0)
    y = discs(n, [(0.55, 0.65), (0.85, 0.3)], 0.12, seed=1)
    reference = SamplesLoss("sinkhorn", blur=0.03, tol=1e-2)
    figure, axes = plt.subplots(len(SNAPSHOTS), len(LOSSES), figsize=(12, 7.4), layout="constrained")
    for column, (name, (loss, rate)) in zip(axes.T, LOSSES.items(), strict=True):
        path = flow(loss, rate, x, y)
        print(f"{name}: transport that is left = {2 * reference(path[-1], y).item():.4f}")
        for axis, step in zip(column, SNAPSHOTS, strict=True):
            axis.scatter(*y.T, s=4, color="tab:red", alpha=0.3, linewidths=0)
            axis.scatter(*path[step].T, s=6, c=x[:, 1], cmap="viridis", linewidths=0)
            axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[])
            axis.set_title(f"{name}, step {step}", fontsize=9)
    figure.savefig(file, dpi=100)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
