"""Reductions on a CPU against KeOps, PyTorch, SciPy, scikit-learn and FAISS: uniform points in the unit cube."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import contenders as c
import torch
from benchmarking import Case

EXPONENTIAL, EXPONENTIAL_64 = (
    4.0,
    7.0,
)  # multiply-adds of an exponential: a table of powers and a short polynomial


def case(
    name: str,
    formula: c.Formula,
    data: c.Data,
    targets: Mapping[str, float],
    multiply_adds: float | None,
    tolerance: float = 1e-4,
    more_peers: Mapping[str, Callable[[], Any]] | None = None,
) -> Case:
    """One formula in everybody's hands."""
    return Case(
        name=name,
        work=float(len(data[0])) * len(data[1]),
        ours=c.ours(formula, data),
        peers={**c.symbolic_peers(formula, data), **(more_peers or {})},
        reference=partial(c.in_float64, formula, *data),
        tolerance=tolerance,
        targets=targets,
        multiply_adds=multiply_adds,
        dtype=str(data[0].dtype).removeprefix("torch."),
    )


def kernel_products() -> Iterator[Case]:
    """Sums of kernels, their gradients, and log-sum-exp."""
    exp = EXPONENTIAL
    data = c.make_data(20_000, 20_000, 3)
    targets = {"KeOps": 20, "torch.compile": 6}
    scipy = c.scipy_peer(c.scipy_gaussian, data)
    yield case("gaussian D=3 20k", c.gaussian, data, targets, 3 + exp + 1, more_peers=scipy)
    yield case("gaussian D=10 20k", c.gaussian, c.make_data(20_000, 20_000, 10), {"KeOps": 20}, 10 + exp + 1)
    targets = {"KeOps": 25, "torch dense": 10}
    yield case("gaussian D=64 10k", c.gaussian, c.make_data(10_000, 10_000, 64), targets, 64 + exp + 1)
    yield case(
        "gaussian D=784 2k x 10k", c.gaussian, c.make_data(2_000, 10_000, 784), {"KeOps": 30}, 784 + exp
    )
    data = c.make_data(10_000, 10_000, 3)
    wide = c.make_data(10_000, 10_000, 3, columns=64)
    yield case("gaussian D=3 10k 64 columns", c.gaussian, wide, {"KeOps": 10}, 3 + exp + 64)
    double = c.make_data(10_000, 10_000, 3, dtype=torch.float64)
    scipy = c.scipy_peer(c.scipy_gaussian, double)
    name = "gaussian D=3 10k float64"
    yield case(name, c.gaussian, double, {"KeOps": 12}, 3 + EXPONENTIAL_64 + 1, more_peers=scipy)
    yield case("laplacian D=3 10k", c.laplacian, data, {"KeOps": 15}, 3 + exp + 1, tolerance=1e-3)
    scipy = c.scipy_peer(c.scipy_logsumexp, data)
    yield case("logsumexp D=3 10k", c.logsumexp, data, {"KeOps": 20}, 3 + exp + 1, more_peers=scipy)
    yield case("gaussian + gradient D=3 10k", c.gaussian_gradient, data, {"KeOps": 18}, 2 * (3 + exp) + 5)


def neighbors() -> Iterator[Case]:
    """Nearest points; a search in low dimension skips most pairs, so that no arithmetic is counted there.

    Squared distances from a product of matrices, as peers compute them, lose digits where they are small.
    """
    data = c.make_data(10_000, 10_000, 3)
    yield case("nearest D=3 10k", c.nearest, data, {"KeOps": 5}, None, 1e-3, c.neighbor_peers(data, 1))
    targets = {"KeOps": 8, "FAISS flat": 5}
    yield case("10 nearest D=3 10k", c.ten_nearest, data, targets, None, 1e-3, c.neighbor_peers(data, 10))
    data = c.make_data(10_000, 10_000, 64)
    targets = {"KeOps": 15, "FAISS flat": 1}
    yield case("10 nearest D=64 10k", c.ten_nearest, data, targets, 64, 1e-3, c.neighbor_peers(data, 10))


def cases() -> Iterator[Case]:
    """The table of CPU reductions; targets are ratios to the peers."""
    yield from kernel_products()
    yield from neighbors()
