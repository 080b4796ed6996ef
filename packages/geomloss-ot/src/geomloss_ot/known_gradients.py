"""Owns values in PyTorch whose gradients come with them; ignores where they come from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def attach_gradients(value: Tensor, tensors: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> Tensor:
    """Values (...) as functions of tensors (..., D) and (..., D, D), whose gradients are known; differentiable once."""
    result: Tensor = _Known.apply(value, gradients, *tensors)
    return result


class _Known(torch.autograd.Function):
    """(tensors) -> a value whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *tensors: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "Second derivatives of this distance are not available: drop create_graph=True."
            )
        shape = gradient.shape
        products = (
            known * gradient.reshape(*shape, *[1] * (known.ndim - len(shape))) for known in ctx.gradients
        )
        return (None, None, *products)
