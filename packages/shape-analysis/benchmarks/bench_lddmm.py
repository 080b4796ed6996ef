"""LDDMM shooting and its gradient on a CPU, against the same scheme on KeOps and on dense PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from benchmarking import Case
from pykeops.torch import LazyTensor as KeopsTensor
from torch import Tensor

from shape_analysis import LDDMM, Kernel, PointCloud

SCALE, STEPS, STAGES = 0.2, 10, 2
Product = Callable[[Tensor, Tensor, Tensor], Tensor]  # x (M, D), y (N, D), b (N, D) -> K(x, y) b


def keops_product(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    squared = ((KeopsTensor(x[:, None]) - KeopsTensor(y[None])) ** 2).sum(-1)
    return (-squared / SCALE**2).exp() @ b


def dense_product(x: Tensor, y: Tensor, b: Tensor) -> Tensor:
    squared = (x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T).clamp(min=0)
    return (-squared / SCALE**2).exp() @ b


def shoot(product: Product, x: Tensor, q: Tensor, p: Tensor) -> Tensor:
    """Ralston's method, where the gradient of the Hamiltonian is that of PyTorch: how KeOps' users write it."""

    def field(x: Tensor, q: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        velocity = product(q, q, p)
        energy = 0.5 * (p * velocity).sum()
        (force,) = torch.autograd.grad(energy, q, create_graph=True)
        return product(x, q, p), velocity, -force

    h = 1 / STEPS
    q = q.clone().requires_grad_()
    for _ in range(STEPS):
        first = field(x, q, p)
        second = field(x + 2 / 3 * h * first[0], q + 2 / 3 * h * first[1], p + 2 / 3 * h * first[2])
        x, q, p = (y + h * (a / 4 + 3 * b / 4) for y, a, b in zip((x, q, p), first, second, strict=True))
    return x


def gradient(flow: Callable[[Tensor], Tensor], momenta: Tensor) -> Tensor:
    """The gradient of |x(1)|^2 in the momenta."""
    variable = momenta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(flow(variable).square().sum(), variable)
    return slope


def cases() -> Iterator[Case]:
    """A surface-sized problem: points to carry, and fewer control points."""
    n_points, n_controls = 10_000, 1_000
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n_points, 3, generator=generator)
    q = x[:n_controls].clone()
    p = torch.randn(n_controls, 3, generator=generator) / n_controls
    source, model = PointCloud(x), LDDMM(Kernel("gaussian", SCALE), control_points=q, n_steps=STEPS)
    yield Case(
        name=f"LDDMM flow and gradient, {n_points} points, {n_controls} control points",
        work=float(STEPS * STAGES * (n_points + n_controls) * n_controls),
        ours=lambda: gradient(lambda v: model(source, v).end.points, p),
        peers={
            "KeOps": lambda: gradient(lambda v: shoot(keops_product, x, q, v), p),
            "PyTorch": lambda: gradient(lambda v: shoot(dense_product, x, q, v), p),
        },
        tolerance=1e-3,
    )
