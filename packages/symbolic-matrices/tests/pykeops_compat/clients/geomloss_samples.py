"""GeomLoss' online and multiscale backends, which call KeOps, against its dense one: values and gradients."""

from __future__ import annotations

import sys

import geomloss._legacy.sinkhorn_samples as sinkhorn_samples
import pytest
import torch
from geomloss import SamplesLoss, ot

from symbolic_matrices import Profile, pykeops_compat


def measures(batch=(), seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(*batch, n, 2, generator=generator, dtype=torch.float64) for n in (40, 30))
    a, b = (torch.rand(*batch, n, generator=generator, dtype=torch.float64) + 0.1 for n in (40, 30))
    return [a / a.sum(-1, keepdim=True), x, b / b.sum(-1, keepdim=True), 0.5 * y + 0.3]


def value_and_gradients(backend, arguments, **options):
    tensors = [z.clone().requires_grad_() for z in arguments]
    value = SamplesLoss(backend=backend, **options)(*tensors)
    return (value, *torch.autograd.grad(value.sum(), tensors))


def compare(backend, arguments, tolerance, **options):
    with Profile() as profile:
        ours = value_and_gradients(backend, arguments, **options)
    assert profile.launches > 0
    with Profile() as profile:
        expected = value_and_gradients("tensorized", arguments, **options)
    assert profile.launches == 0
    for actual, target in zip(ours, expected, strict=True):
        torch.testing.assert_close(actual.reshape(target.shape), target, rtol=tolerance, atol=tolerance)


def test_geomloss_uses_our_modules():
    assert sys.modules["pykeops"].__file__ == pykeops_compat.__file__
    assert sinkhorn_samples.keops_available
    assert sinkhorn_samples.LazyTensor is pykeops_compat.LazyTensor


# GeomLoss' dense distances are never below 1e-4, those of its KeOps formulas are exact
DISTANCE_TOLERANCE = 1e-3


@pytest.mark.parametrize("batch", [(), (3,)], ids=["strings", "LazyTensor"])
@pytest.mark.parametrize(("p", "tolerance"), [(1, DISTANCE_TOLERANCE), (2, 1e-9)])
def test_sinkhorn_online(p, tolerance, batch):
    """Without batch, GeomLoss writes its softmin as a string; with batches, with LazyTensors."""
    compare("online", measures(batch), tolerance, loss="sinkhorn", p=p, blur=0.1, reach=1.0)


@pytest.mark.parametrize(
    ("loss", "tolerance"),
    [("gaussian", 1e-9), ("laplacian", DISTANCE_TOLERANCE), ("energy", DISTANCE_TOLERANCE)],
)
def test_kernel_norms_online(loss, tolerance):
    compare("online", measures(), tolerance, loss=loss, blur=0.2)


def test_sinkhorn_multiscale():
    """The coarse-to-fine loop prunes and interpolates: it agrees up to its own approximation."""
    arguments = measures()
    compare("multiscale", arguments, 5e-3, loss="sinkhorn", p=2, blur=0.1, diameter=1.5, truncate=None)
    compare("multiscale", arguments, 5e-3, loss="sinkhorn", p=2, blur=0.1, diameter=1.5, truncate=10)


@pytest.mark.parametrize("loss", ["gaussian", "energy"])
def test_kernel_norms_multiscale(loss):
    compare("multiscale", measures(), 1e-3, loss=loss, blur=0.1, diameter=1.5, truncate=8)


@pytest.mark.parametrize("convert", [torch.Tensor.numpy, torch.clone], ids=["NumPy", "PyTorch"])
def test_solve_sample(convert):
    """The functional interface makes its costs of LazyTensors; ``ot.solve``, which anneals otherwise, takes dense."""
    x, y = map(convert, measures()[1::2])
    dense = ((x[:, None] - y[None]) ** 2).sum(-1)
    with Profile() as profile:
        ours = ot.solve_sample(x, y, reg=0.1, max_iter=50)
    assert profile.launches > 50
    expected = ot.solve(dense, reg=0.1, max_iter=50)
    assert float(ours.value) == pytest.approx(float(expected.value), rel=1e-3)
