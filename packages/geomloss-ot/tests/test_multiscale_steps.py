"""Newton's steps between cells, and invariances and hard cases of multiscale transport."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.special import logsumexp

from geomloss_ot import SamplesLoss, cell_plans
from geomloss_ot.cell_plans import CellPlan
from geomloss_ot.costs import SQEUCLIDEAN
from geomloss_ot.descent import sinkhorn
from geomloss_ot.geometries import PointGeometry
from geomloss_ot.measures import Measure
from geomloss_ot.multiscale import converging, correction, masks, masses
from geomloss_ot.multiscale.blocks import make_blocks
from geomloss_ot.multiscale.cells import Cells
from geomloss_ot.multiscale.correction import linearize
from geomloss_ot.multiscale.hierarchy import build_hierarchy
from geomloss_ot.multiscale.masses import BlockPlan, estimate_plan
from geomloss_ot.penalties import Balanced, KullbackLeibler, Partial, Range, TotalVariation
from geomloss_ot.problems import Problem, Stopping
from geomloss_ot.sinkhorn import Means, converge

HALVED = replace(SQEUCLIDEAN, coefficient=0.5)


def make_problem(penalty, n: int = 300, blur: float = 0.05) -> tuple[Problem, tuple[Cells, Cells]]:
    """Two clouds on a curve: smooth errors shrink slowly."""
    rng = np.random.default_rng(0)
    sides = []
    for shift, count in ((0.0, n), (0.1, n + 40)):
        t = rng.random(count)
        points = np.stack([t, shift + 0.1 * np.sin(6 * t)], 1)
        level = build_hierarchy(points, np.full(count, 1 / count), 1e-6)
        sides.append(Cells(level.finest, level.points, Measure(level.weights)))
    geometry = PointGeometry(sides[0].points, sides[1].points, HALVED)
    measures = sides[0].measure, sides[1].measure
    return Problem(geometry, *measures, (penalty, penalty), blur**2), (sides[0], sides[1])


def marginal_derivative(mass: np.ndarray, damping: float) -> np.ndarray:
    """The derivative of the update of g, from its definition: averages over columns of averages over rows."""
    return damping * (mass / mass.sum(0)).T @ (mass / mass.sum(1)[:, None])


@pytest.mark.parametrize("damping", [1.0, 0.8])
@pytest.mark.parametrize("larger", [1, 5])
def test_corrections_solve_newtons_equation(monkeypatch, damping, larger):
    monkeypatch.setattr(cell_plans, "_ACCURACY", 1e-10)
    monkeypatch.setattr(cell_plans, "_ITERATIONS", 300)
    rng = np.random.default_rng(0)
    mass = rng.random((40, 35)) * (rng.random((40, 35)) < 0.3) + 1e-3
    residual = rng.normal(size=35)
    plan = CellPlan(csr_array(mass), damping, np.arange(0, 35, larger))
    step = residual + plan.correct(residual)
    weights = mass.sum(0) / mass.sum()
    left = step - marginal_derivative(mass, damping) @ step - residual
    # Constants are left alone.
    np.testing.assert_allclose(left - weights @ left, 0.0, atol=1e-7)
    np.testing.assert_allclose(weights @ step, weights @ residual, atol=1e-7)


def test_corrections_leave_kinks_in_place(monkeypatch):
    monkeypatch.setattr(cell_plans, "_ACCURACY", 1e-10)
    monkeypatch.setattr(cell_plans, "_ITERATIONS", 300)
    rng = np.random.default_rng(0)
    mass = rng.random((40, 35)) * (rng.random((40, 35)) < 0.3) + 1e-3
    rows, columns = rng.random(40) < 0.7, rng.random(35) < 0.6
    residual = rng.normal(size=35) * columns
    for damping in (1.0, 0.8):
        moving = csr_array(mass * rows[:, None] * columns)
        plan = CellPlan(moving, damping, np.arange(0, 35, 5), (mass.sum(1), mass.sum(0)))
        step = residual + plan.correct(residual)
        # The generalised derivative of the update: what is at a kink does not move.
        averages = (mass / mass.sum(1)[:, None]) @ (columns * step)
        derivative = damping * columns * ((mass / mass.sum(0)).T @ (rows * averages))
        np.testing.assert_allclose(step - derivative, residual, atol=1e-7)


def plan_of(problem: Problem, cells: tuple[Cells, Cells], most: int = 12) -> tuple[BlockPlan, np.ndarray]:
    """The plan of a solution between all the pairs of blocks, small enough to be known, and between all points."""
    for side in cells:
        side.__dict__["blocks"] = make_blocks(side.level, most)
    blocks = cells[0].blocks, cells[1].blocks
    solution = sinkhorn(problem, (problem.epsilon,), Stopping(1e-6, 500))
    counts = [len(side.starts) for side in blocks]
    pairs = np.repeat(np.arange(counts[0]), counts[1]), np.tile(np.arange(counts[1]), counts[0])
    plan = estimate_plan(problem, (solution.f, solution.g), blocks, pairs, 80.0)
    density = problem.geometry.density(problem.epsilon, solution.f, solution.g)
    return plan, problem.source.weights[:, None] * density * problem.target.weights


def between(mass: np.ndarray, starts: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return np.add.reduceat(np.add.reduceat(mass, starts[0], 0), starts[1], 1)


@pytest.mark.parametrize("parts", [1 << 18, 100])
def test_masses_between_small_blocks_are_those_of_the_plan(monkeypatch, parts):
    monkeypatch.setattr(masses, "_PARTS", parts)  # at once, or part after part
    monkeypatch.setattr(masses, "_ROWS", 60)  # a multiple of all sizes: rows are asked equally often
    plan, mass = plan_of(*make_problem(Balanced(), 60), 6)
    sides = plan.sides
    assert max(side.sizes.max() for side in sides) <= 6
    expected = between(mass, (sides[0].starts, sides[1].starts))
    np.testing.assert_allclose(plan.matrix.toarray(), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("penalty", [Balanced(), TotalVariation(0.008)])
def test_newtons_steps_know_the_mass_between_cells(monkeypatch, penalty):
    monkeypatch.setattr(correction, "_FEWEST", 40)
    problem, cells = make_problem(penalty)
    plan, mass = plan_of(problem, cells, 1 if penalty != Balanced() else 2)
    found = []
    original = correction.CellPlan
    monkeypatch.setattr(correction, "CellPlan", lambda *arguments: found.append(original(*arguments)))
    monkeypatch.setattr(correction, "_corrector", lambda *_: None)
    linearize(problem, cells, plan.matrix)(*plan.potentials)
    assert 10 < min(found[0].mass.shape) <= max(found[0].mass.shape) <= 40
    scale = correction._scale(cells, 40)
    # Cells start with the first block that starts in them.
    starts = []
    for side in cells:
        blocks = side.blocks.starts
        numbers = np.searchsorted(side.level.starts_of(scale), blocks, side="right")
        starts.append(blocks[np.unique(numbers, return_index=True)[1]])
    f, g = (np.ones(p.shape) for p in plan.potentials)
    if penalty != Balanced():
        f, g = (abs(p) < penalty.strength for p in plan.potentials)
        assert 0.1 < f.mean() < 0.9
        sums = between(mass, (starts[0], np.array([0]))), between(mass, (np.array([0]), starts[1]))
        for ours, theirs in zip(found[0].sums, sums, strict=True):
            np.testing.assert_allclose(ours, theirs.ravel(), rtol=1e-9)
    expected = between(mass * f[:, None] * g, (starts[0], starts[1]))
    np.testing.assert_allclose(found[0].mass.toarray(), expected, rtol=1e-9, atol=1e-30)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-4, 0.2))
def test_little_mass_is_left_out_while_potentials_move(seed, lost):
    rng = np.random.default_rng(seed)
    problem, cells = make_problem(Balanced(), 120)
    plan, _ = plan_of(problem, cells, 12)
    f, g = plan.potentials
    kept = np.zeros(plan.matrix.shape, bool)
    for step in range(4):
        pairs = plan.heaviest((f, g), lost)
        assert (pairs is None) <= (step > 0)
        if pairs is not None:
            assert kept[pairs].sum() == kept.sum()  # what was chosen stays
            kept[pairs] = True
        density = problem.geometry.density(problem.epsilon, f, g)
        moved = problem.source.weights[:, None] * density * problem.target.weights
        between_blocks = between(moved, (plan.sides[0].starts, plan.sides[1].starts))
        assert (
            between_blocks[~kept].sum() <= 1.2 * lost * plan.masses.sum()
        )  # masses are known from some rows
        f, g = (
            p + rng.normal(0, 2 * problem.epsilon, 1) * np.cos(rng.normal(size=p.shape[0])) for p in (f, g)
        )


@pytest.mark.parametrize(
    ("penalty", "share"),
    [
        (Balanced(), 0.75),
        (KullbackLeibler(10.0), 0.75),
        (TotalVariation(0.008), 0.9),
        (Partial(0.008), 0.9),
        (Range(0.9, 1.1), 0.9),
    ],
)
def test_newtons_steps_save_iterations(penalty, share):
    problem, cells = make_problem(penalty)
    plain = replace(problem, epsilon=0.02**2)
    start = sinkhorn(plain, (0.04**2,), Stopping(1e-3, 500))
    expected = converge(plain, start.g, Stopping(1e-9, 500), 0)
    counts = []
    plan, _ = plan_of(plain, cells)
    for steps in (None, linearize(plain, cells, plan.matrix)):
        means = Means(linearize=steps)
        found = converge(plain, start.g, Stopping(1e-9, 500), 0, means)
        assert float(found.value) == pytest.approx(float(expected.value), rel=1e-9)
        np.testing.assert_allclose(
            found.ratio_f, 1.0 if penalty == Balanced() else expected.ratio_f, atol=1e-6
        )
        counts.append(found.n_iter)
    assert counts[1] < share * counts[0], counts


def test_plans_without_mass_correct_nothing():
    problem, cells = make_problem(Partial(1.0))
    for side in cells:
        side.__dict__["blocks"] = make_blocks(side.level, 12)
    empty = csr_array((len(cells[0].blocks.starts), len(cells[1].blocks.starts)))
    for penalty in (Partial(0.0), Partial(1.0)):  # potentials of zero are at a kink, or move
        one = replace(problem, penalties=(penalty, penalty))
        zeros = np.zeros(len(cells[0].level)), np.zeros(len(cells[1].level))
        residual = np.random.default_rng(0).normal(size=len(zeros[1]))
        with np.errstate(all="ignore"):
            found = linearize(one, cells, empty)(*zeros)(residual)
        assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_pairs_and_newtons_steps_change_nothing_that_matters(monkeypatch, dtype):
    rng = np.random.default_rng(0)
    x, y = (torch.tensor(rng.random((1500, 2)), dtype=dtype, requires_grad=True) for _ in range(2))
    loss = SamplesLoss(blur=0.02, backend="multiscale")
    calls, found = [], []
    original = converging.linearize

    def count(*arguments):
        calls.append(original(*arguments))
        return calls[-1]

    monkeypatch.setattr(converging, "linearize", count)
    for least in (np.inf, 0):
        for module in (converging, masks):
            monkeypatch.setattr(module, "WORTH_PRUNING", least)
        value = loss(x, y)
        found.append((value.item(), *torch.autograd.grad(value, (x, y))))
    assert calls
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)
    for ours, theirs in zip(found[1][1:], found[0][1:], strict=True):
        assert float((ours - theirs).norm()) < 1e-2 * float(theirs.norm())


@pytest.mark.parametrize("missing", [0.7, 0.97])
def test_wrong_masses_cost_time_only(monkeypatch, missing):
    """Where random pairs of blocks are believed to hold no mass, down to plans that cannot exist."""
    rng = np.random.default_rng(0)
    x, y = torch.tensor(rng.random((2000, 2))), torch.tensor(0.5 * rng.random((1800, 2)))
    loss = SamplesLoss(blur=0.03, backend="multiscale")
    expected = loss(x, y).item()
    for module in (converging, masks):
        monkeypatch.setattr(module, "WORTH_PRUNING", 0)
    original = masks.estimate_plan

    def estimate(*arguments):
        plan = original(*arguments)
        plan.masses = plan.masses * (rng.random(len(plan.masses)) > missing)
        return plan

    monkeypatch.setattr(masks, "estimate_plan", estimate)
    assert loss(x, y).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("spell", [1, 3])
def test_pairs_that_bear_no_plan_are_given_up(monkeypatch, spell):
    """Where errors do not shrink, in one iteration, and where a few are not enough."""
    rng = np.random.default_rng(0)
    x, y = torch.tensor(rng.random((2000, 2))), torch.tensor(0.5 * rng.random((1800, 2)))
    loss = SamplesLoss(blur=0.03, backend="multiscale")
    expected, found = loss(x, y).item(), []
    for module in (converging, masks):
        monkeypatch.setattr(module, "WORTH_PRUNING", 0)
    monkeypatch.setattr(converging, "_SPELL", spell)
    few = converging._solve_between_few
    monkeypatch.setattr(
        converging, "_solve_between_few", lambda *given: found.append(few(*given)) or found[-1]
    )
    assert loss(x, y).item() == pytest.approx(expected, rel=1e-3)
    assert any(solution is None for solution in found) == (spell == 1)


# ---------------------------------------------------------------------- invariances and hard cases


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1000),
    dim=st.integers(1, 4),
    scale=st.floats(1e-3, 1e3),
    sizes=st.tuples(st.integers(1, 150), st.integers(1, 150)),
)
def test_losses_follow_scales_translations_and_orders(seed, dim, scale, sizes):
    rng = np.random.default_rng(seed)
    x, y = (torch.tensor(rng.random((size, dim))) for size in sizes)
    options = {"backend": "multiscale", "tol": 1e-4}
    expected = SamplesLoss(blur=0.1, **options)(x, y).item()
    shift = torch.tensor(rng.normal(size=dim))
    moved = [scale * (z[rng.permutation(len(z))] + shift) for z in (x, y)]
    found = SamplesLoss(blur=0.1 * scale, **options)(*moved).item()
    assert found / scale**2 == pytest.approx(expected, rel=2e-3, abs=1e-6)
    swapped = SamplesLoss(blur=0.1, **options)(y, x).item()
    assert swapped == pytest.approx(expected, rel=2e-3, abs=1e-6)


def plain_divergence(x: np.ndarray, y: np.ndarray, epsilon: float, iterations: int = 3000) -> float:
    """The debiased value between few points of equal weights, by plain iterations: independent of our solvers."""

    def cost(x: np.ndarray, y: np.ndarray) -> float:
        costs = ((x[:, None] - y) ** 2).sum(-1) / 2
        f, g = np.zeros(len(x)), np.zeros(len(y))
        for _ in range(iterations if x is not y else 200):
            previous = f
            g = -epsilon * logsumexp((f[:, None] - costs) / epsilon - np.log(len(x)), axis=0)
            f = -epsilon * logsumexp((g - costs) / epsilon - np.log(len(y)), axis=1)
            f = (f + previous) / 2 if x is y else f
        return float(f.mean() + g.mean())

    return cost(x, y) - cost(x, x) / 2 - cost(y, y) / 2


def test_near_duplicates_and_very_different_sizes():
    """Where the accelerated solver over all pairs does not converge."""
    rng = np.random.default_rng(0)
    x, y = rng.random((12, 3)), rng.random((3, 3))
    expected = plain_divergence(x, y, 0.05**2)
    many = x.repeat(50, 0) + 1e-9 * rng.random((600, 3))
    found = SamplesLoss(blur=0.05, backend="multiscale")(torch.tensor(many), torch.tensor(y)).item()
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_far_outlier_is_right_or_warns():
    rng = np.random.default_rng(0)
    x, y = rng.random((600, 3)), rng.random((650, 3))
    x[0] = 8.0
    values = []
    for backend, tol in (("multiscale", 1e-3), ("online", 1e-5)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss = SamplesLoss(blur=0.02, backend=backend, tol=tol, max_iter=3000 if tol < 1e-3 else 500)
            values.append((loss(torch.tensor(x), torch.tensor(y)).item(), bool(caught)))
    (found, warned), (expected, _) = values
    assert warned or found == pytest.approx(expected, rel=1e-3)
