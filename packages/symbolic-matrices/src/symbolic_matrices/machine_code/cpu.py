"""Owns what a C++ compiler makes of a kernel for processors: the inner loop, for any processor that it compiles for.

Kernels are compiled to assembly text and never run, so that any machine may look at the code for another one.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import BackendError
from ..kernels.compilation import Compiler, compile_assembly, compiler_flags, require_compiler
from ..kernels.printing import PrintedKernel
from .assembly import Assembly, read_assembly, strides
from .control_flow import Function, Loop, find_working_loop
from .dialects import ArmDialect, Dialect, X86Dialect
from .instructions import InnerLoop, count_kinds

_X86, _ARM = "x86_64", "aarch64"
_DIALECTS: Mapping[str, type[Dialect]] = {_X86: X86Dialect, _ARM: ArmDialect}
_SWEEP = "sweep"  # the function of native/reduce.hpp that holds the inner loop, and that is not inlined
_SHAPE = "symbolic_matrices_loop_shape"
_MOST_UNROLLED = 16


@dataclass(frozen=True)
class Architecture:
    """Processors to compile for: a family, and the option ``-march`` that names the oldest of them."""

    family: str
    target: str


ARCHITECTURES = {
    "avx512": Architecture(_X86, "x86-64-v4"),
    "avx2": Architecture(_X86, "x86-64-v3"),
    "sse2": Architecture(_X86, "x86-64"),
    "neon": Architecture(_ARM, "armv8-a"),
}
_FAMILIES = {
    "x86_64": _X86,
    "amd64": _X86,
    "arm64": _ARM,
    "aarch64": _ARM,
}  # by what machines call themselves
_BASELINES = {_X86: "sse2", _ARM: "neon"}


class CpuReport(NamedTuple):
    """The flags that a kernel was compiled with, and its inner loop."""

    options: tuple[str, ...]
    loop: InnerLoop


def inspect_cpu_kernel(printed: PrintedKernel, arch: str, compiler: Compiler | None = None) -> CpuReport:
    """Compile a kernel to assembly for an architecture and read its inner loop.

    Raises
    ------
    CompilerNotFoundError : there is no C++ compiler.
    CompilationError : the compiler refused the text.
    BackendError : the compiler cannot compile for the architecture, or its text has no loop that can be followed.
    """
    compiler = compiler or require_compiler()
    family = _machine() if arch == "native" else _find(arch).family
    options = _options(compiler, arch)
    text = compile_assembly(printed.source, compiler, (*options, f"-DSM_LOOP_SHAPE={_SHAPE}"))
    assembly = read_assembly(text, _DIALECTS[family])
    return CpuReport(options, read_inner_loop(assembly, _DIALECTS[family]))


def _machine() -> str:
    name = platform.machine().lower()
    if name not in _FAMILIES:
        raise BackendError(
            f"The machine code of {name} processors cannot be read; choose arch= among {', '.join(ARCHITECTURES)}."
        )
    return _FAMILIES[name]


def _find(arch: str) -> Architecture:
    name = _BASELINES[_machine()] if arch == "baseline" else arch
    if name not in ARCHITECTURES:
        raise BackendError(
            f"There is no processor arch={arch!r}; choose 'native', 'baseline', {', '.join(map(repr, ARCHITECTURES))}."
        )
    return ARCHITECTURES[name]


def _options(compiler: Compiler, arch: str) -> tuple[str, ...]:
    """The flags of every kernel, for another processor."""
    if arch == "native":
        return compiler_flags(compiler)
    chosen = _find(arch)
    own = compiler_flags(compiler)[:-1]
    if compiler.kind == "zig":
        # It names processors after LLVM, where the oldest of AArch64 is "generic".
        target = "generic" if chosen.family == _ARM else chosen.target.replace("-", "_")
        return (*own, "-target", f"{chosen.family}-linux-gnu", f"-mcpu={target}")
    if chosen.family == _FAMILIES.get(platform.machine().lower()):
        return (*own, f"-march={chosen.target}")
    if compiler.kind == "clang":
        return (*own, f"--target={chosen.family}-linux-gnu", f"-march={chosen.target}")
    raise BackendError(
        f"{compiler.command[0]} does not compile for arch={arch!r}, which is a processor of another family; clang and "
        "the ziglang wheel do."
    )


# ---------------------------------------------------------------------------- the inner loop


def read_inner_loop(assembly: Assembly, dialect: type[Dialect]) -> InnerLoop:
    """The loop over the columns.

    Of all the loops of the function that sweeps over a tile, it is the one whose iteration does most arithmetic on its
    shortest path. Loops inside of it count as often as they run, which the compiler knows of loops over the components
    of a vector. What holds a loop of unknown length, as that over columns is itself, counts without it: so the loops
    around the one over columns do less than it does, and so does the one over the columns that are left over.
    """
    sweeps = [function for name, function in assembly.functions.items() if _SWEEP in name]
    found = find_working_loop(sweeps, dialect.kind, lambda work: (work.arithmetic, work.choices))
    if found is None or _SHAPE not in assembly.words:
        raise BackendError("The compiler's assembly has no loop over columns that can be followed.")
    return _describe(*found, assembly.words[_SHAPE], dialect)


def _describe(
    loop: Loop, path: Mapping[int, int], shape: tuple[int, ...], dialect: type[Dialect]
) -> InnerLoop:
    lanes, pairs, columns, column_bytes = shape
    function = loop.function
    executed = [(function.instructions[at], times) for at, times in path.items()]
    kinds = ((_kind(text, function, dialect), times) for text, times in executed)
    calls = (text.split()[-1].removesuffix("@PLT") for text, _ in executed if dialect.kind(text) == "call")
    return InnerLoop(
        pairs=pairs * _unrolled(loop, path, columns, column_bytes, dialect),
        lanes=lanes,
        counts=count_kinds(kinds),
        stack_accesses=sum(times for text, times in executed if dialect.touches_stack(text, function)),
        calls=tuple(dict.fromkeys(calls)),
        listing=loop.listing(path),
    )


def _kind(instruction: str, function: Function, dialect: type[Dialect]) -> str:
    kind = dialect.kind(instruction)
    is_spill = kind in ("load", "store") and dialect.touches_stack(instruction, function)
    return "spill" if is_spill else kind


def _unrolled(
    loop: Loop, path: Mapping[int, int], columns: int, column_bytes: int, dialect: type[Dialect]
) -> int:
    """How many iterations of the source one of the machine holds: by that much further it goes through the columns."""
    own = (at for at, times in path.items() if times == 1)
    steps = {abs(step) for step in strides(loop.function, own, dialect).values()}
    units = (columns, columns * column_bytes)
    return next((n for n in range(1, _MOST_UNROLLED + 1) if steps & {n * unit for unit in units}), 1)
