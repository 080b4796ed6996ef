"""Batches of clouds by cells: the same as one pair after the other, with values, potentials and derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomloss_ot import SamplesLoss, samples_loss, solve_sample, solve_sample_batch
from geomloss_ot.multiscale import converging, masks

EXACT = {"rtol": 1e-6, "atol": 1e-10}


@pytest.fixture(autouse=True)
def always_pruned(monkeypatch):
    """Masks for small clouds too."""
    for module in (converging, masks):
        monkeypatch.setattr(module, "WORTH_PRUNING", 0)


def make_batch(sizes=((300, 300, 300), (350, 350, 350)), dtype=torch.float64):
    """Weights and points of each pair."""
    rng = np.random.default_rng(0)
    points = [
        [torch.tensor(rng.random((n, 2)) * (k + 1) / 2, dtype=dtype) for k, n in enumerate(side)]
        for side in sizes
    ]
    weights = [[torch.tensor(rng.random(n) + 0.1, dtype=dtype) for n in side] for side in sizes]
    weights = [[w / w.sum() for w in side] for side in weights]
    return weights[0], points[0], weights[1], points[1]


@pytest.mark.parametrize("options", [{}, {"debias": False, "reach": 0.5}, {"p": 1}])
def test_losses_of_batches_are_those_of_their_pairs(options):
    loss = SamplesLoss(blur=0.05, backend="multiscale", **options)
    together, alone = ([torch.stack(side).requires_grad_() for side in make_batch()] for _ in range(2))
    scales = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    values = loss(*together)
    assert values.shape == (3,)
    (values * scales).sum().backward()
    expected = torch.stack([loss(*(side[k] for side in alone)) for k in range(3)])
    (expected * scales).sum().backward()
    torch.testing.assert_close(values, expected, **EXACT)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.grad, other.grad, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_potentials_and_labels_of_batches(dtype):
    a, x, b, y = (torch.stack(side) for side in make_batch(dtype=dtype))
    labels = (x[..., 0] > 0.3).long(), (y[..., 0] > 0.6).long()
    loss = SamplesLoss(blur=0.05, backend="multiscale", potentials=True)
    found = loss(labels[0], a[..., None], x, labels[1], b, y)
    assert found[0].shape == (3, 300, 1)
    for k in range(3):
        expected = loss(labels[0][k], a[k], x[k], labels[1][k], b[k], y[k])
        tolerance = {
            "rtol": 0.0,
            "atol": 1e-5 if dtype == torch.float32 else 1e-9,
        }  # the batch has its own origin
        torch.testing.assert_close(found[0][k, :, 0], expected[0], **tolerance)
        torch.testing.assert_close(found[1][k], expected[1], **tolerance)
    # Not by chance: labels do cut cells.
    assert float((expected[0] - loss(a[2], x[2], b[2], y[2])[0]).abs().max()) > 1e-5


def test_large_batches_go_to_cells_by_themselves(monkeypatch):
    a, x, b, y = (torch.stack(side) for side in make_batch())
    monkeypatch.setattr(samples_loss, "choose_multiscale", lambda problem: True)
    expected = SamplesLoss(blur=0.05, backend="multiscale")(a, x, b, y)
    assert torch.equal(SamplesLoss(blur=0.05)(a, x, b, y), expected)


def test_batches_say_what_did_not_converge():
    a, x, b, y = (torch.stack(side) for side in make_batch())
    with pytest.warns(UserWarning, match="max_iter=12"):
        SamplesLoss(blur=0.02, backend="multiscale", max_iter=12)(a, x, b, y)


@pytest.mark.parametrize("unbalanced", [None, 0.3])
def test_results_of_batches(unbalanced):
    a, x, b, y = ([side.numpy() for side in group] for group in make_batch())
    options = {"blur": 0.1, "debias": True, "unbalanced": unbalanced, "tol": 1e-8}
    stacked = [np.stack(side) for side in (x, y, a, b)]
    found = solve_sample(*stacked, backend="multiscale", **options)
    expected = solve_sample(*stacked, **options)
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-5)
    np.testing.assert_allclose(found.a_to_b, expected.a_to_b, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.plan, expected.plan, rtol=1e-2, atol=1e-9)
    assert found.status == "converged"
    assert found.certificate.duality_gap.shape == (3,)
    for k in range(3):
        alone = solve_sample(x[k], y[k], a[k], b[k], backend="multiscale", **options)
        np.testing.assert_allclose(found.value[k], alone.value, **EXACT)
        np.testing.assert_allclose(found.potential_a[k], alone.potential_a, **EXACT)
        np.testing.assert_allclose(found.potential_bb[k], alone.potential_bb, **EXACT)
    # Several dimensions of batches.
    more = solve_sample(*(side[:, None] for side in stacked), backend="multiscale", **options)
    assert more.potential_a.shape == (3, 1, 300)
    np.testing.assert_array_equal(more.value[:, 0], found.value)


def test_clouds_of_unequal_sizes():
    a, x, b, y = make_batch(((300, 120, 450), (250, 500, 90)))
    options = {"blur": 0.1, "debias": True, "tol": 1e-8, "backend": "multiscale"}
    leaves = [[side.clone().requires_grad_() for side in group] for group in (x, y, a, b)]
    found = solve_sample_batch(*leaves, **options)
    assert (len(found), found.value.shape, found.status) == (3, (3,), "converged")
    assert float(found.certificate.marginal_error_a.max()) < 1e-2
    scales = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (found.value * scales).sum().backward()
    for k in range(3):
        clouds = [side[k].clone().requires_grad_() for side in (x, y, a, b)]
        alone, one = solve_sample(*clouds, **options), found[k]
        (alone.value * scales[k]).backward()
        for name in ("value", "potential_a", "potential_bb", "a_to_b"):
            actual, expected = getattr(one, name), getattr(alone, name)
            assert actual.shape == expected.shape
            # Each problem has its own origin, where it is solved alone.
            torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(found.value[k], alone.value, rtol=1e-6, atol=1e-8)
        for group, cloud in zip(leaves, clouds, strict=True):
            torch.testing.assert_close(group[k].grad, cloud.grad, rtol=1e-3, atol=1e-6)
