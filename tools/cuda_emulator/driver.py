"""Stands in for NVIDIA's driver below the real CuPy, whose host code runs as on a machine with GPUs.

CuPy's own modules call the driver through tables of C functions, one per module. Before CuPy is imported, entries of
these tables are replaced by functions of Python. Memory of the GPU is main memory. NVRTC is the real one, so that its
options are checked too. Kernels run in the emulator; their text is the last one that NVRTC compiled with their name.
CuPy's own kernels do not run.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import struct
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from .compiler import Kernel, check_options, compile_kernels

# Capsules carry the types of their functions as text.
_TYPES: dict[str, Any] = {
    "int": ctypes.c_int, "unsigned int": ctypes.c_uint, "size_t": ctypes.c_size_t, "intptr_t": ctypes.c_ssize_t,
}  # fmt: skip
_SKIP_DISPATCH = "int __pyx_skip_dispatch"
_MULTIPROCESSORS, _MAJOR, _MINOR, _REGISTERS = 16, 75, 76, 4  # numbers of attributes
_INCLUDE_OPTION = "--include-path="


@dataclass
class Machine:
    """What the driver pretends to be, and what it was asked for, in order.

    ``events`` holds (name, device, stream) for each launch, and (name, device, 0) for what waits for the device.
    """

    devices: int = 2
    multiprocessors: int = 4
    capability: tuple[int, int] = (9, 0)
    seed: int = 2
    current: int = 0
    events: list[tuple[str, int, int]] = field(default_factory=list)
    modules: list[bytes] = field(default_factory=list)
    kernels: list[Kernel] = field(default_factory=list)
    texts: list[tuple[str, tuple[Path, ...]]] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)  # device of each allocation

    # ------------------------------------------------------------------ devices

    def set_device(self, number: int) -> None:
        self.current = number

    def attribute(self, attribute: int, device: int) -> int:
        values = {
            _MULTIPROCESSORS: self.multiprocessors,
            _MAJOR: self.capability[0],
            _MINOR: self.capability[1],
        }
        return values.get(attribute, 1)

    def wait(self, *_: int) -> None:
        self.events.append(("wait", self.current, 0))

    # ------------------------------------------------------------------ memory

    def allocate(self, size: int, *_: int) -> int:
        buffer = ctypes.create_string_buffer(b"\xff" * (size + 512), size + 512)
        address = (ctypes.addressof(buffer) + 511) // 512 * 512
        self.memory[address], self.owners[address] = buffer, self.current
        return address

    def free(self, address: int, *_: int) -> None:
        self.memory.pop(address, None)

    def copy(self, target: int, source: int, size: int, *_: int) -> None:
        ctypes.memmove(target, source, size)

    def fill(self, target: int, value: int, size: int, *_: int) -> None:
        ctypes.memset(target, value, size)

    # ------------------------------------------------------------------ kernels

    def load_module(self, cubin: bytes) -> int:
        assert cubin[:4] == b"\x7fELF", "CuPy asks for machine code"
        self.modules.append(cubin)
        return len(self.modules)

    def find_function(self, module: int, name: str) -> int:
        assert name.encode() in self.modules[module - 1], f"the module has no function {name}"
        text, folders = next((text, folders) for text, folders in reversed(self.texts) if _has(text, name))
        self.kernels.append(compile_kernels(text, folders)[name])
        return len(self.kernels)

    def function_attribute(self, attribute: int, function: int) -> int:
        return 64 if attribute == _REGISTERS else 0

    def launch(self, function: int, *numbers: int) -> None:
        grid, block, (shared, stream, parameters, _) = numbers[:3], numbers[3:6], numbers[6:10]
        kernel = self.kernels[function - 1]
        self.events.append((kernel.name, self.current, stream))
        sizes = kernel.argument_sizes
        pointers = struct.unpack(f"{len(sizes)}P", ctypes.string_at(parameters, 8 * len(sizes)))
        arguments = [ctypes.string_at(at, size) for at, size in zip(pointers, sizes, strict=True)]
        kernel.launch(grid, block, arguments, shared, self.seed)


def _has(text: str, name: str) -> bool:
    """Whether a text defines a kernel, or the one that its macro calls so."""
    return f"({name.removesuffix('_merge')}," in text or f" {name}(" in text


def install(machine: Machine) -> ModuleType:
    """The real CuPy, on top of the emulated driver. Nothing may have imported it before."""
    runtime = importlib.import_module("cupy_backends.cuda.api.runtime")
    driver = importlib.import_module("cupy_backends.cuda.api.driver")
    _replace(runtime, {
        "getDeviceCount": lambda: machine.devices, "getDevice": lambda: machine.current,
        "setDevice": machine.set_device, "driverGetVersion": lambda: 13000, "_ensure_context": lambda: None,
        "deviceGetAttribute": machine.attribute, "deviceSynchronize": machine.wait,
        "malloc": machine.allocate, "free": machine.free, "hostAlloc": machine.allocate, "freeHost": machine.free,
        "memcpy": machine.copy, "memcpyAsync": machine.copy, "memset": machine.fill, "memsetAsync": machine.fill,
        "streamCreateWithPriority": lambda flags, priority: 0x5000, "streamDestroy": lambda stream: None,
        "streamSynchronize": machine.wait, "streamIsCapturing": lambda stream: 0,
        "pointerGetMemoryType": lambda pointer: 0,  # of pageable memory
        "pointerGetAttributes": lambda pointer: runtime.PointerAttributes(-1, 0, 0, 0),
        "eventCreateWithFlags": lambda flags: 1, "eventDestroy": lambda event: None,
        "eventRecord": lambda event, stream: None, "eventSynchronize": machine.wait,
    })  # fmt: skip
    _replace(driver, {
        "moduleLoadData": machine.load_module, "moduleGetFunction": machine.find_function,
        "moduleUnload": lambda module: None, "funcGetAttribute": machine.function_attribute,
        "launchKernel": machine.launch, "ctxGetCurrent": lambda: 1,
    })  # fmt: skip
    cupy = importlib.import_module("cupy")
    _record_texts(importlib.import_module("cupy_backends.cuda.libs.nvrtc"), machine)
    return cupy


def _replace(module: ModuleType, functions: dict[str, Callable[..., Any]]) -> None:
    """Replace functions of a Cython module, for Python and for the modules that call them from C."""
    new_capsule, name_of = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyCapsule_GetName
    new_capsule.restype, new_capsule.argtypes = (
        ctypes.py_object,
        (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
    )
    name_of.restype, name_of.argtypes = ctypes.c_void_p, (ctypes.py_object,)
    table: dict[str, Any] = vars(module)["__pyx_capi__"]
    for name in functions.keys() & table.keys():  # the others are not in every version of CuPy
        function = functions[name]
        types = name_of(table[name])
        result, _, arguments = ctypes.string_at(types).decode().partition("(")
        words = [word for word in arguments.rstrip(")").split(", ") if word != "void"]
        count = len(words) - (_SKIP_DISPATCH in words)
        prototype = ctypes.PYFUNCTYPE(_type(result), *map(_type, words))
        callback = prototype(functools.partial(_call, function, count))
        _kept.append(callback)
        table[name] = new_capsule(ctypes.cast(callback, ctypes.c_void_p), types, None)
        if hasattr(module, name):
            setattr(module, name, function)


def _call(function: Callable[..., Any], count: int, *values: Any) -> Any:
    """Exceptions cannot pass through C: the process ends with one."""
    try:
        return function(*values[:count])
    except BaseException:
        traceback.print_exc()
        os._exit(1)


_kept: list[Any] = []  # C holds no references


def _type(text: str) -> Any:
    word = text.strip()
    return (
        ctypes.py_object if word.endswith("*") else ctypes.c_int if word == _SKIP_DISPATCH else _TYPES[word]
    )


def _record_texts(nvrtc: Any, machine: Machine) -> None:
    """Let the machine see what NVRTC compiles, and with which folders of headers."""
    create, compile_program = nvrtc.createProgram, nvrtc.compileProgram
    texts: dict[int, str] = {}

    def create_program(text: str, *arguments: Any) -> int:
        program: int = create(text, *arguments)
        texts[program] = text
        return program

    def compile_recorded(program: int, options: tuple[str, ...]) -> None:
        check_options(options)
        compile_program(program, options)
        words = (option for option in options if option.startswith(_INCLUDE_OPTION))
        machine.texts.append(
            (texts[program], tuple(Path(word.removeprefix(_INCLUDE_OPTION)) for word in words))
        )

    nvrtc.createProgram, nvrtc.compileProgram = create_program, compile_recorded
