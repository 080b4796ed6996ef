"""Compiles the text of CUDA kernels for this processor, and launches them in the emulator of ``emulator.hpp``."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER = Path(__file__).with_name("emulator.hpp")
INSTRUCTIONS = Path(__file__).with_name("instructions")  # in front of the headers that hold inline PTX
SANITIZERS = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g")
MOST_THREADS, MOST_SHARED_BYTES = 1024, 48 << 10
MOST_GRID = (2**31 - 1, 65535, 65535)
_FLAGS = ("-x", "c++", "-std=c++17", "-O1", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=fast", "-w")
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(')
_DYNAMIC_SHARED = re.compile(r"extern\s+__shared__\s+([\w:]+)\s+(\w+)\s*\[\s*\]\s*;")
_STATIC_SHARED = re.compile(r"__shared__\s+([\w:<>, ]+?)\s+(\w+)((?:\s*\[[^\]]*\])*)\s*;")

launches = threading.Lock()  # the emulator has one block at a time


MAY_BE_REPEATED = ("include-path", "define-macro", "I", "D")


class EmulationError(RuntimeError):
    """A launch that a GPU would refuse, or a kernel that misuses its threads."""


class _Dim3(ctypes.Structure):
    _fields_ = [(axis, ctypes.c_uint) for axis in "xyz"]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("grid", _Dim3), ("block", _Dim3), ("shared_bytes", ctypes.c_ulonglong), ("seed", ctypes.c_int),
    ]  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel."""

    name: str
    entry: Any
    argument_sizes: tuple[int, ...]  # in bytes

    def launch(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[bytes],
        shared_bytes: int = 0,
        seed: int = 0,
    ) -> None:
        """Run all the blocks. ``seed``: 0 for ascending threads, 1 for descending ones, others for a random order."""
        grid, block = (tuple(sizes) + (1,) * (3 - len(sizes)) for sizes in (grid, block))
        _check_launch(grid, block, shared_bytes)
        buffers = [ctypes.create_string_buffer(data, len(data)) for data in arguments]
        pointers = (ctypes.c_void_p * max(1, len(buffers)))(*(ctypes.addressof(b) for b in buffers))
        sizes = (ctypes.c_size_t * max(1, len(buffers)))(*(len(data) for data in arguments))
        launch = _Launch(_Dim3(*grid), _Dim3(*block), shared_bytes, seed)
        with launches:
            failure = self.entry(ctypes.byref(launch), pointers, sizes, len(buffers))
        if failure:
            raise EmulationError(f"{self.name}: {failure.decode()}")


def _check_launch(grid: Sequence[int], block: Sequence[int], shared_bytes: int) -> None:
    threads = block[0] * block[1] * block[2]
    if not 1 <= threads <= MOST_THREADS:
        raise EmulationError(f"A block holds 1 to {MOST_THREADS} threads but got {threads}.")
    if not all(1 <= size <= most for size, most in zip(grid, MOST_GRID, strict=True)):
        raise EmulationError(f"A grid holds 1 to {MOST_GRID} blocks but got {tuple(grid)}.")
    if shared_bytes > MOST_SHARED_BYTES:
        raise EmulationError(
            f"A block has at most {MOST_SHARED_BYTES} bytes of shared memory, not {shared_bytes}."
        )


# ---------------------------------------------------------------------------- compilation


def check_options(options: Sequence[str]) -> None:
    """Refuse what the NVRTC of CUDA 12 refuses, while that of CUDA 13 lets it pass: options that are given twice."""
    names = [re.split("[ =]", option.lstrip("-"))[0] for option in options]
    names = [name for name in names if not name.startswith(MAY_BE_REPEATED)]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise EmulationError(f"nvrtc: error: --{repeated[0]} defined more than once")


def translate(source: str, include_folders: Sequence[Path] = ()) -> str:
    """The text of kernels as C++: includes pasted, shared memory spelled out, an entry point per kernel."""
    text = _paste(source, include_folders, set())
    text = _expand_kernels(text)
    names = _KERNEL.findall(text)
    text = _DYNAMIC_SHARED.sub(r"\1* const \2 = reinterpret_cast<\1*>(emulator::dynamic_shared);", text)
    text = _STATIC_SHARED.sub(
        r"static emulator::Shared \2_storage; typedef \1 \2_type\3; "
        r"auto& \2 = \2_storage.variable<\2_type>();",
        text,
    )
    namespaces = sorted(set(re.findall(r"^namespace (\w+) \{", text, re.MULTILINE)))
    using = " ".join(f"using namespace {name};" for name in namespaces)
    entries = "\n".join(
        f'extern "C" const char* emulated_{name}(const emulator::Launch* launch, void** arguments, '
        f"const size_t* sizes, int count) "
        f"{{ {using} return emulator::run({name}, *launch, arguments, sizes, count); }}\n"
        f'extern "C" const size_t* sizes_of_{name}() {{ {using} return emulator::argument_sizes({name}); }}'
        for name in names
    )
    # In an anonymous namespace, the static arrays of templates have guarded ends too.
    return f"namespace {{\n{text}\n}}\n{entries}\n"


def _paste(source: str, folders: Sequence[Path], seen: set[Path]) -> str:
    """Replace ``#include "file"`` by the file, once."""

    def replace(match: re.Match[str]) -> str:
        for folder in folders:
            path = folder / match[1]
            if path.exists():
                if path in seen:
                    return ""
                seen.add(path)
                return _paste(path.read_text(), folders, seen)
        return match[0]

    return re.sub(r'^#include "([^"]+)"\n', lambda m: replace(m) + "\n", source, flags=re.MULTILINE)


def _expand_kernels(text: str) -> str:
    """Spell out the macro SM_KERNEL, so that the kernels that it defines are found."""
    definition = re.search(r"^#define SM_KERNEL\(name, \.\.\.\)((?:.*\\\n)*.*)\n", text, re.MULTILINE)
    if definition is None:
        return text
    body = definition[1].replace("\\\n", "\n")
    text = text.replace(definition[0], "")

    def expand(match: re.Match[str]) -> str:
        expanded = body.replace("name##", match[1]).replace(" name(", f" {match[1]}(")
        return expanded.replace("__VA_ARGS__", match[2])

    return re.sub(r"^SM_KERNEL\((\w+), (.*)\)$", expand, text, flags=re.MULTILINE)


@functools.cache
def _build_folder(flags: tuple[str, ...]) -> Path:
    """A folder with the precompiled header, kept between processes."""
    key = hashlib.sha256("\0".join((HEADER.read_text(), *flags, compiler_command())).encode()).hexdigest()[
        :16
    ]
    folder = Path(tempfile.gettempdir(), f"cuda-emulator-{os.getuid() if hasattr(os, 'getuid') else 0}-{key}")
    if not (folder / "emulator.hpp.gch").exists():
        folder.mkdir(exist_ok=True, mode=0o700)
        shutil.copy(HEADER, folder)
        temporary = folder / f"{os.getpid()}.gch"
        header_flags = ["-x", "c++-header", *flags[2:]]
        _run([compiler_command(), *header_flags, str(folder / "emulator.hpp"), "-o", str(temporary)])
        temporary.rename(folder / "emulator.hpp.gch")
    return folder


def compiler_command() -> str:
    """The compiler of emulated kernels: its flags are those of GCC."""
    return os.environ.get("CUDA_EMULATOR_CXX", "g++")


def _run(command: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise EmulationError(f"{' '.join(command)}\n{done.stderr[:4000]}")


def sanitizer_runtime() -> str:
    """What LD_PRELOAD must name in a process that runs kernels with sanitizers."""
    done = subprocess.run(
        [compiler_command(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def compile_kernels(
    source: str, include_folders: Sequence[Path] = (), *, sanitize: bool = False
) -> dict[str, Kernel]:
    """The kernels of a text, by name. With sanitizers, the process must have been started for them."""
    flags = (*_FLAGS, *(SANITIZERS if sanitize else ()))
    folder = _build_folder(flags)
    text = translate(source, (INSTRUCTIONS, *include_folders))
    key = hashlib.sha256("\0".join((text, *flags)).encode()).hexdigest()[:24]
    library = folder / f"{key}.so"
    if not library.exists():
        path, temporary = folder / f"{key}-{os.getpid()}.cpp", folder / f"{key}-{os.getpid()}.so"
        path.write_text(text)
        header = str(folder / "emulator.hpp")
        _run([compiler_command(), *flags, "-shared", "-include", header, str(path), "-o", str(temporary)])
        path.unlink()
        temporary.rename(library)
    loaded = ctypes.CDLL(str(library))
    kernels = {}
    for name in re.findall(r'^extern "C" const char\* emulated_(\w+)\(', text, re.MULTILINE):
        entry = getattr(loaded, f"emulated_{name}")
        entry.restype = ctypes.c_char_p
        entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
        kernels[name] = Kernel(name, entry, _argument_sizes(getattr(loaded, f"sizes_of_{name}")))
    return kernels


def _argument_sizes(function: Any) -> tuple[int, ...]:
    """The sizes of a kernel's arguments, from a list that ends with 0."""
    function.restype = ctypes.POINTER(ctypes.c_size_t)
    return tuple(itertools.takewhile(bool, function()))
