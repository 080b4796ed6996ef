"""Owns the kinds of instructions of processors and GPUs, and the record of an inner loop, for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Rows (kind, spellings): the first row whose pattern matches the start of an instruction names its kind. Copies between
# registers count as "move"; what touches the stack alone is told apart by its operand.
X86 = (
    ("call", r"call"),
    ("multiply-add", r"v?fn?m(add|sub)"),
    ("multiply", r"v?mul[sp][sd]"),
    ("add", r"v?(add|sub)[sp][sd]"),
    ("divide, root", r"v?(div|sqrt|rsqrt|rcp)\w*[sp][sd]"),
    ("exponent", r"v(rndscale|scalef|reduce|range|getexp|getmant|round|fixupimm)|round[sp][sd]"),
    ("compare, blend", r"v?(cmp\w*|min|max|blend\w*|u?comi)[sp][sd]|v?p(blend|cmp|min|max)|vpconflict"),
    ("compare, blend", r"k(or|and|mov|xor|not|add|shift|unpck|test)|v?p?(test|movmsk)|vpmov\w*2m"),
    ("convert", r"v?cvt"),
    ("broadcast", r"v?p?broadcast|v?movddup"),
    ("shuffle", r"v?p?(perm|shuf|unpck|insert|extract|align|slld?q|srld?q|compress|expand)"),
    ("shuffle", r"v?(movh?l[hp]ps|mov[hl]p[sd]|movs[hl]dup)"),
    ("move", r"v?mov(u|a|nt|dq|[sdq]|lp|hp|ss|sd)\w*\b"),
    ("integer", r"vp|v?(and|or|xor)n?p[sd]|vternlog|p(add|sub|mul|and|or|xor|sll|srl|sra|abs|sign)"),
)  # fmt: skip
ARM = (
    ("call", r"bl(r)?\b"),
    ("multiply-add", r"f(n?m(add|sub)|ml[as])\b"),
    ("multiply", r"fn?mulx?\b"),
    ("add", r"f(add|sub|abd)p?\b"),
    ("divide, root", r"f(div|sqrt|rsqrt|recp)"),
    ("exponent", r"f(rint|scale)"),
    ("compare, blend", r"f(cm|acg|min|max|csel)|(bsl|bit|bif|cm[ghleto]\w*|[su](min|max)\w*)\b.*\bv\d"),
    ("convert", r"([su]cvtf|fcvt)"),
    ("broadcast", r"(ld1r|dup)\b"),
    ("shuffle", r"(ext|zip|uzp|trn|rev|tbl|tbx|ins|umov)[12]?\b.*\bv\d"),
    ("load", r"(ld[1-4]|ldp|ldu?r)\b.*\b[qdsv]\d"),
    ("store", r"(st[1-4]|stp|stu?r)\b.*\b[qdsv]\d"),
    ("move", r"(f?mov|movi|mvni)\b.*\b[vqds]\d"),
    ("integer", r".*\bv\d+\.\d*[bhsd]"),
)  # fmt: skip
SASS = (
    ("tensor core", r"[HI]MMA"),
    ("multiply-add", r"[FDH]FMA"),
    ("multiply", r"[FDH]MUL"),
    ("add", r"[FDH]ADD"),
    ("special function", r"MUFU"),
    ("compare, blend", r"([FDI]SETP?|[FDI]MNMX|F?SEL|PLOP3|FCHK|FSET|VOTE)"),
    ("convert", r"[FI]2[FI]|FRND|F2FP"),
    ("load", r"LD[SGC]?\b|LDSM|LDC"),
    ("store", r"ST[SG]?\b"),
    ("spill", r"(LDL|STL)"),
    ("shuffle", r"(SHFL|PRMT)"),
    ("integer", r"(I|L|S)\w*(ADD|MAD|LEA|LOP|SHF|ABS)|IADD|IMAD|LEA|LOP3|SHF|UIADD|UIMAD|ULEA|FLO|POPC|BREV"),
    ("move", r"(MOV|UMOV|CS2R|S2R|R2UR|R2P|P2R)"),
)  # fmt: skip
TENSOR_CORE = "tensor core"
SPILL = "spill"  # loads and stores of the stack
OVERHEAD = "scalar, loop"  # what no row names: counters, addresses, branches
KINDS = (
    TENSOR_CORE, "multiply-add", "multiply", "add", "divide, root", "exponent", "special function", "compare, blend",
    "convert", "integer", "shuffle", "broadcast", "load", "store", SPILL, "move", "call", OVERHEAD,
)  # fmt: skip
ARITHMETIC = frozenset(
    (TENSOR_CORE, "multiply-add", "multiply", "add", "divide, root", "exponent", "special function")
)
CHOICES = frozenset(("compare, blend",))


def kind_of(instruction: str, table: tuple[tuple[str, str], ...]) -> str:
    """The kind of an instruction, by its spelling."""
    return next((kind for kind, pattern in table if re.match(pattern, instruction)), OVERHEAD)


@dataclass(frozen=True)
class InnerLoop:
    """The loop of a kernel over the columns, as the compiler left it.

    An instruction serves a register of ``lanes`` pairs on a processor, and one pair of each thread on a GPU, which
    counts as one lane. Loops inside of it, over the components of a vector, count as often as they run. It is followed
    on its shortest path: without the insertions of a selection, or what else is rare.

    Attributes
    ----------
    pairs : evaluated by one iteration.
    lanes : pairs that one instruction serves.
    counts : instructions of an iteration by their kind; a loop does not have all of `instructions.KINDS`.
    stack_accesses : instructions that read or write the stack, as those do that spill registers: of any kind.
    calls : functions that an iteration calls, whose own instructions are not counted.
    listing : the instructions and the labels, as the compiler or the disassembler spells them.
    """

    pairs: float
    lanes: int
    counts: Mapping[str, int]
    stack_accesses: int
    calls: tuple[str, ...]
    listing: tuple[str, ...]

    @property
    def instructions(self) -> int:
        """Of an iteration."""
        return sum(self.counts.values())

    @property
    def instructions_per_pair(self) -> float:
        """How many instructions a register of ``lanes`` pairs takes."""
        return self.instructions * self.lanes / self.pairs

    def per_pair(self, kind: str) -> float:
        """The same for the instructions of one kind."""
        return self.counts.get(kind, 0) * self.lanes / self.pairs

    def __str__(self) -> str:
        unit = f"per {self.lanes} pairs" if self.lanes > 1 else "per pair"
        rows = [(kind, count) for kind, count in self.counts.items() if count]
        lines = [f"{'inner loop':<18} {'per iteration':>13} {unit:>13}"]
        for name, count in (*rows, ("all", self.instructions)):
            lines.append(f"{name:<18} {count:>13} {count * self.lanes / self.pairs:>13.2f}")
        lines.append(
            f"An iteration evaluates {self.pairs:g} pairs; {self.stack_accesses} instructions touch the stack."
        )
        if self.calls:
            lines.append(f"It calls {', '.join(self.calls)}, whose instructions are not counted.")
        return "\n".join(lines)


def count_kinds(kinds: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add up (kind, times) in the order of the table."""
    total: Counter[str] = Counter()
    for kind, times in kinds:
        total[kind] += times
    return {kind: total[kind] for kind in KINDS if total[kind]}
