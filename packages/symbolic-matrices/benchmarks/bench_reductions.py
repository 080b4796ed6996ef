"""Reductions on a CPU against KeOps and dense PyTorch: uniform points in the unit cube."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from benchmarking import Case
from pykeops.torch import LazyTensor as KeopsTensor

from symbolic_matrices import LazyTensor

REFERENCE_ROWS = 64
Data = tuple[torch.Tensor, ...]  # x (M, D), y (N, D), b (N, E)


def make_data(n: int, dim: int, columns: int = 1, dtype: torch.dtype = torch.float32) -> Data:
    """Points and weights; the same at each run."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, dim, generator=generator, dtype=dtype) for _ in range(2))
    return x, y, torch.rand(n, columns, generator=generator, dtype=dtype)


def in_float64(formula: Callable[..., Any], x: torch.Tensor, *others: torch.Tensor) -> Any:
    """The first rows, densely, in double precision."""
    return formula(Dense, x[:REFERENCE_ROWS].double(), *(other.double() for other in others))


class Dense:
    """The few methods of LazyTensor that the formulas use, on dense tensors: PyTorch without any of our code."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values  # (M, N) or (M, 1, D), (1, N, D)

    def sqdist(self, other: Dense) -> Dense:
        """Squared distances by the product of matrices, which is PyTorch's fastest way."""
        x, y = self.values.squeeze(1), other.values.squeeze(0)
        squares = (x * x).sum(-1)[:, None] + (y * y).sum(-1)[None, :]
        return Dense((squares - 2 * (x @ y.T)).clamp(min=0))

    def __neg__(self) -> Dense:
        return Dense(-self.values)

    def __mul__(self, number: float) -> Dense:
        return Dense(self.values * number)

    def exp(self) -> Dense:
        return Dense(self.values.exp())

    def sqrt(self) -> Dense:
        return Dense(self.values.sqrt())

    def __matmul__(self, b: torch.Tensor) -> torch.Tensor:
        return self.values @ b

    def logsumexp(self, axis: int) -> torch.Tensor:
        return self.values.logsumexp(axis)[:, None]

    def argmin(self, axis: int) -> torch.Tensor:
        return self.values.argmin(axis)[:, None]

    def Kmin(self, K: int, axis: int) -> torch.Tensor:
        return self.values.topk(K, dim=axis, largest=False).values


def distances(tensor: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """|x_i - y_j|^2 in any of the three libraries."""
    return tensor(x[:, None, :]).sqdist(tensor(y[None, :, :]))


def gaussian(tensor: Any, x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """K b with a scale that keeps the values away from 0 and 1 in any dimension."""
    return (-distances(tensor, x, y) * (3.0 / x.shape[1])).exp() @ b


def laplacian(tensor: Any, x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (-distances(tensor, x, y).sqrt()).exp() @ b


def logsumexp(tensor: Any, x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (-distances(tensor, x, y) * 10.0).logsumexp(axis=1)


def gaussian_gradient(tensor: Any, x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """K b, then the gradient of its sum in x."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(gaussian(tensor, x, y, b).sum(), x)
    return gradient


def nearest(tensor: Any, x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The nearest point, seen through its distance: two libraries may choose differently between near ties."""
    indices = distances(tensor, x, y).argmin(axis=1)[:, 0]
    return ((x - y[indices]) ** 2).sum(-1)


def ten_nearest(tensor: Any, x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return distances(tensor, x, y).Kmin(10, axis=1)


def case(name: str, formula: Callable[..., Any], data: Data, target: float, tolerance: float = 1e-4) -> Case:
    """One formula in our, KeOps' and PyTorch's hands."""
    return Case(
        name=name,
        work=float(len(data[0])) * len(data[1]),
        ours=partial(formula, LazyTensor, *data),
        peers={"KeOps": partial(formula, KeopsTensor, *data), "torch dense": partial(formula, Dense, *data)},
        reference=partial(in_float64, formula, *data),
        tolerance=tolerance,
        targets={"KeOps": target},
    )


def cases() -> Iterator[Case]:
    """The table of CPU reductions; targets are ratios to KeOps."""
    yield case("gaussian D=3 20k", gaussian, make_data(20_000, 3), target=15)
    yield case("gaussian D=10 20k", gaussian, make_data(20_000, 10), target=20)
    yield case("gaussian D=64 10k", gaussian, make_data(10_000, 64), target=25)
    yield case("gaussian D=3 10k 64 columns", gaussian, make_data(10_000, 3, columns=64), target=10)
    yield case("gaussian D=3 10k float64", gaussian, make_data(10_000, 3, dtype=torch.float64), target=12)
    yield case("laplacian D=3 10k", laplacian, make_data(10_000, 3), target=15, tolerance=1e-3)
    yield case("logsumexp D=3 10k", logsumexp, make_data(10_000, 3), target=12)
    yield case("gaussian + gradient D=3 10k", gaussian_gradient, make_data(10_000, 3), target=18)
    # Dense squared distances come from a product of matrices, which loses digits where they are small.
    yield case("nearest D=3 10k", nearest, make_data(10_000, 3), target=5, tolerance=1e-3)
    yield case("10 nearest D=3 10k", ten_nearest, make_data(10_000, 3), target=8, tolerance=1e-3)
    yield case("10 nearest D=64 10k", ten_nearest, make_data(10_000, 64), target=15)
