"""Owns everything that differs between NumPy, PyTorch and CuPy: one class each, found by the type of an array.

No library is imported here but NumPy: a PyTorch tensor can only exist once the user has imported PyTorch.
"""

from __future__ import annotations

import abc
import functools
import importlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from .errors import ArrayTypeError
from .gamma_functions import lgamma, polygamma

Array: TypeAlias = Any  # numpy.ndarray, torch.Tensor or cupy.ndarray


@dataclass(frozen=True)
class RealType:
    """A real number format: its name in all array libraries, its C spelling and its size in bytes."""

    name: str
    spelling: str
    itemsize: int


REAL_TYPES = {row.name: row for row in (RealType("float32", "float", 4), RealType("float64", "double", 8))}
# The dtype that kernels compute and accumulate in, by the dtype that data are stored in.
HALVES = ("float16", "bfloat16")
COMPUTED_IN = {**dict.fromkeys(HALVES, "float32"), **{name: name for name in REAL_TYPES}}


class Namespace:
    """A library's module, completed by the functions that it lacks."""

    def __init__(self, module: ModuleType, **missing: Callable[..., Array]) -> None:
        self._module = module
        self.__dict__.update(missing)

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__[name] = getattr(self._module, name)  # Python asks here once for each name
        return found


def _by_entry(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """A function of the standard library, for NumPy arrays."""
    over_entries = np.vectorize(function, otypes=["float64"])
    return lambda x: over_entries(x).astype(np.asarray(x).dtype)


@functools.lru_cache(maxsize=64)  # small reductions ask for names several times each
def _numpy_name(dtype: np.dtype[Any]) -> str:
    return str(dtype.name)


@functools.lru_cache(maxsize=64)
def _torch_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


@functools.lru_cache(maxsize=64)
def _torch_device(device: Any) -> str:
    return str(device)


class ArrayLibrary(abc.ABC):
    """What the engine asks of an array library."""

    name: str  # also the name of the module
    out_of_memory: type[Exception] = MemoryError

    def __reduce__(self) -> tuple[Any, ...]:
        return library_named, (self.name,)  # one object per library, also after pickling

    def usable(self, array: Array) -> Array:
        """The array itself, or a copy that kernels can read; an ArrayTypeError if there is none."""
        return array

    @functools.cached_property
    def namespace(self) -> Namespace:
        """The library's module, already imported since one of its arrays exists, with all the functions of the rows."""
        module = sys.modules[self.name]
        return Namespace(module, take_component=self.take_component, **self.missing_functions(module))

    @abc.abstractmethod
    def missing_functions(self, module: ModuleType) -> dict[str, Callable[..., Array]]:
        """Functions that the reference of some operation calls, and that the library's main module lacks."""

    @abc.abstractmethod
    def dtype_name(self, array: Array) -> str: ...

    @abc.abstractmethod
    def dtype_named(self, name: str) -> Any:
        """The library's own object for a dtype."""

    def variable_dtype(self, array: Array) -> str:
        """The dtype that an array has as a variable of a formula."""
        return self.dtype_name(array)

    @abc.abstractmethod
    def device(self, array: Array) -> str: ...

    @abc.abstractmethod
    def pointer(self, array: Array) -> int:
        """Address of the first element."""

    @abc.abstractmethod
    def strides(self, array: Array) -> tuple[int, ...]:
        """Strides, counted in elements."""

    @abc.abstractmethod
    def contiguous(self, array: Array) -> Array: ...

    @abc.abstractmethod
    def detach(self, array: Array) -> Array:
        """The same memory, outside of any differentiation graph."""

    @abc.abstractmethod
    def as_pairs(self, array: Array) -> Array:
        """Complex numbers as pairs (re, im): (..., D) complex -> (..., 2 D) real, a view where possible."""

    @abc.abstractmethod
    def as_complex(self, pairs: Array) -> Array:
        """Pairs as complex numbers: (..., 2 D) real -> (..., D) complex."""

    @abc.abstractmethod
    def empty(self, shape: Sequence[int], dtype_name: str, device: str) -> Array: ...

    @abc.abstractmethod
    def convert(self, value: Any, dtype_name: str, device: str) -> Array:
        """Make an array of this library from a number, a sequence or an array, or change its dtype and device."""

    @abc.abstractmethod
    def astype(self, array: Array, dtype_name: str) -> Array: ...

    @abc.abstractmethod
    def to_numpy(self, array: Array) -> np.ndarray:
        """The same values in main memory, outside of any differentiation graph; not to be written to."""

    @abc.abstractmethod
    def stable_argsort(self, array: Array, axis: int) -> Array: ...

    @abc.abstractmethod
    def gather(self, array: Array, indices: Array, axis: int) -> Array:
        """``take_along_axis``."""

    def take_component(self, array: Array, position: Array) -> Array:
        """The component of each vector at its position, a real number that holds an integer."""
        return self.gather(array, self.astype(position, "int64"), -1)

    @abc.abstractmethod
    def sum_by_label(self, values: Array, labels: Array, count: int) -> Array:
        """Sums of the rows of (M, D) values that have the same label: (count, D)."""

    @abc.abstractmethod
    def integers(self, start: int, stop: int, device: str) -> Array:
        """start, start + 1, ..., stop - 1 as int64."""

    def full(self, shape: Sequence[int], value: float, dtype_name: str, device: str) -> Array:
        array = self.empty(shape, dtype_name, device)
        array[...] = value
        return array

    def keep_until_done(self, array: Array) -> None:
        """Let nobody else get the memory of an array before the current stream, which may be another one, is done."""
        return

    def is_writable(self, array: Array) -> bool:
        """Whether its entries may be changed."""
        return True

    def needs_gradient(self, array: Array) -> bool:
        """Whether a differentiation graph asks for the gradient with respect to this array."""
        return False


class _NumPyLike(ArrayLibrary):
    """NumPy, and CuPy which follows its interface."""

    def dtype_name(self, array: Array) -> str:
        return _numpy_name(array.dtype)

    def dtype_named(self, name: str) -> Any:
        return np.dtype(name)

    def strides(self, array: Array) -> tuple[int, ...]:
        itemsize = array.itemsize
        return tuple([stride // itemsize for stride in array.strides])

    def contiguous(self, array: Array) -> Array:
        return self.namespace.ascontiguousarray(array)

    def detach(self, array: Array) -> Array:
        return array

    def as_pairs(self, array: Array) -> Array:
        is_dense = array.shape[-1] == 1 or array.strides[-1] == array.itemsize
        dense = array if is_dense else self.contiguous(array)
        return dense.view(dense.real.dtype)

    def as_complex(self, pairs: Array) -> Array:
        return self.contiguous(pairs).view(
            {"float32": "complex64", "float64": "complex128"}[pairs.dtype.name]
        )

    def empty(self, shape: Sequence[int], dtype_name: str, device: str) -> Array:
        return self.namespace.empty(shape, dtype=dtype_name)

    def convert(self, value: Any, dtype_name: str, device: str) -> Array:
        return self.namespace.asarray(value, dtype=dtype_name)

    def astype(self, array: Array, dtype_name: str) -> Array:
        return array.astype(dtype_name, copy=False)

    def gather(self, array: Array, indices: Array, axis: int) -> Array:
        return self.namespace.take_along_axis(array, indices, axis)

    def sum_by_label(self, values: Array, labels: Array, count: int) -> Array:
        xp = self.namespace
        return xp.stack([xp.bincount(labels, weights=column, minlength=count) for column in values.T], 1)

    def integers(self, start: int, stop: int, device: str) -> Array:
        return self.namespace.arange(start, stop, dtype="int64")


class NumPy(_NumPyLike):
    name = "numpy"

    def is_writable(self, array: Array) -> bool:
        return bool(array.flags.writeable)

    def missing_functions(self, module: ModuleType) -> dict[str, Callable[..., Array]]:
        by_entry = {"erf": _by_entry(math.erf), "erfc": _by_entry(math.erfc)}
        return {**by_entry, "lgamma": lgamma, "polygamma": functools.partial(polygamma, module)}

    def usable(self, array: Array) -> Array:
        if isinstance(array, np.ma.MaskedArray):
            raise ArrayTypeError(
                f"Got a masked array of shape {array.shape}; fill it first, for example with array.filled(0)."
            )
        itemsize, dtype = array.itemsize, array.dtype
        is_packed = [stride % itemsize for stride in array.strides if stride % itemsize]
        if dtype.isnative and not is_packed:
            return array
        return np.ascontiguousarray(array, dtype=dtype.newbyteorder("="))

    def device(self, array: Array) -> str:
        return "cpu"

    def pointer(self, array: Array) -> int:
        return int(array.__array_interface__["data"][0])

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def stable_argsort(self, array: Array, axis: int) -> Array:
        return np.argsort(array, axis=axis, kind="stable")


class CuPy(_NumPyLike):
    name = "cupy"

    def missing_functions(self, module: ModuleType) -> dict[str, Callable[..., Array]]:
        special = importlib.import_module("cupyx.scipy.special")
        gamma = {"lgamma": special.gammaln, "polygamma": functools.partial(polygamma, module)}
        return {"erf": special.erf, "erfc": special.erfc, **gamma}

    def device(self, array: Array) -> str:
        return f"cuda:{array.device.id}"

    def pointer(self, array: Array) -> int:
        return int(array.data.ptr)

    def empty(self, shape: Sequence[int], dtype_name: str, device: str) -> Array:
        with self._on(device):
            return super().empty(shape, dtype_name, device)

    def convert(self, value: Any, dtype_name: str, device: str) -> Array:
        with self._on(device):
            return super().convert(value, dtype_name, device)

    def integers(self, start: int, stop: int, device: str) -> Array:
        with self._on(device):
            return super().integers(start, stop, device)

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array.get())

    def stable_argsort(self, array: Array, axis: int) -> Array:
        return self.namespace.argsort(array, axis=axis)  # CuPy's sort is stable

    def _on(self, device: str) -> Any:
        return self.namespace.cuda.Device(int(device.removeprefix("cuda:")))


class PyTorch(ArrayLibrary):
    name = "torch"

    def missing_functions(self, module: ModuleType) -> dict[str, Callable[..., Array]]:
        return {
            "cbrt": lambda x: module.sign(x) * abs(x) ** (1 / 3),
            "sign": lambda x: module.where(x == x, module.sign(x), x),  # module.sign(nan) is 0
            "polygamma": functools.partial(polygamma, module),
        }

    def usable(self, array: Array) -> Array:
        if array.layout is not self.namespace.strided:
            raise ArrayTypeError(
                f"Got a tensor of layout {array.layout} and shape {tuple(array.shape)}; make it dense first with "
                "tensor.to_dense()."
            )
        return array

    def dtype_name(self, array: Array) -> str:
        return _torch_name(array.dtype)

    def dtype_named(self, name: str) -> Any:
        return getattr(self.namespace, name)

    def variable_dtype(self, array: Array) -> str:
        """Where autocast is on, half precision counts as float32, as for PyTorch's own sums and exponentials."""
        dtype = self.dtype_name(array)
        computed = COMPUTED_IN.get(dtype, dtype)
        if computed != dtype and self.namespace.is_autocast_enabled(array.device.type):
            return computed
        return dtype

    def device(self, array: Array) -> str:
        return _torch_device(array.device)

    def pointer(self, array: Array) -> int:
        return int(array.data_ptr())

    def strides(self, array: Array) -> tuple[int, ...]:
        return tuple(array.stride())

    def contiguous(self, array: Array) -> Array:
        return array.contiguous()

    def detach(self, array: Array) -> Array:
        return array.detach().resolve_neg() if array.requires_grad or array.is_neg() else array

    def as_pairs(self, array: Array) -> Array:
        return self.namespace.view_as_real(array.resolve_conj()).flatten(-2)

    def as_complex(self, pairs: Array) -> Array:
        return self.namespace.view_as_complex(pairs.contiguous().unflatten(-1, (-1, 2)))

    def empty(self, shape: Sequence[int], dtype_name: str, device: str) -> Array:
        torch = self.namespace
        return torch.empty(tuple(shape), dtype=getattr(torch, dtype_name), device=device)

    def full(self, shape: Sequence[int], value: float, dtype_name: str, device: str) -> Array:
        if is_symbolic_number(
            value
        ):  # compilers keep the operand of a product unknown, not the value of a fill
            return self.full(shape, 1.0, dtype_name, device) * value
        torch = self.namespace
        return torch.full(tuple(shape), value, dtype=getattr(torch, dtype_name), device=device)

    def convert(self, value: Any, dtype_name: str, device: str) -> Array:
        torch = self.namespace
        dtype = self.dtype_named(dtype_name)
        if isinstance(value, torch.Tensor):
            return value.to(dtype=dtype, device=device)
        return torch.tensor(value, dtype=dtype, device=device)  # a copy: PyTorch warns of read-only arrays

    def astype(self, array: Array, dtype_name: str) -> Array:
        return array.to(self.dtype_named(dtype_name))

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(self.detach(array).cpu().numpy())

    def stable_argsort(self, array: Array, axis: int) -> Array:
        return self.namespace.argsort(array, dim=axis, stable=True)

    def gather(self, array: Array, indices: Array, axis: int) -> Array:
        return self.namespace.take_along_dim(array, indices, dim=axis)

    def sum_by_label(self, values: Array, labels: Array, count: int) -> Array:
        return values.new_zeros((count, values.shape[1])).index_add(0, labels, values)

    def integers(self, start: int, stop: int, device: str) -> Array:
        return self.namespace.arange(start, stop, device=device)

    @functools.cached_property
    def out_of_memory(self) -> type[Exception]:  # type: ignore[override]
        error: type[Exception] = self.namespace.OutOfMemoryError
        return error

    def keep_until_done(self, array: Array) -> None:
        if array.is_cuda:
            array.record_stream(self.namespace.cuda.current_stream(array.device))

    def needs_gradient(self, array: Array) -> bool:
        return bool(array.requires_grad) and self.namespace.is_grad_enabled()


_LIBRARIES: dict[tuple[str, str], ArrayLibrary] = {
    ("numpy", "ndarray"): NumPy(),
    ("torch", "Tensor"): PyTorch(),
    ("cupy", "ndarray"): CuPy(),
}
_BY_TYPE: dict[type, ArrayLibrary | None] = {}
NUMPY: ArrayLibrary = _LIBRARIES["numpy", "ndarray"]


def library_named(name: str) -> ArrayLibrary:
    return next(library for library in _LIBRARIES.values() if library.name == name)


def find_library(value: Any) -> ArrayLibrary | None:
    """The library that owns an array, or None for anything that is no array. Cached by type."""
    kind = type(value)
    if kind not in _BY_TYPE:
        owners = ((base.__module__.partition(".")[0], base.__name__) for base in kind.__mro__)
        _BY_TYPE[kind] = next((_LIBRARIES[owner] for owner in owners if owner in _LIBRARIES), None)
    return _BY_TYPE[kind]


def is_symbolic_number(value: Any) -> bool:
    """Whether a compiler of PyTorch passes this in the place of a number that it does not know yet."""
    kind = type(value)
    return kind.__module__ == "torch" and kind.__name__ in ("SymFloat", "SymInt")


def is_tracing() -> bool:
    """Whether TorchDynamo follows this program, to compile it, rather than Python running it."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_dynamo_compiling()


def library_of(value: Any) -> ArrayLibrary:
    """The library that owns an array; anything else is an error."""
    library = find_library(value)
    if library is None:
        raise ArrayTypeError(
            f"Expected a NumPy, PyTorch or CuPy array but got {type(value).__module__}.{type(value).__qualname__}; "
            "convert it first, for example with numpy.asarray(...)."
        )
    return library
