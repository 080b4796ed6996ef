"""Owns how families of processors spell what loops are made of: jumps, counters, comparisons, kinds of instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .control_flow import Function, Jump
from .instructions import ARM, OVERHEAD, X86, kind_of


@dataclass(frozen=True)
class Assignment:
    """``register = base + offset``, with no base for a constant; an unknown result where ``is_known`` is false."""

    register: str
    base: str | None = None
    offset: int = 0
    is_known: bool = True


@dataclass(frozen=True)
class Comparison:
    """What a branch at the end of a loop looks at: a register against another one, or a number."""

    left: str
    right: str | int


class Dialect:
    """How a family of processors spells what loops are made of."""

    kinds: tuple[tuple[str, str], ...]

    @staticmethod
    def jump(instruction: str) -> Jump | None:
        """Where an instruction that is not followed by the next one alone goes."""
        raise NotImplementedError

    @staticmethod
    def assignment(instruction: str) -> Assignment | None:
        """The integer register that an instruction sets."""
        raise NotImplementedError

    @staticmethod
    def comparison(instruction: str) -> Comparison | None:
        """What an instruction compares, if that is all or part of what it does."""
        raise NotImplementedError

    @classmethod
    def kind(cls, instruction: str) -> str:
        return kind_of(instruction, cls.kinds)

    @staticmethod
    def touches_stack(instruction: str, function: Function) -> bool:
        """Whether an instruction reads or writes below the stack pointer or the frame pointer."""
        raise NotImplementedError


class X86Dialect(Dialect):
    """x86-64, in the spelling of AT&T: sources first."""

    kinds = X86
    _NUMBER = r"(-?(?:0x)?[0-9a-f]+)"

    @staticmethod
    def jump(instruction: str) -> Jump | None:
        mnemonic, _, operand = instruction.partition(" ")
        if mnemonic.startswith("ret") or mnemonic in ("ud2", "hlt"):
            return Jump((), False)
        if not mnemonic.startswith("j"):
            return None
        return Jump((operand.strip(),), not mnemonic.startswith("jmp"))

    @classmethod
    def _register(cls, text: str) -> str:
        """By the name of all its 64 bits: eax is a part of rax, r8d of r8."""
        name = re.sub(r"^(r\d+)[dwb]$", r"\1", text.lstrip("%"))
        return re.sub(r"^e(?=[abcds][xip]$|bp$)", "r", name)

    @classmethod
    def assignment(cls, instruction: str) -> Assignment | None:
        mnemonic, _, rest = instruction.partition(" ")
        target = re.search(r"%(r\w+|e\w\w)$", rest)
        if not target or re.match(r"(cmp|test|bt|push|v|k|nop|call|j)", mnemonic):
            return None
        register = cls._register(target[1])
        source = rest[: target.start()].rstrip(", ")
        return cls._simple(mnemonic, source, register) or Assignment(register, is_known=False)

    @classmethod
    def _simple(cls, mnemonic: str, source: str, register: str) -> Assignment | None:
        number = re.fullmatch(r"\$" + cls._NUMBER, source)
        name = re.fullmatch(r"%(\w+)", source)
        stem = re.sub("[lq]$", "", mnemonic)
        address = re.fullmatch(cls._NUMBER + r"?\(%(\w+)\)", source)
        if stem == "xor" and name and cls._register(name[1]) == register:
            return Assignment(register)
        if stem in ("inc", "dec"):
            return Assignment(register, register, 1 if stem == "inc" else -1)
        if number and stem in ("mov", "movabs"):
            return Assignment(register, offset=int(number[1], 0))
        if number and stem in ("add", "sub"):
            return Assignment(register, register, int(number[1], 0) * (1 if stem == "add" else -1))
        if name and stem == "mov":
            return Assignment(register, cls._register(name[1]))
        if address and stem == "lea":
            return Assignment(register, cls._register(address[2]), int(address[1] or "0", 0))
        return None

    @classmethod
    def comparison(cls, instruction: str) -> Comparison | None:
        mnemonic, _, rest = instruction.partition(" ")
        compared = re.fullmatch(r"(%\w+|\$" + cls._NUMBER + r"), (%\w+)", rest)
        if mnemonic.startswith("cmp") and compared:
            source = compared[1]
            right = int(source[1:], 0) if source.startswith("$") else cls._register(source)
            return Comparison(cls._register(compared[3]), right)
        if mnemonic.startswith("test") and len(set(rest.split(", "))) == 1:
            return Comparison(cls._register(rest.split(", ")[0]), 0)
        found = cls.assignment(instruction)
        if found and re.match(r"(add|sub|inc|dec)", mnemonic):
            return Comparison(found.register, 0)
        return None

    @classmethod
    def kind(cls, instruction: str) -> str:
        """Moves to and from memory are loads and stores, those under a mask choose."""
        kind = super().kind(instruction)
        if kind != "move":
            return kind
        operands = instruction.partition(" ")[2]
        if not re.search(r"%[xyz]mm", operands):
            return OVERHEAD
        if "(" not in operands:
            return "compare, blend" if "{%k" in operands else "move"
        return "store" if operands.rstrip("}z{1234567k%").endswith(")") else "load"

    @staticmethod
    def touches_stack(instruction: str, function: Function) -> bool:
        has_frame = "movq %rsp, %rbp" in function.instructions
        return re.search(r"\(%r(sp|bp)" if has_frame else r"\(%rsp", instruction) is not None


class ArmDialect(Dialect):
    """AArch64: targets first."""

    kinds = ARM

    @staticmethod
    def jump(instruction: str) -> Jump | None:
        mnemonic, _, operands = instruction.partition(" ")
        if mnemonic in ("ret", "br", "brk"):
            return Jump((), False)
        if not re.fullmatch(r"b(\.\w+)?|cbn?z|tbn?z", mnemonic):
            return None
        return Jump((operands.split(",")[-1].strip(),), mnemonic != "b")

    @staticmethod
    def _register(text: str) -> str:
        return re.sub(r"^w(\d+)$", r"x\1", text)

    @classmethod
    def assignment(cls, instruction: str) -> Assignment | None:
        mnemonic, _, rest = instruction.partition(" ")
        operands = [cls._register(operand.strip()) for operand in rest.split(",")]
        if not re.fullmatch(r"x\d+|sp", operands[0]) or re.match(r"(cmp|cmn|tst|st|b|cb|tb)", mnemonic):
            return None
        register, sources = operands[0], operands[1:]
        numbers = [re.fullmatch(r"#(-?(?:0x)?[0-9a-f]+)", operand) for operand in sources]
        if mnemonic == "mov" and len(sources) == 1:
            if numbers[0]:
                return Assignment(register, offset=int(numbers[0][1], 0))
            return Assignment(register, None if sources[0] == "xzr" else sources[0])
        if mnemonic in ("add", "adds", "sub", "subs") and len(sources) == 2 and numbers[1]:
            sign = 1 if mnemonic.startswith("add") else -1
            return Assignment(register, sources[0], sign * int(numbers[1][1], 0))
        return Assignment(register, is_known=False)

    @classmethod
    def comparison(cls, instruction: str) -> Comparison | None:
        mnemonic, _, rest = instruction.partition(" ")
        operands = [cls._register(operand.strip()) for operand in rest.split(",")]
        if mnemonic == "cmp" and len(operands) == 2:
            right = operands[1]
            return Comparison(operands[0], int(right[1:], 0) if right.startswith("#") else right)
        if mnemonic in ("subs", "adds", "cbz", "cbnz"):
            return Comparison(operands[0], 0)
        return None

    @staticmethod
    def touches_stack(instruction: str, function: Function) -> bool:
        has_frame = any(re.match(r"(mov x29, sp|add x29, sp)", text) for text in function.instructions)
        return re.search(r"\[(sp|x29)" if has_frame else r"\[sp", instruction) is not None
