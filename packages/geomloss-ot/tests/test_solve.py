"""The functional interface: results, certificates, array libraries, batches, and what it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from geomloss_ot import OTResult, Progress, solve, solve_grid, solve_sample, solve_sample_batch
from geomloss_ot.certificates import certify
from geomloss_ot.geometries import MatrixGeometry

ATTRIBUTES = [
    "value",
    "value_linear",
    "potential_a",
    "potential_b",
    "potential_aa",
    "potential_bb",
    "plan",
    "density",
]
ATTRIBUTES += ["marginal_a", "marginal_b", "mapped_mass_a", "mapped_mass_b", "a_to_b", "b_to_a"]


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.5, 1.5, size=20), rng.uniform(0.5, 1.5, size=30)
    return rng.uniform(size=(20, 3)) + 5, rng.uniform(size=(30, 3)) + 5, a / a.sum(), b / b.sum()


@pytest.mark.parametrize("unbalanced", [None, 0.5, (None, 0.5)])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_numpy_torch_lazy_and_dense_agree(problem, metric, unbalanced):
    options = {"metric": metric, "reg": 0.1, "unbalanced": unbalanced, "debias": True, "tol": 1e-10}
    reference = solve_sample(*problem, **options)
    tensors = tuple(map(torch.from_numpy, problem))
    for other in (solve_sample(*tensors, **options), solve_sample(*tensors, lazy=False, **options)):
        assert other.n_iter > 0
        for name in ATTRIBUTES:
            if name in ("a_to_b", "b_to_a") and not hasattr(other.divergence.ab.problem.geometry, "x"):
                continue  # a cost matrix has no points to map
            expected, actual = getattr(reference, name), getattr(other, name)
            assert isinstance(expected, np.ndarray), name
            assert tuple(actual.shape) == expected.shape, name
            np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-7, atol=1e-10, err_msg=name)


def test_attributes_come_from_the_plan(problem):
    x, y, a, b = problem
    result = solve_sample(*problem, reg=0.1, unbalanced=0.5, tol=1e-10)
    plan, costs = result.plan, ((x[:, None] - y[None]) ** 2).sum(-1)
    np.testing.assert_allclose(result.density * a[:, None] * b, plan)
    np.testing.assert_allclose(result.marginal_a, plan.sum(1))
    np.testing.assert_allclose(result.marginal_b, plan.sum(0))
    np.testing.assert_allclose(result.value_linear, (plan * costs).sum())
    np.testing.assert_allclose(result.a_to_b, plan @ y / plan.sum(1)[:, None])
    np.testing.assert_allclose(result.b_to_a, plan.T @ x / plan.sum(0)[:, None])
    vector = np.random.default_rng(1).normal(size=30)
    np.testing.assert_allclose(result.lazy_plan @ vector, plan @ vector)


def test_plan_operator(problem):
    rng = np.random.default_rng(1)
    for result in (
        solve_sample(*problem, reg=0.1),
        solve_sample(*map(torch.from_numpy, problem), reg=0.1, unbalanced=0.3, lazy=False),
        solve_sample(problem[0][None], problem[1][None], reg=0.1),
        solve_grid(np.full((4, 5), 0.05), np.full((5, 6), 1 / 30), reg=0.1),
    ):
        operator, plan = result.plan_operator, np.asarray(result.plan)
        assert operator.shape == plan.shape
        assert operator.T.shape == plan.swapaxes(-1, -2).shape
        for size, one in ((30, operator), (20, operator.T)):
            dense = plan if size == 30 else plan.swapaxes(-1, -2)
            for shape in ((size,), (size, 2)):
                values = rng.normal(size=shape)
                like = torch.from_numpy(values) if torch.is_tensor(result.plan) else values
                np.testing.assert_allclose(np.asarray(one @ like), dense @ values, atol=1e-12)
    with pytest.raises(ValueError, match="expected 30 values"):
        _ = solve_sample(*problem, reg=0.1).plan_operator @ np.zeros(20)


def test_sparse_plan(problem, monkeypatch):
    monkeypatch.setattr("geomloss_ot.plans._BLOCK", 100)  # several blocks
    for arrays in (problem, tuple(map(torch.from_numpy, problem))):
        result = solve_sample(*arrays, reg=0.01)
        plan, sparse = np.asarray(result.plan), result.sparse_plan(threshold=1e-3)
        weights = np.maximum(np.asarray(arrays[2])[:, None], np.asarray(arrays[3]))
        np.testing.assert_allclose(sparse.toarray(), np.where(plan > 1e-3 * weights, plan, 0), atol=1e-15)
        assert sparse.nnz < plan.size / 2
    with pytest.raises(ValueError, match="two dimensions"):
        solve_sample(problem[0][None], problem[1][None], reg=0.1).sparse_plan()


def test_results_are_frozen_and_show_their_status(problem):
    result = solve_sample(*problem, reg=0.1)
    assert "converged" in repr(result)
    assert "feydy2019interpolating" in result.citation
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.divergence = None


@pytest.mark.parametrize(
    ("kind", "unbalanced"),
    [
        ("kl", None),
        ("kl", 0.5),
        ("kl", (None, 0.5)),
        ("kl", (0.5, None)),
        ("tv", 0.05),
        ("tv", (None, 0.1)),
        ("partial", (0.05, 0.1)),
        ("partial", (None, 0.1)),
        ("range", (0.8, 1.3)),
        ("range", ((0.3, 0.6), (0.4, 0.9))),
        ("range", (None, (0.8, 1.3))),
    ],
)
def test_certificate(problem, kind, unbalanced):
    """The gap bounds the error on the value, and ``tol`` bounds the marginal errors, at any stage."""
    x, y, a, b = problem
    options = {"reg": 0.03, "unbalanced": unbalanced, "unbalanced_type": kind}
    exact = solve_sample(x, y, a, b, tol=1e-12, **options)
    for tol in (1e-1, 1e-2, 1e-4):
        result = solve_sample(x, y, a, b, tol=tol, **options)
        certificate = result.certificate
        assert result.status == "converged"
        assert certificate.marginal_error_a <= tol
        assert certificate.marginal_error_b <= tol
        error = float(exact.value - result.value)
        assert -1e-12 < error <= certificate.duality_gap + 1e-15
    assert abs(exact.certificate.duality_gap) < 1e-10


@pytest.mark.parametrize(("dtype", "tol"), [(np.float32, 1e-4), (np.float64, 1e-5)])
def test_default_tolerances(problem, dtype, tol):
    result = solve_sample(*(array.astype(dtype) for array in problem), reg=0.1)
    assert result.status == "converged"
    assert max(map(float, (result.certificate.marginal_error_a, result.certificate.marginal_error_b))) <= tol


def test_costs_are_those_of_all_the_mass(problem):
    x, y, a, b = problem
    for lazy in (True, False):
        result = solve_sample(x, y, 3 * a, 3 * b, reg=0.1, lazy=lazy)
        expected = (result.plan * ((x[:, None] - y) ** 2).sum(-1)).sum()
        assert float(result.value_linear) == pytest.approx(expected, rel=1e-9)
        assert result.plan.sum() == pytest.approx(3.0)


@pytest.mark.parametrize("mass", [0.01, 30.0])
def test_marginal_errors_are_relative(problem, mass):
    x, y, a, b = problem
    options = {"reg": 0.03, "tol": 1e-2}
    unit, other = (solve_sample(x, y, m * a, m * b, **options) for m in (1.0, mass))
    assert float(unit.certificate.marginal_error_a) > 1e-6
    for name in ("marginal_error_a", "marginal_error_b"):
        expected = float(getattr(unit.certificate, name))
        assert float(getattr(other.certificate, name)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("unbalanced", [None, 0.5])
def test_certificate_of_a_matrix(problem, unbalanced):
    lazy = solve_sample(*problem, reg=0.03, unbalanced=unbalanced, tol=1e-2)
    solved = lazy.divergence.ab
    points = solved.problem.geometry
    dense = dataclasses.replace(
        solved.problem, geometry=MatrixGeometry(points.cost.dense(points.x, points.y))
    )
    for name, value in dataclasses.asdict(certify(dense, solved.solution)).items():
        assert value == pytest.approx(getattr(lazy.certificate, name), rel=1e-6, abs=1e-12)


def test_status_max_iter(problem):
    with pytest.warns(UserWarning, match="max_iter=4"):
        result = solve_sample(*problem, reg=0.01, max_iter=4)
    assert result.status == "max_iter"
    assert result.n_iter == 4


def test_status_rounding(problem):
    single = tuple(array.astype(np.float32) for array in problem)
    result = solve_sample(*single, reg=1e-2, tol=1e-9)
    assert result.status == "rounding"
    assert result.value.dtype == np.float32


def test_callback_sees_decreasing_temperatures(problem):
    seen: list[Progress] = []
    result = solve_sample(*problem, reg=0.02, callback=seen.append)
    assert len(seen) == result.n_iter
    temperatures = [progress.epsilon for progress in seen]
    assert temperatures == sorted(temperatures, reverse=True)
    assert temperatures[-1] == 0.02
    assert [progress.iteration for progress in seen] == list(range(1, len(seen) + 1))


def test_batches():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(3, 12, 2)), rng.uniform(size=(3, 15, 2))
    together = solve_sample(x, y, reg=0.05, debias=True, tol=1e-9)
    for k in range(3):
        alone = solve_sample(x[k], y[k], reg=0.05, debias=True, tol=1e-9)
        for name in ("value", "plan", "a_to_b", "potential_aa"):
            np.testing.assert_allclose(getattr(together, name)[k], getattr(alone, name), rtol=1e-5, atol=1e-9)
    assert together.certificate.duality_gap.shape == (3,)


def test_debiased_matrix(problem):
    x, y, a, b = problem

    def costs(p, q):
        return ((p[:, None] - q[None]) ** 2).sum(-1)

    dense = solve(costs(x, y), a, b, reg=0.05, C_aa=costs(x, x), C_bb=costs(y, y), tol=1e-10)
    lazy = solve_sample(x, y, a, b, reg=0.05, debias=True, tol=1e-10)
    np.testing.assert_allclose(dense.value, lazy.value, rtol=1e-9)


def test_custom_cost(problem):
    x, y, a, b = problem
    weights = np.array([1.0, 4.0, 9.0])
    result = solve_sample(x, y, a, b, metric=lambda p, q: ((p - q) ** 2 * weights).sum(-1), reg=0.1, tol=1e-9)
    expected = solve_sample(x * np.sqrt(weights), y * np.sqrt(weights), a, b, reg=0.1, tol=1e-9)
    np.testing.assert_allclose(result.value, expected.value, rtol=1e-7)
    swapped = solve_sample(y, x, b, a, metric=lambda p, q: (p - 2 * q).sqnorm2(), reg=0.1, tol=1e-9)
    mirror = solve_sample(x, y, a, b, metric=lambda p, q: (q - 2 * p).sqnorm2(), reg=0.1, tol=1e-9)
    np.testing.assert_allclose(swapped.value, mirror.value, rtol=1e-7)


def test_dense_plans_are_guarded():
    x = np.zeros((20_000, 1))
    result = solve_sample(x, x[:10_000], reg=1.0, tol=0.5)
    assert isinstance(result, OTResult)
    with pytest.raises(ValueError, match="lazy_plan"):
        _ = result.plan


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected exactly one temperature"),
        ({"reg": 1.0, "blur": 1.0}, "expected exactly one temperature"),
        ({"reg": 0.0}, "reg=0.0"),
        ({"blur": -1.0}, "blur=-1.0"),
        ({"reg": 1.0, "unbalanced": 0.0}, "unbalanced=0.0"),
        ({"reg": 1.0, "unbalanced": 1.0, "reach": 1.0}, "only one"),
        ({"reg": 1.0, "unbalanced": (1.0, 2.0, 3.0)}, "pair"),
        ({"reg": 1.0, "unbalanced_type": "l2"}, "unbalanced_type='l2'.*'tv'"),
        ({"reg": 1.0, "unbalanced_type": "range", "unbalanced": 0.5}, "low, high"),
        ({"reg": 1.0, "unbalanced_type": "range", "unbalanced": (1.5, 0.5)}, "low <= high"),
        ({"reg": 1.0, "unbalanced_type": "range", "reach": 0.5}, r"unbalanced=\(low, high\)"),
        (
            {"reg": 1.0, "unbalanced_type": "range", "unbalanced": ((0.1, 0.4), (0.5, 2.0))},
            "widen the ranges",
        ),
        ({"reg": 1.0, "tol": 0.0}, "tol=0.0"),
        ({"reg": 1.0, "max_iter": 0}, "max_iter=0"),
        ({"reg": 1.0, "metric": "manhattan"}, "metric='manhattan'.*'euclidean'"),
    ],
)
def test_refused_options(problem, options, message):
    with pytest.raises(ValueError, match=message):
        solve_sample(*problem, **options)


def test_refused_arrays(problem):
    x, y, *_ = problem
    with pytest.raises(ValueError, match="numpy array and X_a a torch array"):
        solve_sample(torch.from_numpy(x), y, reg=1.0)
    with pytest.raises(ValueError, match="float32"):
        solve_sample(x, y.astype(np.float32), reg=1.0)
    with pytest.raises(ValueError, match=r"C_aa has shape \(3, 3\): expected \(2, 2\)"):
        solve(np.eye(2), reg=1.0, C_aa=np.eye(3), C_bb=np.eye(2))
    with pytest.raises(ValueError, match="both C_aa and C_bb"):
        solve(np.eye(2), reg=1.0, C_aa=np.eye(2))
    with pytest.raises(TypeError, match="no lazy plan"):
        _ = solve(np.eye(2), reg=1.0).lazy_plan
    with pytest.raises(TypeError, match="no points to map"):
        _ = solve(np.eye(2), reg=1.0).a_to_b


def test_progress_is_printed_or_called_back(problem, capsys):
    x, y, a, b = problem
    result = solve_sample(x, y, a, b, reg=0.1, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == result.n_iter
    assert "epsilon = 1.000e-01, marginal error" in lines[-1]
    seen = []
    batch = solve_sample_batch([x, x], [y, y[:7]], reg=0.1, verbose=True, callback=seen.append)
    assert not capsys.readouterr().out
    assert len(seen) == batch.n_iter


def test_names_of_pot_are_understood(problem):
    """The same call as to POT, whose entropy is relative to the product of the measures if asked for."""
    ot = pytest.importorskip("ot")
    x, y, a, b = problem
    costs = ot.dist(x, y)
    options = {"a": a, "b": b, "reg": 0.05, "unbalanced": 0.3, "unbalanced_type": "KL"}
    theirs = ot.solve(costs, **options, max_iter=20_000, tol=1e-10)
    ours = solve(costs, **options, max_iter=20_000, tol=1e-10)
    for name in ("plan", "value_linear", "marginal_a", "marginal_b"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-9)
    for mine, other in zip(ours.marginals, theirs.marginals, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5)
    points = solve_sample(X_a=x, X_b=y, metric="sqeuclidean", **options, tol=1e-10, verbose=False)
    np.testing.assert_allclose(points.plan, theirs.plan, rtol=1e-5, atol=1e-9)
    assert points.sparse_plan().shape == points.plan.shape
