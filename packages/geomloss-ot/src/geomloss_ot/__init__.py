"""Sinkhorn divergences and optimal transport between point clouds, in memory linear in the number of points."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .barycenters import barycenter, barycenter_grid
from .batches import OTBatchResult, solve_batch, solve_sample_batch
from .certificates import Certificate
from .costs import LipschitzCost
from .fisher_rao import gaussian_fisher_rao_distance, gaussian_fisher_rao_geodesic
from .free_support import barycenter_sample
from .gaussians import (
    bures_wasserstein_barycenter,
    bures_wasserstein_distance,
    bures_wasserstein_geodesic,
    bures_wasserstein_mapping,
    fisher_rao_distance,
    fisher_rao_geodesic,
)
from .mixtures import (
    gaussian_mixture_barycenter,
    gaussian_mixture_distance,
    gaussian_mixture_geodesic,
    gaussian_mixture_plan,
)
from .problems import Progress
from .results import OTResult
from .sliced import max_sliced_wasserstein_distance, sliced_wasserstein_distance, wasserstein_1d
from .solve import solve, solve_grid, solve_sample
from .wasserstein import WassersteinDistance, wasserstein_distance

if TYPE_CHECKING:
    from .images import ImagesBarycenter, sinkhorn_divergence
    from .samples_loss import SamplesLoss

__all__ = [
    "Certificate",
    "ImagesBarycenter",
    "LipschitzCost",
    "OTBatchResult",
    "OTResult",
    "Progress",
    "SamplesLoss",
    "WassersteinDistance",
    "barycenter",
    "barycenter_grid",
    "barycenter_sample",
    "bures_wasserstein_barycenter",
    "bures_wasserstein_distance",
    "bures_wasserstein_geodesic",
    "bures_wasserstein_mapping",
    "fisher_rao_distance",
    "fisher_rao_geodesic",
    "gaussian_fisher_rao_distance",
    "gaussian_fisher_rao_geodesic",
    "gaussian_mixture_barycenter",
    "gaussian_mixture_distance",
    "gaussian_mixture_geodesic",
    "gaussian_mixture_plan",
    "max_sliced_wasserstein_distance",
    "sinkhorn_divergence",
    "sliced_wasserstein_distance",
    "solve",
    "solve_batch",
    "solve_grid",
    "solve_sample",
    "solve_sample_batch",
    "wasserstein_1d",
    "wasserstein_distance",
]
__version__ = "0.1.0"


# What takes PyTorch tensors only: importing it here would make PyTorch a dependency of everything else.
_FOR_TORCH = {"ImagesBarycenter": "images", "SamplesLoss": "samples_loss", "sinkhorn_divergence": "images"}


def __getattr__(name: str) -> Any:
    if name in _FOR_TORCH:
        return getattr(importlib.import_module(f".{_FOR_TORCH[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
