"""Every row of the table of operations, on every backend and dtype: values, first and second derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample

from symbolic_matrices import LazyTensor, ShapeError, Vi, Vj
from symbolic_matrices.arrays import NUMPY
from symbolic_matrices.formulas.operations import OPERATIONS, Operation
from symbolic_matrices.formulas.operations.table import row

ROWS = [pytest.param(operation, id=name) for name, operation in OPERATIONS.items()]
M, N = 5, 4


def has_gradient(operation: Operation) -> bool:
    nodes = [Vi(0, d)._formula for d in operation.dims or (1,) * operation.arity]
    parts = operation.derivative(
        operation(*nodes, attributes=operation.attributes), *nodes, *operation.attributes
    )
    return any(part is not None for part in parts)


DIFFERENTIABLE = [p for p in ROWS if has_gradient(p.values[0])]
SMOOTH = [p for p in DIFFERENTIABLE if p.values[0].smooth]


def arguments(operation: Operation, rng, dtype: str) -> list[np.ndarray]:
    """One array per argument: the first along i, the others along j."""
    dims = operation.dims or (3,) * operation.arity
    sizes = [M] + [N] * (operation.arity - 1)
    return [
        sample(rng, (n, d), interval, dtype)
        for n, d, interval in zip(sizes, dims, operation.domain, strict=True)
    ]


def formula(operation: Operation, arrays) -> LazyTensor:
    variables = [Vi(arrays[0]), *map(Vj, arrays[1:])]
    return variables[0]._apply(operation, *variables[1:], attributes=operation.attributes)


def dense(operation: Operation, arrays) -> np.ndarray:
    """All the values, shape (M, N, D), in float64."""
    x, *others = (array.astype("float64") for array in arrays)
    full = [x[:, None, :] + np.zeros((1, N, 1)), *(y[None, :, :] + np.zeros((M, 1, 1)) for y in others)]
    return operation.reference(NUMPY.namespace, *full, *operation.attributes)


@pytest.mark.parametrize("operation", ROWS)
def test_values(operation, backend, dtype, rng):
    arrays = arguments(operation, rng, dtype)
    columns = N if operation.arity > 1 else 1
    expected = dense(operation, arrays)[:, :columns].sum(1)
    assert_close(formula(operation, arrays).sum(axis=1, backend=backend), expected, dtype)


@pytest.mark.parametrize("operation", DIFFERENTIABLE)
def test_compiled_gradients_equal_the_reference(operation, rng):
    arrays = arguments(operation, rng, "float64")

    def gradients(backend: str):
        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        out = formula(operation, tensors).sum(axis=1, backend=backend)
        upstream = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
        return torch.autograd.grad(out, tensors, upstream)

    for compiled, reference in zip(gradients("cpu"), gradients("reference"), strict=True):
        assert_close(compiled.numpy(), reference.numpy(), factor=10)


@pytest.mark.parametrize("operation", SMOOTH)
def test_first_and_second_derivatives(operation, rng):
    """Symbolic derivatives against finite differences of the reference backend."""
    tensors = [torch.tensor(a, requires_grad=True) for a in arguments(operation, rng, "float64")]

    def reduce(*data):
        return formula(operation, data).sum(axis=1, backend="reference")

    assert torch.autograd.gradcheck(reduce, tensors)
    assert torch.autograd.gradgradcheck(reduce, tensors)


@pytest.mark.parametrize("name", ["sqrt", "norm2", "rsqrt", "abs"])
def test_gradients_at_zero_are_zero(name, backend):
    x = torch.zeros(3, 1 if name != "norm2" else 2, dtype=torch.float64, requires_grad=True)
    value = getattr(Vi(x), name)().sum(axis=1, backend=backend)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))
    assert torch.equal(value, torch.zeros_like(value))


SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 2.5, -3.0, 1e-30, 1e30, np.inf, -np.inf, np.nan)


@pytest.mark.parametrize("arity", [1, 2, 3])
def test_special_values_agree_on_all_backends(arity, dtype):
    """All the component-wise operations of one arity, side by side in one kernel; the minimum of one keeps NaN."""
    operations = [o for o in OPERATIONS.values() if o.is_componentwise and o.arity == arity]
    values = SPECIAL if arity < 3 else SPECIAL[::2]
    grid = [v.reshape(-1, 1) for v in np.meshgrid(*(np.array(values, dtype),) * arity)]

    def side_by_side(convert, backend):
        first, *others = (Vi(convert(array)) for array in grid)
        results = [first._apply(o, *others, attributes=o.attributes) for o in operations]
        return np.asarray(LazyTensor.cat(results).min(axis=1, backend=backend))

    compiled = side_by_side(np.asarray, "cpu")
    for convert in (np.asarray, torch.tensor):
        expected = side_by_side(convert, "reference")
        for k, operation in enumerate(operations):
            np.testing.assert_allclose(
                compiled[:, k], expected[:, k], rtol=1e-5, atol=1e-6, err_msg=operation.name
            )


def test_gamma_functions(backend):
    x = np.array([[0.5], [1.0], [4.0], [-0.5], [0.0]])
    lgamma = [math.log(math.pi) / 2, 0, math.log(6), math.log(2 * math.sqrt(math.pi)), math.inf]
    digamma = [-1.9635100260214235, -np.euler_gamma, 11 / 6 - np.euler_gamma, 0.03648997397857652, -math.inf]
    trigamma = [math.pi**2 / 2, math.pi**2 / 6, math.pi**2 / 6 - 49 / 36, math.pi**2 / 2 + 4, math.inf]
    found = [Vi(x).lgamma(), Vi(x).polygamma(0), Vi(x).polygamma(1)]
    for tensor, expected in zip(found, (lgamma, digamma, trigamma), strict=True):
        assert_close(tensor.max(axis=1, backend=backend)[:, 0], expected)
    reflected = torch.linspace(-5.83, -0.17, 9, dtype=torch.float64)[:, None]
    for n in (2, 3, 4):
        expected = torch.polygamma(n, reflected)
        assert_close(Vi(reflected).polygamma(n).sum(axis=1, backend=backend), expected)
    with pytest.raises(ValueError, match="order of a derivative must be 0 or more but got -1"):
        Vi(x).polygamma(-1)


def test_components_broadcast(backend, rng):
    x, s = sample(rng, (M, 3)), sample(rng, (N, 1))
    expected = (x[:, None, :] * s[None, :, :]).sum(1)
    assert_close((Vi(x) * Vj(s)).sum(axis=1, backend=backend), expected)


@pytest.mark.parametrize(
    ("build", "dense"),
    [
        (lambda x, y: x**3, lambda x, y: x**3),
        (lambda x, y: x**-2, lambda x, y: x**-2.0),
        (lambda x, y: x**0.5, lambda x, y: np.sqrt(x)),
        (lambda x, y: x**1.7, lambda x, y: x**1.7),
        (lambda x, y: 2.0**x, lambda x, y: 2.0**x),
        (lambda x, y: 1 / x, lambda x, y: 1 / x),
        (lambda x, y: 3 - x / 2, lambda x, y: 3 - x / 2),
        (lambda x, y: (x > y) + 2 * (x >= y), lambda x, y: (x > y) + 2.0 * (x >= y)),
        (lambda x, y: (x < y) & (y > 0.5), lambda x, y: 1.0 * ((x < y) & (y > 0.5))),
        (lambda x, y: (x < y) | (y > 0.5), lambda x, y: 1.0 * ((x < y) | (y > 0.5))),
        (lambda x, y: (x - y).ifelse(x, y), lambda x, y: np.maximum(x, y)),
        (lambda x, y: (x == x) * (x != y), lambda x, y: 1.0 * (x != y)),
        (lambda x, y: abs(x - y), lambda x, y: abs(x - y)),
        (lambda x, y: (x - y).mod(0.3, -0.1), lambda x, y: (x - y) - 0.3 * np.floor((x - y + 0.1) / 0.3)),
        (lambda x, y: (x - y).clamp(-0.2, 0.3), lambda x, y: np.clip(x - y, -0.2, 0.3)),
        (lambda x, y: x[..., 1:] * y[..., 0], lambda x, y: x[..., 1:] * y[..., :1]),
        (lambda x, y: x[..., -1] - y.elem(1), lambda x, y: x[..., -1:] - y[..., 1:2]),
        (lambda x, y: x.concat(y, x * y), lambda x, y: np.concatenate(np.broadcast_arrays(x, y, x * y), -1)),
        (lambda x, y: LazyTensor.cat([x, y]), lambda x, y: np.concatenate(np.broadcast_arrays(x, y), -1)),
        (lambda x, y: x.normalize(), lambda x, y: x / np.linalg.norm(x, axis=-1, keepdims=True)),
        (lambda x, y: (x - y).norm(-1), lambda x, y: np.linalg.norm(x - y, axis=-1, keepdims=True)),
        (lambda x, y: ((x - y) ** 2).sum(-1), lambda x, y: ((x - y) ** 2).sum(-1, keepdims=True)),
        (lambda x, y: (x - y).max(-1), lambda x, y: (x - y).max(-1, keepdims=True)),
        (lambda x, y: (x - y).min(), lambda x, y: (x - y).min(-1, keepdims=True)),
        (lambda x, y: (x - y).argmax(axis=2), lambda x, y: 1.0 * (x - y).argmax(-1)[..., None]),
        (lambda x, y: (x - y).argmin(dim=-1), lambda x, y: 1.0 * (x - y).argmin(-1)[..., None]),
        (lambda x, y: (x - y).argmin().one_hot(3), lambda x, y: np.eye(3)[(x - y).argmin(-1)]),
        (lambda x, y: x.cross(y), lambda x, y: np.cross(*np.broadcast_arrays(x, y))),
        (lambda x, y: x.weightedsqdist(y, 2.0), lambda x, y: 2 * ((x - y) ** 2).sum(-1, keepdims=True)),
        (lambda x, y: x.weightedsqdist(y, y), lambda x, y: (y * (x - y) ** 2).sum(-1, keepdims=True)),
        (
            lambda x, y: x.weightedsqdist(y, np.arange(9.0)),
            lambda x, y: np.einsum("ijk,kl,ijl->ij", x - y, np.arange(9.0).reshape(3, 3), x - y)[..., None],
        ),
        (lambda x, y: x | y, lambda x, y: (x * y).sum(-1, keepdims=True)),
    ],
)
def test_spelling_of_users(build, dense, rng):
    x, y = sample(rng, (M, 3), (0.1, 1.0)), sample(rng, (N, 3), (0.1, 1.0))
    values = dense(x[:, None, :], y[None, :, :])
    assert_close(build(Vi(x), Vj(y)).sum(axis=1, backend="reference"), values.sum(1), factor=10)


def test_incomplete_rows_are_refused():
    complete = {"name": "odd", "doc": "Odd.", "reference": None, "derivative": None, "domain": ((0, 1),)}
    with pytest.raises(TypeError, match="needs either a component or a statement"):
        row(**complete)
    with pytest.raises(TypeError, match="shape rule"):
        row(**complete, statement=lambda out, x: "")
    with pytest.raises(TypeError, match="doc line and the domain"):
        row(**{**complete, "doc": ""}, component="{0}")
    with pytest.raises(TypeError, match="Two operations are called 'exp'"):
        row(**{**complete, "name": "exp"}, component="{0}")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda x, y: x + y, "add: vector dimensions 3 and 2 do not match"),
        (lambda x, y: x.sqdist(y), "sqdist: vector dimensions 3 and 2"),
        (lambda x, y: x.matvecmult(y), "a matrix of 3 entries cannot multiply a vector of dimension 2"),
        (lambda x, y: x.extract(2, 2), "Components 2 to 3 of a vector of dimension 3 do not exist"),
        (lambda x, y: x.elem(5), "valid ones are 0 to 2"),
        (lambda x, y: x.cross(y), "two vectors of dimension 3 but got 3 and 2"),
        (lambda x, y: x.weightedsqnorm(y), "dimension 1, 3 or 9 but have 2"),
    ],
)
def test_dimensions_that_do_not_fit(build, words, rng):
    with pytest.raises(ShapeError, match=words):
        build(Vi(sample(rng, (M, 3))), Vj(sample(rng, (N, 2))))
