"""Owns how formulas and their data become one: a single list of variables, read once where they occur twice."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..formulas.expressions import Node, renumber, variable
from .bindings import Binding
from .contexts import Context, common_ranges, context_of, merged

if TYPE_CHECKING:
    from .lazy_tensor import LazyTensor


def single(binding: Binding) -> tuple[Node, tuple[Binding, ...], Context]:
    """The formula that just reads one variable."""
    return variable(0, binding.axis, binding.dim), (binding,), context_of((binding,))


class Joined(NamedTuple):
    """Several formulas that read the same list of variables."""

    nodes: tuple[Node, ...]
    bindings: tuple[Binding, ...]
    context: Context


def join(tensors: Sequence[LazyTensor]) -> Joined:
    """One list of variables for several formulas: data that occur twice are read once."""
    first, *others = tensors
    bindings, context = first._bindings, first._context
    nodes = [first._formula]
    for tensor in others:
        node, own = tensor._formula, tensor._bindings
        if own is not bindings:
            bindings, positions = _united(bindings, own)
            node = _renumbered(node, positions)
        nodes.append(node)
        common = merged(context, tensor._context)
        if common is None:
            ranges = common_ranges((context, tensor._context))
            common = context_of(bindings, ranges)
        context = common
    return Joined(tuple(nodes), bindings, context)


def _united(
    bindings: tuple[Binding, ...], others: tuple[Binding, ...]
) -> tuple[tuple[Binding, ...], tuple[int, ...]]:
    """A list with the other bindings added where they are new, and the positions of these."""
    union = list(bindings)
    positions = []
    for binding in others:
        value = binding.value
        same = [k for k, other in enumerate(union) if other.value is value and binding.is_same_as(other)]
        positions.append(same[0] if same else len(union))
        if not same:
            union.append(binding)
    return tuple(union), tuple(positions)


@functools.lru_cache(maxsize=16384)
def _renumbered(formula: Node, positions: tuple[int, ...]) -> Node:
    return renumber(formula, dict(enumerate(positions)))
