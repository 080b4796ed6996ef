"""Stands in for the few names of CuPy that host code uses; its kernels run in the emulator, at once and in order.

Arrays wrap NumPy's rather than derive from them, so that nothing takes one for an array of the CPU by mistake.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.special

from .compiler import EmulationError, Kernel, check_options, compile_kernels

INCLUDE_OPTION = "--include-path="
OPTIONS_OF_CUPY = ("-ftz=true", "--device-as-default-execution-space", "-arch=sm_90")  # added by CuPy itself


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the emulated GPU."""

    __module__ = "cupy"

    def __init__(self, host: np.ndarray, device: int = 0) -> None:
        self._host = host
        self.device = SimpleNamespace(id=device)
        self.data = SimpleNamespace(ptr=host.__array_interface__["data"][0])

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed; call cupy.asnumpy.")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return _wrapped(getattr(ufunc, method))(*inputs, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_host":
            raise AttributeError(name)
        value = getattr(self._host, name)
        return _wrapped(value) if callable(value) else _wrap(value)

    def __getitem__(self, key: Any) -> Any:
        return _wrap(np.asarray(self._host[_unwrap(key)]))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_unwrap(key)] = _unwrap(value)

    def get(self) -> np.ndarray:
        return self._host.copy()

    def __len__(self) -> int:
        return len(self._host)


def _unwrap(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(entry) for entry in value)
    return value


def _wrap(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ndarray(value)
    return tuple(_wrap(entry) for entry in value) if type(value) is tuple else value


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, of arrays of the emulated GPU."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        result = function(*_unwrap(arguments), **{key: _unwrap(value) for key, value in options.items()})
        return _wrap(np.asarray(result) if isinstance(result, np.generic) else result)

    return call


def _empty(shape: Any, dtype: Any = "float64") -> ndarray:
    """Filled with NaN, or with a number that no test expects."""
    array = np.empty(shape, dtype)
    array.view("uint8" if array.ndim else array.dtype)[...] = 0xFF
    return ndarray(array)


class CompileException(Exception):
    """The compiler refused a kernel."""


class CUDARuntimeError(RuntimeError):
    """The driver refused a call."""


@dataclass
class RawKernel:
    """A kernel by its text and its name."""

    code: str
    name: str
    options: tuple[str, ...] = ()
    seed: int = 0
    sanitize: bool = False
    num_regs: int = 64
    events: list[tuple[str, Any]] = field(default_factory=list, repr=False)
    _kernel: Kernel | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        types = {"code": str, "name": str, "options": tuple}
        for argument, kind in types.items():
            if type(getattr(self, argument)) is not kind:
                raise TypeError(f"Argument {argument!r} has incorrect type (expected {kind.__name__})")

    def compile(self) -> None:
        folders = tuple(
            Path(option.removeprefix(INCLUDE_OPTION))
            for option in self.options
            if option.startswith(INCLUDE_OPTION)
        )
        try:
            check_options((*self.options, *OPTIONS_OF_CUPY))
            self._kernel = _compiled(self.code, folders, self.sanitize)[self.name]
        except EmulationError as error:
            raise CompileException(str(error)) from error

    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], *, shared_mem: int = 0
    ) -> None:
        if not (type(grid) is type(block) is tuple):
            raise TypeError(f"The sizes of grid and block are tuples but got {grid!r} and {block!r}.")
        if self._kernel is None:
            self.compile()
        assert self._kernel is not None
        self.events.append(("launch", self.name))
        self._kernel.launch(grid, block, [_as_bytes(value) for value in args], shared_mem, self.seed)


@functools.cache
def _compiled(code: str, folders: tuple[Path, ...], sanitize: bool) -> dict[str, Kernel]:
    return compile_kernels(code, folders, sanitize=sanitize)


def _as_bytes(value: Any) -> bytes:
    """An argument as CuPy passes it: Python numbers take 8 bytes, NumPy's their own size, arrays a pointer."""
    if isinstance(value, ndarray):
        return np.int64(value.data.ptr).tobytes()
    if isinstance(value, (np.generic, np.ndarray)):
        if value.size != 1:
            raise TypeError(f"Arrays of NumPy are passed by value and hold 1 element, not {value.size}.")
        return value.tobytes()
    if type(value) in (int, float):
        return np.array(value, "int64" if type(value) is int else "float64").tobytes()
    raise TypeError(f"Unsupported type {type(value)}")


class _Cuda(ModuleType):
    """``cupy.cuda``: devices whose limits and version tests may change, and a record of what was asked of them.

    ``events`` lists what was done, in order: "device", "stream" and "launch", each with its number, pointer or name.
    ``failure`` is what the driver answers to the first call, if it is not well.
    """

    def __init__(self) -> None:
        super().__init__("cupy.cuda")
        self.multiprocessors, self.device_count, self.driver_version = 4, 1, 13000
        self.capability = "90"
        self.failure = "cudaErrorNoDevice: no CUDA-capable device is detected"
        self.events: list[tuple[str, Any]] = []
        self.current_device, self.current_stream, self.is_capturing = 0, 0, False
        self.compiler = SimpleNamespace(CompileException=CompileException)
        self.Stream = SimpleNamespace(from_external=self._stream_of)
        self.runtime = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: self.driver_version,
            getDeviceCount=self._count_devices,
            getDevice=lambda: self.current_device,
        )

    def _count_devices(self) -> int:
        if self.device_count == 0:
            raise CUDARuntimeError(self.failure)
        return self.device_count

    @contextlib.contextmanager
    def _entered_device(self, number: int) -> Iterator[None]:
        before, self.current_device = self.current_device, number
        self.events.append(("device", number))
        yield
        self.current_device = before

    @contextlib.contextmanager
    def _entered_stream(self, pointer: int) -> Iterator[None]:
        before, self.current_stream = self.current_stream, pointer
        self.events.append(("stream", pointer))
        yield
        self.current_stream = before
        self.events.append(("stream", None))

    def get_current_stream(self) -> Any:
        return SimpleNamespace(ptr=self.current_stream, is_capturing=lambda: self.is_capturing)

    def Device(self, number: int | None = None) -> Any:
        context = self._entered_device(self.current_device if number is None else number)
        context.attributes = {"MultiProcessorCount": self.multiprocessors}  # type: ignore[attr-defined]
        context.compute_capability = self.capability  # type: ignore[attr-defined]
        return context

    def _stream_of(self, other: Any) -> Any:
        version, pointer = other.__cuda_stream__()
        if version != 0 or type(pointer) is not int:
            raise TypeError(f"The CUDA stream protocol asks for (0, pointer) but got {(version, pointer)}.")
        return self._entered_stream(pointer)


class _CuPy(ModuleType):
    """The module: what is not here is NumPy's function of that name."""

    def __init__(self, seed: int, sanitize: bool) -> None:
        super().__init__("cupy")
        self.cuda, self.ndarray = _Cuda(), ndarray
        self.RawKernel = functools.partial(RawKernel, seed=seed, sanitize=sanitize, events=self.cuda.events)
        self.empty = _empty
        self.asnumpy = lambda array: array.get()

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        return value if isinstance(value, type) or not callable(value) else _wrapped(value)


def special_functions() -> ModuleType:
    """A module to use in place of ``cupyx.scipy.special``, from SciPy's functions of the same names."""
    module = ModuleType("cupyx.scipy.special")
    for name in ("erf", "erfc", "gammaln"):
        setattr(module, name, _wrapped(getattr(scipy.special, name)))
    return module


def make_cupy(seed: int = 2, sanitize: bool = False) -> ModuleType:
    """A module to use in place of CuPy. ``seed`` chooses the order of the threads; see :meth:`Kernel.launch`."""
    return _CuPy(seed, sanitize)
