"""Transport between clouds at many scales: cells while they resolve the blur, points for the result."""

from __future__ import annotations

from .solver import Multiscale, choose_multiscale, solve_multiscale

__all__ = ["Multiscale", "choose_multiscale", "solve_multiscale"]
