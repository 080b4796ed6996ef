"""Second derivatives of losses by cells: those of the single-scale solver, without visiting all pairs of points."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
import torch

from geomloss_ot import SamplesLoss, solve_sample
from geomloss_ot.geometries import PointGeometry
from geomloss_ot.multiscale import close_ups, converging, masks


@pytest.fixture(autouse=True)
def always_pruned(monkeypatch):
    """Masks for small clouds too."""
    for module in (close_ups, converging, masks):
        monkeypatch.setattr(module, "WORTH_PRUNING", 0)


def make_clouds(n: int = 500, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Weights and points of both sides."""
    rng = np.random.default_rng(0)
    x, y = rng.random((n, 2)), 0.1 + rng.random((n + 40, 2)) ** 1.5
    weights = [w / w.sum() for w in (rng.random(len(x)) + 0.2, rng.random(len(y)) + 0.2)]
    return [torch.tensor(v, dtype=dtype) for v in (weights[0], x, weights[1], y)]


def products(loss, leaves: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[bool]]:
    """Products of the Hessian of a loss with directions, free of mass for weights; also how they were found."""
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    generator = torch.Generator().manual_seed(0)
    directions = []
    for leaf in leaves:
        noise = torch.rand(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.dtype) - 0.5
        directions.append(noise if leaf.ndim > 1 else leaf * (noise - (leaf * noise).sum() / leaf.sum()))
    value = loss(*leaves)
    with counted_reductions() as seen:
        gradients = torch.autograd.grad(value, leaves, create_graph=True)
        slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
        found = torch.autograd.grad(slope, leaves)
    # Constants mean nothing in the weights.
    return [h - h.mean() if h.ndim == 1 else h for h in found], seen


@contextmanager
def counted_reductions():
    """Whether each product with a plan, meanwhile, visits some pairs only."""
    seen: list[bool] = []
    original = PointGeometry.apply_plan

    def count(geometry, *arguments):
        seen.append(geometry.ranges is not None or geometry.shape[0] < 100)  # at centres of blocks
        return original(geometry, *arguments)

    with mock.patch.object(PointGeometry, "apply_plan", count):
        yield seen


def check_close(found: list[torch.Tensor], expected: list[torch.Tensor], rtol: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        error = float((ours - theirs).double().norm() / theirs.double().norm())
        assert error <= rtol, error


@pytest.mark.parametrize(
    ("options", "dtype", "rtol"),
    [
        ({}, torch.float64, 1e-4),
        ({"reach": 0.5}, torch.float64, 1e-4),
        ({"debias": False}, torch.float32, 3e-3),
        ({"p": 1}, torch.float64, 1e-4),
    ],
)
def test_products_with_the_hessian(options, dtype, rtol):
    leaves = make_clouds(dtype=dtype)
    common = {"blur": 0.1, "tol": 1e-5, "max_iter": 2000, **options}
    found, seen = products(SamplesLoss(backend="multiscale", **common), leaves)
    assert len(seen) > 20
    assert all(seen)
    expected, _ = products(SamplesLoss(backend="online", **common), leaves)
    check_close(found, expected, rtol)


def test_derivatives_of_potentials():
    found = []
    for backend in ("online", "multiscale"):
        a, x, b, y = (leaf.requires_grad_() for leaf in make_clouds(300))
        result = solve_sample(x, y, a, b, blur=0.1, backend=backend, tol=1e-7)
        (result.a_to_b**2).sum().backward()
        found.append([x.grad, y.grad])
    check_close(found[1], found[0], 1e-3)


def test_products_in_batches():
    leaves = make_clouds(200)
    loss = SamplesLoss(blur=0.1, backend="multiscale", tol=1e-5)
    found, _ = products(lambda *tensors: loss(*(torch.stack([t, t]) for t in tensors)).sum(), leaves)
    expected, _ = products(loss, leaves)
    check_close(found, [2 * product for product in expected], 1e-6)


def test_products_for_any_cost():
    """Costs of users are not pruned, and their arrays are not NumPy's."""
    leaves = make_clouds(200)
    options = {"blur": 0.1, "tol": 1e-6, "cost": lambda x, y: ((x - y) ** 2).sum(-1) / 2}
    found, _ = products(SamplesLoss(backend="multiscale", cluster_scale=0.05, **options), leaves)
    check_close(found, products(SamplesLoss(backend="online", **options), leaves)[0], 1e-4)


def test_products_between_one_tensor_and_itself():
    """Two measures on one tensor of points, whose derivative has both sides."""
    a, x, b, _ = make_clouds(200)
    b = b[: len(a)] / b[: len(a)].sum()
    options = {"blur": 0.1, "tol": 1e-6, "cost": lambda x, y: ((x - y) ** 2).sum(-1) / 2}

    def both(loss):
        return lambda a, x, b: loss(a, x, b, x)

    found, _ = products(both(SamplesLoss(backend="multiscale", cluster_scale=0.01, **options)), [a, x, b])
    check_close(found, products(both(SamplesLoss(backend="online", **options)), [a, x, b])[0], 1e-2)
