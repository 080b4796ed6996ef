"""The registered operator ``symbolic_matrices::reduce``: what compilers and tracers of PyTorch see of a reduction.

It takes the arrays, a text that says everything else but the sizes, and the sizes, which may be symbols. The text is
complete: graphs that hold it may be stored and run by other processes. Block ranges alone are named, not written out.
"""

from __future__ import annotations

import base64
import functools
import io
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses import FakeTensor

from ..arrays import library_named
from ..errors import BackendError
from ..execution import Request, execute
from ..formulas.expressions import Axis
from ..formulas.reductions import Kind
from ..formulas.text import print_formula
from ..sparsity import BlockRanges

Tensor = torch.Tensor

_NAME = "symbolic_matrices::reduce"
_SCHEMA = "reduce(Tensor[] arrays, str record, SymInt[] sizes, SymInt[] batch_shape) -> Tensor[]"


def call_operator(request: Request, arrays: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Run a reduction through PyTorch's dispatcher."""
    operator = torch.ops.symbolic_matrices.reduce.default
    given = _without_values(arrays)
    return tuple(operator(given, _record(request), list(request.sizes), list(request.batch_shape)))


def _without_values(arrays: Sequence[Tensor]) -> list[Tensor]:
    """Beside tensors that are shapes only, numbers of the formula must be so too."""
    modes = [array.fake_mode for array in arrays if isinstance(array, FakeTensor)]
    if not modes:
        return list(arrays)
    return [array if isinstance(array, FakeTensor) else modes[0].from_tensor(array) for array in arrays]


# ---------------------------------------------------------------------- requests as text


def _record(request: Request) -> str:
    """A request without its sizes, its device and its batches, as text: in words, then encoded."""
    text = _encode(replace(request, sizes=(0, 0), batch_shape=(), device="", ranges=None))
    return text if request.ranges is None else f"{text} # {_name_ranges(request.ranges)}"


_ranges: dict[str, BlockRanges] = {}  # those that graphs of this process name


def _name_ranges(ranges: BlockRanges) -> str:
    for name, other in _ranges.items():
        if other is ranges:
            return name
    name = f"ranges {len(_ranges)}"
    _ranges[name] = ranges
    return name


@functools.lru_cache(maxsize=4096)
def _encode(request: Request) -> str:
    words = f"{request.reduction.name} over {request.axis.letter} of {print_formula(request.formula)}"
    return f"{words} # {base64.b64encode(pickle.dumps(request, protocol=4)).decode()}"


@functools.lru_cache(maxsize=4096)
def _decode(record: str) -> Request:
    _, data, *names = record.split(" # ")
    request = _RequestReader(io.BytesIO(base64.b64decode(data))).load()
    assert isinstance(request, Request)
    if names and names[0] not in _ranges:
        raise BackendError(
            "This graph names block ranges of the process that traced it; trace it again where it runs."
        )
    return replace(request, ranges=_ranges[names[0]]) if names else request


class _RequestReader(pickle.Unpickler):
    """Revives what requests hold and nothing else: a graph may come from a file."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] != __name__.partition(".")[0]:
            raise pickle.UnpicklingError(f"A request holds no {module}.{name}.")
        return super().find_class(module, name)


def request_of(arrays: Sequence[Tensor], record: str, sizes: Sequence[int], batch: Sequence[int]) -> Request:
    device = library_named("torch").device(arrays[0])
    rows, columns = sizes
    return replace(_decode(record), sizes=(rows, columns), batch_shape=tuple(batch), device=device)


# ---------------------------------------------------------------------- the operator


def _run(arrays: list[Tensor], record: str, sizes: list[int], batch_shape: list[int]) -> list[Tensor]:
    request = request_of(arrays, record, sizes, batch_shape)
    return list(execute(request, tuple(request.library.detach(array) for array in arrays)))


def _run_fake(arrays: list[Tensor], record: str, sizes: list[int], batch_shape: list[int]) -> list[Tensor]:
    """Outputs without values, of the right shapes and dtypes."""
    request = request_of(arrays, record, sizes, batch_shape)
    rows = sizes[0] if request.axis is Axis.J else sizes[1]
    shape = (*batch_shape, rows, *request.reduction.output_shape(request.formula.dim))
    dtypes = {Kind.VALUES: getattr(torch, request.dtype), Kind.INDICES: torch.int64}
    return [arrays[0].new_empty(shape, dtype=dtypes[kind]) for kind in request.reduction.kinds]


library = torch.library.Library("symbolic_matrices", "DEF")
library.define(_SCHEMA, tags=(torch.Tag.pt2_compliant_tag,))
library.impl("reduce", _run, "CompositeExplicitAutograd")
torch.library.register_fake(_NAME, _run_fake, lib=library)
