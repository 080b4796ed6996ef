"""Barycentres, against POT, closed forms and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from geomloss_ot import (
    ImagesBarycenter,
    barycenter,
    barycenter_grid,
    barycenter_sample,
    solve_grid,
    solve_sample,
)

LINE = (np.arange(80) + 0.5) / 80


def _bumps(means=(0.3, 0.65), deviations=(0.05, 0.1)):
    shapes = [np.exp(-((LINE - m) ** 2) / (2 * s**2)) for m, s in zip(means, deviations, strict=True)]
    return np.stack([shape / shape.sum() for shape in shapes])


def _moments(weights):
    mean = float((weights * LINE).sum())
    return mean, float(np.sqrt((weights * (LINE - mean) ** 2).sum()))


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_gaussians_average_means_and_deviations(share):
    """Debiased barycentres keep the variance; biased ones blur it."""
    shares = np.array([share, 1 - share])
    means, deviations = zip(*map(_moments, _bumps()), strict=True)
    sharp = _moments(barycenter_grid(_bumps(), shares, blur=0.03))
    assert sharp[0] == pytest.approx(shares @ means, abs=1e-4)
    assert sharp[1] == pytest.approx(shares @ deviations, rel=5e-3)
    blurred = _moments(barycenter_grid(_bumps(), shares, blur=0.03, debias=False))
    assert blurred[0] == pytest.approx(shares @ means, abs=1e-4)
    assert blurred[1] > 1.03 * sharp[1]


@pytest.mark.parametrize("debias", [True, False])
def test_fixed_support_agrees_with_pot(debias):
    ot = pytest.importorskip("ot")
    costs = (LINE[:, None] - LINE) ** 2
    theirs = ot.bregman.barycenter_debiased if debias else ot.bregman.barycenter
    # POT starts biased barycentres from potentials that only equal shares allow.
    shares = np.array([0.3, 0.7] if debias else [0.5, 0.5])
    expected = theirs(_bumps().T, costs, 0.01, shares, numItermax=20_000, stopThr=1e-9)
    options = {"weights": shares, "reg": 0.01, "tol": 1e-6}
    ours = barycenter(_bumps(), costs, C_aa=costs if debias else None, **options)
    np.testing.assert_allclose(ours, expected, atol=5e-3 * expected.max())
    grid = barycenter_grid(_bumps(), debias=debias, **options)
    np.testing.assert_allclose(grid, ours, atol=1e-8)


def test_barycentre_minimises_the_sum_of_divergences():
    images = np.random.default_rng(0).uniform(size=(3, 5, 4)) ** 4
    images /= images.sum((1, 2), keepdims=True)

    def energy(image):
        return sum(float(solve_grid(image, b, blur=0.15, debias=True, tol=1e-8).value) for b in images)

    best = barycenter_grid(images, blur=0.15, tol=1e-5)
    assert best.sum() == pytest.approx(1.0, rel=1e-4)
    rng, reached = np.random.default_rng(1), energy(best / best.sum())
    for _ in range(3):
        other = best * np.exp(0.1 * rng.normal(size=best.shape))
        assert energy(other / other.sum()) > reached


@pytest.mark.parametrize("debias", [True, False])
def test_volumes_agree_with_matrices(debias):
    """Softmins along three axes, of different lengths, are those of the whole cost matrix."""
    axes = [(np.arange(n) + 0.5) / n for n in (6, 5, 4)]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    volumes = np.stack([np.exp(-((voxels - centre) ** 2).sum(-1) / 0.05) for centre in (0.3, 0.6)])
    volumes /= volumes.sum((1, 2, 3), keepdims=True)
    points = voxels.reshape(-1, 3)
    costs = ((points[:, None] - points) ** 2).sum(-1)
    options = {"weights": np.array([0.3, 0.7]), "reg": 0.05}
    found = barycenter_grid(volumes, axes=((0, 1),) * 3, debias=debias, **options)
    expected = barycenter(volumes.reshape(2, -1), costs, C_aa=costs if debias else None, **options)
    assert found.shape == (6, 5, 4)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-3, atol=1e-7)


def test_batches_and_libraries():
    images = np.random.default_rng(0).uniform(size=(2, 3, 7, 5))
    images /= images.sum((-1, -2), keepdims=True)
    shares = np.array([[1.0, 2.0, 1.0], [0.2, 0.3, 0.5]])
    together = barycenter_grid(images, shares, blur=0.1, axes=((0, 1), (0, 1)), tol=1e-5)
    assert together.shape == (2, 7, 5)
    alone = barycenter_grid(images[1], shares[1], blur=0.1, tol=1e-5)
    np.testing.assert_allclose(together[1], alone, atol=1e-4)
    tensors = barycenter_grid(*map(torch.from_numpy, (images[1], shares[1])), blur=0.1, tol=1e-5)
    np.testing.assert_allclose(tensors.numpy(), alone, atol=1e-10)
    single = barycenter_grid(images[1].astype(np.float32), shares[1].astype(np.float32), blur=0.1)
    np.testing.assert_allclose(single, alone, atol=1e-4)


def test_images_barycenter():
    images = torch.zeros(1, 2, 20, 20, dtype=torch.float64)
    images[0, 0, 2:6, 3:7] = images[0, 1, 12:16, 9:13] = 1 / 16
    mean = ImagesBarycenter(images, torch.tensor([[0.5, 0.5]], dtype=torch.float64))
    assert mean.shape == (1, 1, 20, 20)
    square = torch.zeros(20, 20, dtype=torch.float64)
    square[7:11, 6:10] = 1 / 16
    assert (mean[0, 0] - square).abs().sum() < 0.05


@pytest.mark.parametrize("debias", [True, False])
def test_weights_of_the_mean_are_normalised(debias):
    cloud, found = LINE[::8, None], []
    for weights in (np.array([1.0, 3.0]), np.array([0.25, 0.75])):
        mean = barycenter_grid(_bumps(), weights, blur=0.05, debias=debias, tol=1e-6)
        moved = barycenter_sample([cloud, cloud + 4.0], cloud, weights=weights, blur=0.1, debias=debias)
        assert float(moved.mean()) == pytest.approx(cloud.mean() + 3.0, abs=1e-3)
        found.append((mean, moved))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def test_default_blur_of_images_is_the_smallest_pixel():
    images = torch.rand(1, 2, 12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images, shares = (
        images / images.sum((2, 3), keepdim=True),
        torch.tensor([[0.3, 0.7]], dtype=torch.float64),
    )
    expected = barycenter_grid(images, shares, blur=1 / 12, axes=((0, 1), (0, 1)))
    torch.testing.assert_close(ImagesBarycenter(images, shares)[:, 0], expected)


def test_no_graph_without_backward_iterations():
    bumps = torch.from_numpy(_bumps()[:, ::4]).requires_grad_()
    bumps = bumps / bumps.sum(1, keepdim=True)
    assert not barycenter_grid(bumps, blur=0.1, backward_iterations=0).requires_grad
    assert barycenter_grid(bumps, blur=0.1).requires_grad


def test_a_step_of_a_free_support_is_the_barycentric_map():
    """Where some mass is destroyed, means are those of what is transported."""
    rng = np.random.default_rng(3)
    x, y, a = rng.normal(size=(12, 2)), rng.normal(size=(9, 2)) + 1, rng.uniform(size=12)
    options = {"reg": 0.3, "unbalanced": 0.5, "tol": 1e-9}
    moved = barycenter_sample([y], x, a=a, debias=False, n_steps=1, **options)
    np.testing.assert_allclose(moved, solve_sample(x, y, a, **options).a_to_b, rtol=1e-6)


def test_gradient_in_the_weights():
    bumps = torch.from_numpy(_bumps()[:, ::4] / _bumps()[:, ::4].sum(1, keepdims=True))
    options = {"blur": 0.1, "debias": False, "tol": 1e-10, "backward_iterations": 40}
    positions = torch.from_numpy(LINE[::4])

    def mean(scores):
        image = barycenter_grid(bumps, scores.softmax(0), **options)
        return (image * positions).sum()

    assert gradcheck(
        mean, (torch.tensor([0.2, -0.3], dtype=torch.float64, requires_grad=True),), atol=1e-4, rtol=1e-3
    )


def test_free_support_of_translations():
    """The barycentre of translated copies is the copy by the mean translation, clouds of different sizes included."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(60, 2))
    split = np.concatenate([x, x[:20]]) + np.array([0.0, 3.0])
    weights = np.concatenate([np.full(60, 1 / 60), np.zeros(20)])
    weights[:20] = weights[60:] = 1 / 120
    clouds, measures = (
        [x, x + np.array([3.0, 0.0]), split],
        [np.full(60, 1 / 60), np.full(60, 1 / 60), weights],
    )
    mean = barycenter_sample(
        clouds, x + 0.5, measures, weights=np.array([0.25, 0.5, 0.25]), blur=0.1, tol=1e-6
    )
    np.testing.assert_allclose(mean, x + np.array([1.5, 0.75]), atol=5e-3)


def test_free_support_agrees_with_pot():
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(1)
    clouds = [rng.normal(size=(30, 2)), rng.normal(size=(20, 2)) + 2]
    first = rng.normal(size=(10, 2)) + 1
    measures = [np.full(len(cloud), 1 / len(cloud)) for cloud in clouds]
    expected = ot.bregman.free_support_sinkhorn_barycenter(
        clouds, measures, first, 0.5, numItermax=100, stopThr=1e-12, numInnerItermax=5000
    )
    ours = barycenter_sample(clouds, first, reg=0.5, debias=False, n_steps=100, move=1e-6, tol=1e-9)
    np.testing.assert_allclose(ours, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: barycenter(b, np.ones((3, 4)), reg=1.0), "one column of costs"),
        (lambda b: barycenter(b, np.ones((3, 80)), reg=1.0, C_aa=np.ones((2, 2))), "C_aa has shape"),
        (lambda b: barycenter(-b, np.ones((3, 80)), reg=1.0), "negative weights"),
        (lambda b: barycenter(b * [[1.0], [2.0]], np.ones((3, 80)), reg=1.0), "equal masses"),
        (lambda b: barycenter_grid(b, np.ones(3), blur=1.0), r"weights has shape \(3,\): expected \(2,\)"),
        (lambda b: barycenter_grid(b[0], blur=1.0), "K images|a signal"),
        (lambda b: barycenter_grid(b, blur=0.1, reach=1.0), "are not debiased"),
        (lambda b: barycenter_grid(b), "exactly one temperature"),
        (lambda b: barycenter_sample([b], b, metric="euclidean", blur=1.0), "only 'sqeuclidean'"),
        (lambda b: barycenter_sample([b], b, [], blur=1.0), "expected as many"),
        (lambda b: ImagesBarycenter(torch.from_numpy(b), torch.ones(2), p=1), "p=1"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(_bumps())


def test_stopping_early_warns():
    with pytest.warns(UserWarning, match="max_iter=5"):
        barycenter_grid(_bumps(), blur=0.01, max_iter=5)


@pytest.mark.parametrize("strength", [0.02, 0.5])
def test_unbalanced_fixed_support_agrees_with_pot(strength):
    ot = pytest.importorskip("ot")
    costs, shares = (LINE[::4, None] - LINE[::4]) ** 2, np.array([0.3, 0.7])
    bumps = _bumps()[:, ::4] * [[4.0], [7.0]]
    expected = ot.unbalanced.barycenter_unbalanced(
        bumps.T, costs, 0.01, strength, weights=shares, numItermax=50_000, stopThr=1e-13
    )
    options = {"weights": shares, "reg": 0.01, "unbalanced": strength, "tol": 1e-8}
    ours = barycenter(bumps, costs, **options)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(barycenter_grid(bumps, debias=False, **options), ours, rtol=1e-5, atol=1e-9)
    single = barycenter_grid(
        torch.from_numpy(bumps).float(),
        torch.from_numpy(shares).float(),
        reg=0.01,
        reach=(strength / 2) ** 0.5,
        debias=False,
    )
    np.testing.assert_allclose(single.numpy(), ours, rtol=1e-2, atol=1e-5)


def test_strong_penalties_tend_to_balanced_barycentres():
    costs = (LINE[::4, None] - LINE[::4]) ** 2
    bumps = _bumps()[:, ::4] / _bumps()[:, ::4].sum(1, keepdims=True)
    strong = barycenter(bumps, costs, reg=0.02, unbalanced=20.0, tol=1e-4)
    np.testing.assert_allclose(strong, barycenter(bumps, costs, reg=0.02, tol=1e-5), rtol=1e-2, atol=3e-4)


def test_gradient_of_unbalanced_barycentres():
    bumps = torch.from_numpy(3 * _bumps()[:, ::4])
    options = {"blur": 0.1, "reach": 0.2, "debias": False, "tol": 1e-10, "backward_iterations": 30}

    def mean(scores, scale):
        return barycenter_grid(bumps * scale[:, None], scores.softmax(0), **options).square().sum()

    leaves = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([0.2, -0.3], [1.0, 1.5]))
    assert gradcheck(mean, tuple(leaves), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("kind", "debias"), [("kl", True), ("kl", False), ("partial", True)])
def test_unbalanced_free_support_is_a_critical_point(kind, debias):
    """The gradient of the mean divergence, by another way, vanishes; an outlier that is far away pulls nothing."""
    rng = np.random.default_rng(2)
    clouds = [rng.normal(size=(15, 2)), np.concatenate([rng.normal(size=(10, 2)) + 2, [[40.0, 0.0]]])]
    shares, options = np.array([0.4, 0.6]), {"reg": 0.5, "unbalanced": 8.0, "unbalanced_type": kind}
    options |= {"debias": debias, "tol": 1e-8}
    mean = barycenter_sample(
        clouds, rng.normal(size=(8, 2)) + 1, weights=shares, n_steps=150, move=1e-6, **options
    )
    assert np.abs(mean).max() < 6
    x = torch.from_numpy(mean).requires_grad_()
    energy = sum(
        share * solve_sample(x, torch.from_numpy(cloud), **options).value
        for share, cloud in zip(shares, clouds, strict=True)
    )
    (gradient,) = torch.autograd.grad(energy, x)
    assert gradient.abs().max() < 1e-4


def test_progress_is_printed_or_called_back(capsys):
    seen, costs = [], (LINE[:, None] - LINE) ** 2
    barycenter(_bumps(), costs, reg=0.01, callback=seen.append)
    assert [progress.iteration for progress in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].epsilon == 0.01
    assert seen[0].epsilon > 0.1
    assert seen[-1].marginal_error <= 1e-5
    assert capsys.readouterr().out == ""
    barycenter_grid(_bumps(), reg=0.01, debias=False, verbose=True)
    assert len(capsys.readouterr().out.splitlines()) == len(seen)
