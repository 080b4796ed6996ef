"""Owns how a printed kernel becomes a loaded library: the compiler, its flags, and the cache on disk.

A cached kernel is a folder named after everything that determines it (text, headers, flags, compiler, processor). It is
built under another name and renamed at once, so that any number of processes may build and load the same kernel.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CacheWarning, CompilationError, CompilerNotFoundError, warn_user

NATIVE_FOLDER = Path(__file__).parents[1] / "native"
CACHE_VARIABLE = "SYMBOLIC_MATRICES_CACHE"
TARGET_VARIABLE = "SYMBOLIC_MATRICES_CPU_TARGET"

# Contraction to fused multiply-adds is wanted; any re-association (-ffast-math) would destroy the polynomials of
# math.hpp and the compensated sums of reductions.hpp.
FLAGS = (
    "-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
    "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-shared", "-w",
)  # fmt: skip
_LIBRARY, _SOURCE, _CHECKSUM = "kernel.so", "kernel.cpp", "kernel.sha256"
_BUILDING = "building-"


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that runs on this machine.

    Attributes
    ----------
    command : the words that start it.
    version : what it says of itself; part of the cache's key.
    kind : "gcc", "clang" or "zig".
    """

    command: tuple[str, ...]
    version: str
    kind: str


# ---------------------------------------------------------------------------- compilers


@functools.cache
def find_compiler() -> Compiler | None:
    """The first C++ compiler that runs: ``$CXX``, g++, clang++, c++, then the ``ziglang`` wheel; or None."""
    for command in _candidates():
        compiler = _identify(command)
        if compiler is not None:
            return compiler
        if command == _requested():
            warn_user(
                f"CXX={shlex.join(command)!r} cannot be run as a C++ compiler; looking for another one."
            )
    return None


def require_compiler() -> Compiler:
    """What :func:`find_compiler` finds, or an error that says where it looked."""
    compiler = find_compiler()
    if compiler is None:
        raise CompilerNotFoundError(
            "No C++ compiler was found (tried $CXX, g++, clang++, c++ and the ziglang wheel). "
            "Install one with `pip install symbolic-matrices[compiler]`, or set CXX to a compiler."
        )
    return compiler


def _requested() -> tuple[str, ...]:
    text = os.environ.get("CXX", "")
    try:
        return tuple(shlex.split(text))
    except ValueError:  # an open quotation: no command at all, which find_compiler reports
        return (text,)


def _candidates() -> Iterator[tuple[str, ...]]:
    if _requested():
        yield _requested()
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            yield (name,)
    zig = importlib.util.find_spec("ziglang")
    if zig is not None and zig.submodule_search_locations:
        executable = Path(zig.submodule_search_locations[0]) / ("zig.exe" if os.name == "nt" else "zig")
        yield (str(executable), "c++")


def _identify(command: tuple[str, ...]) -> Compiler | None:
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    version = done.stdout.strip()
    if Path(command[0]).stem == "zig":
        return Compiler(command, version, "zig")
    return Compiler(command, version, "clang" if "clang" in version else "gcc")


def compiler_flags(compiler: Compiler) -> tuple[str, ...]:
    """The flags of every kernel; ``SYMBOLIC_MATRICES_CPU_TARGET`` names another processor than this one."""
    target = os.environ.get(TARGET_VARIABLE, "native")
    is_arm = platform.machine().lower() in ("arm64", "aarch64")
    option = "-mcpu" if is_arm and target == "native" else "-march"
    extra: tuple[str, ...] = () if os.name == "nt" else ("-fPIC",)
    if compiler.kind == "zig":
        target = target.replace("-", "_")  # its own spelling
        extra += ("-nostdlib++",)  # which it would build from source at first
    return (*FLAGS, *extra, f"{option}={target}")


@functools.cache
def processor() -> str:
    """What ``-march=native`` depends on: caches may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.release()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


@functools.cache
def _headers_digest() -> str:
    texts = (path.read_bytes() for path in sorted(NATIVE_FOLDER.glob("*.hpp")))
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


# ---------------------------------------------------------------------------- cache


def cache_directory() -> Path:
    """Folder of the compiled kernels: ``$SYMBOLIC_MATRICES_CACHE``, or the platform's folder for caches."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "symbolic-matrices"


def clear_cache() -> None:
    """Delete the compiled kernels on disk. Kernels that are loaded keep working."""
    for entry in cache_directory().glob("*/"):
        if (entry / _SOURCE).exists() or entry.name.startswith(_BUILDING):
            shutil.rmtree(entry, ignore_errors=True)


@functools.cache
def _temporary_cache() -> Path:
    """A folder of this process alone, where the cache folder cannot be written."""
    folder = Path(tempfile.mkdtemp(prefix="symbolic-matrices-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _warn_of_unwritable_cache(folder: Path, reason: str) -> None:
    warn_user(
        f"The cache folder {folder} cannot be written ({reason}), so kernels are compiled anew in each process. "
        f"Set {CACHE_VARIABLE} to a folder that can be written.",
        CacheWarning,
    )


def cache_key(source: str, compiler: Compiler) -> str:
    """Everything that determines the machine code, as a short name."""
    parts = (
        source,
        _headers_digest(),
        *compiler_flags(compiler),
        *compiler.command,
        compiler.version,
        processor(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _is_intact(entry: Path) -> bool:
    """Loading a truncated library kills the process, so its bytes are checked first."""
    try:
        expected = (entry / _CHECKSUM).read_text()
        return hashlib.sha256((entry / _LIBRARY).read_bytes()).hexdigest() == expected
    except OSError:
        return False


# ---------------------------------------------------------------------------- compilation


def load(source: str, compiler: Compiler | None = None) -> ctypes.CDLL:
    """The library of a printed kernel, compiled unless the cache has it.

    Raises
    ------
    CompilerNotFoundError : there is no C++ compiler.
    CompilationError : the compiler refused the text.
    """
    return ctypes.CDLL(str(compile_library(source, compiler)))


def compile_library(source: str, compiler: Compiler | None = None) -> Path:
    """Path of the compiled library of a printed kernel. Raises as :func:`load` does."""
    compiler = compiler or require_compiler()
    key = cache_key(source, compiler)
    folder = cache_directory()
    if not _is_intact(folder / key):
        try:
            _build(source, compiler, folder, key)
        except OSError as error:
            _warn_of_unwritable_cache(folder, error.strerror or str(error))
            folder = _temporary_cache()
            if not _is_intact(folder / key):
                _build(source, compiler, folder, key)
    return folder / key / _LIBRARY


def _build(source: str, compiler: Compiler, folder: Path, key: str) -> None:
    """Compile into a folder of another name, then rename it: the cache never holds half an entry."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=folder, ignore_cleanup_errors=True) as temporary:
        entry = Path(temporary, "entry")
        entry.mkdir()
        (entry / _SOURCE).write_text(source)
        _run_compiler(compiler, compiler_flags(compiler), entry / _SOURCE, entry / _LIBRARY)
        (entry / _CHECKSUM).write_text(hashlib.sha256((entry / _LIBRARY).read_bytes()).hexdigest())
        _publish(entry, folder / key, Path(temporary, "corrupt"))


def _publish(entry: Path, final: Path, discarded: Path) -> None:
    """Rename an entry to its final name, unless another process has put an intact one there meanwhile."""
    while not _is_intact(final):
        try:
            os.rename(entry, final)
            return
        except OSError:
            if not final.exists():
                raise
            if not _is_intact(final):
                os.rename(final, discarded)


def compile_assembly(source: str, compiler: Compiler, options: tuple[str, ...]) -> str:
    """What the compiler makes of a printed kernel, as the text of assembly: for people, and kept nowhere."""
    with tempfile.TemporaryDirectory(prefix="symbolic-matrices-", ignore_cleanup_errors=True) as folder:
        text, output = Path(folder, _SOURCE), Path(folder, "kernel.s")
        text.write_text(source)
        _run_compiler(
            compiler, (*options, "-S", "-g0"), text, output
        )  # zig would describe every line for debuggers
        return output.read_text(errors="replace")


def _run_compiler(compiler: Compiler, options: tuple[str, ...], source: Path, output: Path) -> None:
    command = [*compiler.command, *options, f"-I{NATIVE_FOLDER}", str(source), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0 or not output.exists():
        formula = source.read_text().partition("\n")[0].removeprefix("//").strip()
        raise CompilationError(
            f"The C++ compiler refused the kernel of: {formula}\n"
            f"Command: {shlex.join(command)}\n"
            f"It exited with status {done.returncode} and said:\n{_first_lines(done.stderr or done.stdout)}"
        )


def _first_lines(words: str, count: int = 40) -> str:
    """A compiler repeats an error for each use of a template."""
    lines = words.strip().splitlines()
    omitted = [f"... ({len(lines) - count} more lines)"] if len(lines) > count else []
    return "\n".join(lines[:count] + omitted)
