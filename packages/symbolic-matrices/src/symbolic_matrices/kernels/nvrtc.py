"""Owns the calls into NVRTC, NVIDIA's compiler as a library, and into its disassembler. Neither needs a GPU."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import CompilationError, CompilerNotFoundError

_MISSING = (
    "NVRTC, the library that compiles CUDA kernels, was not found. Install it with CuPy, "
    "`pip install symbolic-matrices[cuda13]` (or [cuda12]), or alone with `pip install nvidia-cuda-nvrtc`."
)


def _wheel_folders() -> Iterator[Path]:
    """Folders of NVIDIA's wheels: nvidia/cu13 for all the parts of a release, one per part in older ones."""
    spec = importlib.util.find_spec("nvidia")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted((path for path in Path(location).iterdir() if path.is_dir()), reverse=True)


def _library_candidates() -> Iterator[str]:
    names = ("lib/libnvrtc.so.*", "bin/nvrtc64_*.dll", "bin/x86_64/nvrtc64_*.dll")
    for folder in _wheel_folders():
        for name in names:
            yield from (str(path) for path in sorted(folder.glob(name)))
    installed = ctypes.util.find_library("nvrtc")
    if installed:
        yield installed


@functools.cache
def _library() -> ctypes.CDLL:
    for name in _library_candidates():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CompilerNotFoundError(_MISSING)


def is_available() -> bool:
    try:
        _library()
    except CompilerNotFoundError:
        return False
    return True


def _call(name: str, *arguments: Any) -> None:
    """Call a function of NVRTC that has to succeed."""
    library = _library()
    status = getattr(library, name)(*arguments)
    if status != 0:
        describe = library.nvrtcGetErrorString
        describe.restype = ctypes.c_char_p
        raise CompilationError(f"{name} failed: {describe(status).decode()}")


def _text(name: str, program: ctypes.c_void_p) -> bytes:
    """What the pair of functions ``name``Size and ``name`` returns."""
    size = ctypes.c_size_t()
    _call(f"{name}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(max(1, size.value))
    _call(name, program, buffer)
    return buffer.raw[: size.value]


def compile_cubin(source: str, arch: str, options: Sequence[str]) -> bytes:
    """The machine code of a kernel for an architecture such as "sm_90".

    Raises
    ------
    CompilerNotFoundError : there is no NVRTC.
    CompilationError : NVRTC refused the text.
    """
    library, program = _library(), ctypes.c_void_p()
    arguments = [f"--gpu-architecture={arch}", *options]
    words = (ctypes.c_char_p * len(arguments))(*(word.encode() for word in arguments))
    _call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    try:
        if library.nvrtcCompileProgram(program, len(arguments), words) != 0:
            log = _text("nvrtcGetProgramLog", program).rstrip(b"\0").decode(errors="replace")
            formula = source.partition("\n")[0].removeprefix("//").strip()
            raise CompilationError(
                f"NVRTC refused the kernel of: {formula}\nOptions: {' '.join(arguments)}\nIt said:\n{log}"
            )
        return _text("nvrtcGetCUBIN", program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


@functools.cache
def find_disassembler() -> str | None:
    """Path of ``nvdisasm``, from its wheel or from a CUDA toolkit; or None."""
    name = "nvdisasm.exe" if os.name == "nt" else "nvdisasm"
    for folder in _wheel_folders():
        if (folder / "bin" / name).exists():
            return str(folder / "bin" / name)
    return shutil.which(name)


def disassemble(cubin: bytes) -> str:
    """The machine code of all the functions of a compiled kernel, as text."""
    tool = find_disassembler()
    if tool is None:
        raise CompilerNotFoundError(
            "nvdisasm was not found; install it with `pip install nvidia-cuda-nvdisasm`."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        done = subprocess.run([tool, "-c", str(path)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompilationError(f"nvdisasm failed: {done.stderr.strip()}")
    return done.stdout
