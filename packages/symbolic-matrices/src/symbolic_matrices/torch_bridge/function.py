"""One reduction as a node of PyTorch's graph, for reverse mode, forward mode, ``vmap`` and all their compositions.

The gradient of a reduction is a reduction of the gradient formula, itself differentiable: derivatives of any order. The
gradients with respect to all the variables of one axis come out of one kernel, so a backward pass launches at most two.
In forward mode, the tangent of a reduction is a reduction of the directional derivative: one launch more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import forward_ad

from ..execution import Request, execute
from ..formulas.expressions import Axis
from ..formulas.reductions import Kind, Returns, SelectingReduction, SmoothReduction
from .operator import call_operator, library, request_of
from .selection import gradients_of_selection, tangent_of_selection
from .smooth import Tensors, Wanted, gradients_of_smooth, tangent_of_smooth

Tensor = torch.Tensor


def reduce(request: Request, arrays: Tensors) -> Tensors:
    """Run a reduction as a differentiable function of the arrays, in reverse and in forward mode."""
    if not (torch._C._are_functorch_transforms_active() or _needs_derivatives(arrays)):
        return _evaluate(request, arrays)
    reduction = request.reduction
    if (
        isinstance(reduction, SelectingReduction)
        and reduction.returns is Returns.VALUES
        and not _is_empty(request)
    ):
        both = replace(request, reduction=reduction.returning(Returns.BOTH))  # derivatives need the indices
        return _apply(both, arrays)[:1]
    return _apply(request, arrays)


def _apply(request: Request, arrays: Tensors) -> Tensors:
    """A node of the graph. Where no transform listens, it is made without binding the arguments to a signature, which
    takes longer than a small kernel."""
    if torch._C._are_functorch_transforms_active():
        return ReductionFunction.apply(request, *arrays)
    plain_apply = super(torch.autograd.Function, ReductionFunction).apply
    return plain_apply(request, *unwrap_dead_wrappers(arrays))


def _needs_derivatives(arrays: Sequence[Tensor]) -> bool:
    if torch.is_grad_enabled():
        for array in arrays:
            if array.requires_grad:
                return True
    if forward_ad._current_level < 0:  # no forward mode
        return False
    return any(forward_ad.unpack_dual(array).tangent is not None for array in arrays)


def _evaluate(request: Request, arrays: Tensors) -> Tensors:
    """The values alone: straight from the kernel, or through the dispatcher where something listens to it."""
    if torch._C._len_torch_dispatch_stack() or not all(map(_is_plain, arrays)):
        return call_operator(request, arrays)
    return execute(request, tuple(map(request.library.detach, arrays)))


def _is_plain(array: Tensor) -> bool:
    """Whether the tensor has memory, and no rules of its own."""
    return type(array) in _PLAIN and not array.is_meta


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _is_empty(request: Request) -> bool:
    """Whether there is no pair at all, hence nothing to differentiate."""
    return 0 in request.sizes or 0 in request.batch_shape


class ReductionFunction(torch.autograd.Function):
    """A reduction with its derivatives and its batching rule."""

    @staticmethod
    def forward(request: Request, *arrays: Tensor) -> Tensors:
        return _evaluate(request, arrays)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        request: Request = inputs[0]
        indices = tuple([part for part in output if not part.is_floating_point()])
        ctx.mark_non_differentiable(*indices)
        reduction = request.reduction
        reads_output = isinstance(reduction, SmoothReduction) and reduction.cotangent_reads_output
        saved = (*inputs[1:], *(output if reads_output else indices))
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)
        ctx.request, ctx.variable_count = request, len(inputs) - 1

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        count: int = ctx.variable_count
        saved = ctx.saved_tensors  # once: checkpoints forbid to unpack twice
        arrays, kept = tuple(saved[:count]), tuple(saved[count:])
        wanted = tuple(ctx.needs_input_grad[1:])
        found = gradients_of(ctx.request, arrays, kept, upstream[0], wanted)
        return (None, *[found.get(position) for position in range(count)])

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        count: int = ctx.variable_count
        primals = tuple(map(without_tangent, ctx.saved_tensors))
        moving = {k: tangent for k, tangent in enumerate(tangents) if tangent is not None}
        # PyTorch switches forward mode off here, but an outer jvp follows what is computed: tangents of tangents
        with forward_ad._set_fwd_grad_enabled(True):
            tangent = tangent_of(ctx.request, primals[:count], primals[count:], moving)
        return (tangent, *(None for _ in ctx.request.reduction.kinds[1:]))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], request: Request, *arrays: Tensor) -> tuple[Tensors, int]:
        """The dimension that is mapped over becomes the first batch dimension of the kernel."""
        rank = len(request.batch_shape)
        batched = replace(request, batch_shape=(info.batch_size, *request.batch_shape))
        leading = (_lead(array, where, rank) for array, where in zip(arrays, in_dims[1:], strict=True))
        return ReductionFunction.apply(batched, *leading), 0


def without_tangent(array: Tensor) -> Tensor:
    """The primal part. The level is given, as compiled programs enter it behind the back of ``forward_ad``."""
    return forward_ad.unpack_dual(array, level=0).primal


def _lead(array: Tensor, where: int | None, rank: int) -> Tensor:
    """Move dimension ``where`` in front of ``rank`` batch dimensions; arrays that are not mapped broadcast."""
    if where is None:
        return array
    moved = array.movedim(where, 0)
    missing = rank - (moved.dim() - 3)
    return moved[(slice(None), *(None for _ in range(missing)))]


def _reduce_in_graph(
    arrays: list[Tensor], record: str, sizes: list[int], batch_shape: list[int]
) -> list[Tensor]:
    """The derivatives of the registered operator, for graphs that call it: those of exported programs."""
    if _needs_derivatives(arrays):
        return list(reduce(request_of(arrays, record, sizes, batch_shape), tuple(arrays)))
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.symbolic_matrices.reduce.default(arrays, record, sizes, batch_shape)


def _transform_in_graph(
    arrays: list[Tensor], record: str, sizes: list[int], batch_shape: list[int]
) -> list[Tensor]:
    return list(reduce(request_of(arrays, record, sizes, batch_shape), tuple(arrays)))


library.impl("reduce", _reduce_in_graph, "Autograd")
library.impl("reduce", _transform_in_graph, "FuncTorchDynamicLayerFrontMode")


def gradients_of(
    request: Request, arrays: Tensors, kept: Tensors, upstream: Tensor, wanted: Wanted
) -> dict[int, Tensor]:
    """The gradients that are wanted, by the position of their array; ``kept`` is what the forward pass saved beside."""
    reduction = request.reduction
    if Kind.VALUES not in reduction.kinds:
        return {}
    if _is_empty(request):
        return {k: torch.zeros_like(array) for k, array in enumerate(arrays) if wanted[k]}
    if isinstance(reduction, SmoothReduction):
        return gradients_of_smooth(request, arrays, kept, upstream, wanted, reduce)
    assert isinstance(reduction, SelectingReduction)
    return gradients_of_selection(request, arrays, kept[0], upstream, wanted, reduce)


def tangent_of(
    request: Request, arrays: Tensors, kept: Tensors, tangents: dict[int, Tensor]
) -> Tensor | None:
    """The tangent of the values, from those of the arrays that have one, by their position."""
    reduction = request.reduction
    if Kind.VALUES not in reduction.kinds:
        return None
    if _is_empty(request):
        rows = request.sizes[0] if request.axis is Axis.J else request.sizes[1]
        return arrays[0].new_zeros((*request.batch_shape, rows, *reduction.output_shape(request.formula.dim)))
    if isinstance(reduction, SmoothReduction):
        return tangent_of_smooth(request, arrays, kept, tangents, reduce)
    assert isinstance(reduction, SelectingReduction)
    return tangent_of_selection(request, arrays, kept[0], tangents, reduce)
