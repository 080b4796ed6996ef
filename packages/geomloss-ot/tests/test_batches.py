"""Batches of clouds of unequal sizes: the same as one problem after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from geomloss_ot import solve, solve_batch, solve_sample, solve_sample_batch

SIZES = ((5, 12, 9), (8, 3, 10))


def _clouds(seed=0):
    rng = np.random.default_rng(seed)
    clouds = [[rng.uniform(size=(n, 2)) + 3 for n in sizes] for sizes in SIZES]
    weights = [[w / w.sum() for w in (rng.uniform(0.2, 1, size=n) for n in sizes)] for sizes in SIZES]
    return *clouds, *weights


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
@pytest.mark.parametrize("unbalanced", [None, (0.2, 0.5)])
def test_ragged_batches_are_independent(metric, unbalanced):
    options = {"metric": metric, "reg": 0.02, "unbalanced": unbalanced, "debias": True, "tol": 1e-10}
    together = solve_sample_batch(*_clouds(), **options)
    assert len(together) == 3
    assert together.status == "converged"
    for k, problem in enumerate(zip(*_clouds(), strict=True)):
        alone, one = solve_sample(*problem, **options), together[k]
        np.testing.assert_allclose(together.value[k], alone.value, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(together.value_linear[k], alone.value_linear, rtol=1e-6)
        for name in ("value", "plan", "potential_aa", "potential_bb", "a_to_b", "marginal_b"):
            expected, actual = getattr(alone, name), getattr(one, name)
            assert np.shape(actual) == np.shape(expected), name
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-9, err_msg=name)
        assert abs(float(one.certificate.duality_gap)) < 1e-8
    assert together.certificate.duality_gap.shape == (3,)
    assert np.abs(together.certificate.duality_gap).max() < 1e-8
    np.testing.assert_allclose(together[-1].plan, together[2].plan)


def test_matrices_of_unequal_sizes():
    x, y, a, b = _clouds()
    costs = [((p[:, None] - q) ** 2).sum(-1) for p, q in zip(x, y, strict=True)]
    for unbalanced in (None, 0.4):
        options = {"reg": 0.05, "unbalanced": unbalanced, "tol": 1e-9}
        batch = solve_batch(costs, a, b, **options)
        for k in range(3):
            alone = solve(costs[k], a[k], b[k], **options)
            np.testing.assert_allclose(batch.value[k], alone.value, rtol=1e-8)
            np.testing.assert_allclose(batch[k].plan, alone.plan, rtol=1e-5, atol=1e-9)
        assert np.abs(batch.certificate.duality_gap).max() < 1e-7
    live = [torch.from_numpy(matrix).requires_grad_() for matrix in costs]
    solve_batch(live, reg=0.05, tol=1e-10).value.sum().backward()
    plan = solve(costs[1], reg=0.05, tol=1e-10).plan
    np.testing.assert_allclose(live[1].grad.numpy(), plan, atol=1e-8)
    with pytest.raises(ValueError, match=r"C\[0\] has shape \(2, 2, 2\)"):
        solve_batch([np.ones((2, 2, 2))], reg=1.0)


def test_arrays_are_batches_too():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(3, 6, 2)), rng.uniform(size=(3, 7, 2))
    batch = solve_sample_batch(x, y, reg=0.1, tol=1e-9)
    np.testing.assert_allclose(batch.value, solve_sample(x, y, reg=0.1, tol=1e-9).value, rtol=1e-9)


@pytest.mark.parametrize("unbalanced", [None, 0.5])
def test_derivatives(unbalanced):
    leaves = tuple(torch.from_numpy(values).requires_grad_() for group in _clouds() for values in group)

    def function(*leaves):
        x, y, a, b = (leaves[3 * k : 3 * k + 3] for k in range(4))
        a, b = ([w.softmax(0) for w in side] for side in (a, b))
        return solve_sample_batch(x, y, a, b, reg=0.1, unbalanced=unbalanced, debias=True, tol=1e-12).value

    assert gradcheck(function, leaves, fast_mode=True)
    assert gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y, a, b: solve_sample_batch(x, y[:2], a, b, reg=1.0), "'X_a': 3, 'X_b': 2"),
        (lambda x, y, a, b: solve_sample_batch([], [], reg=1.0), "'X_a': 0"),
        (lambda x, y, a, b: solve_sample_batch(x, y, a, a, reg=1.0), r"b has shape \(5,\): expected \(8,\)"),
        (lambda x, y, a, b: solve_sample_batch([x[0] * np.nan, *x[1:]], y, reg=1.0), r"X_a\[0\] holds NaN"),
        (lambda x, y, a, b: solve_sample_batch(x, y, a, [2 * w for w in b], reg=1.0), "equal masses"),
        (lambda x, y, a, b: solve_sample_batch(x, y, reg=-1.0), "reg=-1.0"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*_clouds())


def test_what_needs_one_problem():
    result = solve_sample_batch(*_clouds(), reg=1.0)
    with pytest.raises(IndexError, match="no problem 3"):
        _ = result[3]
    with pytest.raises(TypeError, match=r"result\[0\].plan"):
        _ = result.padded.plan
