"""Sinkhorn divergences on a CPU against GeomLoss: value and gradient, from a sphere to eight Gaussian blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import geomloss
import torch
from benchmarking import Case

import geomloss_ot

# GeomLoss stops at the end of its schedule, up to 10 % away from the divergence of the same blur.
TOLERANCE = 0.15


def make_clouds(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere of radius 0.4 and eight blobs of standard deviation 0.05, in the unit cube; the same at each run."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(n, 3, generator=generator)
    sphere = 0.5 + 0.4 * directions / directions.norm(dim=1, keepdim=True)
    corners = torch.cartesian_prod(*[torch.tensor([0.25, 0.75])] * 3)
    blobs = corners[torch.arange(n) % 8] + 0.05 * torch.randn(n, 3, generator=generator)
    return sphere, blobs


def value_and_gradient(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """The value, (1,), after its gradients in x and y have been computed too."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = loss(x, y)
    value.backward()
    return value.detach()[None]


def converged_value(x: torch.Tensor, y: torch.Tensor, blur: float) -> torch.Tensor:
    """In double precision, with marginals that are right to five digits."""
    return geomloss_ot.SamplesLoss(blur=blur, tol=1e-5)(x.double(), y.double())[None]


def divergence_case(n: int, blur: float, targets: dict[str, float]) -> Case:
    """One problem; the peers are the back ends of GeomLoss that have a target."""
    x, y = make_clouds(n)
    peers = {
        f"geomloss {backend}": partial(
            value_and_gradient, geomloss.SamplesLoss(blur=blur, backend=backend), x, y
        )
        for backend in targets
    }
    return Case(
        name=f"divergence + gradient, n={n}, blur={blur}",
        work=float(n) ** 2,
        ours=partial(value_and_gradient, geomloss_ot.SamplesLoss(blur=blur), x, y),
        peers=peers,
        reference=partial(converged_value, x, y, blur),
        tolerance=TOLERANCE,
        targets={f"geomloss {backend}": ratio for backend, ratio in targets.items()},
    )


def cases() -> Iterator[Case]:
    """From small to large, with the ratios that we mean to reach."""
    yield divergence_case(500, 0.05, {"tensorized": 10.0, "online": 10.0})
    yield divergence_case(1_000, 0.05, {"tensorized": 10.0, "online": 10.0})
    yield divergence_case(1_000, 0.01, {"tensorized": 10.0})
    yield divergence_case(10_000, 0.05, {"online": 40.0, "multiscale": 20.0})
