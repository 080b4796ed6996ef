"""Derivatives of the reductions that are smooth functions of all the values: themselves sums of other formulas."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from ..execution import Request
from ..formulas.differentiation import directional_derivative, gradients, transposed
from ..formulas.expressions import Axis, Node, Variable, variable, variables_of
from ..formulas.operations.indexing import concat
from ..formulas.reductions import SmoothReduction, Sum

Tensor = torch.Tensor
Tensors: TypeAlias = tuple[Tensor, ...]
Wanted: TypeAlias = tuple[bool, ...]  # one entry per array
Launch: TypeAlias = Callable[[Request, Tensors], Tensors]  # runs a reduction as a differentiable function


@dataclass(frozen=True)
class _GradientKernel:
    """One launch of a backward pass: the gradients of several variables, side by side."""

    formula: Node
    reduction: Sum
    axis: Axis  # the axis that is reduced
    variables: tuple[Variable, ...]
    dims: tuple[int, ...]  # of the variables


@functools.lru_cache(maxsize=4096)
def _gradient_kernels(
    formula: Node, reduction: SmoothReduction, axis: Axis, wanted: Wanted
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
            joined, dims = functools.reduce(concat, parts), tuple(v.dim for v in variables)
            kernels.append(_GradientKernel(joined, Sum(reduction.accumulate), reduced, variables, dims))
    return tuple(kernels)


def gradients_of_smooth(
    request: Request, arrays: Tensors, kept: Tensors, upstream: Tensor, wanted: Wanted, launch: Launch
) -> dict[int, Tensor]:
    """The gradients that are wanted, by the position of their array; ``kept`` holds the output if it is needed."""
    reduction, data = request.reduction, (*arrays, upstream, *kept)
    assert isinstance(reduction, SmoothReduction)
    found: dict[int, Tensor] = {}
    for kernel in _gradient_kernels(request.formula, reduction, request.axis, wanted):
        (joined,) = launch(request.computing(kernel.formula, kernel.reduction, kernel.axis), data)
        parts = (joined,) if len(kernel.dims) == 1 else joined.split_with_sizes(kernel.dims, dim=-1)
        for v, part in zip(kernel.variables, parts, strict=True):
            shape = arrays[v.index].shape
            # sums batches that were broadcast, and parameters over the kept axis too
            found[v.index] = part if part.shape == shape else part.sum_to_size(shape)
    return found


@functools.lru_cache(maxsize=4096)
def tangent_formula(formula: Node, count: int, moving: tuple[int, ...]) -> Node:
    """The directional derivative when the variables at positions ``moving`` move; tangents follow the arrays."""
    read = {v.index: v for v in variables_of(formula)}
    directions = {
        read[k]: variable(count + rank, read[k].axes, read[k].dim)
        for rank, k in enumerate(moving)
        if k in read
    }
    return directional_derivative(formula, tuple(directions.items()))


def tangent_of_smooth(
    request: Request, arrays: Tensors, kept: Tensors, tangents: dict[int, Tensor], launch: Launch
) -> Tensor:
    """The sum over j of what a change dF_ij does to the output at i: the transpose of the reduction's cotangent."""
    reduction, data = request.reduction, (*arrays, *tangents.values())
    assert isinstance(reduction, SmoothReduction)
    output = variable(len(data), request.kept_axis, reduction.output_shape(request.formula.dim)[0])
    formula = transposed(
        lambda upstream: reduction.cotangent(request.formula, output, upstream),
        output.dim,
        tangent_formula(request.formula, len(arrays), tuple(tangents)),
    )
    return launch(replace(request, formula=formula, reduction=Sum(reduction.accumulate)), (*data, *kept))[0]
