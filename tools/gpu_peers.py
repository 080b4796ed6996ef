"""Peers that only a GPU has, for the formulas of contenders.py and two more; a run imports what it needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from symbolic_matrices import LazyTensor

Data = tuple[torch.Tensor, ...]  # x (M, D), y (N, D), b (N, E)
Run = Callable[[], Any]


# ---------------------------------------------------------------------- formulas


def attention(tensor: Any, x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """softmax(x y^T) b, row by row."""
    return (tensor(x[:, None, :]) | tensor(y[None, :, :])).sumsoftmaxweight(tensor(b[None, :, :]), axis=1)


def divergence(tensor: Any, x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The Sinkhorn divergence of two uniform clouds, one half as large: (1,). Its gradients are computed too."""
    library = "geomloss_ot" if tensor is LazyTensor else "geomloss"
    options = {"blur": 0.05} if tensor is LazyTensor else {"blur": 0.05, "backend": "online"}
    x, y = x.detach().requires_grad_(), (0.5 * y).requires_grad_()
    value: torch.Tensor = importlib.import_module(library).SamplesLoss("sinkhorn", p=2, **options)(x, y)
    value.backward()
    return value.detach()[None]


# ---------------------------------------------------------------------- peers


def peers_of(formula: str, data: Data) -> dict[str, Run]:
    """The peers of a formula, by name; what is not installed shows when they run."""
    table: dict[str, dict[str, Callable[..., Any]]] = {
        "logsumexp": {"FlashSinkhorn": _flash_sinkhorn},
        "attention": {"torch SDPA": _scaled_dot_product_attention},
        "divergence": {"geomloss online": partial(divergence, None)},
        "ten_nearest": {"cuVS brute force": _cuvs},
    }
    return {name: partial(run, *data) for name, run in table.get(formula, {}).items()}


def _flash_sinkhorn(x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """log sum_j exp(-10 |x_i - y_j|^2), from a half-step of Sinkhorn's algorithm with epsilon = 0.1."""
    kernels = importlib.import_module("flash_sinkhorn.kernels.sinkhorn_flashstyle_sqeuclid")
    bias = -10.0 * (y * y).sum(1)
    shifted = kernels.flashsinkhorn_lse(x, y, bias, 0.1, allow_tf32=False)  # without |x|^2
    return -10.0 * (shifted + (x * x).sum(1))[:, None]


def _scaled_dot_product_attention(x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    query, key, value = (array[None, None] for array in (x, y, b))
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)[0, 0]


def _cuvs(x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared distances; the time to build the index counts."""
    neighbors = importlib.import_module("cuvs.neighbors.brute_force")
    cupy = importlib.import_module("cupy")
    distances, _ = neighbors.search(
        neighbors.build(cupy.from_dlpack(y), metric="sqeuclidean"), cupy.from_dlpack(x), 10
    )
    return torch.as_tensor(distances, device=x.device)
