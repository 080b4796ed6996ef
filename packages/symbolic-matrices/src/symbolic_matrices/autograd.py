"""Owns the bridge to PyTorch's automatic differentiation. Loaded only by users of PyTorch tensors.

The gradient of a reduction is a reduction of the gradient formula, itself differentiable: derivatives of any order. The
gradients with respect to all the variables of one axis come out of one kernel, so a backward pass launches at most two.
In forward mode, the tangent of a reduction is a reduction of the directional derivative: one launch more.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd import forward_ad

from .differentiation import directional_derivative, gradients
from .execution import Request, execute
from .expressions import Axis, Node, Variable, constant, rebuild, variable, variables_of
from .operations.indexing import concat
from .operations.pointwise import multiply
from .reductions import Returns, SelectingReduction, SmoothReduction, Sum

Tensor = torch.Tensor


def reduce(request: Request, arrays: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Run a reduction as a differentiable function of the arrays, in reverse and in forward mode."""
    if not _needs_derivatives(arrays):
        return execute(request, tuple(request.library.detach(array) for array in arrays))
    reduction = request.reduction
    if (
        isinstance(reduction, SelectingReduction)
        and reduction.returns is Returns.VALUES
        and not _is_empty(request)
    ):
        both = replace(request, reduction=reduction.returning(Returns.BOTH))  # derivatives need the indices
        return _ReductionFunction.apply(both, *arrays)[:1]
    return _ReductionFunction.apply(request, *arrays)


def _needs_derivatives(arrays: tuple[Tensor, ...]) -> bool:
    if torch.is_grad_enabled() and any(array.requires_grad for array in arrays):
        return True
    return any(forward_ad.unpack_dual(array).tangent is not None for array in arrays)


def _is_empty(request: Request) -> bool:
    """Whether there is no pair at all, hence nothing to differentiate."""
    return 0 in request.sizes or 0 in request.batch_shape


class _ReductionFunction(torch.autograd.Function):
    """One reduction as a node of PyTorch's graph."""

    @staticmethod
    def forward(ctx: Any, request: Request, *arrays: Tensor) -> tuple[Tensor, ...]:
        outputs = execute(request, tuple(request.library.detach(array) for array in arrays))
        indices = tuple(output for output in outputs if not output.is_floating_point())
        ctx.mark_non_differentiable(*indices)
        reads_output = (
            isinstance(request.reduction, SmoothReduction) and request.reduction.cotangent_reads_output
        )
        saved = (*arrays, *(outputs if reads_output else indices))
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)
        ctx.request, ctx.variable_count = request, len(arrays)
        return outputs

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        count: int = ctx.variable_count
        arrays, kept = tuple(ctx.saved_tensors[:count]), tuple(ctx.saved_tensors[count:])
        wanted = tuple(ctx.needs_input_grad[1:])
        found = _gradients(ctx.request, arrays, kept, upstream[0], wanted)
        return (None, *(found.get(position) for position in range(count)))

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        count: int = ctx.variable_count
        primals = tuple(forward_ad.unpack_dual(saved).primal for saved in ctx.saved_tensors)
        moving = {k: tangent for k, tangent in enumerate(tangents) if tangent is not None}
        tangent = _tangent(ctx.request, primals[:count], primals[count:], moving)
        return (tangent, *(None for _ in ctx.request.reduction.kinds[1:]))


def _gradients(
    request: Request,
    arrays: tuple[Tensor, ...],
    kept: tuple[Tensor, ...],
    upstream: Tensor,
    wanted: tuple[bool, ...],
) -> dict[int, Tensor]:
    """The gradients that are wanted, by the position of their array; ``kept`` is what the forward pass saved beside."""
    reduction = request.reduction
    if _is_empty(request):
        return {k: torch.zeros_like(array) for k, array in enumerate(arrays) if wanted[k]}
    if isinstance(reduction, SmoothReduction):
        return _gradients_of_smooth(request, arrays, kept, upstream, wanted)
    assert isinstance(reduction, SelectingReduction)
    if reduction.returns is Returns.INDICES:
        return {}
    return _gradients_of_selection(request, arrays, kept[0], upstream, wanted)


# ---------------------------------------------------------------------- smooth reductions


@dataclass(frozen=True)
class _GradientKernel:
    """One launch of a backward pass: the gradients of several variables, side by side."""

    formula: Node
    axis: Axis  # the axis that is reduced
    variables: tuple[Variable, ...]


@functools.lru_cache(maxsize=4096)
def _gradient_kernels(
    formula: Node, reduction: SmoothReduction, axis: Axis, wanted: tuple[bool, ...]
) -> tuple[_GradientKernel, ...]:
    """The kernels of a backward pass: one for the kept axis and the parameters, one for the reduced axis.

    They read the arrays of the forward pass, then the upstream gradient, then the output if they need it.
    """
    kept = axis.swapped
    output_dim = reduction.output_shape(formula.dim)[0]
    upstream = variable(len(wanted), kept, output_dim)
    output = variable(len(wanted) + 1, kept, output_dim)
    cotangent = reduction.cotangent(formula, output, upstream)
    asked = [v for v in variables_of(formula) if wanted[v.index]]
    along_reduced = tuple(v for v in asked if v.axes is axis)
    others = tuple(v for v in asked if v.axes is not axis)
    kernels = []
    for variables, reduced in ((others, axis), (along_reduced, kept)):
        if variables:
            parts = gradients(formula, cotangent, variables)
            kernels.append(_GradientKernel(functools.reduce(concat, parts), reduced, variables))
    return tuple(kernels)


def _gradients_of_smooth(
    request: Request,
    arrays: tuple[Tensor, ...],
    kept: tuple[Tensor, ...],
    upstream: Tensor,
    wanted: tuple[bool, ...],
) -> dict[int, Tensor]:
    assert isinstance(request.reduction, SmoothReduction)
    data = (*arrays, upstream, *kept)
    found: dict[int, Tensor] = {}
    for kernel in _gradient_kernels(request.formula, request.reduction, request.axis, wanted):
        (joined,) = reduce(replace(request, formula=kernel.formula, reduction=Sum(), axis=kernel.axis), data)
        parts = joined.split([v.dim for v in kernel.variables], dim=-1)
        for v, part in zip(kernel.variables, parts, strict=True):
            found[v.index] = part.sum_to_size(
                arrays[v.index].shape
            )  # also sums parameters over the kept axis
    return found


# ---------------------------------------------------------------------- reductions that select entries


def _gradients_of_selection(
    request: Request, arrays: tuple[Tensor, ...], indices: Tensor, upstream: Tensor, wanted: tuple[bool, ...]
) -> dict[int, Tensor]:
    """Differentiate the selected entries F(x_i, y_j(i)) alone, one row per entry, without the double loop."""
    selection = _Selection.of(request, indices, upstream)
    pairs = tuple(
        selection.gather(v, arrays[v.index]) for v in _dense_variables(request.formula, len(arrays))
    )
    row_request = _selected_rows(request, request.formula, selection)
    formula = row_request.formula
    cotangent = variable(len(arrays), Axis.I, formula.dim)
    asked = tuple(v for v in variables_of(formula) if wanted[v.index])
    if not asked:
        return {}
    joined_formula = functools.reduce(concat, gradients(formula, cotangent, asked))
    (joined,) = reduce(replace(row_request, formula=joined_formula), (*pairs, selection.cotangents))
    parts = joined.split([v.dim for v in asked], dim=-1)
    originals = {v.index: v for v in variables_of(request.formula)}
    return {
        v.index: selection.scatter(originals[v.index], part, arrays[v.index])
        for v, part in zip(asked, parts, strict=True)
    }


def _selected_rows(request: Request, formula: Node, selection: _Selection) -> Request:
    """The values of a formula at the selected entries, one row per entry."""
    return replace(
        request, formula=_along_rows(formula), reduction=Sum(), axis=Axis.J, sizes=(selection.entries, 1)
    )


def _dense_variables(formula: Node, count: int) -> list[Variable]:
    """One variable per array; those that the formula does not read count as parameters."""
    read = {v.index: v for v in variables_of(formula)}
    return [read.get(index, variable(index, Axis.PARAMETER, 1)) for index in range(count)]


def _along_rows(formula: Node) -> Node:
    """The same formula with every variable read at the same row, as for gathered pairs."""
    return rebuild(formula, lambda n: variable(n.index, Axis.I, n.dim) if isinstance(n, Variable) else n)


@dataclass(frozen=True)
class _Selection:
    """The entries that a reduction selected: for each kept row, (K D) positions along the reduced axis.

    Attributes
    ----------
    positions : (*batch, kept * K * D) int64, clamped to valid ones.
    cotangents : (*batch, kept * K * D, D): upstream gradient of each entry, at its component, zero elsewhere.
    """

    request: Request
    positions: Tensor
    cotangents: Tensor
    per_row: int

    @staticmethod
    def of(request: Request, indices: Tensor, upstream: Tensor) -> _Selection:
        dim, batch = request.formula.dim, request.batch_shape
        rows = request.sizes[0] if request.axis is Axis.J else request.sizes[1]
        flat = indices.reshape(*batch, -1)
        valid = flat >= 0  # -1 where there were fewer columns than neighbours
        gradient = upstream.reshape(*batch, -1, dim) * valid.reshape(*batch, -1, dim)
        cotangents = torch.diag_embed(gradient).reshape(*batch, -1, dim)
        per_row = flat.shape[-1] // max(1, rows)
        return _Selection(request, flat.clamp(min=0), cotangents, per_row)

    @property
    def entries(self) -> int:
        return int(self.positions.shape[-1])

    def gather(self, v: Variable, array: Tensor) -> Tensor:
        """The value of a variable at each selected entry: (*batch, entries, dim)."""
        full = array.expand(*self.request.batch_shape, *array.shape[-2:])
        if v.axes is self.request.axis:
            where = self.positions[..., None].expand(*self.positions.shape, array.shape[-1])
            return full.gather(-2, where)
        if v.axes is self.request.kept_axis:
            return full.repeat_interleave(self.per_row, dim=-2)
        return full.expand(*full.shape[:-2], self.entries, full.shape[-1])

    def scatter(self, v: Variable, gradient: Tensor, array: Tensor) -> Tensor:
        """Adjoint of ``gather``."""
        if v.axes is self.request.axis:
            where = self.positions[..., None].expand_as(gradient)
            size = (*self.request.batch_shape, *array.shape[-2:])
            summed = gradient.new_zeros(size).scatter_add(-2, where, gradient)
        elif v.axes is self.request.kept_axis:
            summed = gradient.reshape(*gradient.shape[:-2], -1, self.per_row, gradient.shape[-1]).sum(-2)
        else:
            summed = gradient.sum(-2, keepdim=True)
        return summed.sum_to_size(array.shape)


# ---------------------------------------------------------------------- forward mode


def _tangent(
    request: Request, arrays: tuple[Tensor, ...], kept: tuple[Tensor, ...], tangents: dict[int, Tensor]
) -> Tensor | None:
    """The tangent of the values, from those of the arrays that have one, by their position."""
    reduction = request.reduction
    if _is_empty(request):
        rows = request.sizes[0] if request.axis is Axis.J else request.sizes[1]
        return arrays[0].new_zeros((*request.batch_shape, rows, *reduction.output_shape(request.formula.dim)))
    if isinstance(reduction, SmoothReduction):
        return _tangent_of_smooth(request, arrays, kept, tangents)
    assert isinstance(reduction, SelectingReduction)
    if reduction.returns is Returns.INDICES:
        return None
    return _tangent_of_selection(request, arrays, kept[0], tangents)


@functools.lru_cache(maxsize=4096)
def _tangent_formula(formula: Node, count: int, moving: tuple[int, ...]) -> Node:
    """The directional derivative when the variables at positions ``moving`` move; tangents follow the arrays."""
    read = {v.index: v for v in variables_of(formula)}
    directions = {
        read[k]: variable(count + rank, read[k].axes, read[k].dim)
        for rank, k in enumerate(moving)
        if k in read
    }
    return directional_derivative(formula, tuple(directions.items()))


def _tangent_of_smooth(
    request: Request, arrays: tuple[Tensor, ...], kept: tuple[Tensor, ...], tangents: dict[int, Tensor]
) -> Tensor:
    """sum_j w_ij dF_ij, where w_ij is what the reduction multiplies a change of F_ij by."""
    reduction, data = request.reduction, (*arrays, *tangents.values())
    assert isinstance(reduction, SmoothReduction)
    output = variable(len(data), request.kept_axis, reduction.output_shape(request.formula.dim)[0])
    weight = reduction.cotangent(request.formula, output, constant(1.0))
    formula = multiply(weight, _tangent_formula(request.formula, len(arrays), tuple(tangents)))
    return reduce(replace(request, formula=formula, reduction=Sum()), (*data, *kept))[0]


def _tangent_of_selection(
    request: Request, arrays: tuple[Tensor, ...], indices: Tensor, tangents: dict[int, Tensor]
) -> Tensor:
    """The directional derivative of the selected entries alone."""
    formula = _tangent_formula(request.formula, len(arrays), tuple(tangents))
    data, dim = (*arrays, *tangents.values()), formula.dim
    selection = _Selection.of(request, indices, data[0].new_zeros(indices.shape))
    pairs = tuple(selection.gather(v, data[v.index]) for v in _dense_variables(formula, len(data)))
    (moved,) = reduce(_selected_rows(request, formula, selection), pairs)
    own_component = moved.reshape(*request.batch_shape, -1, dim, dim).diagonal(dim1=-2, dim2=-1)
    return own_component.reshape(indices.shape) * (indices >= 0)
