"""Wasserstein distances between clouds, without entropy: proved bounds, and exact plans where they are asked for."""

from __future__ import annotations

from .distances import WassersteinDistance, wasserstein_distance

__all__ = ["WassersteinDistance", "wasserstein_distance"]
