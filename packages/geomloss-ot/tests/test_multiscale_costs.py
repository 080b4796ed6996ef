"""Costs of users between large clouds: how fast they change tells which pairs are too far apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomloss_ot import LipschitzCost, SamplesLoss, solve_sample
from geomloss_ot.costs import find_cost
from geomloss_ot.multiscale import cells, converging, masks
from geomloss_ot.multiscale.blocks import make_blocks
from geomloss_ot.multiscale.hierarchy import build_hierarchy
from geomloss_ot.multiscale.pruning import keep_pairs, known_bound

COSTS = {
    "hyperbola": LipschitzCost(lambda x, y: (1 + x.sqdist(y)).sqrt() - 1, 1.0),
    # |x - y|^1.5 in a square of diameter 1.5
    "power": LipschitzCost(lambda x, y: (x.sqdist(y) + 1e-12) ** 0.75, 1.5 * 1.5**0.5),
    "one way": LipschitzCost(lambda x, y: (0.01 + x.sqdist(y)).sqrt() + 0.3 * (x - y).sum(-1), 1.5),
}


@pytest.fixture
def shares(monkeypatch):
    """Blocks are left out of small problems too; the share of pairs that is visited."""
    for module in (converging, masks):
        monkeypatch.setattr(module, "WORTH_PRUNING", 0)
    for module in (cells, masks):
        monkeypatch.setattr(module, "MOST", 16)
    found: list[float] = []
    original = masks.ranges_of

    def record(*arguments):
        ranges = original(*arguments)
        found.append(ranges.pairs / np.prod(ranges.extent))
        return ranges

    monkeypatch.setattr(masks, "ranges_of", record)
    return found


def make_clouds(dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.random((900, 2)).astype(dtype), (0.7 * rng.random((800, 2)) + 0.1).astype(dtype)


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_agree_with_the_single_scale(shares, name, dtype):
    found = []
    for backend in ("online", "multiscale"):
        x, y = (torch.tensor(points, requires_grad=True) for points in make_clouds(dtype))
        debias = name != "one way"  # self terms are symmetric problems
        loss = SamplesLoss(cost=COSTS[name], blur=0.04, backend=backend, tol=1e-4, debias=debias)
        value = loss(x, y)
        found.append((value.item(), *torch.autograd.grad(value, (x, y))))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-3)
    for ours, theirs in zip(found[1][1:], found[0][1:], strict=True):
        assert float((ours - theirs).norm()) < 1e-2 * float(theirs.norm())
    assert min(shares) < 0.7


@pytest.mark.parametrize("name", COSTS)
def test_skipped_pairs_hold_less_than_the_bound(name):
    cost, epsilon, truncation = find_cost(COSTS[name]), 0.001, 4.0
    result = solve_sample(*make_clouds(), metric=COSTS[name], reg=epsilon, tol=1e-3)
    clouds = [build_hierarchy(z, np.full(len(z), 1 / len(z)), 0.01) for z in make_clouds()]
    potentials = result.potential_a[clouds[0].order], result.potential_b[clouds[1].order]
    blocks = [make_blocks(cloud.finest, 8) for cloud in clouds]
    bounds = [
        known_bound(block, cloud.points, value, cost)
        for block, cloud, value in zip(blocks, clouds, potentials, strict=True)
    ]
    pairs = keep_pairs((blocks[0], blocks[1]), (bounds[0], bounds[1]), cost, -truncation * epsilon)
    kept = np.zeros((len(clouds[0].points), len(clouds[1].points)), bool)
    for i, j in zip(*pairs, strict=True):
        kept[slice(*blocks[0].ranges[i]), slice(*blocks[1].ranges[j])] = True
    x, y = (torch.tensor(cloud.points) for cloud in clouds)
    squared = ((x[:, None] - y) ** 2).sum(-1)
    costs = {
        "hyperbola": (1 + squared).sqrt() - 1,
        "power": (squared + 1e-12) ** 0.75,
        "one way": (0.01 + squared).sqrt() + 0.3 * (x[:, None] - y).sum(-1),
    }[name].numpy()
    exponents = (potentials[0][:, None] + potentials[1] - costs) / epsilon
    assert 0 < kept.sum() < 0.9 * kept.size
    assert exponents[~kept].max() < -truncation


def test_results_of_solve_sample(shares):
    x, y = make_clouds()
    options = {"metric": COSTS["hyperbola"], "reg": 0.005, "tol": 1e-5}
    found, expected = (solve_sample(x, y, backend=backend, **options) for backend in ("multiscale", "online"))
    assert float(found.value) == pytest.approx(float(expected.value), rel=1e-4)
    np.testing.assert_allclose(found.potential_a, expected.potential_a, atol=1e-4)
    assert min(shares) < 0.7


@pytest.mark.parametrize("lipschitz", [0.0, -1.0, np.inf, np.nan])
def test_constants_are_positive(lipschitz):
    with pytest.raises(ValueError, match="expected a positive finite number"):
        LipschitzCost(lambda x, y: x.sqdist(y), lipschitz)


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match="expected a function of two LazyTensors"):
        LipschitzCost("sqeuclidean", 1.0)


def test_other_costs_of_users_need_the_size_of_cells():
    with pytest.raises(ValueError, match="LipschitzCost"):
        SamplesLoss(cost=lambda x, y: x.sqdist(y), backend="multiscale")
    x, y = make_clouds()
    with pytest.raises(ValueError, match="any LipschitzCost"):
        solve_sample(x, y, metric=lambda x, y: x.sqdist(y), reg=0.1, backend="multiscale")
