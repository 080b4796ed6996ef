"""Matrices given by a formula, never stored: fast, differentiable reductions for NumPy, PyTorch and CuPy."""

from __future__ import annotations

from . import clustering
from . import deferred as _deferred  # noqa: F401  (LazyTensor finds there what stands for it in compiled programs)
from .backends.threads import get_num_threads, set_num_threads
from .compilation import clear_cache
from .complex_lazy_tensor import ComplexLazyTensor
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
from .index_variables import column_index, indices, row_index
from .inspection import Configuration, Explanation, explain, show_config
from .lazy_tensor import LazyTensor, Pm, SymbolicReduction, Vi, Vj
from .lookup import Table
from .profiling import Profile
from .solvers import SolveReport
from .sparsity import BlockRanges, ragged, ragged_from_batch

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
