"""Owns the run of one reduction: chooses a backend, compiles once, launches. Knows no differentiation."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from .arrays import Array, ArrayLibrary
from .errors import BackendError, EmptyReductionError, SlowBackendWarning, warn_user
from .formulas.expressions import Axis, Node
from .formulas.reductions import Reduction
from .kernels.planning import Formats, Plan, make_plan
from .kernels.problems import Problem
from .precision import Precision
from .profiling import is_measuring, measure_launch
from .sparsity import BlockRanges


class Backend(Protocol):
    """What ``backends/*.py`` offer."""

    READS_HALVES: bool  # whether kernels read arrays in half precision as they are
    compile: Callable[[Plan], Any]
    launch: Callable[[Any, Problem], tuple[Array, ...]]


class _Later:
    """A module of this package that the first reduction loads: ``import symbolic_matrices`` does not wait for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name, __package__), attribute)


BACKENDS: dict[str, Any] = {name: _Later(f".backends.{name}") for name in ("reference", "cpu", "cuda")}
compilation = _Later(".kernels.compilation")


@dataclass(frozen=True)
class Request:
    """One reduction of one formula over data of known sizes, whose values come separately.

    Attributes
    ----------
    axis : the axis that is reduced, ``Axis.I`` or ``Axis.J``.
    sizes : (M, N), the lengths of the two axes.
    ranges : the pairs (i, j) that are visited, in each problem of the batch; None for all of them.
    """

    formula: Node
    reduction: Reduction
    axis: Axis
    sizes: tuple[int, int]
    batch_shape: tuple[int, ...]
    library: ArrayLibrary
    dtype: str
    device: str
    backend: str = "auto"
    ranges: BlockRanges | None = None
    precision: Precision = Precision.AUTO

    def computing(self, formula: Node, reduction: Reduction, axis: Axis) -> Request:
        """Another reduction over data of the same sizes."""
        return Request(
            formula, reduction, axis, self.sizes, self.batch_shape, self.library, self.dtype, self.device,
            self.backend, self.ranges, self.precision,
        )  # fmt: skip

    @property
    def kept_axis(self) -> Axis:
        return self.axis.swapped

    @property
    def oriented_ranges(self) -> BlockRanges | None:
        """The pairs that are visited, with the kept axis as rows."""
        return self.ranges if self.ranges is None or self.axis is Axis.J else self.ranges.T


def execute(request: Request, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Run a reduction on detached arrays of shape (*batch, size, D), one per variable.

    Kernels for GPUs read arrays in half precision as they are; other backends get converted ones. Returns one array per
    output, of shape (*batch, kept size, *output shape).
    """
    rows, columns = request.sizes if request.axis is Axis.J else request.sizes[::-1]
    if columns == 0 and request.ranges is None and not request.reduction.has_identity:
        raise EmptyReductionError(
            f"{request.reduction.name} over an axis of size 0 has no answer; the reduced axis needs at least one entry."
        )
    backend_name, stored = _choose_backend(request), _stored(request, arrays)
    if stored and not BACKENDS[backend_name].READS_HALVES:
        arrays = tuple([request.library.astype(array, request.dtype) for array in arrays])
        stored = ()
    formats = Formats(request.dtype, stored, request.precision)
    kernel = _compiled(request.formula, request.reduction, request.axis, formats, backend_name)
    problem = Problem(
        request.library, request.dtype, request.device, arrays, rows, columns, request.batch_shape,
        request.oriented_ranges,
    )  # fmt: skip
    if not is_measuring():
        return kernel.launch(problem)
    with measure_launch():
        return kernel.launch(problem)


def _stored(request: Request, arrays: tuple[Array, ...]) -> tuple[str, ...]:
    """The dtypes of the arrays, where they are not all that of the kernel."""
    library = request.library
    dtype = library.dtype_named(request.dtype)
    if all(array.dtype == dtype for array in arrays):
        return ()
    return tuple([library.dtype_name(array) for array in arrays])


@dataclass(frozen=True)
class CompiledPlan:
    """A kernel and the function that launches it."""

    kernel: Any
    launch_kernel: Callable[[Any, Problem], tuple[Array, ...]] = field(repr=False)

    def launch(self, problem: Problem) -> tuple[Array, ...]:
        return self.launch_kernel(self.kernel, problem)


@functools.lru_cache(maxsize=4096)
def _compiled(
    formula: Node, reduction: Reduction, axis: Axis, formats: Formats, backend_name: str
) -> CompiledPlan:
    backend: Backend = BACKENDS[backend_name]
    plan = make_plan(formula, reduction, axis, formats)
    return _compiled_once(plan, backend, backend_name)


def _compiled_once(plan: Plan, backend: Backend, backend_name: str) -> CompiledPlan:
    """Compile a plan; threads that ask for it meanwhile wait for the first of them."""
    key = (plan, backend_name)
    with _lock:
        is_first = key not in _compiling
        compiling = _compiling.setdefault(key, _Compiling())
    if not is_first:
        return compiling.result()
    try:
        compiling.outcome = CompiledPlan(backend.compile(plan), backend.launch)
    except BaseException as error:
        compiling.outcome = error
    finally:
        with _lock:
            del _compiling[key]
        compiling.ended.set()
    return compiling.result()


class _Compiling:
    """What one thread compiles and others wait for: a future, without the modules that the library's own imports."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.outcome: CompiledPlan | BaseException | None = None

    def result(self) -> CompiledPlan:
        self.ended.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome


_compiling: dict[tuple[Plan, str], _Compiling] = {}
_lock = threading.Lock()


def _choose_backend(request: Request) -> str:
    """``auto`` means where the arrays live."""
    name = request.backend
    if name == "auto":
        if request.device.startswith("cuda"):
            return "cuda"
        if request.device != "cpu":
            raise BackendError(
                f"The arrays live on {request.device!r}, where no compiled backend runs; "
                "move them to the CPU, or pass backend='reference' to compute densely on the device."
            )
        return "cpu" if _has_compiler() else "reference"
    if not (isinstance(name, str) and name in BACKENDS):
        raise BackendError(
            f"There is no backend {name!r}; choose 'auto' or one of {', '.join(map(repr, BACKENDS))}."
        )
    if name == "cpu" and request.device != "cpu":
        raise BackendError(f"backend='cpu' needs arrays in main memory but they live on {request.device!r}.")
    if name == "cuda" and not request.device.startswith("cuda"):
        raise BackendError(f"backend='cuda' needs arrays on a GPU but they live on {request.device!r}.")
    return name


@functools.cache
def _has_compiler() -> bool:
    """Warn once where the reference backend has to stand in for compiled kernels."""
    if compilation.find_compiler() is not None:
        return True
    warn_user(
        "No C++ compiler was found, so reductions run on the slow reference backend. "
        "Install one with `pip install symbolic-matrices[compiler]`, or set CXX to a compiler.",
        SlowBackendWarning,
    )
    return False
