"""torch.func: derivatives in every mode, vmap, and their compositions, against the same transforms of dense PyTorch."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, data, dense_sqdist, lazy_sqdist, random
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils import _pytree as pytree

EVERY = (0, 1, 2, 3)


def energy(function):
    return lambda *arguments: function(*arguments).sin().sum()


def directions(arguments, turn):
    return tuple(turn(argument) for argument in arguments)


def pushed(function):
    return lambda *arguments: jvp(function, arguments, directions(arguments, torch.cos))


TRANSFORMS = {
    "grad": lambda f: grad(energy(f), EVERY),
    "grad of grad": lambda f: grad(lambda *a: grad(energy(f))(*a).sin().sum(), EVERY),
    "vjp": lambda f: lambda *a: vjp(f, *a)[1](f(*a).cos()),
    "vjp of grad": lambda f: lambda *a: vjp(grad(energy(f)), *a)[1](a[0].cos()),
    "jvp": pushed,
    "jvp of jvp": lambda f: pushed(pushed(f)),
    "jvp of grad": lambda f: pushed(grad(energy(f))),
    "jacrev": lambda f: jacrev(f, EVERY),
    "jacfwd": lambda f: jacfwd(f, EVERY),
    "hessian": lambda f: hessian(energy(f), (0, 3)),
    "jacfwd of jacrev": lambda f: jacfwd(jacrev(f, 1), 0),
    "jacrev of jacfwd": lambda f: jacrev(jacfwd(f, 1), 0),
    "jacrev of jacrev": lambda f: jacrev(jacrev(f, 1), 0),
    "jacfwd of jacfwd": lambda f: jacfwd(jacfwd(f, 1), 0),
}


def assert_same(found, expected):
    """The same tree of tensors, up to rounding."""
    leaves, wanted = pytree.tree_leaves(found), pytree.tree_leaves(expected)
    assert len(leaves) == len(wanted) > 0
    for one, other in zip(leaves, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("case", CASES)
def test_derivatives(case, transform):
    apply = TRANSFORMS[transform]
    assert_same(apply(CASES[case].lazy)(*data()), apply(CASES[case].dense)(*data()))


# Which argument is mapped over, along which of its dimensions, three times.
MAPPED = {
    "x": ((0, None, None, None), {0: (3, 5, 3)}),
    "y along dimension 1": ((None, 1, None, None), {1: (4, 3, 3)}),
    "x, y and s": ((-1, 0, None, 0), {0: (5, 3, 3), 1: (3, 4, 3), 3: (3,)}),
}
BATCHING = {
    "vmap": lambda f, where: vmap(f, where),
    "out_dims": lambda f, where: vmap(f, where, out_dims=-1),
    "chunks": lambda f, where: vmap(f, where, chunk_size=2),
    "vmap of grad": lambda f, where: vmap(grad(energy(f), EVERY), where),
    "vmap of jvp": lambda f, where: vmap(pushed(f), where),
    "vmap of hessian": lambda f, where: vmap(hessian(energy(f)), where),
    "grad of vmap": lambda f, where: grad(energy(vmap(f, where)), EVERY),
    "jvp of vmap": lambda f, where: pushed(vmap(f, where)),
}


@pytest.mark.parametrize("transform", BATCHING)
@pytest.mark.parametrize("mapped", MAPPED)
@pytest.mark.parametrize("case", CASES)
def test_batches(case, mapped, transform):
    where, shapes = MAPPED[mapped]
    arguments = list(data())
    for position, shape in shapes.items():
        arguments[position] = random(*shape, seed=2) + 0.5
    apply = BATCHING[transform]
    found, expected = (apply(function, where)(*arguments) for function in CASES[case])
    assert_same(found, expected)


def test_nested_batches_come_out_in_order():
    x, y, s = random(2, 5, 3), random(6, 4, 3), random(6) + 0.5
    b = random(4, 2)

    def nested(function):
        return vmap(vmap(function, (0, None, None, None)), (None, 0, None, 0))

    found = nested(CASES["sum"].lazy)(x, y, b, s)
    assert found.shape == (6, 2, 5, 2)
    assert_same(found, nested(CASES["sum"].dense)(x, y, b, s))


@pytest.mark.parametrize("where", [(1, None), (None, 1), (0, 0)])
def test_mapped_dimensions_come_before_the_batches_of_the_formula(where):
    x = random(2, 2, 5, 3) if where[0] is not None else random(2, 5, 3)
    y = random(2, 2, 4, 3, seed=1) if where == (0, 0) else random(4, *(2,) * (where[1] == 1), 3, seed=1)
    found = vmap(lambda x, y: (-lazy_sqdist(x, y)).exp().sum(axis=2), where)(x, y)
    expected = vmap(lambda x, y: (-dense_sqdist(x, y)).exp().sum(-1, keepdim=True), where)(x, y)
    assert_same(found, expected)


def test_indices_are_mapped_and_not_differentiated():
    x, y = random(3, 5, 3), random(4, 3, seed=1)
    found = vmap(lambda x: lazy_sqdist(x, y).argmin(axis=1))(x)
    assert torch.equal(found, dense_sqdist(x, y).argmin(-1, keepdim=True))

    def smallest(points):
        value, index = lazy_sqdist(points, y).min_argmin(axis=1)
        return value.sum(), index

    gradient, index = vmap(grad(smallest, has_aux=True))(x)
    assert torch.equal(index, found)
    assert_same(gradient, 2 * (x - y[found[..., 0]]))


@pytest.mark.parametrize("sizes", [(0, 4), (5, 0)])
def test_transforms_of_empty_data(sizes):
    x, y = random(3, sizes[0], 3), random(sizes[1], 3)
    total = vmap(grad(lambda x, y: lazy_sqdist(x, y).sum(axis=1).sum()), (0, None))(x, y)
    assert torch.equal(total, torch.zeros_like(x))
    tangent = jvp(lambda x: lazy_sqdist(x, y).max(axis=1), (x[0],), (x[0],))[1]
    assert torch.equal(tangent, torch.zeros(sizes[0], 1, dtype=x.dtype))


class KernelSum(torch.nn.Module):
    """sum_j exp(-|x_i - y_j|^2) for learned points y."""

    def __init__(self) -> None:
        super().__init__()
        self.points = torch.nn.Parameter(random(4, 3))

    def forward(self, x):
        return (-lazy_sqdist(x, self.points)).exp().sum(axis=1)


def test_ensembles_of_modules():
    """Per-model gradients: vmap of grad of functional_call."""
    module, x, points = KernelSum(), random(5, 3, seed=1), random(6, 4, 3)

    def loss(points):
        return functional_call(module, {"points": points}, (x,)).pow(2).sum()

    def dense_loss(points):
        return (-dense_sqdist(x, points)).exp().sum(-1).pow(2).sum()

    assert_same(vmap(grad(loss))(points), vmap(grad(dense_loss))(points))


def test_closures_survive_their_transform():
    """What ``vjp`` returns is called after the transform has ended, and is itself differentiable."""
    x, y, b, s = data()
    points = x.clone().requires_grad_()
    pull = {}
    for kind in CASES["sum"]._fields:
        function = getattr(CASES["sum"], kind)
        (pulled,) = vjp(lambda x, f=function: f(x, y, b, s), points)[1](random(5, 2))
        pull[kind] = torch.autograd.grad(pulled.sin().sum(), points)[0]
    assert_same(pull["lazy"], pull["dense"])
