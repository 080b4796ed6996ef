"""Run programs written for KeOps on the kernels of symbolic_matrices."""

from __future__ import annotations

from .generic import generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from .genred import Genred

__all__ = ["Genred", "generic_argkmin", "generic_argmin", "generic_logsumexp", "generic_sum"]
