"""The libraries that benchmarks compare, and the formulas that they all compute, each written once.

A formula takes a library's symbolic class, which offers the few methods that it uses, and arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module  # for peers that another benchmark does without
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import logsumexp as scipy_sum_of_exponentials

from symbolic_matrices import LazyTensor

Data = tuple[torch.Tensor, ...]  # x (M, D), y (N, D), b (N, E)
Formula = Callable[..., torch.Tensor]
Contenders = dict[str, Callable[[], Any]]
REFERENCE_ROWS = 64
MOST_DENSE_ENTRIES = 4e8  # of a stored matrix: 1.6 GB in float32
TREES = ("scikit-learn kd-tree", "SciPy kd-tree")  # of `neighbor_peers`: those that do not visit every pair
MOST_FUSED_DIMENSIONS = 16  # above, differences written out are slower than a product of matrices


def make_data(m: int, n: int, dim: int, columns: int = 1, dtype: torch.dtype = torch.float32) -> Data:
    """Uniform points in the unit cube and weights; the same at each run."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(size, dim, generator=generator, dtype=dtype) for size in (m, n))
    return x, y, torch.rand(n, columns, generator=generator, dtype=dtype)


# ---------------------------------------------------------------------- symbolic classes, without any of our code


class Dense:
    """The few methods of LazyTensor that the formulas use, on stored matrices: PyTorch as its users write it."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values  # (M, N) or (M, 1, D), (1, N, D)

    def sqdist(self, other: Dense) -> Dense:
        """Squared distances by the product of matrices, which is PyTorch's fastest way."""
        x, y = self.values.squeeze(1), other.values.squeeze(0)
        squares = (x * x).sum(-1)[:, None] + (y * y).sum(-1)[None, :]
        return type(self)((squares - 2 * (x @ y.T)).clamp(min=0))

    def __neg__(self) -> Dense:
        return type(self)(-self.values)

    def __mul__(self, number: float) -> Dense:
        return type(self)(self.values * number)

    def exp(self) -> Dense:
        return type(self)(self.values.exp())

    def sqrt(self) -> Dense:
        return type(self)(self.values.sqrt())

    def __matmul__(self, b: torch.Tensor) -> torch.Tensor:
        return self.values @ b

    def logsumexp(self, axis: int) -> torch.Tensor:
        return self.values.logsumexp(axis)[:, None]

    def argmin(self, axis: int) -> torch.Tensor:
        return self.values.argmin(axis)[:, None]

    def Kmin(self, K: int, axis: int) -> torch.Tensor:
        return self.values.topk(K, dim=axis, largest=False).values


class Fused(Dense):
    """The same, written so that torch.compile fuses it: nothing but element-wise work and sums in low dimension."""

    def sqdist(self, other: Dense) -> Dense:
        if self.values.shape[-1] > MOST_FUSED_DIMENSIONS:
            return super().sqdist(other)
        return Fused(
            sum((self.values[..., k] - other.values[..., k]) ** 2 for k in range(self.values.shape[-1]))
        )

    def __matmul__(self, b: torch.Tensor) -> torch.Tensor:
        if b.shape[1] > 1:
            return super().__matmul__(b)
        return (self.values * b[:, 0]).sum(1, keepdim=True)


# ---------------------------------------------------------------------- formulas


def distances(tensor: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
    """|x_i - y_j|^2 in any of the libraries."""
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
    """The squared distances to the ten nearest points, in increasing order."""
    return distances(tensor, x, y).Kmin(10, axis=1)


# ---------------------------------------------------------------------- contenders


def symbolic_peers(formula: Formula, data: Data) -> Contenders:
    """KeOps; and, where the matrix fits into memory, PyTorch with and without its compiler."""
    peers: Contenders = {"KeOps": partial(formula, import_module("pykeops.torch").LazyTensor, *data)}
    if len(data[0]) * len(data[1]) <= MOST_DENSE_ENTRIES:
        peers["torch dense"] = partial(formula, Dense, *data)
        peers["torch.compile"] = compiled(formula, data)
    return peers


def compiled(formula: Formula, data: Data) -> Callable[[], torch.Tensor]:
    """The formula through torch.compile. Each case starts from an empty cache, so that its first call is one."""
    torch._dynamo.reset()
    if formula is gaussian_gradient:
        product = torch.compile(partial(gaussian, Fused), dynamic=False)
        return partial(_gradient_of, product, *data)
    return partial(torch.compile(partial(formula, Fused), dynamic=False), *data)


def _gradient_of(product: Formula, x: torch.Tensor, y: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(product(x, y, b).sum(), x)
    return gradient


def scipy_peer(formula: Callable[..., np.ndarray], data: Data) -> Contenders:
    return {"SciPy": partial(formula, *(array.numpy() for array in data))}


def scipy_gaussian(x: np.ndarray, y: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.exp(cdist(x, y, "sqeuclidean") * (-3.0 / x.shape[1])) @ b


def scipy_logsumexp(x: np.ndarray, y: np.ndarray, b: np.ndarray) -> np.ndarray:
    return scipy_sum_of_exponentials(cdist(x, y, "sqeuclidean") * -10.0, axis=1, keepdims=True)


def neighbor_peers(data: Data, count: int) -> Contenders:
    """Libraries of nearest neighbours: exhaustive search, and trees; the time to build these counts."""
    x, y = data[0].numpy(), data[1].numpy()
    return {
        "FAISS flat": partial(_faiss, x, y, count),
        "scikit-learn brute": partial(_scikit_learn, x, y, count, "brute"),
        "scikit-learn kd-tree": partial(_scikit_learn, x, y, count, "kd_tree"),
        "SciPy kd-tree": partial(_scipy_tree, x, y, count),
    }


def _faiss(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    index = import_module("faiss").IndexFlatL2(y.shape[1])
    index.add(y)
    squared, _ = index.search(x, count)
    return squared if count > 1 else squared[:, 0]


def _scikit_learn(x: np.ndarray, y: np.ndarray, count: int, algorithm: str) -> np.ndarray:
    neighbors = import_module("sklearn.neighbors")
    search = neighbors.NearestNeighbors(n_neighbors=count, algorithm=algorithm, n_jobs=-1).fit(y)
    distances, _ = search.kneighbors(x)
    return distances**2 if count > 1 else distances[:, 0] ** 2


def _scipy_tree(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    distances, _ = cKDTree(y).query(x, k=count, workers=-1)
    return distances**2


def in_float64(formula: Formula, x: torch.Tensor, *others: torch.Tensor) -> Any:
    """The first rows in double precision, by differences."""
    return formula(Differences, x[:REFERENCE_ROWS].double(), *(other.double() for other in others))


class Differences(Dense):
    """Stored matrices without the product that loses digits."""

    def sqdist(self, other: Dense) -> Dense:
        return Differences(
            sum((self.values[..., k] - other.values[..., k]) ** 2 for k in range(self.values.shape[-1]))
        )


def ours(formula: Formula, data: Data) -> Callable[[], torch.Tensor]:
    return partial(formula, LazyTensor, *data)
