"""Owns the data of a call: puts arrays in the places of the placeholders of one or several formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..formulas.expressions import Axis
from ..matrices import lazy_tensor as engine
from ..matrices.bindings import Binding, Placeholder, fill
from ..matrices.contexts import context_of


def placeholders_of(*tensors: engine.LazyTensor) -> dict[int, Binding]:
    """The variables without data, by their position among the arguments."""
    bindings = (binding for tensor in tensors for binding in tensor._bindings)
    return {b.value.position: b for b in bindings if isinstance(b.value, Placeholder)}


def bind_arguments(placeholders: Mapping[int, Binding], arguments: tuple[Any, ...]) -> dict[int, Binding]:
    """What stands at each position: one binding, so that several formulas share the variable."""
    variables = (arguments[k] for k, b in placeholders.items() if b.axis is not Axis.PARAMETER)
    batch = max((len(getattr(value, "shape", ())) - 2 for value in variables), default=0)
    columns = list(arguments)
    for k, binding in placeholders.items():
        if binding.axis is Axis.PARAMETER:
            columns[k] = _batched_parameter(arguments[k], batch)
    return {k: fill(binding, tuple(columns)) for k, binding in placeholders.items()}


def _batched_parameter(value: Any, batch: int) -> Any:
    """KeOps gives parameters as (*batch, D) beside variables (*batch, size, D); the engine expects (*batch, 1, D)."""
    return value[..., None, :] if batch > 0 and len(getattr(value, "shape", ())) == batch + 1 else value


def with_data(tensor: engine.LazyTensor, given: Mapping[int, Binding]) -> engine.LazyTensor:
    """Arguments that the formula does not read come last, where nothing refers to them: they tell the sizes."""
    read = tuple(given[b.value.position] if isinstance(b.value, Placeholder) else b for b in tensor._bindings)
    unread = tuple(b for b in given.values() if not any(b is other for other in read))
    bindings = (*read, *unread)
    return tensor._make(tensor._formula, bindings, context_of(bindings, tensor.ranges))
