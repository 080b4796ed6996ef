"""What holds for all measures: symmetry, invariance, positivity, conservation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomloss_ot import solve, solve_grid, solve_sample, solve_sample_batch

EXAMPLES = settings(max_examples=10, deadline=None, derandomize=True)
METRICS = st.sampled_from(["sqeuclidean", "euclidean"])
PENALTIES = st.sampled_from([None, 0.5])


@st.composite
def measures(draw, equal_masses=True):
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    # Sizes are few, so that few array shapes are seen; some weights vanish.
    n, m, dim = draw(st.sampled_from([1, 7])), draw(st.sampled_from([2, 9])), draw(st.sampled_from([1, 3]))
    x, y = rng.normal(size=(n, dim)), rng.normal(size=(m, dim)) + 0.5
    a, b = rng.uniform(size=n) + 0.1, np.maximum(rng.uniform(-0.3, 1, size=m), 0) + np.eye(m)[0]
    return (x, y, a / a.sum(), b / b.sum()) if equal_masses else (x, y, a, b)


def _divergence(x, y, a, b, metric, unbalanced=None):
    options = {"metric": metric, "reg": 0.3, "unbalanced": unbalanced, "debias": True, "tol": 1e-8}
    return float(solve_sample(x, y, a, b, **options).value)


@EXAMPLES
@given(measures(equal_masses=False), METRICS)
def test_symmetry(problem, metric):
    x, y, a, b = problem
    swapped = _divergence(y, x, b, a, metric, 0.5)
    assert _divergence(*problem, metric, 0.5) == pytest.approx(swapped, rel=1e-6, abs=1e-9)


@EXAMPLES
@given(measures(), METRICS, PENALTIES, st.randoms(use_true_random=False))
def test_permutation_and_translation(problem, metric, unbalanced, random):
    x, y, a, b = problem
    order = random.sample(range(len(y)), len(y))
    shift = random.uniform(-3, 3)
    moved = _divergence(x + shift, y[order] + shift, a, b[order], metric, unbalanced)
    assert _divergence(*problem, metric, unbalanced) == pytest.approx(moved, rel=1e-6, abs=1e-9)


@EXAMPLES
@given(measures(equal_masses=False), METRICS)
def test_positive_and_null_on_the_diagonal(problem, metric):
    x, _, a, _ = problem
    assert _divergence(*problem, metric, 0.5) > -1e-9
    assert _divergence(x, x, a, a, metric, 0.5) == pytest.approx(0.0, abs=1e-9)


@EXAMPLES
@given(measures(), st.floats(0.1, 10.0))
def test_scaling_of_the_cost(problem, scale):
    x, y, a, b = problem
    value = float(solve_sample(x, y, a, b, reg=0.3, tol=1e-9).value)
    scaled = float(solve_sample(scale * x, scale * y, a, b, reg=0.3 * scale**2, tol=1e-9).value)
    assert scaled == pytest.approx(scale**2 * value, rel=1e-6, abs=1e-9)


@EXAMPLES
@given(measures(), METRICS)
def test_mass_is_conserved(problem, metric):
    x, y, a, b = problem
    result = solve_sample(x, y, a, b, metric=metric, reg=0.3, tol=1e-9)
    np.testing.assert_allclose(result.plan.sum(1), a, atol=1e-8)
    np.testing.assert_allclose(result.plan.sum(0), b, atol=1e-8)


@EXAMPLES
@given(measures())
def test_points_can_be_split(problem):
    """Two copies of a point that share its weight are the same measure."""
    x, y, a, b = problem
    split = (np.concatenate([x, x]), y, np.concatenate([0.3 * a, 0.7 * a]), b)
    whole = _divergence(*problem, "sqeuclidean")
    assert _divergence(*split, "sqeuclidean") == pytest.approx(whole, rel=1e-6, abs=1e-9)


@EXAMPLES
@given(measures(), METRICS)
def test_zero_only_if_equal(problem, metric):
    """Moving one point, or some mass, makes the divergence positive."""
    x, y, a, b = problem
    assert _divergence(x, x + 0.1 * np.eye(*x.shape), a, a, metric) > 1e-6
    other = b[::-1] + b
    assert _divergence(y, y, b, other / other.sum(), metric) > 1e-9


@EXAMPLES
@given(st.integers(0, 2**16), METRICS, PENALTIES)
def test_engines_agree(seed, metric, unbalanced):
    """Pixels as images, as points (lazy, dense, in cells), as batches (of one, or ragged), and as a matrix of costs."""
    rng = np.random.default_rng(seed)
    metric = "cityblock" if metric == "euclidean" else metric  # what separates over axes
    a, b = (image / image.sum() for image in rng.uniform(0.1, 1, size=(2, 4, 3)))
    axes = [(np.arange(n) + 0.5) / n for n in (4, 3)]
    x, mass = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2), (a.ravel(), b.ravel())
    gaps = abs(x[:, None] - x[None])
    costs = (gaps if metric == "cityblock" else gaps**2).sum(-1)
    options = {"reg": 0.1, "unbalanced": unbalanced, "tol": 1e-10}
    points = {"metric": metric, **options}
    expected = solve(costs, *mass, **options)
    one = [array[None] for array in (x, x, *mass)]
    others = {
        "grid": solve_grid(a, b, metric, **options),
        "lazy": solve_sample(x, x, *mass, **points),
        "dense": solve_sample(x, x, *mass, lazy=False, **points),
        "ragged": solve_sample_batch(*one, **points)[0],
        "multiscale": solve_sample(x, x, *mass, backend="multiscale", **points),
    }
    for name, result in others.items():
        assert float(result.value) == pytest.approx(float(expected.value), rel=1e-8), name
        np.testing.assert_allclose(result.plan, expected.plan, rtol=1e-5, atol=1e-10, err_msg=name)
    batch = solve_sample(*one, **points)
    np.testing.assert_allclose(batch.plan[0], expected.plan, rtol=1e-5, atol=1e-10)
