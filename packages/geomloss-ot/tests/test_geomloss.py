"""The same calls as GeomLoss 0.3.1, with the same results where its schedule is slow enough to converge.

Its loss "hausdorff", and `solve_grid`, `barycenter`, `barycenter_sample` and `barycenter_grid` of `geomloss.ot`, raise.
"""

from __future__ import annotations

import warnings

import pytest
import torch

import geomloss_ot

SLOW = 0.99  # its ratio between two temperatures


@pytest.fixture(autouse=True)
def gradients_stay_enabled():
    """GeomLoss disables them, and leaves them so where it fails."""
    with torch.enable_grad():
        yield


@pytest.fixture(scope="module")
def peer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        pytest.importorskip("geomloss.ot")
        return pytest.importorskip("geomloss")


@pytest.fixture(scope="module")
def measures():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, 2, generator=generator, dtype=torch.float64) for n in (30, 20))
    a, b = (torch.rand(n, generator=generator, dtype=torch.float64) + 0.2 for n in (30, 20))
    return a / a.sum(), x, b / b.sum(), 0.8 * y + 0.3


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("reach", [None, 0.5])
@pytest.mark.parametrize("p", [1, 2])
def test_sinkhorn(peer, measures, p, reach, debias):
    options = {"p": p, "blur": 0.2, "reach": reach, "debias": debias, "backend": "tensorized"}
    theirs = peer.SamplesLoss("sinkhorn", scaling=SLOW, **options)(*measures)
    ours = geomloss_ot.SamplesLoss("sinkhorn", tol=1e-7, **options)(*measures)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("p", [1, 2])
def test_potentials(peer, measures, p):
    options = {"p": p, "blur": 0.2, "potentials": True, "backend": "tensorized"}
    theirs = peer.SamplesLoss("sinkhorn", scaling=SLOW, **options)(*measures)
    ours = geomloss_ot.SamplesLoss("sinkhorn", tol=1e-7, **options)(*measures)
    shift = (theirs[0] - ours[0]).mean()  # constants move freely
    torch.testing.assert_close(ours[0] + shift, theirs[0].reshape(-1), rtol=0.0, atol=1e-3)
    torch.testing.assert_close(ours[1] - shift, theirs[1].reshape(-1), rtol=0.0, atol=1e-3)


@pytest.mark.parametrize("loss", ["gaussian", "laplacian", "energy"])
def test_kernel_norms(peer, measures, loss):
    theirs = peer.SamplesLoss(loss, blur=0.2, backend="tensorized")(*measures)
    ours = geomloss_ot.SamplesLoss(loss, blur=0.2, backend="tensorized")(*measures)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0.0)  # its distances are rounded near zero


@pytest.mark.parametrize("unbalanced", [None, 0.3])
def test_functional_solvers(peer, measures, unbalanced):
    a, x, b, y = measures
    options = {"reg": 0.05, "unbalanced": unbalanced}
    costs = ((x[:, None] - y) ** 2).sum(-1)
    theirs = peer.ot.solve(costs, a=a, b=b, max_iter=1000, **options)
    ours = geomloss_ot.solve(costs, a, b, **options)
    torch.testing.assert_close(ours.value, theirs.value, rtol=1e-3, atol=0.0)
    torch.testing.assert_close(ours.plan, theirs.plan, rtol=0.0, atol=1e-4)
    for debias in (True, False):
        theirs = peer.ot.solve_sample(x, y, a=a, b=b, debias=debias, max_iter=1000, **options)
        ours = geomloss_ot.solve_sample(x, y, a, b, debias=debias, **options)
        torch.testing.assert_close(ours.value, theirs.value, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("p", [1, 2])
def test_images(peer, p):
    pytest.importorskip("pykeops")  # which its softmins on images need
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(1, 1, 16, 16, generator=generator, dtype=torch.float64) ** 4 for _ in range(2))
    images = a / a.sum(), b / b.sum()
    options = {"p": p, "blur": 0.1, "axes": ((0, 1), (0, 1))}
    theirs = peer.sinkhorn_divergence(*images, scaling=SLOW, **options)
    ours = geomloss_ot.sinkhorn_divergence(*images, tol=1e-6, **options)
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=0.0)
