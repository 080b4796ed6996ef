"""The LazyTensor that KeOps' users know: attributes, reductions by KeOps' names, deferred calls, keywords."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample

from symbolic_matrices.errors import AxisError, BackendError, ShapeError, UnknownReductionError
from symbolic_matrices.pykeops_compat import ComplexLazyTensor, LazyTensor, Pm, Vi, Vj, cluster


@pytest.fixture
def clouds(rng):
    return sample(rng, (6, 2)), sample(rng, (5, 2))


def distances(x, y):
    return ((x[:, None] - y[None]) ** 2).sum(-1)


@pytest.fixture
def K(clouds):
    return Vi(clouds[0]).sqdist(Vj(clouds[1]))


def test_attributes(clouds):
    x, y = clouds
    x_i, y_j = LazyTensor(x[:, None, :].astype("float32")), LazyTensor(y[None, :, :].astype("float32"))
    K = 2 - (x_i - y_j).sqnorm2().exp() / torch.pi
    assert type(K) is type(x_i.exp()) is LazyTensor
    assert (K.shape, K._shape, K.dim(), K.dtype, K._dtype) == ((6, 5), (6, 5, 1), 3, "float32", "float32")
    assert (x_i.shape, x_i._shape, x_i.is_complex) == ((6, 1, 2), (6, 1, 2), False)
    assert (K.batchdims, K.nbatchdims, Pm(1.0).dtype) == (None, 0, None)
    assert LazyTensor(np.zeros((4, 6, 1, 2))).batchdims == (4,)
    assert K.t().shape == K.T.shape == (5, 6)
    assert hasattr(K, "__GenericLazyTensor__")
    assert LazyTensor(torch.zeros(6, 1, 2)).dtype == "float32"


def test_numbers_on_the_left_keep_the_class(K):
    results = (1 + K, 1 - K, 2 * K, 1 / K, 2**K, np.float64(2) * K, K | 2, K.concat(1.0))
    assert {type(result) for result in results} == {LazyTensor}


def test_names_of_operations(clouds, K):
    x, y = clouds
    dense, v, u = distances(x, y), np.arange(5.0), np.arange(6.0)
    assert_close(K.matvec(v), dense @ v)
    assert_close(K.rmatvec(u), dense.T @ u)
    assert_close(Vi(x).difference_matrix(Vj(y)).sum(axis=1, backend="reference"), (x[:, None] - y).sum(1))
    assert K.factorize(K) is K.auto_factorize() is K


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("name", "method", "arguments", "dense"),
    [
        ("Sum", "sum", (), lambda F, axis: F.sum(axis)[:, None]),
        ("LogSumExp", "logsumexp", (), lambda F, axis: np.log(np.exp(F).sum(axis))[:, None]),
        ("Min", "min", (), lambda F, axis: F.min(axis)[:, None]),
        ("ArgMax", "argmax", (), lambda F, axis: F.argmax(axis)[:, None]),
        ("ArgKMin", "argKmin", (2,), lambda F, axis: np.moveaxis(F.argsort(axis), axis, -1)[:, :2]),
    ],
)
def test_reductions_by_any_name(name, method, arguments, dense, axis, clouds, K):
    expected = dense(distances(*clouds), axis)
    counted = {"opt_arg": arguments[0]} if arguments else {}
    K.backend = "reference"
    for result in (
        getattr(K, method)(*arguments, axis=axis),
        getattr(K, method)(*arguments, dim=axis),
        getattr(K, method)(*arguments, axis - 3),
        getattr(K, method)(*arguments, axis=axis, call=False)(),
        getattr(K, f"{method}_reduction")(axis=axis, **counted),
        K.reduction(name, axis=axis, **counted),
        K.reduction(method, *arguments, axis=axis),
    ):
        assert_close(result, expected, str(expected.dtype))


def test_weights(clouds, K):
    F, w = np.exp(distances(*clouds)), np.arange(1.0, 6.0)[:, None]
    w_j = Vj(w)
    for result in (K.logsumexp(1, weight=w_j), K.reduction("LogSumExpWeight", other=w_j, axis=1)):
        assert_close(result, np.log(F @ w))
    for result in (K.sumsoftmaxweight(w_j, axis=1), K.sumsoftmaxweight_reduction(axis=1, other=w_j)):
        assert_close(result, (F @ w) / F.sum(1, keepdims=True))


def test_vector_dimension(clouds):
    x, y = clouds
    squares = (Vi(x) - Vj(y)) ** 2
    for total in (squares.sum(-1), squares.sum(), squares.sum(2), squares.sum(dim=2, call=False)):
        assert_close(total.sum(axis=1, backend="reference")[:, 0], distances(x, y).sum(1))
    assert_close(squares.sum_reduction(dim=1, backend="reference"), ((x[:, None] - y) ** 2).sum(1))
    with pytest.raises(AxisError, match="sum_reduction needs axis=0"):
        squares.sum_reduction()


def test_symbolic_variables(clouds):
    """Placeholders come first, in the order of their indices; data stay in the formula."""
    x, y = clouds
    parameter = np.array([2.0])
    formula = (-LazyTensor((1, 1, 2)) * LazyTensor((0, 2, 0)).sqdist(Vj(y))).exp()
    reduced = formula.sum(axis=1)
    expected = np.exp(-2 * distances(x, y)).sum(1, keepdims=True)
    assert_close(reduced(x, parameter, backend="reference"), expected)
    batch, parameters = np.stack([x, x]), np.array([[2.0], [3.0]])
    assert_close(reduced(batch, parameters, backend="reference")[0], expected)
    weighted = formula.logsumexp(dim=1, weight=Vj(2, 1))
    assert_close(
        weighted(x, parameter, np.ones((5, 1))), np.log(np.exp(np.exp(-2 * distances(x, y))).sum(1))[:, None]
    )
    with pytest.raises(ShapeError, match="takes 2 arguments but 1 were given"):
        reduced(x)
    with pytest.raises(AxisError, match="category of a variable"):
        LazyTensor((0, 2, 3))


def test_lists_are_parameters(clouds):
    x = clouds[0]
    result = (Vi(x) * LazyTensor([2.0, 3.0])).sum(axis=1, backend="reference")
    assert_close(result, x * [2, 3])


def test_keywords(clouds, K):
    options = {"enable_chunks": False, "device_id": 0, "sum_scheme": "block_sum", "use_fast_math": True,
               "backend": "CPU", "dtype_acc": "auto", "ranges": None}  # fmt: skip
    assert_close(K.sum(dim=1, **options)[:, 0], distances(*clouds).sum(1))
    K.backend = "GPU_2D"
    with pytest.raises(BackendError):
        K.sum(dim=1)
    assert_close(K.sum(dim=1, backend="CPU")[:, 0], distances(*clouds).sum(1))
    with pytest.raises(TypeError, match="use_double"):
        K.sum(dim=1, backend="CPU", use_double=True)
    with pytest.raises(UnknownReductionError, match="no reduction 'Mode'"):
        K.reduction("Mode", axis=1)


def test_gradients(clouds):
    x, y = (torch.tensor(cloud, requires_grad=True) for cloud in clouds)
    K = LazyTensor(x[:, None]).sqdist(LazyTensor(y[None]))
    K.logsumexp(1, backend="CPU").sum().backward()
    softmax = torch.softmax(torch.tensor(distances(*clouds)), 1).numpy()
    assert_close(x.grad, 2 * (softmax[..., None] * (clouds[0][:, None] - clouds[1])).sum(1))


def test_ranges(clouds, K):
    x, y = clouds
    ranges = tuple(np.array(z) for z in ([[0, 2]], [1], [[1, 3]], [[1, 3]], [1], [[0, 2]]))
    expected = np.zeros((6, 1))
    expected[:2] = distances(x, y)[:2, 1:3].sum(1, keepdims=True)
    assert_close(K.sum(1, ranges=ranges, backend="reference"), expected)
    K.ranges = ranges
    assert_close(K.sum(1, backend="reference"), expected)
    symbolic = Vi(0, 2).sqdist(Vj(1, 2))
    symbolic.ranges = ranges
    assert_close(symbolic.sum(1)(x, y, backend="reference"), expected)
    assert_close(Vi(0, 2).sqdist(Vj(1, 2)).sum(1)(x, y, backend="reference", ranges=ranges), expected)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_clusters(convert, rng):
    """KeOps' signatures: the arguments that it needs to save time are accepted."""
    x, w = convert(sample(rng, (50, 2))), convert(sample(rng, (50,), (0.1, 1.0)))
    labels = cluster.grid_cluster(x, 0.5)
    count = int(labels.max()) + 1
    sizes = np.bincount(np.asarray(labels))
    ranges, centroids, weights = cluster.cluster_ranges_centroids(x, labels, weights=w, min_weight=1e-6)
    (x_sorted, w_sorted), sorted_labels = cluster.sort_clusters((x, w), labels)
    assert_close(np.diff(np.asarray(ranges), axis=1)[:, 0], sizes, "int64")
    assert_close(cluster.cluster_ranges(sorted_labels, convert(sizes)), ranges, "int64")
    means = [np.average(x_sorted[a:b], axis=0, weights=w_sorted[a:b]) for a, b in np.asarray(ranges)]
    assert_close(centroids, means)
    assert_close(cluster.cluster_centroids(x, labels, convert(sizes), weights=w, weights_c=weights), means)
    six = cluster.from_matrix(ranges, ranges, convert(np.eye(count, dtype=bool)))
    K = Vi(x_sorted).sqdist(Vj(x_sorted))
    within = sum(
        ((np.asarray(x_sorted[a:b])[:, None] - np.asarray(x_sorted[a:b])) ** 2).sum()
        for a, b in np.asarray(ranges)
    )
    total = np.asarray(K.sum(1, ranges=cluster.swap_axes(six), backend="reference")).sum()
    assert total == pytest.approx(within)


def test_complex_numbers(rng):
    z, w = (sample(rng, (n, 2)) + 1j * sample(rng, (n, 2)) for n in (6, 5))
    z_i, w_j = LazyTensor(z[:, None]), LazyTensor(w[None])
    x_i = LazyTensor(sample(rng, (6, 2))[:, None])
    results = (
        z_i,
        z_i * w_j,
        z_i + 1,
        2 * z_i,
        x_i * w_j,
        x_i.exp1j(),
        x_i.real2complex(),
        x_i.imag2complex(),
        z_i.conj(),
    )
    assert {type(result) for result in results} == {ComplexLazyTensor}
    reals = (z_i.real, z_i.imag, z_i.angle(), abs(z_i), z_i.real + z_i.imag, z_i.sqnorm2())
    assert {type(result) for result in reals} == {LazyTensor}
    assert (z_i.is_complex, z_i.real.is_complex, z_i.dtype, z_i._dtype) == (
        True,
        False,
        "complex128",
        "float64",
    )
    product = (z_i * w_j.conj()).exp()
    expected = np.exp(z[:, None] * w.conj()).sum(1)
    for result in (
        product.sum(1, backend="reference"),
        product.sum(dim=1, call=False, backend="reference")(),
        product.sum_reduction(axis=1, backend="reference"),
        product.reduction("Sum", axis=1, backend="reference", is_complex=True),
    ):
        np.testing.assert_allclose(result, expected, rtol=1e-12)
    total = product.sum(-1)
    assert type(total) is ComplexLazyTensor
    np.testing.assert_allclose(total.sum(1, backend="reference")[:, 0], expected.sum(-1), rtol=1e-12)


def test_solve(clouds):
    x, b = clouds[0], np.arange(6.0)[:, None]
    K = (-Vi(x).sqdist(Vj(x))).exp()
    expected = np.linalg.solve(np.exp(-distances(x, x)) + 0.5 * np.eye(6), b)
    for result in (
        K.solve(b, alpha=0.5, eps=1e-12),
        K.solve(Vi(b), alpha=0.5, eps=1e-12, backend="CPU", enable_chunks=False),
        K.solve(b, alpha=0.5, eps=1e-12, call=False)(),
    ):
        assert_close(result, expected, factor=10)
    ranges = tuple(np.array(z) for z in ([[0, 2], [2, 6]], [1, 2], [[0, 2], [2, 6]]) * 2)
    result = K.solve(b, alpha=0.5, eps=1e-12, ranges=ranges)
    block = np.exp(-distances(x[2:], x[2:])) + 0.5 * np.eye(4)
    assert_close(result[2:], np.linalg.solve(block, b[2:]), factor=10)
