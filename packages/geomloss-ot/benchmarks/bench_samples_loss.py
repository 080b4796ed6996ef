"""Sinkhorn divergences on a CPU against GeomLoss: points with gradients, images, and batches of unequal sizes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import geomloss
import torch
from benchmarking import Case
from measure_clouds import make_clouds, value_and_gradient

import geomloss_ot

# GeomLoss stops at the end of its schedule, up to 10 % away from the divergence of the same blur between points, and
# 40 % between images. The column of errors tells who is right.
TOLERANCE = 0.15
IMAGE_TOLERANCE = 1.0


def converged_value(x: torch.Tensor, y: torch.Tensor, blur: float) -> torch.Tensor:
    """In double precision, between all the points, with marginals that are right to five digits."""
    return geomloss_ot.SamplesLoss(blur=blur, backend="online", tol=1e-5)(x.double(), y.double())[None]


def divergence_case(n: int, blur: float, targets: dict[str, float], backend: str = "auto") -> Case:
    """One problem, by a back end of ours; the peers are the back ends of GeomLoss that have a target."""
    x, y = make_clouds(n)
    peers = {
        f"geomloss {peer}": partial(value_and_gradient, geomloss.SamplesLoss(blur=blur, backend=peer), x, y)
        for peer in targets
    }
    suffix = "" if backend == "auto" else f", {backend}"
    return Case(
        name=f"divergence + gradient, n={n}, blur={blur}{suffix}",
        work=float(n) ** 2,
        ours=partial(value_and_gradient, geomloss_ot.SamplesLoss(blur=blur, backend=backend), x, y),
        peers=peers,
        reference=partial(converged_value, x, y, blur),
        tolerance=TOLERANCE,
        targets={f"geomloss {peer}": ratio for peer, ratio in targets.items()},
    )


def make_images(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two smooth images of n x n pixels, (1, n, n), of mass one."""
    axis = (torch.arange(n) + 0.5) / n
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")

    def bump(row: float, column: float, size: float) -> torch.Tensor:
        return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / size)

    images = (
        bump(0.3, 0.4, 0.01) + 0.5 * bump(0.6, 0.2, 0.004),
        bump(0.7, 0.5, 0.02) + 0.3 * bump(0.3, 0.8, 0.01),
    )
    a, b = ((image / image.sum())[None] for image in images)
    return a, b


def image_case(n: int) -> Case:
    """One pair of images at the blur of a pixel; GeomLoss as it comes (17 % off), and within 1 %."""
    a, b = make_images(n)
    fast, slow = "geomloss", "geomloss scaling=.9"
    return Case(
        name=f"images, {n} x {n}, blur of a pixel",
        work=2.0 * float(n) ** 3,
        ours=partial(geomloss_ot.sinkhorn_divergence, a, b),
        peers={
            fast: partial(geomloss.sinkhorn_divergence, a[None], b[None]),
            slow: partial(geomloss.sinkhorn_divergence, a[None], b[None], scaling=0.9),
        },
        reference=partial(geomloss_ot.sinkhorn_divergence, a.double(), b.double(), tol=1e-3),
        tolerance=IMAGE_TOLERANCE,
        targets={slow: 5.0},
    )


def ragged_case(count: int) -> Case:
    """Pairs of clouds of 200 to 1,000 points: one call, against a loop over GeomLoss."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(200, 1001, (count, 2), generator=generator).tolist()
    xs = [torch.rand(n, 3, generator=generator) for n, _ in sizes]
    ys = [0.5 * torch.rand(m, 3, generator=generator) + 0.3 for _, m in sizes]
    loss = geomloss.SamplesLoss(blur=0.05, backend="tensorized")

    def together(tol: float, dtype: torch.dtype) -> torch.Tensor:
        clouds = [[points.to(dtype) for points in side] for side in (xs, ys)]
        # Costs are not halved there.
        return geomloss_ot.solve_sample_batch(*clouds, blur=0.05, debias=True, tol=tol).value / 2

    return Case(
        name=f"{count} ragged pairs of clouds, blur=0.05",
        work=float(sum(n * m for n, m in sizes)),
        ours=partial(together, 1e-3, torch.float32),
        peers={"geomloss loop": lambda: torch.stack([loss(x, y) for x, y in zip(xs, ys, strict=True)])},
        reference=partial(together, 1e-5, torch.float64),
        tolerance=TOLERANCE,
        targets={"geomloss loop": 20.0},
    )


def cases() -> Iterator[Case]:
    """From small to large, with the ratios that we mean to reach."""
    yield divergence_case(500, 0.05, {"tensorized": 10.0, "online": 10.0})
    yield divergence_case(1_000, 0.05, {"tensorized": 10.0, "online": 10.0})
    yield divergence_case(1_000, 0.01, {"tensorized": 10.0})
    yield ragged_case(128)
    yield image_case(256)
    yield divergence_case(10_000, 0.05, {"online": 40.0}, backend="online")
    yield divergence_case(10_000, 0.05, {"online": 40.0, "multiscale": 20.0})
