"""Losses inside ``torch.compile``: same values and gradients, no recompilation."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from geomloss_ot import SamplesLoss, sinkhorn_divergence


def _image_loss(a, b):
    return sinkhorn_divergence(a[None], b[None]).sum()


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        (SamplesLoss(blur=0.2, tol=1e-5), (12, 2)),
        (SamplesLoss("hausdorff", blur=0.2, tol=1e-5), (12, 2)),
        (SamplesLoss("laplacian", blur=0.2), (12, 2)),
        (_image_loss, (6, 5)),
    ],
    ids=["sinkhorn", "hausdorff", "laplacian", "image"],
)
def test_compiled_training_step(loss, shape):
    torch.compiler.reset()
    generator = torch.Generator().manual_seed(0)
    target, scores = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))

    def step(scores):
        return 2 * loss(_unit(scores**2), _unit(target)) + (scores**2).sum()

    def gradient(function, scores):
        live = scores.clone().requires_grad_()
        value = function(live)
        return value.detach(), *torch.autograd.grad(value, live)

    compiled = torch.compile(step, backend="aot_eager")
    counters.clear()
    graphs = []
    for shift in (0.0, 0.1, 0.2):
        expected, actual = (gradient(function, scores + shift) for function in (step, compiled))
        torch.testing.assert_close(actual[0], expected[0])
        torch.testing.assert_close(actual[1], expected[1])
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert graphs[-1] == graphs[0]


def _unit(values):
    return values / values.sum()


def test_compiled_loss_after_a_layer():
    """Clouds of different sizes, in single precision: where tracing Sinkhorn's loop would fail."""
    torch.compiler.reset()
    generator = torch.Generator().manual_seed(0)
    layer, loss = torch.nn.Linear(2, 2), SamplesLoss(blur=0.2, tol=1e-4)
    x, y = torch.rand(30, 2, generator=generator), torch.rand(40, 2, generator=generator)

    def step(x):
        return loss(layer(x), y)

    (expected,) = torch.autograd.grad(step(x), layer.weight)
    (actual,) = torch.autograd.grad(torch.compile(step, backend="eager")(x), layer.weight)
    torch.testing.assert_close(actual, expected)
