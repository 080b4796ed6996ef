"""The formulas that the tests of the bridge to PyTorch share, beside the same functions of dense matrices.

Few of them, as every distinct formula is compiled: one per kind of reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from symbolic_matrices import LazyTensor

Tensor = torch.Tensor


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape) + 1000 * seed)
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


def lazy_sqdist(x: Tensor, y: Tensor) -> LazyTensor:
    return LazyTensor(x[..., :, None, :]).sqdist(LazyTensor(y[..., None, :, :]))


def dense_sqdist(x: Tensor, y: Tensor) -> Tensor:
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1)


class Case(NamedTuple):
    """The same function of x (M, D), y (N, D), b (N, E) and a number s, both ways."""

    lazy: Callable[..., Tensor]
    dense: Callable[..., Tensor]


CASES = {
    "sum": Case(
        lambda x, y, b, s: (-lazy_sqdist(x, y) / s).exp() @ b,
        lambda x, y, b, s: (-dense_sqdist(x, y) / s).exp() @ b,
    ),
    "logsumexp": Case(
        lambda x, y, b, s: (LazyTensor(b[None, :, :1]) - lazy_sqdist(x, y) / s).logsumexp(axis=1),
        lambda x, y, b, s: (b[:, 0] - dense_sqdist(x, y) / s).logsumexp(-1, keepdim=True),
    ),
    "max over i": Case(
        lambda x, y, b, s: (lazy_sqdist(x, y) / s).max(axis=0),
        lambda x, y, b, s: (dense_sqdist(x, y) / s).amax(-2)[..., None],
    ),
    "Kmin": Case(
        lambda x, y, b, s: (lazy_sqdist(x, y) / s).Kmin(2, axis=1),
        lambda x, y, b, s: (dense_sqdist(x, y) / s).sort(-1).values[..., :2],
    ),
}


def data(rows: int = 5, columns: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y, b and s of the cases."""
    return (
        random(rows, 3),
        random(columns, 3, seed=1),
        random(columns, 2),
        torch.tensor(0.7, dtype=torch.float64),
    )
