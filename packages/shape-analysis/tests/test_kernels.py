"""Kernels: each row against its formula in plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from shape_analysis import Kernel
from shape_analysis.kernels import PROFILES
from symbolic_matrices import Vi, Vj

FORMULAS = {
    "gaussian": lambda r: torch.exp(-(r**2)),
    "laplacian": lambda r: torch.exp(-r),
    "cauchy": lambda r: 1 / (1 + r**2),
}


def test_every_row_has_a_formula():
    assert set(FORMULAS) == set(PROFILES)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("scale", [0.7, (0.3, 2.0)], ids=["one scale", "two scales"])
def test_values(name, scale, dtype, tolerance, rng):
    x = torch.randn(20, 3, dtype=dtype, generator=rng)
    y = torch.randn(30, 3, dtype=dtype, generator=rng)
    kernel = Kernel(name, scale)
    expected = sum(FORMULAS[name](torch.cdist(x, y) / s) for s in kernel.scales).sum(dim=1, keepdim=True)
    assert_close(kernel(Vi(x), Vj(y)).sum(axis=1), expected, rtol=10 * tolerance, atol=0)


@pytest.mark.parametrize("name", PROFILES)
def test_gradient_is_finite_where_points_meet(name, rng):
    x = torch.randn(5, 2, generator=rng).requires_grad_()
    Kernel(name, 1.0)(Vi(x), Vj(x)).sum(axis=1).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), (), (1.0, 0.0)])
def test_scales_must_be_positive(scale):
    with pytest.raises(ValueError, match=r"scale of a kernel must be positive"):
        Kernel("gaussian", scale)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match=r"'gauss'.*'gaussian', 'laplacian', 'cauchy'"):
        Kernel("gauss", 1.0)
