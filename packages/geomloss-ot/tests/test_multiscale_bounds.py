"""What multiscale transport promises whatever the clouds: how much mass it skips, invariances, and worst cases."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from cloud_testing import SHAPES, Clouds, make_clouds
from hypothesis import given, settings
from hypothesis import strategies as st

from geomloss_ot import SamplesLoss
from geomloss_ot.multiscale import cells, converging, masks, walk

TRUNCATE = 5.0
EXAMPLES = settings(max_examples=8, deadline=None, derandomize=True)
CELLS_MOVE = 2e-3  # relative: two values that are each right to 0.1 %, where cells differ


@contextmanager
def always_pruned(points_per_block: int = 64):
    """Blocks are left out of small problems too."""
    with (
        mock.patch.object(converging, "WORTH_PRUNING", 0),
        mock.patch.object(masks, "WORTH_PRUNING", 0),
        mock.patch.object(cells, "MOST", points_per_block),
        mock.patch.object(masks, "MOST", points_per_block),
    ):
        yield


class Found(NamedTuple):
    """A value and its gradients in the points."""

    value: float
    on_x: np.ndarray
    on_y: np.ndarray


def solve(clouds: Clouds, dtype: torch.dtype = torch.float64, **options: object) -> Found:
    a, x, b, y = (torch.tensor(array, dtype=dtype) for array in clouds)
    x, y = x.requires_grad_(), y.requires_grad_()
    value = SamplesLoss(**{"backend": "multiscale", **options})(a, x, b, y)
    gradients = torch.autograd.grad(value, (x, y))
    return Found(value.item(), *(gradient.double().numpy() for gradient in gradients))


# ---------------------------------------------------------------------- lost mass, by brute force


def kept_pairs(ranges: object, shape: tuple[int, int]) -> np.ndarray:
    """Which pairs are visited: (N, M)."""
    kept = np.zeros(shape, bool)
    starts = np.append(0, ranges.slices[:-1])
    for (low, high), first, last in zip(ranges.row_ranges, starts, ranges.slices, strict=True):
        for start, stop in ranges.column_ranges[first:last]:
            kept[low:high, start:stop] = True
    return kept


def check_lost_mass(geometry, exponents: np.ndarray, weights: tuple[np.ndarray, np.ndarray], least: float):
    """The log-density of skipped pairs is below -least - log(mass), so that rows and columns lose exp(-least)."""
    assert geometry.ranges is not None
    skipped = ~kept_pairs(geometry.ranges, exponents.shape)
    if not skipped.any():
        return 0
    mass = max(1.0, *(float(side.sum()) for side in weights))
    rounding = 1e-9
    assert exponents[skipped].max() <= -least - math.log(mass) + rounding
    lost = np.exp(np.where(skipped, exponents, -np.inf))
    assert (lost @ weights[1]).max() <= math.exp(-least)
    assert (weights[0] @ lost).max() <= math.exp(-least)
    return int(skipped.sum())


@pytest.mark.parametrize("reach", [None, 0.3])
@pytest.mark.parametrize(("p", "dim"), [(2, 2), (1, 3), (2, 3)])
@pytest.mark.parametrize("shape", SHAPES)
def test_little_mass_is_skipped(monkeypatch, shape, p, dim, reach):
    """By all masks and extensions of a solve, for the potentials that it ends with."""
    tol, skipped = 1e-2, []
    least = max(TRUNCATE, math.log(4 / tol))
    solved, masked = converging._solve_under_proof, converging.masked_problem
    extended = walk.pruned_extensions
    latest = []

    def keep_mask(*arguments):
        latest.append(masked(*arguments))
        return latest[-1]

    def check_solution(problem, *others):
        latest.clear()
        solution = solved(problem, *others)
        if latest:
            geometry, epsilon = latest[-1].geometry, problem.epsilon
            costs = geometry.cost.dense(geometry.x, geometry.y)
            weights = problem.source.weights, problem.target.weights
            # Of the plan whose row sums f takes from g, and of the one whose column sums g takes from f.
            softmin_f, softmin_g = solution.softmins
            for f, g in ((softmin_f, solution.partner), (solution.f, softmin_g)):
                exponents = (f[:, None] + g - costs) / epsilon
                skipped.append(check_lost_mass(geometry, exponents, weights, least))
        return solution

    def check_extensions(problem, solution, sides, truncation):
        found = extended(problem, solution, sides, truncation)
        measures = (problem.target,) if problem.symmetric else (problem.target, problem.source)
        for extension, measure in zip(found, measures, strict=False):
            geometry, weights = extension.geometry, measure.weights
            values = walk.replace(geometry, ranges=None).softmin(problem.epsilon, extension.exponents)
            costs = geometry.cost.dense(geometry.x, geometry.y)
            log_weights = np.log(weights, out=np.zeros_like(weights), where=weights > 0)
            exponents = (values[:, None] - costs) / problem.epsilon + extension.exponents - log_weights
            rows = np.full(len(values), 1 / len(values))
            skipped.append(check_lost_mass(geometry, exponents, (rows, weights), least))
        return found

    monkeypatch.setattr(converging, "masked_problem", keep_mask)
    monkeypatch.setattr(converging, "_solve_under_proof", check_solution)
    monkeypatch.setattr(walk, "pruned_extensions", check_extensions)
    with always_pruned(points_per_block=8):
        solve(make_clouds(shape, dim, 300, 320), p=p, blur=0.05, reach=reach, tol=tol, truncate=TRUNCATE)
    assert len(skipped) >= 6
    assert sum(skipped) > 0 or shape in ("one cell", "duplicates"), "there is nothing to test"


# ---------------------------------------------------------------------- invariances


@st.composite
def problems(draw) -> tuple[Clouds, dict[str, object]]:
    """Clouds of any shape, and the arguments of a loss; few dimensions, so that few kernels are compiled."""
    dim = draw(st.sampled_from([2, 3]))
    clouds = make_clouds(draw(st.sampled_from(list(SHAPES))), dim, 150, 170, draw(st.integers(0, 99)))
    p, reach = draw(st.sampled_from([1, 2])), draw(st.sampled_from([None, 0.3]))
    return clouds, {"p": p, "blur": draw(st.sampled_from([0.05, 0.2])), "reach": reach, "tol": 1e-4}


def same(value: float, expected: float, rtol: float = CELLS_MOVE) -> None:
    assert value == pytest.approx(expected, rel=rtol, abs=1e-9)


@EXAMPLES
@given(problems(), st.integers(0, 99))
def test_order_does_not_matter(problem, seed):
    (a, x, b, y), options = problem
    rng = np.random.default_rng(seed)
    i, j = rng.permutation(len(x)), rng.permutation(len(y))
    with always_pruned():
        expected = solve(problem[0], **options)
        found = solve(Clouds(a[i], x[i], b[j], y[j]), **options)
    same(found.value, expected.value, 1e-9)
    np.testing.assert_allclose(found.on_x, expected.on_x[i], rtol=1e-6, atol=1e-11)
    np.testing.assert_allclose(found.on_y, expected.on_y[j], rtol=1e-6, atol=1e-11)


@EXAMPLES
@given(problems())
def test_sides_may_be_swapped(problem):
    (a, x, b, y), options = problem
    with always_pruned():
        same(solve(Clouds(b, y, a, x), **options).value, solve(problem[0], **options).value)


@EXAMPLES
@given(problems(), st.integers(0, 99))
def test_isometries_turn_gradients(problem, seed):
    (a, x, b, y), options = problem
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0]
    shift = rng.normal(size=x.shape[1])
    with always_pruned():
        expected = solve(problem[0], **options)
        found = solve(Clouds(a, x @ rotation + shift, b, y @ rotation + shift), **options)
    same(found.value, expected.value)
    # Means over each cloud: what neighbours do to each other at p = 1 is left out.
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(
            ours.sum(0), theirs.sum(0) @ rotation, atol=2e-2 * np.linalg.norm(theirs.sum(0)) + 1e-5
        )


@EXAMPLES
@given(problems(), st.floats(1e-3, 1e3))
def test_units_do_not_matter(problem, scale):
    (a, x, b, y), options = problem
    lengths = {name: options[name] and scale * options[name] for name in ("blur", "reach")}
    with always_pruned():
        expected = solve(problem[0], **options)
        found = solve(Clouds(a, scale * x, b, scale * y), **{**options, **lengths})
    same(found.value / scale ** options["p"], expected.value)


@EXAMPLES
@given(problems(), st.floats(0.1, 0.9))
def test_points_can_be_split(problem, share):
    """Two copies of each point, that share its weight, are the same measure."""
    (a, x, b, y), options = problem
    with always_pruned():
        expected = solve(problem[0], **options)
        found = solve(
            Clouds(np.tile(a, 2) * np.repeat([share, 1 - share], len(a)), np.tile(x, (2, 1)), b, y), **options
        )
    same(found.value, expected.value, 1e-4)
    n = len(x)
    both = found.on_x[:n] + found.on_x[n:]
    np.testing.assert_allclose(both, expected.on_x, atol=2e-3 * abs(expected.on_x).max())


@EXAMPLES
@given(problems(), st.integers(0, 99), st.sampled_from([0.5, 50.0]))
def test_points_without_mass_change_nothing(problem, seed, distance):
    """Wherever they are."""
    (a, x, b, y), options = problem
    more = distance * np.random.default_rng(seed).normal(size=(40, x.shape[1]))
    with always_pruned():
        expected = solve(problem[0], **options)
        found = solve(Clouds(np.append(a, np.zeros(40)), np.concatenate([x, more]), b, y), **options)
    same(found.value, expected.value)
    assert (found.on_x[len(x) :] == 0).all()


# ---------------------------------------------------------------------- float32, and worst cases


@pytest.mark.parametrize("reach", [None, 0.3])
@pytest.mark.parametrize(("shape", "dim"), [("moons", 2), ("brain", 3), ("empty cells", 3), ("cube", 2)])
def test_float32_far_from_the_origin(shape, dim, reach):
    """The digits that clouds have there are all used: in float64, the same points have the same divergence."""
    clouds = make_clouds(shape, dim, 500, 550)
    far = clouds._replace(x=(clouds.x + 1000).astype(np.float32), y=(clouds.y + 1000).astype(np.float32))
    expected = solve(far, backend="online", tol=1e-6, reach=reach)
    with always_pruned():
        found = solve(far, torch.float32, reach=reach, cluster_scale=0.05 / 8)
    same(found.value, expected.value)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert np.linalg.norm(ours - theirs) <= 2e-2 * np.linalg.norm(theirs)


@pytest.mark.parametrize("p", [1, 2])
def test_clouds_of_one_place(p):
    """All the points of a side are the same: the divergence is known without blur."""
    x, y = np.full((300, 3), 0.5), np.full((200, 3), [0.8, 0.5, 0.9])
    clouds = Clouds(np.full(300, 1 / 300), x, np.full(200, 1 / 200), y)
    with always_pruned():
        found = solve(clouds, p=p)
    same(found.value, 0.5 if p == 1 else 0.125, 1e-9)
    expected = -np.array([0.6, 0.0, 0.8]) if p == 1 else x[0] - y[0]
    np.testing.assert_allclose(found.on_x.sum(0), expected, atol=1e-9)
    np.testing.assert_allclose(found.on_y.sum(0), -expected, atol=1e-9)


def test_very_different_sizes():
    """Ten points and 20,000."""
    clouds = make_clouds("cube", 2, 10, 20_000)
    expected = solve(clouds, torch.float32, backend="online", tol=1e-4)
    found = solve(clouds, torch.float32)
    same(found.value, expected.value, 1e-3)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert np.linalg.norm(ours - theirs) <= 3e-2 * np.linalg.norm(theirs)
