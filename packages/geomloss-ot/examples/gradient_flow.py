"""Moves one point cloud onto another along the gradient of a Sinkhorn divergence, and draws the path.

Run: python gradient_flow.py [picture.png] [points]
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")

import torch
from matplotlib import pyplot as plt

from geomloss_ot import SamplesLoss

STEPS = 20
SNAPSHOTS = (0, 1, 3, 20)


def crescent(n: int, generator: torch.Generator) -> torch.Tensor:
    """Points in a half ring."""
    angles = torch.pi * torch.rand(n, generator=generator)
    radii = 0.35 + 0.08 * torch.rand(n, generator=generator)
    return torch.stack([0.5 + radii * angles.cos(), 0.25 + radii * angles.sin()], 1)


def two_discs(n: int, generator: torch.Generator) -> torch.Tensor:
    """Points in two discs of different masses."""
    angles = 2 * torch.pi * torch.rand(n, generator=generator)
    radii = 0.12 * torch.rand(n, generator=generator).sqrt()
    centres = torch.where(
        torch.arange(n)[:, None] % 3 > 0, torch.tensor([0.25, 0.2]), torch.tensor([0.8, 0.75])
    )
    return centres + radii[:, None] * torch.stack([angles.cos(), angles.sin()], 1)


def flow(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Explicit Euler steps: minus the gradient, divided by the weights 1/N, is the displacement of each point."""
    loss = SamplesLoss("sinkhorn", p=2, blur=0.03)
    path = [x]
    for step in range(STEPS):
        x = x.detach().requires_grad_()
        value = loss(x, y)
        (gradient,) = torch.autograd.grad(value, x)
        x = (x - 0.4 * len(x) * gradient).detach()
        path.append(x)
        print(f"step {step:2d}: divergence = {value.item():.2e}")
    return path


def draw(path: list[torch.Tensor], y: torch.Tensor, file: str) -> None:
    """The target in red and the moving points, coloured by where they started."""
    figure, axes = plt.subplots(1, len(SNAPSHOTS), figsize=(12, 3.2), layout="constrained")
    for axis, step in zip(axes, SNAPSHOTS, strict=True):
        axis.scatter(*y.T, s=4, color="tab:red", alpha=0.3, linewidths=0)
        axis.scatter(*path[step].T, s=6, c=path[0][:, 0], cmap="viridis", linewidths=0)
        axis.set(title=f"step {step}", xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=[], yticks=[])
    figure.savefig(file, dpi=120)


def main() -> None:
    file = sys.argv[1] if len(sys.argv) > 1 else "gradient_flow.png"
    n = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    generator = torch.Generator().manual_seed(0)
    x, y = two_discs(n, generator), crescent(n, generator)
    draw(flow(x, y), y, file)
    print(f"picture written to {file}")


if __name__ == "__main__":
    main()
