"""Owns what a compiled CUDA kernel says of itself: registers, local memory, and the instructions of its inner loop."""

from __future__ import annotations

import heapq
import re
import struct
from dataclasses import dataclass

from .cuda_printing import OPTIONS, CudaText
from .nvrtc import compile_cubin, disassemble

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
    instructions_per_pair : of the inner loop, on its shortest path: without the rare insertions of a selection. In high
        dimension, the inner loop is that of the products, without the rest of the formula.
    """

    registers: int
    spill_bytes: int
    local_bytes: int
    instructions_per_pair: float


def inspect_kernel(text: CudaText, arch: str) -> KernelReport:
    """Compile a kernel for an architecture and read its machine code.

    Raises
    ------
    CompilerNotFoundError : NVRTC or nvdisasm is missing.
    CompilationError : NVRTC refused the text, or the architecture.
    """
    cubin = compile_cubin(text.printed.source, arch, OPTIONS)
    name = text.printed.kernel_name
    code = _Code(disassemble(cubin), name)
    registers, local_bytes = _resources(cubin, name)
    length = code.inner_loop_length(text.work_of_inner_loop)
    return KernelReport(registers, code.spill_bytes(), local_bytes, length / text.pairs_of_inner_loop)


class _Code:
    """The instructions of one function, and where its labels stand."""

    def __init__(self, disassembly: str, name: str) -> None:
        self.labels: dict[str, int] = {}
        self.instructions: list[str] = []
        is_inside = False
        for line in disassembly.splitlines():
            if line.strip().startswith(".section\t"):
                is_inside = f".text.{name}," in line
            elif is_inside:
                self._read(line)

    def _read(self, line: str) -> None:
        label, instruction = _LABEL.match(line), _INSTRUCTION.match(line)
        if label:
            self.labels[label[1]] = len(self.instructions)
        elif instruction:
            self.instructions.append(instruction[1])

    def spill_bytes(self) -> int:
        widths = {".64": 8, ".128": 16}
        stores = (text for text in self.instructions if re.search(r"\bSTL\b", text))
        return sum(next((size for width, size in widths.items() if width in text), 4) for text in stores)

    def inner_loop_length(self, least_work: int) -> int:
        """The length of the innermost loop that computes most per instruction, on its shortest path.

        Candidates do that many multiplications or additions, one per pair at least: columns that are left over have a
        loop too.
        """
        work_before = [0]
        for text in self.instructions:
            work_before.append(work_before[-1] + bool(re.search(r"\b[FD](FMA|MUL|ADD)\b", text)))

        def work(loop: slice) -> int:
            return work_before[loop.stop] - work_before[loop.start]

        loops = [loop for loop in self._loops() if work(loop) >= least_work]
        innermost = [
            a for a in loops if not any(a.start <= b.start and b.stop <= a.stop for b in loops if b != a)
        ]
        if not innermost:
            raise ValueError("The kernel has no loop over pairs.")
        loop = max(innermost, key=lambda loop: work(loop) / (loop.stop - loop.start))
        return self._shortest_path(loop.start, loop.stop - 1)

    def _loops(self) -> list[slice]:
        """From the target of each backward branch to the branch."""
        branches = ((_BRANCH.search(text), end) for end, text in enumerate(self.instructions))
        ranges = ((self.labels[branch[1]], end + 1) for branch, end in branches if branch)
        return [slice(start, stop) for start, stop in ranges if start < stop]

    def _shortest_path(self, start: int, end: int) -> int:
        lengths, queue = {start: 1}, [(1, start)]
        while queue:
            length, at = heapq.heappop(queue)
            if at == end:
                return length
            for following in self._followers(at):
                if start <= following <= end and length + 1 < lengths.get(following, length + 2):
                    lengths[following] = length + 1
                    heapq.heappush(queue, (length + 1, following))
        raise AssertionError("a loop whose end cannot be reached")

    def _followers(self, at: int) -> list[int]:
        text = self.instructions[at]
        branch = _BRANCH.search(text)
        is_conditional = (
            text.startswith("@") or ".DIV" in text or re.search(r"BRA\S* U?!?U?P\d", text) is not None
        )
        target = [self.labels[branch[1]]] if branch else []
        return target if branch and not is_conditional else [*target, at + 1]


def _resources(cubin: bytes, name: str) -> tuple[int, int]:
    """Registers and local bytes of a function, from the attributes of the ELF file."""
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
    return found[_REGISTER_COUNT], found[_FRAME_SIZE]


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
