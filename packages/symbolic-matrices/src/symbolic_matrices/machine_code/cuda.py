"""Owns what a compiled CUDA kernel says of itself: registers, local memory, and the instructions of its inner loop."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..kernels.cuda_printing import OPTIONS, CudaText
from ..kernels.nvrtc import compile_cubin, disassemble
from .control_flow import Function, Jump, Work, find_working_loop
from .instructions import (
    ARITHMETIC,
    OVERHEAD,
    SASS,
    SPILL,
    TENSOR_CORE,
    InnerLoop,
    count_kinds,
    kind_of,
)

_FRAME_SIZE, _REGISTER_COUNT = 0x11, 0x2F  # attributes of the section .nv.info
_LABEL = re.compile(r"\s*(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;")
_BRANCH = re.compile(r"\bBRA\b.*?(\.L_x_\d+)")


@dataclass(frozen=True)
class KernelReport:
    """What NVIDIA's compiler made of a kernel.

    Attributes
    ----------
    registers : of a thread.
    spill_bytes : written to local memory because registers ran out, counted by the instructions that do it.
    local_bytes : of a thread, in memory outside of the registers.
    loop : the inner loop, on its shortest path: without the rare insertions of a selection. In high dimension, it is
        that of the products, without the rest of the formula.
    """

    registers: int
    spill_bytes: int
    local_bytes: int
    loop: InnerLoop


def inspect_kernel(text: CudaText, arch: str) -> KernelReport:
    """Compile a kernel for an architecture and read its machine code.

    Raises
    ------
    CompilerNotFoundError : NVRTC or nvdisasm is missing.
    CompilationError : NVRTC refused the text, or the architecture.
    """
    cubin = compile_cubin(text.printed.source, arch, OPTIONS)
    name = text.printed.kernel_name
    function = read_function(disassemble(cubin), name)
    registers, local_bytes = _resources(cubin, name)
    kind = _kind_beside_tensor_cores if text.is_tensor else _kind
    loop = inner_loop(function, text.pairs_of_inner_loop, text.work_of_inner_loop, kind)
    return KernelReport(registers, spill_bytes(function), local_bytes, loop)


def capability_of(arch: str) -> int:
    """That of GPUs of an architecture: 90 for sm_90 and sm_90a."""
    digits = re.match(r"(?:sm|compute)_(\d+)", arch)
    return int(digits[1]) if digits else 0  # NVRTC refuses it, in its own words


def read_function(disassembly: str, name: str) -> Function:
    """One function of what nvdisasm prints."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    is_inside = False
    for line in disassembly.splitlines():
        if line.strip().startswith(".section\t"):
            is_inside = f".text.{name}," in line
        elif is_inside and (label := _LABEL.match(line)):
            labels[label[1]] = len(instructions)
        elif is_inside and (instruction := _INSTRUCTION.match(line)):
            instructions.append(instruction[1])
    return Function(name, tuple(instructions), labels, _jump, lambda loop: None)


def _jump(instruction: str) -> Jump | None:
    branch = _BRANCH.search(instruction)
    if not branch:
        return Jump((), False) if instruction == "EXIT" else None
    is_conditional = (
        instruction.startswith("@")
        or ".DIV" in instruction
        or re.search(r"BRA\S* U?!?U?P\d", instruction) is not None
    )
    return Jump((branch[1],), is_conditional)


def _kind(instruction: str) -> str:
    """Of an instruction, or of one that a predicate guards."""
    return kind_of(re.sub(r"^@!?U?P\d\s+", "", instruction), SASS)


def _kind_beside_tensor_cores(instruction: str) -> str:
    """The same where the work of tensor cores alone is looked for: the kinds of other arithmetic do not count."""
    kind = _kind(instruction)
    return OVERHEAD if kind in ARITHMETIC and kind != TENSOR_CORE else kind


def spill_bytes(function: Function) -> int:
    """Bytes that a function writes to local memory."""
    widths = {".64": 8, ".128": 16}
    stores = (text for text in function.instructions if re.search(r"\bSTL\b", text))
    return sum(next((size for width, size in widths.items() if width in text), 4) for text in stores)


def inner_loop(
    function: Function,
    pairs: float,
    work_range: tuple[int, float],
    kind_in_search: Callable[[str], str] = _kind,
) -> InnerLoop:
    """The loop over the columns of a tile, or over the components of products: it computes most per instruction.

    The multiplications or additions of candidates are in ``work_range``, one per pair at least: columns that are left
    over have a loop too.
    """
    least, most = work_range

    def density(work: Work) -> float:
        return work.arithmetic / work.length if least <= work.arithmetic <= most else 0.0

    found = find_working_loop((function,), kind_in_search, density)
    if found is None:
        raise ValueError("The kernel has no loop over pairs.")
    loop, path = found
    kinds = [(_kind(function.instructions[at]), times) for at, times in path.items()]
    stack_accesses = sum(times for kind, times in kinds if kind == SPILL)
    return InnerLoop(pairs, 1, count_kinds(kinds), stack_accesses, (), loop.listing(path))


class Resources(NamedTuple):
    """What a thread of a kernel takes, its spilled registers among the local memory."""

    registers: int
    local_bytes: int


def resources_of(text: CudaText, arch: str) -> Resources:
    """Compile a kernel for an architecture, without a look at its instructions."""
    return _resources(compile_cubin(text.printed.source, arch, OPTIONS), text.printed.kernel_name)


def _resources(cubin: bytes, name: str) -> Resources:
    """Of a function, from the attributes of the ELF file."""
    sections = _sections(cubin)
    symbols, strings = sections[".symtab"], sections[".strtab"]
    found = {_FRAME_SIZE: 0, _REGISTER_COUNT: 0}
    information, at = sections[".nv.info"], 0
    while at + 4 <= len(information):
        kind, attribute, size = struct.unpack_from("<BBH", information, at)
        if kind == 4:  # the only format that has data of its own
            if attribute in found:
                symbol, value = struct.unpack_from("<II", information, at + 4)
                offset = struct.unpack_from("<I", symbols, 24 * symbol)[0]
                if strings[offset : strings.index(b"\0", offset)].decode() == name:
                    found[attribute] = value & 0xFFFF
            at += size
        at += 4
    return Resources(found[_REGISTER_COUNT], found[_FRAME_SIZE])


def _sections(cubin: bytes) -> dict[str, bytes]:
    """The sections of a 64-bit ELF file by name."""
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", cubin, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", cubin, table + k * entry_size) for k in range(count)]
    names_offset = headers[names_index][4]
    sections = {}
    for name, _, _, _, offset, size in headers:
        start = names_offset + name
        sections[cubin[start : cubin.index(b"\0", start)].decode()] = cubin[offset : offset + size]
    return sections
