"""Certificates of large clouds: those of all the pairs, without visiting them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomloss_ot import solve_sample
from geomloss_ot.certificates import certify
from geomloss_ot.geometries import PointGeometry
from geomloss_ot.multiscale import cells, proofs


@pytest.fixture
def pairs(monkeypatch):
    """Whatever their size, clouds are large; the share of pairs that each certificate visits."""
    monkeypatch.setattr(proofs, "_MANY_PAIRS", 0)
    monkeypatch.setattr(cells, "MOST", 8)
    shares: list[float] = []
    original = proofs.dense_problem

    def record(*arguments):
        masked = original(*arguments)
        shares.append(masked.geometry.ranges.pairs / np.prod(masked.geometry.shape))
        return masked

    monkeypatch.setattr(proofs, "dense_problem", record)
    return shares


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unbalanced": 0.3},
        {"unbalanced": 0.05, "unbalanced_type": "tv"},
        {"unbalanced": (0.9, 1.2), "unbalanced_type": "range"},
        {"reg": 0.004, "metric": "euclidean"},
    ],
)
@pytest.mark.parametrize("tol", [1e-2, 1e-6])
def test_certificates_are_those_of_all_pairs(pairs, options, tol):
    rng = np.random.default_rng(0)
    x, y = rng.random((700, 2)), 0.8 * rng.random((600, 2)) + [0.3, 0.1]
    result = solve_sample(x, y, **{"reg": 0.002, "tol": tol, **options})
    found = result.certificate
    expected = certify(result._problem.detached(), result.divergence.ab.solution)
    assert bool(pairs) == ("metric" not in options), "what is skipped is proved for squared distances"
    assert all(share < 0.6 for share in pairs)
    for name in ("marginal_error_a", "marginal_error_b", "duality_gap"):
        ours, theirs = float(getattr(found, name)), float(getattr(expected, name))
        assert ours == pytest.approx(theirs, rel=1e-5, abs=3e-7)
        assert ours >= theirs * (1 - 1e-9) - 1e-12  # nothing that is skipped is forgotten


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certificates_of_tensors(pairs, dtype):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(n, 3, generator=generator, dtype=dtype) for n in (900, 800))
    x.requires_grad_()
    result = solve_sample(x, y, blur=0.05, tol=1e-3)
    found, expected = result.certificate, certify(result._problem.detached(), result.divergence.ab.solution)
    assert pairs[0] < 0.8
    assert found.marginal_error_a.dtype == expected.marginal_error_a.dtype
    assert float(found.marginal_error_b) == pytest.approx(
        float(expected.marginal_error_b), rel=1e-3, abs=1e-5
    )
    assert float(found.duality_gap) == pytest.approx(float(expected.duality_gap), rel=2e-2, abs=1e-6)


def test_product_measures_of_skipped_pairs_are_not_visited():
    """The entropy and the cost of u v^T, in closed form."""
    rng = np.random.default_rng(0)
    x, y, u, v, b = rng.random((30, 3)), rng.random((20, 3)), rng.random(30), rng.random(20), rng.random(20)
    result = solve_sample(x, y, reg=0.1)
    geometry = result._problem.geometry
    assert isinstance(geometry, PointGeometry)
    r = u[:, None] * v
    costs = geometry.cost.coefficient * ((geometry.x[:, None] - geometry.y[None]) ** 2).sum(-1)
    expected = (r * costs + 0.1 * (r * np.log(r) - r + 1)) @ b
    np.testing.assert_allclose(geometry._product_integral(0.1, (u, v, b)), expected, rtol=1e-12)
    np.testing.assert_allclose(geometry.skipped_density(0.1, (u, v, b)), 0.0, atol=1e-12)
