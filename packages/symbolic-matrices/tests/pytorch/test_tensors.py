"""Tensors of every kind through reductions and back, and the services of PyTorch's autograd around them."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from cases import CASES, data, dense_sqdist, lazy_sqdist, random
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from symbolic_matrices import LazyTensor, Vi, Vj
from symbolic_matrices.formulas.reductions import REDUCTIONS


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def gradients(function, leaves, make):
    """The gradients of a case with respect to leaves, from which ``make`` makes its four arguments."""
    output = function(*make(*leaves))
    found = torch.autograd.grad(output.sin().sum(), leaves, allow_unused=True)
    return [output, *(gradient for gradient in found if gradient is not None)]


def leaves_of(arguments):
    return [argument.detach().clone().requires_grad_() for argument in arguments]


# What users do to x, y, b and s before they reach a formula.
LAYOUTS = {
    "transposed": lambda x, y, b, s: (x.T.contiguous().T, y.T.contiguous().T, b, s),
    "with steps": lambda x, y, b, s: (x.repeat(2, 1)[::2], y.flip(0), b.repeat(1, 2)[:, ::2], s),
    "expanded": lambda x, y, b, s: (x[:1].expand(5, 3), y, b[:1].expand(4, 2), s),
    "views of one tensor": lambda x, y, b, s: (x, x[1:], x[1:, :2], s),
    "parameters of shape (1,)": lambda x, y, b, s: (x, y, b, s.reshape(1)),
    "negated views": lambda x, y, b, s: (
        torch.view_as_complex(torch.stack([x, -x], -1)).conj().imag, y, b, s,
    ),
}  # fmt: skip


# Equal rows tie, and dense PyTorch shares the gradient of a tie differently.
SELECTING = ("max over i", "Kmin")
PAIRS = [
    (case, layout) for case in CASES for layout in LAYOUTS if (case in SELECTING) <= (layout != "expanded")
]


@pytest.mark.parametrize(("case", "layout"), PAIRS)
def test_layouts(case, layout):
    function, make = CASES[case], LAYOUTS[layout]
    leaves = leaves_of(data())
    assert_same(gradients(function.lazy, leaves, make), gradients(function.dense, leaves, make))


@pytest.mark.parametrize("case", ["sum", "logsumexp"])
@pytest.mark.parametrize("sizes", [(0, 4), (5, 0), (0, 0)])
def test_empty_tensors(case, sizes):
    leaves = leaves_of(data(*sizes))
    found, expected = (gradients(f, leaves, lambda *a: a) for f in CASES[case])
    assert_same(found[1:], [torch.zeros_like(gradient) for gradient in found[1:]])
    assert_same(found[:1], expected[:1])


def test_empty_batches():
    x, y = random(0, 5, 3).requires_grad_(), random(4, 3).requires_grad_()
    total = (-lazy_sqdist(x, y)).exp().sum(axis=2)
    assert total.shape == (0, 5, 1)
    for gradient, leaf in zip(torch.autograd.grad(total.sum(), (x, y)), (x, y), strict=True):
        assert torch.equal(gradient, torch.zeros_like(leaf))


# ---------------------------------------------------------------------- subclasses


class Named(torch.Tensor):
    """A tensor that remembers which functions were called on it."""

    calls: tuple[str, ...] = ()

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.calls = (*cls.calls, str(function))
        return super().__torch_function__(function, types, args, kwargs or {})


def test_subclasses_keep_their_class_and_gradients():
    x, y, b, s = data()
    leaf = x.clone().requires_grad_()
    named = leaf.as_subclass(Named)
    output = CASES["sum"].lazy(named, y, b, s)
    assert type(output) is Named
    assert any("symbolic_matrices" in call for call in Named.calls)
    expected = CASES["sum"].dense(leaf, y, b, s)
    torch.testing.assert_close(output.as_subclass(torch.Tensor), expected)
    found = torch.autograd.grad(output.as_subclass(torch.Tensor).sum(), leaf)
    assert_same(found, torch.autograd.grad(expected.sum(), leaf))


def test_parameters_and_modules_learn():
    points = torch.nn.Parameter(random(4, 3))
    optimizer = torch.optim.SGD([points], lr=0.1)
    before = lazy_sqdist(random(5, 3), points).sum(axis=1).sum()
    before.backward()
    optimizer.step()
    assert lazy_sqdist(random(5, 3), points).sum(axis=1).sum() < before


# ---------------------------------------------------------------------- modes


def test_inference_mode():
    x, y, b, s = leaves_of(data())
    with torch.inference_mode():
        output = CASES["sum"].lazy(x, y, b, s)
        assert output.is_inference()
        frozen = random(5, 3)
    torch.testing.assert_close(output.clone(), CASES["sum"].dense(x, y, b, s).detach())
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        CASES["sum"].lazy(frozen, y, b, s)


def test_no_grad_inside_and_outside():
    x, y, b, s = leaves_of(data())
    with torch.no_grad():
        assert not CASES["sum"].lazy(x, y, b, s).requires_grad
        matrix = (-lazy_sqdist(x, y) / s).exp()
        with torch.enable_grad():
            assert (matrix @ b).requires_grad


def test_anomaly_mode():
    leaves = leaves_of(data())
    with pytest.warns(UserWarning, match="Anomaly"), torch.autograd.detect_anomaly(check_nan=True):
        found = gradients(CASES["logsumexp"].lazy, leaves, lambda *a: a)
    assert_same(found, gradients(CASES["logsumexp"].dense, leaves, lambda *a: a))


# ---------------------------------------------------------------------- the graph


def test_data_that_change_before_backward_are_noticed():
    x, y, b, s = leaves_of(data())
    moved = x * 1
    output = CASES["sum"].lazy(moved, y, b, s)
    moved += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
    output = CASES["logsumexp"].lazy(x, y, b, s)
    output *= 2
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_graphs_are_freed_and_retained():
    x, y, b, s = leaves_of(data())
    output = CASES["sum"].lazy(x, y, b, s).sum()
    once = torch.autograd.grad(output, (x, y), retain_graph=True)
    assert_same(once, torch.autograd.grad(output, (x, y)))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output, (x, y))


def test_hooks_see_and_change_gradients():
    x, y, b, s = leaves_of(data())
    expected = torch.autograd.grad(CASES["sum"].dense(x, y, b, s).sum(), x)[0]
    seen = []
    output = CASES["sum"].lazy(x, y, b, s)
    output.register_hook(lambda gradient: seen.append(gradient) or 2 * gradient)
    x.register_hook(lambda gradient: gradient + 1)
    output.sum().backward()
    assert_same(seen, [torch.ones_like(output)])
    assert_same([x.grad], [2 * expected + 1])


def test_saved_tensors_may_be_packed():
    x, y, b, s = leaves_of(data())
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().numpy().copy(), torch.from_numpy):
        output = CASES["logsumexp"].lazy(x, y, b, s).sum()
    expected = CASES["logsumexp"].dense(x, y, b, s).sum()
    assert_same(torch.autograd.grad(output, (x, y, s)), torch.autograd.grad(expected, (x, y, s)))


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("case", ["sum", "Kmin"])
def test_checkpoints(case, use_reentrant):
    x, y, b, s = leaves_of(data())
    checkpoint(CASES[case].lazy, x, y, b, s, use_reentrant=use_reentrant).sin().sum().backward()
    expected = torch.autograd.grad(CASES[case].dense(x, y, b, s).sin().sum(), (x, y))
    assert_same([x.grad, y.grad], expected)


def test_threads_run_backward_at_once():
    """Several threads, one leaf: gradients add up, and each thread's own are right."""
    x = random(50, 3).requires_grad_()
    targets = [random(40, 3, seed=k) for k in range(8)]
    found = [None] * len(targets)

    def work(k):
        energy = (-lazy_sqdist(x, targets[k])).logsumexp(axis=1).sum()
        (found[k],) = torch.autograd.grad(energy, x)
        (-lazy_sqdist(x, targets[k])).exp().sum(axis=1).sum().backward()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(targets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [torch.autograd.grad((-dense_sqdist(x, y)).logsumexp(-1).sum(), x)[0] for y in targets]
    assert_same(found, expected)
    total = torch.autograd.grad(sum((-dense_sqdist(x, y)).exp().sum() for y in targets), x)
    assert_same([x.grad], total)


class Nearest(torch.nn.Module):
    """Holds a reduction with placeholders beside its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.points = torch.nn.Parameter(random(4, 3))
        self.reduction = Vi(0, 3).sqdist(Vj(1, 3)).min(axis=1)

    def forward(self, x):
        return self.reduction(x, self.points)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_modules_are_copied_with_their_reductions(copied):
    module, x = Nearest(), random(5, 3, seed=1)
    twin = copied(module)
    assert twin.points is not module.points
    assert_same([twin(x)], [module(x)])
    matrix = copied((-lazy_sqdist(x, random(4, 3))).exp())
    assert isinstance(matrix, LazyTensor)
    assert matrix.sum(axis=1).shape == (5, 1)


def test_functional_derivatives():
    x, y, b, s = data()
    for derivative in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
        found, expected = (derivative(lambda x, f=f: f(x, y, b, s).sin().sum(0)[0], x) for f in CASES["sum"])
        assert_same([found], [expected])
    found, expected = (
        torch.autograd.functional.vhp(lambda x, f=f: f(x, y, b, s).sum(), x, x.cos())[1] for f in CASES["sum"]
    )
    assert_same([found], [expected])


# ---------------------------------------------------------------------- every reduction of the table


def _arguments_of(row):
    return (2,) if row.is_counted else ()


@pytest.mark.parametrize("name", REDUCTIONS)
def test_derivatives_of_every_reduction(name):
    """First and second order, in reverse and in forward mode, through the values that it returns."""
    row = REDUCTIONS[name]
    x, y, b = (
        random(4, 2).requires_grad_(),
        random(3, 2, seed=1).requires_grad_(),
        random(3, 2).requires_grad_(),
    )

    def values(x, y, b):
        matrix = (Vi(x) * 2 - Vj(y)).square().sum(-1) + Vj(b)[..., 0]
        options = {"weight": Vj(b)} if row.make is None else {}
        outputs = matrix.reduction(name, *_arguments_of(row), axis=1, **options)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output for output in outputs if output.is_floating_point())

    found = values(x, y, b)
    if not any(output.requires_grad for output in found):
        assert name.startswith("arg") or name in WITHOUT_GRADIENT
        return
    assert gradcheck(values, (x, y, b), check_forward_ad=True)
    assert gradgradcheck(values, (x, y, b), atol=1e-4)


WITHOUT_GRADIENT = ("any", "all", "count")
