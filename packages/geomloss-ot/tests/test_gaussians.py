"""Closed forms of Gaussian measures, against POT, samples and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from geomloss_ot import (
    bures_wasserstein_barycenter,
    bures_wasserstein_distance,
    bures_wasserstein_geodesic,
    bures_wasserstein_mapping,
    fisher_rao_distance,
    fisher_rao_geodesic,
    gaussian_mixture_barycenter,
    gaussian_mixture_distance,
    gaussian_mixture_geodesic,
    gaussian_mixture_plan,
)


def _gaussians(count, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(count, dim, dim))
    return rng.normal(size=(count, dim)), factors @ factors.swapaxes(1, 2) + 0.1 * np.eye(dim)


@pytest.fixture
def pair():
    m, C = _gaussians(2)
    return m[0], m[1], C[0], C[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distance_agrees_with_pot(pair, dtype):
    ot = pytest.importorskip("ot")
    exact = float(ot.gaussian.bures_wasserstein_distance(*pair))
    arrays = [values.astype(dtype) for values in pair]
    for call in (arrays, map(torch.from_numpy, arrays)):
        value = bures_wasserstein_distance(*call)
        assert float(value) == pytest.approx(exact, rel=1e-4 if dtype is np.float32 else 1e-10)


def test_distance_on_a_line():
    value = bures_wasserstein_distance(
        np.array([0.3]), np.array([0.7]), np.array([[0.1**2]]), np.array([[0.15**2]])
    )
    assert float(value) ** 2 == pytest.approx(0.1625, rel=1e-10)


def test_distance_in_batches(pair):
    m, C = _gaussians(6)
    together = bures_wasserstein_distance(m[:3], m[3:], C[:3], C[3:])
    assert float(together[1]) == pytest.approx(float(bures_wasserstein_distance(m[1], m[4], C[1], C[4])))


def test_derivatives_of_the_distance(pair):
    factors = [torch.from_numpy(np.linalg.cholesky(C)).requires_grad_() for C in pair[2:]]
    means = [torch.from_numpy(m).requires_grad_() for m in pair[:2]]

    def function(m_a, m_b, L_a, L_b):
        return bures_wasserstein_distance(m_a, m_b, L_a @ L_a.T, L_b @ L_b.T)

    assert gradcheck(function, (*means, *factors))
    assert gradgradcheck(function, (*means, *factors))


def test_gradient_where_eigenvalues_coincide():
    C = torch.eye(3, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(
        bures_wasserstein_distance(zero, zero, C, 4 * torch.eye(3).double()) ** 2, C
    )
    torch.testing.assert_close(
        gradient, -torch.eye(3, dtype=torch.float64)
    )  # d/ds (2 - sqrt s)^2 = -1 at s = 1


def test_map_pushes_one_measure_to_the_other(pair):
    m_a, m_b, C_a, C_b = pair
    matrix, offset = bures_wasserstein_mapping(*pair)
    np.testing.assert_allclose(matrix @ C_a @ matrix, C_b, rtol=1e-9)
    np.testing.assert_allclose(matrix @ m_a + offset, m_b)
    np.testing.assert_allclose(matrix, matrix.T)
    assert (np.linalg.eigvalsh(matrix) > 0).all()


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_geodesic_has_constant_speed(pair, t):
    m_a, m_b, C_a, C_b = pair
    length = bures_wasserstein_distance(*pair)
    mean, covariance = bures_wasserstein_geodesic(*pair, t)
    np.testing.assert_allclose(bures_wasserstein_distance(m_a, mean, C_a, covariance), t * length, atol=1e-6)
    np.testing.assert_allclose(
        bures_wasserstein_distance(mean, m_b, covariance, C_b), (1 - t) * length, atol=1e-6
    )


def test_barycentre_agrees_with_pot_and_geodesics(pair):
    ot = pytest.importorskip("ot")
    m, C = _gaussians(4, seed=1)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    mean, covariance = bures_wasserstein_barycenter(m, C, weights, tol=1e-12)
    expected = ot.gaussian.bures_wasserstein_barycenter(m, C, weights, num_iter=1000, eps=1e-13)
    np.testing.assert_allclose(mean, expected[0])
    np.testing.assert_allclose(covariance, expected[1], rtol=1e-7)
    tensors = bures_wasserstein_barycenter(*map(torch.from_numpy, (m, C, weights)), tol=1e-12)
    np.testing.assert_allclose(tensors.covariance.numpy(), covariance, rtol=1e-9)
    m_a, m_b, C_a, C_b = pair
    two = bures_wasserstein_barycenter(
        np.stack([m_a, m_b]), np.stack([C_a, C_b]), np.array([3.0, 1.0]), tol=1e-12
    )
    np.testing.assert_allclose(two.covariance, bures_wasserstein_geodesic(*pair, 0.25).covariance, rtol=1e-7)


def test_fisher_rao_distance():
    """Three sides of a triangle, and the metric ds^2 = (dm^2 + 2 ds^2) / s^2 of Fisher's information."""
    m, s = np.array([0.3, 0.7, 0.3]), np.array([0.1, 0.15, 0.3])
    expected = np.sqrt(2) * np.arccosh(1 + ((m[0] - m[1]) ** 2 / 2 + (s[0] - s[1]) ** 2) / (2 * s[0] * s[1]))
    assert float(fisher_rao_distance(m[:1], m[1:2], s[:1], s[1:2])[0]) == pytest.approx(expected, rel=1e-12)
    assert float(fisher_rao_distance(m[:1], m[2:], s[:1], s[2:])[0]) == pytest.approx(np.sqrt(2) * np.log(3))
    step = 1e-6
    near = fisher_rao_distance(m, m + step, s, s + 2 * step)
    np.testing.assert_allclose(near, step * np.sqrt(1 + 2 * 4) / s, rtol=1e-4)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("m", "s"), [((0.0, 1.0), (0.1, 0.2)), ((0.0, 0.0), (0.1, 0.9)), ((0.0, 0.0), (0.3, 0.3))]
)
def test_fisher_rao_geodesic_has_constant_speed(m, s, t):
    m_a, m_b, s_a, s_b = (np.array([value]) for value in (*m, *s))
    length = fisher_rao_distance(m_a, m_b, s_a, s_b)
    mean, deviation = fisher_rao_geodesic(m_a, m_b, s_a, s_b, t)
    np.testing.assert_allclose(fisher_rao_distance(m_a, mean, s_a, deviation), t * length, atol=1e-7)
    np.testing.assert_allclose(fisher_rao_distance(mean, m_b, deviation, s_b), (1 - t) * length, atol=1e-7)


def _mixtures():
    m, C = _gaussians(7, dim=2, seed=2)
    rng = np.random.default_rng(3)
    w_a, w_b = rng.uniform(size=3), rng.uniform(size=4)
    return m[:3], m[3:], C[:3], C[3:], w_a / w_a.sum(), w_b / w_b.sum()


def test_mixtures_agree_with_pot():
    ot = pytest.importorskip("ot")
    m_a, m_b, C_a, C_b, w_a, w_b = _mixtures()
    squared = float(ot.gmm.gmm_ot_loss(m_a, m_b, C_a, C_b, w_a, w_b))
    assert float(gaussian_mixture_distance(*_mixtures())) ** 2 == pytest.approx(squared, rel=1e-8)
    plan = gaussian_mixture_plan(*_mixtures())
    np.testing.assert_allclose(plan, ot.gmm.gmm_ot_plan(m_a, m_b, C_a, C_b, w_a, w_b), atol=1e-9)


def test_mixture_distance_is_above_that_of_the_means():
    """|difference of means| <= MW_2, with equality for translations."""
    m, _, C, _, w, _ = _mixtures()
    assert float(gaussian_mixture_distance(m, m + np.array([3.0, 4.0]), C, C, w, w)) == pytest.approx(5.0)


def test_weights_whose_sums_differ_by_rounding():
    """As sums of single precision do: programs with equality constraints would have no solution."""
    m_a, m_b, C_a, C_b, w_a, w_b = _mixtures()
    exact = float(gaussian_mixture_distance(*_mixtures()))
    found = gaussian_mixture_distance(m_a, m_b, C_a, C_b, w_a, w_b * (1 + 5e-4))
    assert float(found) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_mixture_geodesic_has_constant_speed(t):
    m_a, _, C_a, _, w_a, _ = _mixtures()
    length = float(gaussian_mixture_distance(*_mixtures()))
    means, covariances, weights = gaussian_mixture_geodesic(*_mixtures(), t=t)
    assert len(weights) <= 6
    assert weights.sum() == pytest.approx(1.0)
    reached = gaussian_mixture_distance(m_a, means, C_a, covariances, w_a, weights)
    assert float(reached) == pytest.approx(t * length, abs=1e-5)


def test_mixture_gradient():
    m_a, m_b, C_a, C_b, *weights = map(torch.from_numpy, _mixtures())
    assert gradcheck(
        lambda m, L: gaussian_mixture_distance(m, m_b, L @ L.mT, C_b, *weights),
        (m_a.requires_grad_(), torch.linalg.cholesky(C_a).requires_grad_()),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, C: (m, m, C, -C), "C_b is not positive definite"),
        (lambda m, C: (m, m, C[..., :2], C), r"C_a has shape \(2, 3, 2\)"),
        (lambda m, C: (m, m[:1], C, C[:1]), r"\(2, 3\) and \(1, 3\)"),
        (lambda m, C: (m, m, C, C + np.eye(3)[::-1] * np.arange(3)), "C_b is not symmetric"),
        (lambda m, C: (m, m, C * np.nan, C), "C_a is not symmetric, or not finite"),
        (lambda m, C: (m, m.astype(np.float32), C, C), "float64.*float32"),
    ],
)
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        bures_wasserstein_distance(*change(*_gaussians(2)))
    with pytest.raises(ValueError, match="positive"):
        fisher_rao_distance(np.zeros(1), np.zeros(1), np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="equal masses"):
        gaussian_mixture_plan(*_mixtures()[:4], np.ones(3), np.ones(4))


def _energy(mixture, others, shares):
    return sum(
        share
        * float(gaussian_mixture_distance(mixture.means, m, mixture.covariances, C, mixture.weights, w)) ** 2
        for share, (m, C, w) in zip(shares, others, strict=True)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_barycentre_of_two_mixtures_is_on_their_geodesic(dtype):
    m_a, m_b, C_a, C_b, w_a, w_b = (values.astype(dtype) for values in _mixtures())
    mean = gaussian_mixture_barycenter([m_a, m_b], [C_a, C_b], [w_a, w_b], np.array([0.75, 0.25], dtype))
    expected = gaussian_mixture_geodesic(m_a, m_b, C_a, C_b, w_a, w_b, t=0.25)
    assert mean.means.dtype == dtype
    for actual, wanted in zip(mean, expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-3 if dtype is np.float32 else 1e-7)


def test_barycentre_of_three_mixtures_is_the_best():
    """Its energy is that of the multi-marginal problem, below that of mixtures nearby; PyTorch agrees."""
    m, C = _gaussians(7, dim=2, seed=2)
    parts = (slice(0, 2), slice(2, 4), slice(4, 7))
    w = [np.array([0.3, 0.7]), np.array([0.5, 0.5]), np.array([0.2, 0.5, 0.3])]
    shares = np.array([0.5, 0.2, 0.3])
    arguments = [m[part] for part in parts], [C[part] for part in parts], w
    best = gaussian_mixture_barycenter(*arguments, shares)
    assert len(best.weights) <= 7 - 3 + 1
    others = list(zip(*arguments, strict=True))
    lowest, rng = _energy(best, others, shares), np.random.default_rng(0)
    for _ in range(5):
        moved = best._replace(means=best.means + 0.1 * rng.normal(size=best.means.shape))
        assert _energy(moved, others, shares) > lowest
        wider = best._replace(covariances=best.covariances * rng.uniform(0.7, 1.3))
        assert _energy(wider, others, shares) > lowest
    tensors = [[torch.from_numpy(values) for values in group] for group in arguments]
    found = gaussian_mixture_barycenter(*tensors, torch.from_numpy(shares))
    np.testing.assert_allclose(found.covariances.numpy(), best.covariances, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, C: gaussian_mixture_barycenter([m], [C, C]), "expected as many"),
        (lambda m, C: gaussian_mixture_barycenter([m] * 20, [C] * 20), "at most 20000"),
        (
            lambda m, C: gaussian_mixture_barycenter([m, m], [C, C], [np.ones(2), np.ones(2) / 2]),
            "equal masses",
        ),
        (
            lambda m, C: gaussian_mixture_barycenter([m, m], [C, C], weights=np.ones(3)),
            r"weights has shape \(3,\)",
        ),
    ],
)
def test_mixture_barycentres_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*_gaussians(2))
