"""The exceptions and warnings that a user of symbolic matrices can meet, and how a warning finds the user's line."""

from __future__ import annotations

import sys
import warnings
from types import FrameType


class SymbolicMatricesError(Exception):
    """Base class of every exception that this package raises on purpose."""


class ShapeError(SymbolicMatricesError, ValueError):
    """Sizes, ranks or vector dimensions that do not fit together."""


class AxisError(SymbolicMatricesError, ValueError):
    """A reduction axis that does not exist, or an array whose role (i, j or parameter) cannot be told."""


class ArrayTypeError(SymbolicMatricesError, TypeError):
    """An object that is no array, or arrays whose libraries, dtypes or devices do not match."""


class UnknownReductionError(SymbolicMatricesError, ValueError):
    """The name of a reduction that is not in the table."""


class FormulaError(SymbolicMatricesError, ValueError):
    """A formula given as a string that cannot be read: the message shows where."""


class OptionError(SymbolicMatricesError, ValueError):
    """An option of a reduction that does not exist, or an array ``out`` that cannot take its result."""


class DifferentiationError(SymbolicMatricesError, RuntimeError):
    """A derivative that is asked for where there is none."""


class EntryError(SymbolicMatricesError, IndexError):
    """Rows that a symbolic matrix does not have."""


class IndefiniteMatrixError(SymbolicMatricesError, ArithmeticError):
    """A linear solve with a matrix that is not positive definite."""


class MissingLibraryError(SymbolicMatricesError, ImportError):
    """An optional library that is asked for and not installed."""


class EmptyReductionError(SymbolicMatricesError, ValueError):
    """A reduction without identity, such as an arg-min, over an axis of size zero."""


class BackendError(SymbolicMatricesError, RuntimeError):
    """A backend that does not exist, or that cannot run where the arrays live."""


class CompilerNotFoundError(BackendError):
    """No C++ compiler on this machine."""


class CompilationError(SymbolicMatricesError, RuntimeError):
    """A compiler that refused a generated kernel: the message holds its own words and the formula."""


class AlreadyImportedError(SymbolicMatricesError, ImportError):
    """A module that cannot be replaced, because programs hold its classes already."""


class SymbolicMatricesWarning(UserWarning):
    """Base class of the warnings of this package."""


class SlowBackendWarning(SymbolicMatricesWarning):
    """The reference backend stands in for a compiled one."""


class ConvergenceWarning(SymbolicMatricesWarning):
    """A linear solve that stopped before it reached its tolerance."""


class CacheWarning(SymbolicMatricesWarning):
    """The folder of compiled kernels cannot be used."""


_PACKAGE = __name__.partition(".")[0]


def warn_user(message: str, category: type[Warning] = SymbolicMatricesWarning) -> None:
    """Warn at the line of the user's program that led here, past this package and PyTorch's autograd."""
    frame: FrameType | None = sys._getframe()
    level = 0
    while frame is not None and _is_internal(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level + 1)


def _is_internal(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name == _PACKAGE or name.startswith((f"{_PACKAGE}.", "torch.autograd.", "torch._functorch."))
