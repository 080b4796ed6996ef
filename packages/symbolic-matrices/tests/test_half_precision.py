"""float16 and bfloat16 data: computed and accumulated in float32, rounded once; autocast as for PyTorch's own sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close

from symbolic_matrices import ArrayTypeError, LazyTensor, Pm, Vi, Vj, column_index

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}  # of one number


@pytest.fixture(params=HALVES)
def half(request: pytest.FixtureRequest) -> str:
    return request.param


def clouds(half: str, requires_grad: bool = False) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = ((40, 3), (300, 3), (300, 1))
    data = [torch.randn(shape, generator=generator).to(HALVES[half]) for shape in shapes]
    return [x.requires_grad_(requires_grad) for x in data]


def gaussian(x, y, b, **options):
    return ((-Vi(x).sqdist(Vj(y)) / 2).exp() * Vj(b)).sum(axis=1, **options)


def dense_gaussian(x, y, b):
    return (-(torch.cdist(x, y) ** 2) / 2).exp() @ b


def assert_rounded(actual: torch.Tensor, expected: torch.Tensor, half: str, steps: float = 1.0) -> None:
    """Each entry within ``steps`` roundings of the largest one."""
    assert actual.dtype is HALVES[half]
    assert actual.shape == expected.shape
    error = (actual.double() - expected.double()).abs().max() / expected.abs().max()
    assert error <= steps * ROUNDING[half]


def test_values_are_rounded_once(half, backend):
    data = clouds(half)
    expected = dense_gaussian(*(x.double() for x in data))
    assert_rounded(gaussian(*data, backend=backend), expected, half, 1.01)


def test_gradients(half):
    data = clouds(half, requires_grad=True)
    doubles = [x.detach().double().requires_grad_() for x in data]
    gradients = torch.autograd.grad(gaussian(*data).float().square().sum(), data)
    expected = torch.autograd.grad(dense_gaussian(*doubles).square().sum(), doubles)
    for actual, reference in zip(gradients, expected, strict=True):
        assert_rounded(actual, reference, half, 4)  # the forward pass, its upstream gradient, its own


def test_sums_accumulate_in_float32(half):
    ones = (
        torch.ones(50_000, 1, dtype=HALVES[half]) / 8
    )  # a running sum in half precision would stop at 2^8 or 2^11
    assert_rounded(Vj(ones).sum(axis=1), torch.tensor([[6250.0]]), half)


def test_numpy_halves(backend):
    x, y, b = (t.numpy() for t in clouds("float16"))
    expected = np.exp(-((x[:, None].astype("float64") - y[None]) ** 2).sum(-1) / 2) @ b.astype("float64")
    actual = gaussian(x, y, b, backend=backend)
    assert actual.dtype == np.float16
    assert abs(actual - expected).max() <= 1.01 * ROUNDING["float16"] * abs(expected).max()


def test_halves_share_the_kernels_of_float32(half):
    x, y, b = clouds(half)
    widened = gaussian(x.float(), y.float(), b.float())
    assert torch.equal(gaussian(x, y, b), widened.to(HALVES[half]))


def test_indices_and_parameters(half):
    x, y, _ = clouds(half)
    distances = Vi(x).sqdist(Vj(y)) * Pm(torch.tensor(2.0, dtype=HALVES[half]))
    assert distances.dtype is HALVES[half]
    value, index = distances.min_argmin(axis=1)
    assert value.dtype is HALVES[half]
    assert index.dtype is torch.int64
    dense = 2 * torch.cdist(x.double(), y.double()) ** 2
    assert_rounded(value, dense.amin(1, keepdim=True), half, 1.01)
    assert torch.equal(index, dense.argmin(1, keepdim=True))
    assert Vi(x).sqdist(Vj(y)).argKmin(3, axis=1).dtype is torch.int64


def test_parameters_of_half_precision_alone(half):
    parameter = LazyTensor(torch.tensor(1.5, dtype=HALVES[half]))
    assert_rounded((parameter * 2).sum(axis=1), torch.tensor([[3.0]]), half)


def test_precisions_do_not_mix(half):
    x, y, _ = clouds(half)
    with pytest.raises(ArrayTypeError, match="share one library, dtype and device"):
        Vi(x).sqdist(Vj(y.float()))


def test_autocast_computes_in_float32(half):
    """What autocast made half and what it left alone work together, and nothing is rounded."""
    layer = torch.nn.Linear(3, 3)
    x, y, b = (t.float() for t in clouds(half))
    with torch.autocast("cpu", dtype=HALVES[half]):
        features = layer(x)
        assert features.dtype is HALVES[half]
        value = gaussian(features, y, b)
        assert Vi(features).dtype is torch.float32
    assert value.dtype is torch.float32
    assert_close(
        value.detach().numpy(),
        dense_gaussian(features.double(), y.double(), b.double()).detach().numpy(),
        "float32",
    )
    value.sum().backward()
    assert layer.weight.grad.abs().max() > 0


def test_autocast_leaves_float64_alone():
    x, y, b = (t.double() for t in clouds("bfloat16"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gaussian(x, y, b).dtype is torch.float64


def test_gradients_of_selections_read_positions_exactly(half):
    """The entry x_i (5000 - j) is least at j = 4999, which no half holds."""
    x = torch.ones(2, 1, dtype=HALVES[half], requires_grad=True)
    ones = torch.ones(5000, 1, dtype=HALVES[half])
    matrix = Vi(x) * Vj(ones)
    least = (matrix * (5000 - column_index(matrix))).min(axis=1)
    (gradient,) = torch.autograd.grad(least.sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))
