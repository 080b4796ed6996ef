"""Derivatives of the reductions that select entries: minima, maxima, K nearest.

Only the selected entries F(x_i, y_j(i)) move with the data. They are differentiated alone, one row per entry, without
the double loop.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch

from ..execution import Request
from ..formulas.differentiation import gradients
from ..formulas.expressions import (
    Axis,
    Index,
    Node,
    Variable,
    index,
    rebuild,
    topological,
    variable,
    variables_of,
)
from ..formulas.operations.indexing import concat
from ..formulas.reductions import Sum
from .smooth import Launch, Tensors, Wanted, tangent_formula

Tensor = torch.Tensor


def gradients_of_selection(
    request: Request, arrays: Tensors, indices: Tensor, upstream: Tensor, wanted: Wanted, launch: Launch
) -> dict[int, Tensor]:
    """The gradients that are wanted, by the position of their array, from the indices of the selected entries."""
    selection = _Selection.of(request, indices, upstream)
    pairs = selection.pairs(request.formula, arrays)
    row_request = _selected_rows(request, request.formula, selection, len(arrays))
    formula = row_request.formula
    cotangent = variable(len(pairs), Axis.I, formula.dim)
    asked = tuple(v for v in variables_of(formula) if v.index < len(arrays) and wanted[v.index])
    if not asked:
        return {}
    joined_formula = functools.reduce(concat, gradients(formula, cotangent, asked))
    (joined,) = launch(replace(row_request, formula=joined_formula), (*pairs, selection.cotangents))
    parts = joined.split([v.dim for v in asked], dim=-1)
    originals = {v.index: v for v in variables_of(request.formula)}
    return {
        v.index: selection.scatter(originals[v.index], part, arrays[v.index])
        for v, part in zip(asked, parts, strict=True)
    }


def tangent_of_selection(
    request: Request, arrays: Tensors, indices: Tensor, tangents: dict[int, Tensor], launch: Launch
) -> Tensor:
    """The directional derivative of the selected entries alone."""
    formula = tangent_formula(request.formula, len(arrays), tuple(tangents))
    data, dim = (*arrays, *tangents.values()), formula.dim
    selection = _Selection.of(request, indices, data[0].new_zeros(indices.shape))
    pairs = selection.pairs(formula, data)
    (moved,) = launch(_selected_rows(request, formula, selection, len(data)), pairs)
    own_component = moved.reshape(*request.batch_shape, -1, dim, dim).diagonal(dim1=-2, dim2=-1)
    return torch.where(indices >= 0, own_component.reshape(indices.shape), 0.0)


def _selected_rows(request: Request, formula: Node, selection: _Selection, count: int) -> Request:
    """The values of a formula of ``count`` arrays at the selected entries, one row per entry."""
    rows, sizes = _along_rows(formula, count), (selection.entries, 1)
    return replace(request, formula=rows, reduction=Sum(), axis=Axis.J, sizes=sizes, ranges=None)


def _counted_axes(formula: Node) -> tuple[Axis, ...]:
    """The axes whose positions the formula reads."""
    return tuple(axis for axis in (Axis.I, Axis.J) if index(axis) in topological(formula))


def _along_rows(formula: Node, count: int) -> Node:
    """The same formula with every variable read at the same row, as for gathered pairs.

    The positions i and j of a pair become data, which follow the ``count`` arrays.
    """
    counted = _counted_axes(formula)

    def leaf(node: Node) -> Node:
        if isinstance(node, Variable):
            return variable(node.index, Axis.I, node.dim)
        return variable(count + counted.index(node.axes), Axis.I, 1) if isinstance(node, Index) else node

    return rebuild(formula, leaf)


@dataclass(frozen=True)
class _Selection:
    """The entries that a reduction selected: for each kept row, (K D) positions along the reduced axis.

    Attributes
    ----------
    positions : (*batch, kept * K * D) int64, 0 where nothing is selected.
    is_valid : (*batch, kept * K * D, 1), whether something is: not where there are fewer columns than neighbours.
    cotangents : (*batch, kept * K * D, D): upstream gradient of each entry, at its component, zero elsewhere.
    """

    request: Request
    positions: Tensor
    is_valid: Tensor
    cotangents: Tensor
    per_row: int

    @staticmethod
    def of(request: Request, indices: Tensor, upstream: Tensor) -> _Selection:
        dim, batch = request.formula.dim, request.batch_shape
        rows = request.sizes[0] if request.axis is Axis.J else request.sizes[1]
        flat = indices.reshape(*batch, -1)
        is_valid = flat >= 0
        gradient = upstream.reshape(*batch, -1, dim) * is_valid.reshape(*batch, -1, dim)
        cotangents = torch.diag_embed(gradient).reshape(*batch, -1, dim)
        per_row = flat.shape[-1] // max(1, rows)
        return _Selection(request, flat.clamp(min=0), is_valid[..., None], cotangents, per_row)

    @property
    def entries(self) -> int:
        return int(self.positions.shape[-1])

    def pairs(self, formula: Node, arrays: Tensors) -> Tensors:
        """What the formula reads at each selected entry: variables, then i and j where it asks for them."""
        read = {v.index: v for v in variables_of(formula)}
        unread = arrays[0].new_zeros((1, 1))
        variables = (self.gather(read[k], array) if k in read else unread for k, array in enumerate(arrays))
        return (*variables, *(self._count(axis) for axis in _counted_axes(formula)))

    def _count(self, axis: Axis) -> Tensor:
        """The position along an axis of each selected entry: (*batch, entries, 1)."""
        dtype = getattr(torch, self.request.dtype)
        if axis is self.request.axis:
            return self.positions[..., None].to(dtype)
        rows = torch.arange(self.entries, device=self.positions.device) // max(1, self.per_row)
        return rows[:, None].to(dtype).expand(*self.positions.shape, 1)

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
        # The formula may be singular where nothing is selected.
        gradient = torch.where(self.is_valid, gradient, 0.0)
        if v.axes is self.request.axis:
            where = self.positions[..., None].expand_as(gradient)
            size = (*self.request.batch_shape, *array.shape[-2:])
            summed = gradient.new_zeros(size).scatter_add(-2, where, gradient)
        elif v.axes is self.request.kept_axis:
            summed = gradient.reshape(*gradient.shape[:-2], -1, self.per_row, gradient.shape[-1]).sum(-2)
        else:
            summed = gradient.sum(-2, keepdim=True)
        return summed.sum_to_size(array.shape)
