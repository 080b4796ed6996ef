"""Matrices given by a formula, never stored: fast, differentiable reductions for NumPy, PyTorch and CuPy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    ArrayTypeError,
    AxisError,
    BackendError,
    CacheWarning,
    CompilationError,
    CompilerNotFoundError,
    ConvergenceWarning,
    DifferentiationError,
    EmptyReductionError,
    EntryError,
    IndefiniteMatrixError,
    MissingLibraryError,
    OptionError,
    ShapeError,
    SlowBackendWarning,
    SymbolicMatricesError,
    SymbolicMatricesWarning,
    UnknownReductionError,
)
from .matrices import deferred as _deferred  # noqa: F401  (LazyTensor finds there what stands for it in compiled programs)
from .matrices.complex_lazy_tensor import ComplexLazyTensor
from .matrices.index_variables import column_index, indices, row_index
from .matrices.lazy_tensor import LazyTensor, Pm, SymbolicReduction, Vi, Vj
from .matrices.lookup import Table
from .profiling import Profile
from .solvers import SolveReport
from .sparsity import BlockRanges, ragged, ragged_from_batch

if TYPE_CHECKING:
    from . import clustering
    from .backends.threads import get_num_threads, set_num_threads
    from .inspection import Configuration, Explanation, explain, show_config
    from .kernels.compilation import clear_cache

__version__ = "0.1.0"

__all__ = [
    "ArrayTypeError",
    "AxisError",
    "BackendError",
    "BlockRanges",
    "CacheWarning",
    "CompilationError",
    "CompilerNotFoundError",
    "ComplexLazyTensor",
    "Configuration",
    "ConvergenceWarning",
    "DifferentiationError",
    "EmptyReductionError",
    "EntryError",
    "Explanation",
    "IndefiniteMatrixError",
    "LazyTensor",
    "MissingLibraryError",
    "OptionError",
    "Pm",
    "Profile",
    "ShapeError",
    "SlowBackendWarning",
    "SolveReport",
    "SymbolicMatricesError",
    "SymbolicMatricesWarning",
    "SymbolicReduction",
    "Table",
    "UnknownReductionError",
    "Vi",
    "Vj",
    "clear_cache",
    "clustering",
    "column_index",
    "explain",
    "get_num_threads",
    "indices",
    "ragged",
    "ragged_from_batch",
    "row_index",
    "set_num_threads",
    "show_config",
]

# Names that are imported when they are first used, with their modules: nobody waits for them at the start.
_LATER = {
    "clear_cache": "kernels.compilation",
    "Configuration": "inspection",
    "Explanation": "inspection",
    "explain": "inspection",
    "get_num_threads": "backends.threads",
    "set_num_threads": "backends.threads",
    "show_config": "inspection",
}


def __getattr__(name: str) -> Any:
    if name == "clustering":
        return importlib.import_module(".clustering", __name__)
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    return found


def __dir__() -> list[str]:
    return [*globals(), *_LATER, "clustering"]
