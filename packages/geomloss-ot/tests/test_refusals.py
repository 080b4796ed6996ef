"""What is no argument of a public function: each is refused by a ValueError that names it and says what it had."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from geomloss_ot import (
    ImagesBarycenter,
    SamplesLoss,
    barycenter,
    barycenter_grid,
    barycenter_sample,
    bures_wasserstein_barycenter,
    bures_wasserstein_distance,
    bures_wasserstein_geodesic,
    fisher_rao_distance,
    fisher_rao_geodesic,
    gaussian_mixture_distance,
    max_sliced_wasserstein_distance,
    sinkhorn_divergence,
    sliced_wasserstein_distance,
    solve,
    solve_batch,
    solve_grid,
    solve_sample,
    solve_sample_batch,
    wasserstein_1d,
    wasserstein_distance,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 3)), RNG.normal(size=(5, 3))
A, B = np.full(6, 1 / 6), np.full(5, 1 / 5)
C = RNG.uniform(size=(6, 5))
TX, TY, TA, TB = map(torch.from_numpy, (X, Y, A, B))
IMAGE = np.full((4, 4), 1 / 16)
IMAGES = torch.from_numpy(np.stack([IMAGE, IMAGE]))
ZERO, ONE = np.zeros(2), np.ones(2)
LINES = (ZERO, ONE, ONE, ONE)

POINTS = [
    (X.tolist(), "X_a is a list: expected an array of NumPy, PyTorch or CuPy"),
    (None, "X_a is a NoneType"),
    (np.float64(1.0), "X_a is a float64"),
    (X.astype(int), "X_a has dtype int64: expected float32 or float64"),
    (X.astype(np.float16), "X_a has dtype float16"),
    (X + 0j, "X_a has dtype complex128"),
    (X > 0, "X_a has dtype bool"),
    (X.astype(object), "X_a has dtype object"),
    (X[:, 0], r"X_a has shape \(6,\): expected \(N, D\)"),
    (X[:0], r"X_a has shape \(0, 3\).*at least one point"),
    (X[:, :0], r"X_a has shape \(6, 0\).*dimension at least one"),
    (np.where(X.mean() < X, np.nan, X), "X_a holds NaN or infinite coordinates"),
    (np.where(X.mean() < X, -np.inf, X), "X_a holds NaN or infinite coordinates"),
    (X[None], r"\(1, 6, 3\) and \(5, 3\).*same B and D"),
    (X[:, :2], r"\(6, 2\) and \(5, 3\).*same B and D"),
    (X.astype(np.float32), "X_b has dtype float64 and X_a dtype float32"),
    (TX, "X_b is a numpy array and X_a a torch array"),
    (1e200 * X, r"costs range up to (inf|nan)"),
]


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize(("points", "message"), POINTS)
def test_points(points, message):
    for call in (
        lambda: solve_sample(points, Y, reg=1.0),
        lambda: solve_sample(points, Y, reg=1.0, lazy=False, debias=True),
        lambda: wasserstein_distance(points, Y),
        lambda: sliced_wasserstein_distance(points, Y),
    )[: 2 if "costs" in message else 4]:
        with pytest.raises(ValueError, match=message):
            call()


WEIGHTS = [
    (A.tolist(), "a is a list"),
    (1.0, "a is a float: expected an array"),
    (np.ones(6, int), "a has dtype int64"),
    (A.astype(np.float32), "a has dtype float32 and the points dtype float64"),
    (TA, "a is a torch array and the points a numpy array"),
    (B, r"a has shape \(5,\): expected \(6,\)"),
    (A[:, None], r"a has shape \(6, 1\): expected \(6,\)"),
    (A - 1e-9 * (A.cumsum() < 0.3) - A * (A.cumsum() < 0.3), "a holds negative weights, down to -1e-09"),
    (A - 0.2, "a holds negative weights, down to -0.0333"),
    (0 * A, "a has total mass zero"),
    (A * np.nan, "a holds NaN or infinite weights"),
    (1e300 * A, r"a has total mass 1e\+300: expected less than"),
    (2 * A, r"the weights sum to 2.0 and 1.0.*reach="),
]


@pytest.mark.parametrize(("weights", "message"), WEIGHTS)
def test_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        solve_sample(X, Y, weights, B, reg=1.0)
    with pytest.raises(ValueError, match=message.replace("the points dtype", "the points dtype")):
        solve(C, weights, B, reg=1.0)


def test_one_measure_of_a_batch_is_enough():
    x, y, b = np.stack([X, X]), np.stack([Y, Y]), np.stack([B, B])
    with pytest.raises(ValueError, match="total mass zero"):
        solve_sample(x, y, np.stack([A, 0 * A]), b, reg=1.0)
    with pytest.raises(ValueError, match=r"sum to \[1.* 2.*\] and \[1. 1.\]"):
        solve_sample(x, y, np.stack([A, 2 * A]), b, reg=1.0)
    with pytest.raises(ValueError, match="equal masses"):
        solve_sample_batch([X, X], [Y, Y], [A, 2 * A], [B, B], reg=1.0)
    with pytest.raises(ValueError, match="equal masses"):
        solve_batch([C, C], [A, 2 * A], [B, B], reg=1.0)


NUMBERS = ["small", None, np.nan, np.inf, -np.inf, 0, -1.0, np.array([1.0, 2.0]), torch.tensor(1.0)]


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_numbers(value):
    """The positive numbers of every function."""
    image = IMAGES[:1]
    calls = {
        "blur": [
            lambda: SamplesLoss(blur=value),
            lambda: barycenter_sample([X, Y], X, blur=value),
            lambda: solve_grid(IMAGE, IMAGE, blur=value),
        ],
        "reg": [lambda: solve_sample(X, Y, reg=value), lambda: solve(C, reg=value)],
        "tol": [
            lambda: SamplesLoss(tol=value),
            lambda: bures_wasserstein_barycenter(X, _matrices(6), tol=value),
        ],
        "p": [lambda: wasserstein_1d(X[:, 0], Y[:, 0], p=value)],
    }
    if not isinstance(value, int):  # zero asks for the exact distance
        calls["accuracy"] = [lambda: wasserstein_distance(X, Y, accuracy=value)]
    if value is not None:
        calls["blur"].append(lambda: sinkhorn_divergence(image, image, blur=value))
        calls["tol"].append(lambda: solve_sample(X, Y, reg=1.0, tol=value))
        calls["diameter"] = [lambda: SamplesLoss(diameter=value)]
        calls["truncate"] = [lambda: SamplesLoss(truncate=value)]
        calls["cluster_scale"] = [lambda: SamplesLoss(cluster_scale=value)]
        calls["mass"] = [lambda: solve_sample(X, Y, reg=1.0, mass=value)]
        if value is not np.inf:  # which conserves mass
            calls["reach"] = [lambda: SamplesLoss(reach=value), lambda: SamplesLoss(reach=(1.0, value))]
            calls["unbalanced"] = [lambda: solve(C, reg=1.0, unbalanced=value)]
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(ValueError, match=rf"{name}=.*expected"):
                function()


def _matrices(count):
    return np.stack([np.eye(3)] * count)


@pytest.mark.parametrize("value", [0, -1, 2.5, "ten", np.nan])
def test_counts(value):
    for name, function in {
        "max_iter": lambda: solve_sample(X, Y, reg=1.0, max_iter=value),
        "n_steps": lambda: barycenter_sample([X, Y], X, blur=1.0, n_steps=value),
        "n_projections": lambda: sliced_wasserstein_distance(X, Y, n_projections=value),
    }.items():
        with pytest.raises(ValueError, match=f"{name}={value!r}: expected a whole number, at least 1"):
            function()
    for function in (
        lambda: SamplesLoss(max_iter=value),
        lambda: sinkhorn_divergence(IMAGES, IMAGES, max_iter=value),
        lambda: bures_wasserstein_barycenter(X, _matrices(6), max_iter=value),
    ):
        with pytest.raises(ValueError, match="max_iter="):
            function()


@pytest.mark.parametrize("scaling", [0, 1, 1.0, -0.5, None, "half", np.nan])
def test_scalings(scaling):
    with pytest.raises(ValueError, match=r"scaling=.*in \(0, 1\)"):
        SamplesLoss(scaling=scaling)
    with pytest.raises(ValueError, match=r"scaling=.*in \(0, 1\)"):
        sinkhorn_divergence(IMAGES, IMAGES, scaling=scaling)


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (lambda x, y: None, "NoneType"),
        (lambda x, y: 3.0, "float"),
        (lambda x, y: x, "shape"),
    ],
)
def test_functions_that_are_no_costs(cost, message, lazy):
    with pytest.raises(ValueError, match=message):
        solve_sample(X, Y, metric=cost, reg=1.0, lazy=lazy)


def test_vectors_are_no_costs_and_no_kernels():
    with pytest.raises(ValueError, match=r"shape \(6, 5, 3\): expected a LazyTensor of one number per pair"):
        SamplesLoss(cost=lambda x, y: x - y)(TX, TY)
    with pytest.raises(ValueError, match=r"shape \(6, 5, 3\): expected \(6, 5\), one number per pair"):
        SamplesLoss(cost=lambda x, y: x[:, None] - y, backend="tensorized")(TX, TY)
    with pytest.raises(ValueError, match=r"shape \(6, 5, 3\)|shape \(6, 6, 3\)"):
        SamplesLoss("gaussian", kernel=lambda x, y: x - y)(TX, TY)
    with pytest.raises(ValueError, match="kernel='gaussian'"):
        SamplesLoss("gaussian", kernel="gaussian")
    with pytest.raises(ValueError, match=r"cost='SqDist.*'sqeuclidean'"):
        SamplesLoss(cost="SqDist(X,Y)")
    with pytest.raises(ValueError, match=r"no finite number.*cosines"):
        solve_sample(0 * X, Y, metric="cosine", reg=1.0)


COSTS = [
    (C.tolist(), "is a list"),
    (C[0], r"has shape \(5,\): expected costs \(N, M\)"),
    (C.astype(int), "has dtype int64"),
    (np.where(C > 0.5, np.inf, C), "infinite costs: give pairs that are forbidden a large finite cost"),
]


@pytest.mark.parametrize(("costs", "message"), COSTS)
def test_matrices(costs, message):
    for call in (
        lambda: solve(costs, reg=1.0),
        lambda: solve(C, reg=1.0, C_aa=costs, C_bb=costs),
        lambda: solve_batch([costs], reg=1.0),
        lambda: barycenter(np.ones((2, 5)), costs, reg=1.0),
        lambda: barycenter(np.ones((2, 5)), C, reg=1.0, C_aa=costs),
    ):
        with pytest.raises(ValueError, match=message):
            call()


GRIDS = [
    (IMAGE.tolist(), {}, "a is a list"),
    (None, {}, "a is a NoneType"),
    (np.ones((4, 4), int), {}, "dtype int64"),
    (IMAGE, {"axes": (0, 1)}, r"axes=\(0, 1\): expected one pair"),
    (IMAGE, {"axes": 3}, "axes=3: expected one pair"),
    (IMAGE, {"axes": ((0, None), (0, 1))}, "axes=.*expected one pair"),
    (IMAGE, {"axes": ((1, 0), (0, 1))}, "increasing"),
    (IMAGE, {"axes": ((0, np.inf), (0, 1))}, "axes="),
    (IMAGE, {"axes": ((0, 1),) * 3}, r"a has shape \(4, 4\)"),
    (np.stack([IMAGE, IMAGE]), {"axes": ((0, 1),) * 2}, r"\(2, 4, 4\) and \(4, 4\): expected as many"),
    (IMAGE[0] * 4, {}, r"\(4,\) and \(4, 4\): expected as many grids, of the same dimension"),
]


@pytest.mark.parametrize(("image", "options", "message"), GRIDS)
def test_grids(image, options, message):
    with pytest.raises(ValueError, match=message):
        solve_grid(image, IMAGE, reg=1.0, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sinkhorn_divergence(IMAGE[None], IMAGE[None]), "a is a ndarray: expected a PyTorch tensor"),
        (lambda: sinkhorn_divergence(IMAGES[:1], IMAGES), r"\(1, 4, 4\) and \(2, 4, 4\): expected as many"),
        (lambda: ImagesBarycenter([IMAGE], ONE), "measures is a list"),
        (lambda: barycenter_grid([IMAGE, IMAGE], blur=1.0), "b is a list"),
        (lambda: barycenter(np.ones((2, 5)), C, np.zeros(2), reg=1.0), "weights has total mass zero"),
        (lambda: barycenter(np.ones((2, 5)), C, reg=1.0, unbalanced=(1.0, 2.0)), r"unbalanced=\(1.0, 2.0\)"),
        (lambda: barycenter_sample([X], X.tolist(), blur=1.0), "X_init is a list"),
        (lambda: barycenter_sample([], X, blur=1.0), "0 clouds"),
        (lambda: barycenter_sample(X, X, blur=1.0), r"X_b\[0\] has shape \(3,\)"),
        (lambda: barycenter_sample([X, Y], X, blur=1.0, weights=[0.5, 0.5]), "weights is a list"),
        (lambda: solve(C), "reg=None: expected a temperature"),
        (lambda: solve_sample(X, Y), "reg=None, blur=None"),
        (lambda: solve_sample(X, Y, reg=1.0, callback=3), "callback=3"),
        (lambda: solve_sample_batch(None, [Y], reg=1.0), "X_a is a NoneType: expected a list"),
        (lambda: solve_batch(None, reg=1.0), "C is a NoneType: expected a list"),
        (lambda: solve_sample(X, Y, reg=1.0).plan_operator @ [1.0] * 5, "cannot multiply a list"),
        (lambda: solve_sample(X, Y, reg=1.0).plan_operator @ TB, "numpy arrays cannot multiply a torch"),
        (lambda: solve_sample(X, Y, reg=1.0).sparse_plan("large"), "threshold='large'"),
        (
            lambda: solve_sample(X, Y, reg=1.0).sparse_plan(-1.0),
            r"threshold=-1.0: expected a number in \[0, 1\)",
        ),
        (
            lambda: SamplesLoss()(TA - 0.1, TA, TX, TB, TB, TY),
            r"l_x has shape \(6,\) and dtype float64.*whole",
        ),
        (lambda: wasserstein_1d([1.0], [2.0]), "x_a is a list"),
        (lambda: wasserstein_1d(X, Y), r"\(6, 3\) and \(5, 3\): expected positions"),
        (lambda: sliced_wasserstein_distance(X, Y, projections=np.eye(2)), r"\(2, 2\): expected \(3, L\)"),
        (lambda: sliced_wasserstein_distance(X, Y, projections=np.nan * np.eye(3)), "projections holds NaN"),
        (lambda: sliced_wasserstein_distance(X, Y, projections=torch.eye(3)), "projections is a torch array"),
        (lambda: max_sliced_wasserstein_distance(X, Y, n_steps=-1), "n_steps=-1"),
        (lambda: bures_wasserstein_distance(ONE * np.nan, ONE, np.eye(2), np.eye(2)), "m_a.*finite means"),
        (lambda: bures_wasserstein_distance([0.0], [1.0], [[1.0]], [[1.0]]), "m_a is a list"),
        (lambda: bures_wasserstein_geodesic(ONE, ONE, np.eye(2), np.eye(2), ONE), "t=array"),
        (lambda: bures_wasserstein_barycenter(ONE, np.eye(2)), r"m has shape \(2,\): expected \(K, D\)"),
        (lambda: fisher_rao_distance(0.0, 1.0, 1.0, 1.0), "mean_a is a float"),
        (lambda: fisher_rao_distance(ZERO * np.nan, *LINES[1:]), "mean_a has shape.*finite"),
        (lambda: fisher_rao_distance(*LINES[:3], np.ones(3)), r"deviation_b has shape \(3,\)"),
        (lambda: fisher_rao_distance(*LINES[:3], ZERO), "deviation_b goes down to 0"),
        (lambda: fisher_rao_geodesic(*LINES, 5.0), "t=5.0"),
        (
            lambda: gaussian_mixture_distance(X, Y[:, :2], _matrices(6), _matrices(5)[:, :2, :2]),
            r"\(6, 3\) and \(5, 2\).*same D",
        ),
    ],
)
def test_others(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_looks_odd_and_is_right():
    """Views, batches in one array, infinite reaches, numbers of NumPy and points that are read only."""
    frozen = X.copy()
    frozen.setflags(write=False)
    expected = float(solve_sample(X, Y, reg=1.0).value)
    for points in (frozen, np.asfortranarray(X), X[::-1], X.astype(">f8"), np.repeat(X, 2, 0)[::2]):
        assert float(solve_sample(points, Y, reg=1.0).value) == pytest.approx(expected, rel=1e-12)
    numbers = {"reg": np.float32(1.0), "unbalanced": np.inf, "max_iter": np.int64(100)}
    assert float(solve_sample(X, Y, **numbers).value) == pytest.approx(expected, rel=1e-12)
    assert barycenter_sample(np.stack([X, X]), X, blur=1.0).shape == X.shape
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(SamplesLoss(p=2.0, reach=float("inf"))(TX.T.contiguous().T, TY)) > 0


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize("reg", [1e-20, 1e-30, 1e-100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_temperatures_below_all_digits_are_told(dtype, reg):
    """Updates that no longer move potentials are no proof: no plan in this precision has the right marginals."""
    for seed in range(3):
        x, y = np.split(np.random.default_rng(seed).normal(size=(11, 3)).astype(dtype), [6])
        with pytest.warns(UserWarning, match=f"{np.dtype(dtype).name}.*larger reg or blur"):
            result = solve_sample(x, y, reg=reg)
        assert result.status == "rounding"
