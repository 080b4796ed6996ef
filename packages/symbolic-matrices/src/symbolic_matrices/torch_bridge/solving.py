"""Linear systems as nodes of PyTorch's graph: A dx = db - dA x gives derivatives of any order.

The gradient with respect to b is the solution of the transposed system, itself differentiable. Those of the data of K
are the gradients of the product K x.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad

from ..solvers import LinearSystem, SolveReport
from .function import gradients_of, tangent_of, without_tangent
from .smooth import Tensors

Tensor = torch.Tensor


def solve(system: LinearSystem, b: Tensor, alpha: Any, arrays: Tensors) -> tuple[Tensor, SolveReport]:
    """The solution x of (K + alpha Id) x = b, as a differentiable function of b, alpha and the data of K."""
    outcome = _Outcome()
    alpha = torch.as_tensor(alpha, dtype=b.dtype, device=b.device)
    x = _SolveFunction.apply(system, outcome, b, alpha, *arrays)
    assert outcome.report is not None
    return x, outcome.report


class _Outcome:
    """Takes the report out of the function, whose results are tensors."""

    report: SolveReport | None = None


class _SolveFunction(torch.autograd.Function):
    @staticmethod
    def forward(system: LinearSystem, outcome: _Outcome, b: Tensor, alpha: Tensor, *arrays: Tensor) -> Tensor:
        detach = system.request.library.detach
        x, outcome.report = system.solve(detach(b), detach(alpha), tuple(map(detach, arrays)))
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.system, (_, alpha, *arrays) = inputs[0], inputs[2:]
        ctx.save_for_backward(output, alpha, *arrays)
        ctx.save_for_forward(output, alpha, *arrays)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, *arrays = ctx.saved_tensors
        adjoint, _ = solve(ctx.system.transposed, upstream, alpha, tuple(arrays))
        wanted = tuple(ctx.needs_input_grad[2:])
        of_alpha = -(adjoint * x).sum_to_size(alpha.shape) if wanted[1] else None
        request = ctx.system.product_request(len(arrays), x.shape[-1])
        found = gradients_of(request, (*arrays, x), (), -adjoint, (*wanted[2:], False))
        return (None, None, adjoint, of_alpha, *(found.get(k) for k in range(len(arrays))))

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, alpha, *arrays = map(without_tangent, ctx.saved_tensors)
        of_b, of_alpha, *of_arrays = tangents[2:]
        moving = {k: tangent for k, tangent in enumerate(of_arrays) if tangent is not None}
        with forward_ad._set_fwd_grad_enabled(True):
            change = torch.zeros_like(x) if of_b is None else of_b
            if of_alpha is not None:
                change = change - of_alpha * x
            if moving:
                request = ctx.system.product_request(len(arrays), x.shape[-1])
                moved = tangent_of(request, (*arrays, x), (), moving)
                assert moved is not None
                change = change - moved
            return solve(ctx.system, change, alpha, tuple(arrays))[0]
