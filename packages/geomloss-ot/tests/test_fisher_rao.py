"""Fisher-Rao geodesics between Gaussians, against the equation of geodesics, closed forms and published values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from geomloss_ot import (
    fisher_rao_distance,
    fisher_rao_geodesic,
    gaussian_fisher_rao_distance,
    gaussian_fisher_rao_geodesic,
)


def _pair(dim, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(2, dim, dim))
    covariances = factors @ factors.swapaxes(1, 2) + 0.3 * np.eye(dim)
    return *rng.normal(size=(2, dim)), *covariances


def _distance(*arguments):
    return float(gaussian_fisher_rao_distance(*arguments))


def test_published_value():
    """Han and Park, DTI segmentation and fiber tracking using metrics on multivariate normal distributions (2014)."""
    value = _distance(np.zeros(2), np.ones(2), np.diag([1.0, 0.1]), np.diag([0.1, 1.0]))
    assert value == pytest.approx(3.1329, abs=5e-5)


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@pytest.mark.parametrize("t", [0.1, 0.6])
def test_paths_satisfy_the_equation_of_geodesics(dim, t):
    """m'' = C' C^-1 m' and C'' = C' C^-1 C' - m' m'^T, at the constant speed that is the distance."""
    pair, h = _pair(dim), 1e-3
    (m_0, C_0), (m, C), (m_1, C_1) = (gaussian_fisher_rao_geodesic(*pair, t + s) for s in (-h, 0, h))
    dm, dC, inverse = (m_1 - m_0) / (2 * h), (C_1 - C_0) / (2 * h), np.linalg.inv(C)
    np.testing.assert_allclose((m_1 - 2 * m + m_0) / h**2, dC @ inverse @ dm, atol=1e-3)
    expected = dC @ inverse @ dC - np.outer(dm, dm)
    np.testing.assert_allclose((C_1 - 2 * C + C_0) / h**2, expected, atol=1e-3)
    speed = np.sqrt(dm @ inverse @ dm + np.trace(inverse @ dC @ inverse @ dC) / 2)
    assert _distance(*pair) == pytest.approx(speed, rel=1e-4)


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_paths_join_both_measures(dim):
    pair = _pair(dim)
    for t, m, C in ((0.0, pair[0], pair[2]), (1.0, pair[1], pair[3])):
        mean, covariance = gaussian_fisher_rao_geodesic(*pair, t)
        np.testing.assert_allclose(mean, m, atol=1e-9)
        np.testing.assert_allclose(covariance, C, atol=1e-9)


def test_lines_are_a_special_case():
    m_a, m_b, s_a, s_b = (np.array([value]) for value in (0.3, 1.7, 0.4, 0.9))
    line = float(fisher_rao_distance(m_a, m_b, s_a, s_b)[0])
    assert _distance(m_a, m_b, s_a[:, None] ** 2, s_b[:, None] ** 2) == pytest.approx(line, rel=1e-12)
    mean, deviation = fisher_rao_geodesic(m_a, m_b, s_a, s_b, 0.3)
    found = gaussian_fisher_rao_geodesic(m_a, m_b, s_a[:, None] ** 2, s_b[:, None] ** 2, 0.3)
    np.testing.assert_allclose(found.mean, mean)
    np.testing.assert_allclose(found.covariance[0], deviation**2)
    # Independent coordinates that differ in one of them only.
    wide = _distance(
        np.append(m_a, 2), np.append(m_b, 2), np.diag([s_a[0] ** 2, 3]), np.diag([s_b[0] ** 2, 3])
    )
    assert wide == pytest.approx(line, rel=1e-10)
    # Means that differ in both: a path through correlated measures is shorter than the product of both lines.
    both = _distance(np.append(m_a, m_a), np.append(m_b, m_b), s_a**2 * np.eye(2), s_b**2 * np.eye(2))
    assert line < both < 0.99 * np.sqrt(2) * line


def test_equal_covariances_are_lines_along_the_difference_of_means():
    m_a, m_b, C, _ = _pair(3)
    gap = np.sqrt((m_b - m_a) @ np.linalg.solve(C, m_b - m_a))
    one, zero = np.ones(1), np.zeros(1)
    expected = float(fisher_rao_distance(zero, zero + gap, one, one)[0])
    assert _distance(m_a, m_b, C, C) == pytest.approx(expected, rel=1e-10)
    middle = gaussian_fisher_rao_geodesic(m_a, m_b, C, C, 0.5)
    np.testing.assert_allclose(middle.mean, (m_a + m_b) / 2, atol=1e-8)


def test_equal_means_have_a_closed_form():
    _, _, C_a, C_b = _pair(3)
    ratios = np.linalg.eigvals(np.linalg.solve(C_a, C_b)).real
    value = _distance(np.ones(3), np.ones(3), C_a, C_b)
    assert value == pytest.approx(np.sqrt((np.log(ratios) ** 2).sum() / 2), rel=1e-10)


@pytest.mark.parametrize("dim", [2, 3])
def test_affine_maps_symmetry_and_bounds(dim):
    m_a, m_b, C_a, C_b = _pair(dim)
    value = _distance(m_a, m_b, C_a, C_b)
    A = np.random.default_rng(1).normal(size=(dim, dim))
    moved = _distance(A @ m_a + 3, A @ m_b + 3, A @ C_a @ A.T, A @ C_b @ A.T)
    assert moved == pytest.approx(value, rel=1e-9)
    assert _distance(m_b, m_a, C_b, C_a) == pytest.approx(value, rel=1e-9)
    there = gaussian_fisher_rao_geodesic(m_a, m_b, C_a, C_b, 0.3)
    back = gaussian_fisher_rao_geodesic(m_b, m_a, C_b, C_a, 0.7)
    np.testing.assert_allclose(there.covariance, back.covariance, atol=1e-7)
    assert _distance(m_a, there.mean, C_a, there.covariance) == pytest.approx(0.3 * value, rel=1e-6)

    def lift(m, C):  # Calvo and Oller's embedding, which shortens distances
        return np.block([[C + np.outer(m, m), m[:, None]], [m, 1.0]])

    ratios = np.linalg.eigvals(np.linalg.solve(lift(m_a, C_a), lift(m_b, C_b))).real
    assert np.sqrt((np.log(ratios) ** 2).sum() / 2) < value
    assert _distance(m_a, m_a, C_a, C_a) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_triangles(seed):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(3, 2, 2))
    m, C = 2 * rng.normal(size=(3, 2)), factors @ factors.swapaxes(1, 2) + 0.2 * np.eye(2)
    sides = [_distance(m[i], m[j], C[i], C[j]) for i, j in ((0, 1), (1, 2), (0, 2))]
    assert 2 * max(sides) <= sum(sides)


def test_gradients_batches_and_precisions():
    pairs = [_pair(2, seed) for seed in (0, 1)]
    m_a, m_b, C_a, C_b = (torch.from_numpy(np.stack(parts)) for parts in zip(*pairs, strict=True))
    factors = [torch.linalg.cholesky(C).requires_grad_() for C in (C_a, C_b)]

    def distances(m_a, m_b, L_a, L_b):
        return gaussian_fisher_rao_distance(m_a, m_b, L_a @ L_a.mT, L_b @ L_b.mT)

    leaves = (m_a.requires_grad_(), m_b.requires_grad_(), *factors)
    assert gradcheck(distances, leaves, atol=1e-6)
    single = gaussian_fisher_rao_distance(*(t.detach().float() for t in (m_a, m_b, C_a, C_b)))
    expected = [_distance(*pair) for pair in pairs]
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-5)
    total = distances(*leaves).sum()
    with pytest.raises(NotImplementedError, match="Second derivatives"):
        torch.autograd.grad(total, m_a, create_graph=True)


def test_refused():
    m_a, m_b, C_a, C_b = _pair(2)
    with pytest.raises(ValueError, match="C_b is not positive definite"):
        gaussian_fisher_rao_distance(m_a, m_b, C_a, -C_b)
    with pytest.raises(ValueError, match="t=2"):
        gaussian_fisher_rao_geodesic(m_a, m_b, C_a, C_b, 2)
