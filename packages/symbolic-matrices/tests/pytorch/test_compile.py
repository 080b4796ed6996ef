"""torch.compile without graph breaks, forward and backward; tracers and torch.export, against the eager results."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from cases import CASES, data, dense_sqdist, lazy_sqdist, random
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses import FakeTensorMode
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from symbolic_matrices import (
    BlockRanges,
    LazyTensor,
    Pm,
    ShapeError,
    Vi,
    Vj,
    column_index,
    indices,
    row_index,
)


@pytest.fixture(autouse=True)
def _forget_compiled_functions():
    torch._dynamo.reset()


def assert_same(found, expected):
    """The same tree of tensors, up to rounding."""
    leaves, wanted = pytree.tree_leaves(found), pytree.tree_leaves(expected)
    assert len(leaves) == len(wanted) > 0
    for one, other in zip(leaves, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def compiled(function, **options):
    return torch.compile(function, **{"backend": "aot_eager", "fullgraph": True, **options})


def values_and_gradients(function, arguments):
    wanted = [argument.clone().requires_grad_() for argument in arguments]
    output = function(*wanted)
    gradients = torch.autograd.grad(output.sin().sum(), wanted, allow_unused=True)
    return output, [gradient for gradient in gradients if gradient is not None]


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case, dynamic):
    function = compiled(CASES[case].lazy, dynamic=dynamic)
    for rows in (5, 6, 7):
        found, expected = (values_and_gradients(f, data(rows)) for f in (function, CASES[case].dense))
        assert_same(found, expected)


def test_inductor():
    found = values_and_gradients(compiled(CASES["sum"].lazy, backend="inductor"), data())
    assert_same(found, values_and_gradients(CASES["sum"].dense, data()))


def test_second_derivatives_of_a_compiled_gradient():
    """Compiled functions are differentiated once; a compiled function that asks for gradients itself, once more."""

    def squared_gradient(x, y):
        with torch.enable_grad():
            energy = (-lazy_sqdist(x, y)).exp().sum(axis=1).sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0].pow(2).sum()

    x, y = random(5, 3).requires_grad_(), random(4, 3)
    traced = make_fx(squared_gradient)(x, y)
    assert_same(traced(x, y), squared_gradient(x, y))


def operators(x, y, t):
    """Every way of writing a formula, between symbolic matrices, numbers and tensors ``t``."""
    a, b = Vi(x), Vj(y)
    return [
        formula.sum(axis=1)
        for formula in (
            a + b, a - b, a * b, a / (b + 1), -a * abs(b), 2 * a, 1 - b, 1 / (a + 1), (a | b), (a - b).square(),
            a**2, (a + 1) ** 0.5, a < b, a <= b, a > b, a >= b, a == b, a != b, (a < b) & (b > a), (a < b) | (a > b),
            t + b, b + t, t - b, b - t, t * b, b * t, t / (b + 1), (b + 1) / t, t < b, b < t, t >= b, b >= t,
            t == b, b != t, a[..., 0] * b[..., 1:], a.concat(b), LazyTensor.cat([a, b, a]), a.elem(1).exp(),
            a.sqdist(b).sqrt(), a.sum(-1) * b.max(), (a - b).norm(), a.ifelse(b, 0.0), a.clamp(0.2, 0.7),
            Pm(0.5) * a, a.weightedsqdist(b, [1.0, 2.0, 3.0]), a.sqdist(b).T + a.sqdist(b),
        )
    ]  # fmt: skip


def test_every_operator():
    arguments = random(4, 3), random(4, 3, seed=1), random(3)
    assert_same(compiled(lambda *a: operators(*a), backend="eager")(*arguments), operators(*arguments))


def products(x, y, v, w):
    """v @ K reduces rows, K @ w reduces columns: told apart, although all the matrices are square."""
    K = (Vi(x)[..., 0] * 2 + Vj(y)[..., 1]).sin()
    return K @ w, w @ K, K @ w[:, 0], K.T @ w, v @ K, K.sum(axis=0), K.sum(dim=1), (K * K) @ w


def test_products_of_both_orders():
    arguments = random(4, 3), random(4, 3, seed=1), random(4, 2), random(4, 2, seed=1)
    assert_same(compiled(products)(*arguments), products(*arguments))


def reductions(x, y, w):
    K = Vi(x).sqdist(Vj(y))
    return (
        K.min(axis=1), K.argmin(axis=1), K.min_argmin(axis=0), K.argKmin(2, axis=1), K.Kmin_argKmin(2, dim=1),
        K.reduction("max_argmax", axis=1), K.logsumexp(1), K.logsumexp(axis=1, weight=Vj(w)), (Vi(x) * Vj(y)).sum(1),
    )  # fmt: skip


def test_every_reduction():
    arguments = random(5, 3), random(4, 3, seed=1), random(4, 2)
    assert_same(compiled(reductions)(*arguments), reductions(*arguments))


def test_sizes_dtypes_and_devices_may_be_read():
    def function(x, y):
        K = Vi(x).sqdist(Vj(y))
        assert K.ndim == K.dim() == 3
        assert K.device == "cpu"
        rows, columns = K.shape
        return K.sum(axis=1).to(K.dtype) / columns + rows

    arguments = random(5, 3), random(4, 3)
    assert_same(compiled(function, dynamic=True)(*arguments), function(*arguments))


def test_batches():
    def function(x, y):
        return (-lazy_sqdist(x, y)).exp().sum(axis=2), (-lazy_sqdist(x, y)).logsumexp(axis=-2)

    arguments = random(2, 5, 3), random(4, 3)
    assert_same(compiled(function, dynamic=True)(*arguments), function(*arguments))


def test_block_ranges():
    ranges = BlockRanges([[0, 2], [2, 5]], [1, 2], [[0, 3], [1, 4]])

    def function(x, y):
        return (-lazy_sqdist(x, y)).exp().sum(axis=1, ranges=ranges)

    arguments = random(5, 3), random(4, 3)
    found, expected = (values_and_gradients(f, arguments) for f in (compiled(function), function))
    assert_same(found, expected)


def test_positions():
    def function(x, y):
        K = lazy_sqdist(x, y)
        i, j = indices(*K.shape)
        return ((i <= j) * K).sum(axis=1), (K * (row_index(K) != column_index(K))).sum(axis=1)

    arguments = random(5, 3), random(4, 3)
    assert_same(compiled(function, dynamic=True)(*arguments), function(*arguments))


def test_half_precision_and_autocast():
    def function(x, y):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = (-lazy_sqdist(x, y)).exp().sum(axis=1)
        return mixed, (-lazy_sqdist(x, y)).exp().sum(axis=1)

    arguments = random(5, 3).bfloat16(), random(4, 3).bfloat16()
    found, expected = compiled(function)(*arguments), function(*arguments)
    assert [output.dtype for output in found] == [torch.float32, torch.bfloat16]
    assert_same(found, expected)


def test_entries():
    def function(x, rows):
        K = lazy_sqdist(x, x)
        return K.dense(), K.diagonal(), K[rows], K.mean(axis=1), (K < 0.5).count(axis=1)

    arguments = random(5, 3), torch.tensor([0, 2])
    assert_same(compiled(function)(*arguments), function(*arguments))


TRANSFORMS = {
    "grad": lambda f: grad(lambda x, y: f(x, y).sum()),
    "jvp": lambda f: lambda x, y: jvp(lambda x: f(x, y), (x,), (x,)),
    "vmap": lambda f: lambda x, y: vmap(f, (None, 0))(x, torch.stack([y, y + 1])),
    "vmap of grad": lambda f: lambda x, y: vmap(grad(lambda x: f(x, y).sum()))(torch.stack([x, x + 1])),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_inside(transform):
    lazy, dense = (
        TRANSFORMS[transform](f)
        for f in (
            lambda x, y: (-lazy_sqdist(x, y)).exp().sum(axis=1),
            lambda x, y: (-dense_sqdist(x, y)).exp().sum(-1, keepdim=True),
        )
    )
    arguments = random(5, 3), random(4, 3)
    assert_same(compiled(lazy)(*arguments), dense(*arguments))


# ---------------------------------------------------------------------- recompilation


def test_new_numbers_and_sizes_do_not_recompile():
    counter = CompileCounterWithBackend("aot_eager")
    function = compiled(lambda x, s: (-lazy_sqdist(x, x) / s).exp() @ x, backend=counter)
    for scale in (0.5, 0.6, 0.7, 0.8):
        x = random(5, 3)
        assert_same(function(x, scale), (-dense_sqdist(x, x) / scale).exp() @ x)
    assert counter.frame_count == 2  # PyTorch takes the first number as a constant, until it changes
    for rows in (6, 7, 8):
        function(random(rows, 3), 0.5)
    assert counter.frame_count == 3


def test_numbers_in_tensors_never_recompile():
    counter = CompileCounterWithBackend("aot_eager")
    function = compiled(CASES["sum"].lazy, backend=counter)
    counts = set()
    for scale in (0.5, 0.6, 0.7):
        arguments = (*data()[:3], torch.tensor([scale], dtype=torch.float64))
        assert_same(function(*arguments), CASES["sum"].dense(*arguments))
        counts.add(counter.frame_count)
    assert counts == {1}


# ---------------------------------------------------------------------- modules, closures, placeholders


class Smoother(torch.nn.Module):
    """A kernel smoother with learned points, and a reduction with placeholders that is made once."""

    def __init__(self) -> None:
        super().__init__()
        self.points = torch.nn.Parameter(random(4, 3))
        self.scale = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.nearest = Vi(0, 3).sqdist(Vj(1, 3)).min(axis=1)

    def forward(self, x):
        weights = (-lazy_sqdist(x, self.points) / self.scale).exp()
        return weights.sum(axis=1) + self.nearest(x, self.points)

    def dense(self, x):
        distances = dense_sqdist(x, self.points)
        return (-distances / self.scale).exp().sum(-1, keepdim=True) + distances.amin(-1, keepdim=True)


def test_modules():
    module, x = Smoother(), random(5, 3, seed=1)
    found = compiled(module)(x)
    assert_same(found, module.dense(x))
    gradients, expected = (
        torch.autograd.grad(out.sum(), tuple(module.parameters())) for out in (found, module.dense(x))
    )
    assert_same(gradients, expected)


def test_placeholders_inside():
    def function(x, y, s):
        kernel = (-Vi(0, 3).sqdist(Vj(1, 3)) * Pm(2, 1)).exp().sum(axis=1)
        return kernel(x, y, s) + kernel(y, x, s).sum()

    arguments = random(5, 3), random(4, 3, seed=1), random(1)
    assert_same(compiled(function)(*arguments), function(*arguments))


def test_symbolic_matrices_cross_graph_breaks():
    """Outside of the compiled part they work as usual; what they hold still gets gradients."""

    def function(x, y):
        K = (-lazy_sqdist(x, y)).exp()
        torch._dynamo.graph_break()
        return (K * 2).sum(axis=1), K

    x, y = random(5, 3).requires_grad_(), random(4, 3)
    total, K = torch.compile(function, backend="aot_eager")(x, y)
    expected = 2 * (-dense_sqdist(x, y)).exp().sum(-1, keepdim=True)
    assert isinstance(K, LazyTensor)
    assert K.shape == (5, 4)
    assert "exp" in repr(K)
    assert_same((total, 2 * K.sum(axis=1), (K + K).sum(axis=1)), (expected,) * 3)
    assert_same(torch.autograd.grad(K.sum(axis=1).sum(), x), torch.autograd.grad(expected.sum() / 2, x))


def test_symbolic_matrices_from_outside_run_eagerly():
    """A compiled function cannot follow data that it did not receive as tensors: it breaks its graph there."""
    matrix, b = (-lazy_sqdist(random(5, 3), random(4, 3))).exp(), random(4, 2).requires_grad_()

    def function(b):
        return matrix @ b, (Vj(b) * matrix).sum(axis=1) * 2

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Dynamo")  # it does not go on inside of the engine
        found = torch.compile(function, backend="aot_eager")(b)
    expected = function(b)
    assert_same(found, expected)
    assert_same(*(torch.autograd.grad(sum(outputs).sum(), b) for outputs in (found, expected)))


def test_errors_keep_their_words():
    def function(x, y):
        return (Vi(x) + Vi(y)).sum(axis=1)

    with pytest.raises(Exception, match="must have the same length M"):
        compiled(function)(random(5, 3), random(4, 3))
    with pytest.raises(ShapeError, match="must have the same length M"):
        function(random(5, 3), random(4, 3))


def test_compilation_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        compiled(CASES["sum"].lazy)(*data())


# ---------------------------------------------------------------------- other tracers


def several(x, y, b):
    K = (-lazy_sqdist(x, y) / 0.5).exp()
    return K @ b, *K.min_argmin(axis=1), K.Kmin(2, axis=0)


def test_shapes_without_values():
    arguments = data()[:3]
    expected = several(*arguments)
    mode = FakeTensorMode()
    for found in (
        several(*(argument.to("meta") for argument in arguments)),
        several(*(mode.from_tensor(argument) for argument in arguments)),
    ):
        for one, other in zip(found, expected, strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(mode):
    graph = make_fx(several, tracing_mode=mode)(*data()[:3])
    assert sum("symbolic_matrices" in str(node.target) for node in graph.graph.nodes) == 3
    arguments = data(7 if mode == "symbolic" else 5)[:3]
    assert_same(graph(*arguments), several(*arguments))


class Several(torch.nn.Module):
    def forward(self, x, y, b):
        return several(x, y, b)


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    shapes = ({0: rows}, {0: columns}, {0: columns})
    program = torch.export.export(Several(), data()[:3], dynamic_shapes=shapes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    arguments = data(7, 6)[:3]
    assert_same(loaded(*arguments), several(*arguments))


def test_graphs_are_differentiated_and_mapped():
    """A graph that was traced without derivatives calls the operator itself, which has them all."""
    graph, dense = make_fx(CASES["sum"].lazy)(*data()), CASES["sum"].dense
    assert_same(values_and_gradients(graph, data()), values_and_gradients(dense, data()))
    assert_same(*(jacrev(f)(*data()) for f in (graph, dense)))
    assert_same(*(hessian(lambda *a, f=f: f(*a).sum())(*data()) for f in (graph, dense)))
    wanted = tuple(argument.requires_grad_() for argument in data())
    assert gradcheck(graph, wanted, check_forward_ad=True)
    assert gradgradcheck(graph, wanted)
    x, _, _, s = data()
    where, stacked = (0, None, None, 0), (torch.stack([x, 2 * x]), *data()[1:3], torch.stack([s, 2 * s]))
    assert_same(*(vmap(f, where)(*stacked) for f in (graph, dense)))
    assert_same(*(vmap(jacrev(f), where)(*stacked) for f in (graph, dense)))
