"""Owns the derivatives of ``KernelSolve`` under PyTorch: (A + alpha) dx = db - dA x. Loaded by its users only."""

from __future__ import annotations

from typing import Any

import torch

from .kernel_solve import System

Tensor = torch.Tensor


def solve(system: System, b: Tensor, data: tuple[Tensor, ...]) -> Tensor:
    """The solution, as a differentiable function of b and of the data of A."""
    return _Solution.apply(system, b, *data)


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, system: System, b: Tensor, *data: Tensor) -> Tensor:
        x = system.solve(b.detach(), tuple(array.detach() for array in data))
        ctx.system = system
        ctx.save_for_backward(x, *data)
        return x

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The map is symmetric, so the adjoint solves the same system, differentiably; -<adjoint, dA x> is left."""
        x, *data = ctx.saved_tensors
        adjoint = solve(ctx.system, upstream, tuple(data))
        moving = [k for k in range(len(data)) if ctx.needs_input_grad[2 + k]]

        def product(*tensors: Tensor) -> Tensor:
            filled = list(data)
            for k, tensor in zip(moving, tensors, strict=True):
                filled[k] = tensor
            return ctx.system.product(x, tuple(filled))

        found: dict[int, Tensor] = {}
        if moving:
            # of the data alone: x depends on them, too, but that is what the adjoint accounts for
            pull_back = torch.func.vjp(product, *(data[k] for k in moving))[1]
            found = dict(zip(moving, pull_back(-adjoint), strict=True))
        return (None, adjoint, *(found.get(k) for k in range(len(data))))
