"""The public class: roles of arrays, shapes, transposition, products, batches, placeholders, run-time numbers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix_testing import assert_close, sample

from symbolic_matrices import LazyTensor, Pm, Profile, Vi, Vj


def gaussian(x, y, scale):
    return (-x.sqdist(y) / (2 * scale**2)).exp()


def dense_gaussian(x, y, scale):
    return np.exp(-((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1) / (2 * scale**2))


@pytest.fixture
def clouds(rng):
    return sample(rng, (6, 3)), sample(rng, (5, 3))


def test_roles_of_arrays(clouds):
    x, y = clouds
    assert LazyTensor(x[:, None, :]).shape == (6, 1, 3)
    assert LazyTensor(y[None, :, :]).shape == (1, 5, 3)
    assert LazyTensor(x[:1, None, :]).shape == (1, 1, 3)
    assert LazyTensor([1.0, 2.0]).shape == (1, 1, 2)
    assert Vi(x).shape == LazyTensor(x, axis=0).shape == (6, 1, 3)
    assert Vj(y).shape == LazyTensor(y, axis=1).shape == (1, 5, 3)
    assert (Vi(x) - Vj(y)).shape == (6, 5, 3)
    assert Vi(x).sqdist(Vj(y)).shape == (6, 5)
    assert (Vi(x).ndim, Vi(x).dim(), Vi(x).dtype, Vi(x).device) == (3, 3, np.dtype("float64"), "cpu")


def test_transposition(clouds, backend):
    x, y = clouds
    K = gaussian(Vi(x), Vj(y), 0.5) * Pm(2.0)
    dense = 2 * dense_gaussian(x, y, 0.5)
    assert K.T.shape == (5, 6)
    assert K.T.T.shape == K.shape
    assert_close(K.T.sum(axis=1, backend=backend)[:, 0], dense.sum(0))
    assert_close(K.sum(axis=0, backend=backend)[:, 0], dense.sum(0))


def test_matrix_vector_products(clouds, rng):
    x, y = clouds
    K, dense = gaussian(Vi(x), Vj(y), 0.5), dense_gaussian(x, y, 0.5)
    v, wide = sample(rng, (5,)), sample(rng, (5, 7))
    assert_close(K @ v, dense @ v)
    assert_close(K @ wide, dense @ wide)
    u = sample(rng, (6,))
    assert_close(K.T @ u, dense.T @ u)
    assert_close(u @ K, u @ dense)


def test_one_point_each(rng):
    x, y = sample(rng, (1, 2)), sample(rng, (1, 2))
    for K in (gaussian(Vi(x), Vj(y), 1.0), gaussian(LazyTensor(x[:, None]), LazyTensor(y[None]), 1.0)):
        assert_close(K @ np.ones(1), dense_gaussian(x, y, 1.0)[:, 0])


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.sampled_from(
        [((), ()), ((2,), ()), ((), (3,)), ((2, 1), (3,)), ((2, 3), (1, 3)), ((1,), (1,)), ((0,), (0,))]
    ),
    M=st.integers(1, 40),
    N=st.integers(1, 40),
)
def test_batches_broadcast_as_in_numpy(shapes, M, N):
    rng = np.random.default_rng(M * 100 + N)
    x, y = sample(rng, (*shapes[0], M, 3)), sample(rng, (*shapes[1], N, 3))
    K = gaussian(LazyTensor(x[..., :, None, :]), LazyTensor(y[..., None, :, :]), 0.7)
    dense = dense_gaussian(x, y, 0.7)
    batch = dense.ndim - 2
    assert K.shape == dense.shape or 1 in (M, N)
    assert_close(K.sum(axis=batch + 1)[..., 0], dense.sum(-1))
    assert_close(K.sum(dim=batch)[..., 0], dense.sum(-2))
    assert_close(K @ np.ones((N, 2)), dense @ np.ones((N, 2)))


def test_arrays_of_any_layout(clouds, backend):
    x, y = clouds
    strided = np.asfortranarray(np.repeat(x, 2, axis=0))[::2]
    reverse = y[::-1]
    expanded = torch.tensor(x[:1]).expand(6, 3)
    assert_close(
        gaussian(Vi(strided), Vj(reverse), 0.5).sum(axis=1, backend=backend)[:, 0],
        dense_gaussian(x, y, 0.5).sum(1),
    )
    result = gaussian(Vi(expanded), Vj(torch.tensor(y)), 0.5).sum(axis=1, backend=backend)
    assert_close(result[:, 0], dense_gaussian(expanded.numpy(), y, 0.5).sum(1))


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(">f8"),
        lambda x: np.rec.fromarrays([np.zeros(len(x), "u2"), x], dtype=[("a", "u2"), ("x", "f8", 3)]).x,
        lambda x: x[::-1][::-1],
        lambda x: np.asfortranarray(x),
    ],
)
def test_unusual_numpy_arrays(convert, clouds, backend):
    x, y = clouds
    result = gaussian(Vi(convert(x)), Vj(y), 0.5).sum(axis=1, backend=backend)
    assert_close(result[:, 0], dense_gaussian(x, y, 0.5).sum(1))


@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda tensor: pickle.loads(pickle.dumps(tensor))])
def test_copies_work_with_originals(copy_of, clouds):
    K = gaussian(Vi(clouds[0]), Vj(clouds[1]), 0.5)
    assert_close((copy_of(K) * K).sum(axis=1), (K * K).sum(axis=1))


def test_one_dimensional_arrays_of_other_dtypes_are_parameters(clouds):
    x = Vi(clouds[0].astype("float32"))
    for weights in (
        np.array([1, 2, 3]),
        np.array([True, False, True]),
        np.arange(3.0),
        np.arange(3, dtype="float16"),
    ):
        assert (x * weights).sum(axis=1).dtype == np.float32


def test_expanded_batches_are_not_copied(clouds):
    x, y = (torch.tensor(cloud) for cloud in clouds)
    batch = x.expand(4, 6, 3)
    K = gaussian(LazyTensor(batch[:, :, None, :]), LazyTensor(y[None, :, :]), 0.5)
    assert_close(K.sum(axis=2)[..., 0], np.tile(dense_gaussian(*clouds, 0.5).sum(1), (4, 1)))


def test_libraries_agree(clouds, backend):
    numpy = gaussian(Vi(clouds[0]), Vj(clouds[1]), 0.5).sum(axis=1, backend=backend)
    x, y = (torch.tensor(cloud) for cloud in clouds)
    tensor = gaussian(Vi(x), Vj(y), 0.5).sum(axis=1, backend=backend)
    assert isinstance(numpy, np.ndarray)
    assert isinstance(tensor, torch.Tensor)
    assert_close(tensor, numpy)


def test_arrays_on_the_left(clouds):
    x, y = clouds
    K = Vi(x).sqdist(Vj(y))
    for two in (2, 2.0, np.float64(2), np.array(2.0), np.array([2.0])):
        for doubled in (two * K, K * two):
            assert_close(doubled.sum(axis=1), 2 * K.sum(axis=1))
    tensor = Vi(torch.tensor(x)).sqdist(Vj(torch.tensor(y)))
    assert_close((torch.tensor(2.0) * tensor).sum(axis=1), 2 * K.sum(axis=1))


def test_numbers_follow_the_dtype_of_the_arrays(clouds):
    x, y = (cloud.astype("float32") for cloud in clouds)
    for scale in (0.5, np.float64(0.5), np.array(0.5), [0.5]):
        assert gaussian(Vi(x), Vj(y), Pm(scale)).sum(axis=1).dtype == np.float32


def test_numbers_are_exact_in_every_library():
    x = np.zeros((3, 1))
    for number in (0.1, [0.1], np.float64(0.1), np.array(0.1)):
        for array in (x, torch.tensor(x)):
            assert float((Vi(array) + number).sum(axis=1)[0, 0]) == 0.1


def test_new_numbers_need_no_new_kernel(clouds):
    x, y = clouds
    gaussian(Vi(x), Vj(y), 0.5).sum(axis=1)
    with Profile() as profile:
        result = gaussian(Vi(x), Vj(y), 0.25).sum(axis=1)
    assert (profile.kernels, profile.launches) == (0, 1)
    assert_close(result[:, 0], dense_gaussian(x, y, 0.25).sum(1))


def test_data_that_occur_twice_are_read_once(clouds):
    x, _ = clouds
    square = Vi(x).sqdist(Vj(x)) + (Vi(x) | Vj(x))
    assert len(square._bindings) == 2


def test_equal_formulas_share_a_kernel(clouds):
    x, y = clouds
    first, second = ((Vi(a) - Vj(b)).exp() for a, b in ((x, y), (x.copy(), y.copy())))
    assert first._formula is second._formula


def test_symbolic_gradient(clouds, rng, backend):
    x, y = clouds
    b = sample(rng, (5, 1))
    x_i = Vi(x)
    K = gaussian(x_i, Vj(y), 0.5)
    gradient = K.grad(x_i, Vj(b)).sum(axis=1, backend=backend)
    dense = dense_gaussian(x, y, 0.5)
    expected = -(dense[..., None] * (x[:, None] - y[None]) * b[None] / 0.25).sum(1)
    assert_close(gradient, expected)


def test_placeholders(clouds, rng):
    x, y = clouds
    formula = (-(Vi(0, 3).sqdist(Vj(1, 3))) * Pm(2, 1)).exp() * Vj(3, 2)
    matvec = formula.sum(axis=1)
    b = sample(rng, (5, 2))
    for backend in ("auto", "reference"):
        assert_close(matvec(x, y, 2.0, b, backend=backend), dense_gaussian(x, y, 0.5) @ b)
    batch = matvec(np.stack([x, x]), np.stack([y, y]), np.array([2.0]), b)
    assert_close(batch[1], dense_gaussian(x, y, 0.5) @ b)
    assert "placeholder of dimension 3" in repr(matvec)


def test_representation_reads_like_the_formula(clouds):
    text = repr(gaussian(Vi(clouds[0]), Vj(clouds[1]), 0.5))
    assert text.startswith("LazyTensor of shape (6, 5): exp((-sqdist(x0, y1)) / p2)")
    assert "i-variable: numpy array of shape (6, 3), float64, on cpu" in text


def test_methods_come_from_the_table():
    assert LazyTensor.tanh.__doc__ == "Hyperbolic tangent."
    with pytest.raises(TypeError, match=r"atan2 takes 1 arguments \(y\) but 0 were given"):
        Vi(np.zeros((3, 1))).atan2()
    x = Vi(np.array([[-2.0], [0.5], [2.0]]))
    for clamped in (x.clamp(-1, 1), x.clamp(-1, b=1), x.clamp(b=1, a=-1)):
        assert_close(clamped.sum(axis=1)[:, 0], [-1.0, 0.5, 1.0])
    for wrong in ({"b": 1}, {"a": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}):
        with pytest.raises(TypeError, match=r"clamp takes 2 arguments \(a, b\)"):
            x.clamp(**wrong)


def test_operations_keep_subclasses(clouds):
    class Matrix(LazyTensor):
        __slots__ = ()

    x, y = Matrix(clouds[0], axis=0), Matrix(clouds[1], axis=1)
    results = (
        2 * x,
        x - y,
        (x | y).exp(),
        1 / x.sqdist(y),
        x.concat(y),
        x[..., 0],
        x.T,
        -x,
        x + clouds[0][:, None],
    )
    assert {type(result) for result in results} == {Matrix}
    assert_close((1 / x.sqdist(y)).sum(axis=1), (1 / Vi(clouds[0]).sqdist(Vj(clouds[1]))).sum(axis=1))
