"""Sinkhorn divergences and optimal transport between point clouds, in memory linear in the number of points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .certificates import Certificate
from .results import OTResult
from .sinkhorn import Progress
from .solve import solve, solve_sample

if TYPE_CHECKING:
    from .samples_loss import SamplesLoss

__all__ = ["Certificate", "OTResult", "Progress", "SamplesLoss", "solve", "solve_sample"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # SamplesLoss is a PyTorch module: importing it here would make PyTorch a dependency of everything else.
    if name == "SamplesLoss":
        from .samples_loss import SamplesLoss

        return SamplesLoss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
