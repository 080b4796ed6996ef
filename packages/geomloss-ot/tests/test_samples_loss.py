"""Calling conventions of SamplesLoss, its losses, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from geomloss_ot import SamplesLoss, samples_loss, solve_sample


@pytest.fixture
def clouds():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(30, 3, generator=generator), torch.rand(40, 3, generator=generator) + 0.2


def test_package_does_not_import_torch():
    code = "import sys, geomloss_ot; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("loss", ["sinkhorn", "hausdorff", "gaussian", "laplacian", "energy"])
def test_signatures_agree(clouds, loss):
    x, y = clouds
    a, b = torch.full((30,), 1 / 30), torch.full((40,), 1 / 40)
    module = SamplesLoss(loss, blur=0.1)
    expected = module(x, y)
    assert expected.shape == ()
    assert expected.dtype == torch.float32
    torch.testing.assert_close(module(a, x, b, y), expected)
    torch.testing.assert_close(module(a[:, None], x, b[:, None], y), expected)
    batch = module(a[None], x[None], b[None, :, None], y[None])
    assert batch.shape == (1,)
    torch.testing.assert_close(batch[0], expected)


@pytest.mark.parametrize("loss", ["sinkhorn", "hausdorff", "gaussian"])
@pytest.mark.parametrize("backend", ["online", "tensorized"])
def test_batches_are_independent(loss, backend):
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(3, 20, 2, generator=generator), torch.rand(3, 25, 2, generator=generator)
    y[1] += 5  # a harder problem beside the others
    module = SamplesLoss(loss, blur=0.1, tol=1e-5, backend=backend)
    alone = torch.stack([module(p, q) for p, q in zip(x, y, strict=True)])
    torch.testing.assert_close(module(x, y), alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("reach", [None, 0.3])
def test_back_ends_agree(clouds, p, reach):
    x, y = clouds
    values = [
        SamplesLoss(p=p, reach=reach, tol=1e-5, backend=name)(x, y) for name in ("online", "tensorized")
    ]
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-7)


def test_conventions(clouds):
    """Half the squared distance, epsilon = blur^p, rho = reach^p; solve_sample: the squared distance, 2 blur^2."""
    x, y = (t.double() for t in clouds)
    halved = SamplesLoss(blur=0.2, reach=0.5, debias=False, tol=1e-9)(x, y)
    squared = solve_sample(x, y, blur=0.2, reach=0.5, tol=1e-9)
    explicit = solve_sample(x, y, reg=2 * 0.2**2, unbalanced=2 * 0.5**2, tol=1e-9)
    torch.testing.assert_close(2 * halved, squared.value)
    torch.testing.assert_close(squared.value, explicit.value)
    linear = SamplesLoss(p=1, blur=0.2, reach=0.5, debias=False, tol=1e-9)(x, y)
    explicit = solve_sample(x, y, metric="euclidean", reg=0.2, unbalanced=0.5, tol=1e-9)
    torch.testing.assert_close(linear, explicit.value)


@pytest.mark.parametrize("loss", ["gaussian", "laplacian", "energy"])
def test_kernel_norms(clouds, loss):
    x, y = (t.double() for t in clouds)
    kernels = {
        "gaussian": lambda d: torch.exp(-(d**2) / (2 * 0.3**2)),
        "laplacian": lambda d: torch.exp(-d / 0.3),
        "energy": lambda d: -d,
    }

    def mean(p, q):
        return kernels[loss](torch.cdist(p, q, compute_mode="donot_use_mm_for_euclid_dist")).mean()

    expected = (mean(x, x) + mean(y, y)) / 2 - mean(x, y)
    torch.testing.assert_close(SamplesLoss(loss, blur=0.3)(x, y), expected)
    on_x, on_y = SamplesLoss(loss, blur=0.3, potentials=True)(x, y)
    torch.testing.assert_close((on_x.mean() + on_y.mean()) / 2, expected)


def test_custom_kernel(clouds):
    x, y = clouds
    module = SamplesLoss("gaussian", blur=0.3, kernel=lambda x, y: (-x.sqdist(y) / (2 * 0.3**2)).exp())
    torch.testing.assert_close(module(x, y), SamplesLoss("gaussian", blur=0.3)(x, y))


def test_potentials_are_gradients_in_the_weights(clouds):
    x, y = (t.double() for t in clouds)
    a = torch.full((30, 1), 1 / 30, dtype=torch.float64, requires_grad=True)
    b = torch.full((40, 1), 1 / 40, dtype=torch.float64)
    value = SamplesLoss(blur=0.1, tol=1e-10)(a, x, b, y)
    (gradient,) = torch.autograd.grad(value, a)
    f, g = SamplesLoss(blur=0.1, tol=1e-10, potentials=True)(a, x, b, y)
    assert f.shape == (30, 1)
    assert g.shape == (40, 1)
    difference = gradient - f
    torch.testing.assert_close(difference, difference.mean().expand(30, 1))
    torch.testing.assert_close((a * f).sum() + (b * g).sum(), value)


def test_diameter_and_scaling_only_change_the_path(clouds):
    x, y = clouds
    values = [
        SamplesLoss(diameter=d, scaling=s, tol=1e-5)(x, y) for d, s in ((None, 0.5), (10.0, 0.3), (0.1, 0.9))
    ]
    torch.testing.assert_close(values[1], values[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(values[2], values[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("p", [1, 2])
def test_temperatures_follow_powers_of_distances(clouds, p, capsys):
    """From a quarter of the diameter down to the blur, by powers of ``scaling``."""
    SamplesLoss(p=p, blur=0.1, diameter=4.0, scaling=0.5, verbose=True, debias=False)(*clouds)
    found = [
        float(line.split("epsilon = ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines()
    ]
    expected = [(0.5**k) ** p for k in range(4)]  # 1, .5, .25, .125
    assert found[:4] == pytest.approx(expected, rel=1e-3)
    assert found[4:] == pytest.approx([0.1**p] * len(found[4:]), rel=1e-3)


@pytest.mark.parametrize("options", [{"loss": "hausdorff"}, {"loss": "energy"}, {"cost": "cosine"}])
def test_cells_are_never_chosen_for_what_they_do_not_compute(clouds, options, monkeypatch):
    monkeypatch.setattr(samples_loss, "choose_multiscale", lambda problem: True)
    monkeypatch.setattr(samples_loss, "solve_multiscale", lambda *_: pytest.fail("cells"))
    assert torch.isfinite(SamplesLoss(**options)(*clouds))


def test_single_points_with_weights():
    x, y, one = torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1)
    for weights in (one, one[:, None]):
        assert SamplesLoss()(weights, x, weights, y).item() == pytest.approx(1.0)
    batch = SamplesLoss()(one[None], x[None], one[None, :, None], y[None])
    assert batch.tolist() == pytest.approx([1.0])


def _symmetric_potential(points, weights, epsilon, rho):
    """Of a measure against itself, by its fixed point, with its values at any points."""

    def update(x, f):
        costs = ((x[:, None] - points) ** 2).sum(-1) / 2
        terms = weights.log() + (f - costs) / epsilon
        return -torch.logsumexp(terms, -1) * epsilon / (1 + epsilon / rho)

    f = torch.zeros_like(weights)
    for _ in range(200):
        f = (f + update(points, f)) / 2
    return lambda x: update(x, f)


@pytest.mark.parametrize("reach", [None, 0.5])
def test_hausdorff_from_its_definition(clouds, reach):
    """<a - b, f_bb - f_aa> / 2, with the potentials of each measure against itself as functions of the point."""
    x, y = (t.double() for t in clouds)
    a = torch.linspace(1, 2, 30, dtype=torch.float64)
    a, b = a / a.sum(), torch.full((40,), 1 / 40, dtype=torch.float64)
    rho = float("inf") if reach is None else reach**2
    f_a, f_b = (_symmetric_potential(*side, 0.2**2, rho) for side in ((x, a), (y, b)))
    expected = (a @ (f_b(x) - f_a(x)) - b @ (f_b(y) - f_a(y))) / 2
    torch.testing.assert_close(
        SamplesLoss("hausdorff", blur=0.2, reach=reach, tol=1e-12)(a, x, b, y), expected
    )
    on_x, on_y = SamplesLoss("hausdorff", blur=0.2, reach=reach, tol=1e-12, potentials=True)(a, x, b, y)
    torch.testing.assert_close(on_x, f_b(x) - f_a(x), atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(on_y, f_a(y) - f_b(y), atol=1e-9, rtol=1e-6)


def test_labels_do_not_change_the_loss(clouds):
    x, y = clouds
    a, b = torch.full((30,), 1 / 30), torch.full((40,), 1 / 40)
    l_x, l_y = (x[:, 0] > 0.5).int(), (y[:, 0] > 0.5).int()
    torch.testing.assert_close(SamplesLoss()(l_x, a, x, l_y, b, y), SamplesLoss()(x, y))
    with pytest.raises(ValueError, match=r"backend='online'.*labels"):
        SamplesLoss(backend="online")(l_x, a, x, l_y, b, y)


def test_reaches_of_both_sides(clouds):
    x, y = (t.double() for t in clouds)
    options = {"blur": 0.1, "debias": False, "tol": 1e-9}
    for kind in ("kl", "tv", "partial"):
        pair = SamplesLoss(reach=(0.2, None), unbalanced_type=kind, **options)(x, y)
        squared = solve_sample(x, y, blur=0.1, reach=(0.2, None), unbalanced_type=kind, tol=1e-9)
        torch.testing.assert_close(2 * pair, squared.value)
        balanced = SamplesLoss(**options)(x, y)
        if kind == "partial":  # the other side needs all the mass, so that none can stay behind
            torch.testing.assert_close(pair, balanced)
        else:
            assert float(pair) < 0.999 * float(balanced)


def test_verbose_shows_temperature_and_error(clouds, capsys):
    SamplesLoss(verbose=True)(*clouds)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert all("epsilon" in line and "marginal error" in line for line in lines)


def test_stopping_early_warns(clouds):
    with pytest.warns(UserWarning, match="max_iter=3"):
        SamplesLoss(max_iter=3)(*clouds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "wasserstein"}, "loss='wasserstein'.*'sinkhorn'"),
        ({"p": 3}, "p=3"),
        ({"blur": 0.0}, "blur=0.0.*positive"),
        ({"blur": float("nan")}, "blur=nan.*positive"),
        ({"reach": -1.0}, "reach=-1.0.*positive"),
        ({"scaling": 1.0}, "scaling=1.0"),
        ({"diameter": 0.0}, "diameter=0.0"),
        ({"backend": "cuda"}, "backend='cuda'"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        SamplesLoss(**options)


def _ones(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((_ones(3, 2),), "1 arguments"),
        ((_ones(3), _ones(3)), r"x has shape \(3,\)"),
        ((_ones(3, 2), _ones(3, 3)), r"\(3, 2\) and \(3, 3\)"),
        ((_ones(2, 3, 2), _ones(3, 2)), "same B and D"),
        ((_ones(0, 2), _ones(3, 2)), "at least one point"),
        ((_ones(3, 2), _ones(3, 2, dtype=torch.float64)), "float64.*float32"),
        ((_ones(3, 2, dtype=torch.int64), _ones(3, 2)), "dtype int64"),
        ((_ones(3, 2) * float("nan"), _ones(3, 2)), "x holds NaN"),
        ((_ones(4), _ones(3, 2), _ones(3), _ones(3, 2)), r"a has shape \(4,\): expected \(3,\)"),
        ((-_ones(3), _ones(3, 2), _ones(3), _ones(3, 2)), "a holds negative weights"),
        ((0 * _ones(3), _ones(3, 2), _ones(3), _ones(3, 2)), "total mass zero"),
        ((_ones(3) * float("inf"), _ones(3, 2), _ones(3), _ones(3, 2)), "a holds NaN or infinite"),
        ((_ones(3), _ones(3, 2), 2 * _ones(3), _ones(3, 2)), "equal masses"),
        ((_ones(2), _ones(3), _ones(3, 2), _ones(3), _ones(3), _ones(3, 2)), r"l_x has shape \(2,\)"),
        ((0.5 * _ones(3), _ones(3), _ones(3, 2), _ones(3), _ones(3), _ones(3, 2)), "whole numbers"),
        (([[1.0]], [[2.0]]), "received a list"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SamplesLoss()(*arguments)
