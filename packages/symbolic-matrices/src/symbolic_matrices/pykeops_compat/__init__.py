"""Run programs written for KeOps on the kernels of symbolic_matrices: call ``install()``, then import them."""

from __future__ import annotations

from .generic import generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from .genred import Genred
from .kernel_solve import KernelSolve
from .lazy_tensor import ComplexLazyTensor, LazyTensor, Pm, Vi, Vj
from .modules import install, is_installed, uninstall

__all__ = [
    "ComplexLazyTensor",
    "Genred",
    "KernelSolve",
    "LazyTensor",
    "Pm",
    "Vi",
    "Vj",
    "generic_argkmin",
    "generic_argmin",
    "generic_logsumexp",
    "generic_sum",
    "install",
    "is_installed",
    "uninstall",
]
