"""Owns the assembly text of C++ compilers: its functions, its instructions, and how often its loops run.

Text is read as ``-S`` writes it, in the AT&T spelling on x86-64. Labels are still names there, so that loops are found
without guessing, and no disassembler is needed, which a user's machine may lack.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .control_flow import Function, Loop
from .dialects import Assignment, Dialect

_LABEL = re.compile(r"([\w.$@\"]+):")
_COMMENT = re.compile(r"\s*(##|//|#(?![-\d])|;|@).*")
_LOCAL = (".", "L", '"L')  # what labels inside of functions start with, on Linux and elsewhere
_WORD = re.compile(r"\.(?:quad|xword|8byte|dword)\s+(-?\d+)")


@dataclass(frozen=True)
class Assembly:
    """The functions of a compiled text, and its data of 64 bits by their labels."""

    functions: Mapping[str, Function]
    words: Mapping[str, tuple[int, ...]]


def read_assembly(text: str, dialect: type[Dialect]) -> Assembly:
    """The functions and data of what a compiler wrote."""
    instructions: defaultdict[str, list[str]] = defaultdict(list)
    labels: defaultdict[str, dict[str, int]] = defaultdict(dict)
    words: defaultdict[str, list[int]] = defaultdict(list)
    name = data_name = ""
    for line in map(_without_comment, text.splitlines()):
        label, word = _LABEL.match(line), _WORD.match(line)
        data_name = label[1] if label else data_name
        if label and label[1].startswith(_LOCAL):
            labels[name][label[1]] = len(instructions[name])
        elif label:
            name = label[1].strip('"')
        elif word:
            words[data_name].append(int(word[1]))
        elif line and not line.startswith("."):
            instructions[name].append(re.sub(r"\s+", " ", line))
    functions = (
        Function(
            name, tuple(lines), labels[name], dialect.jump, functools.partial(trip_count, dialect=dialect)
        )
        for name, lines in instructions.items()
        if lines
    )
    return Assembly(
        {function.name: function for function in functions},
        {name: tuple(found) for name, found in words.items()},
    )


def _without_comment(line: str) -> str:
    """Comments start with different signs: # or ## on x86, // or ; on AArch64, where # starts a number too."""
    return "" if line.lstrip().startswith("#") else _COMMENT.sub("", line).strip()


# ---------------------------------------------------------------------------- how often a loop runs


@dataclass(frozen=True)
class Linear:
    """A register's value: an unknown one, plus a number; or the number alone, where nothing is unknown."""

    unknown: tuple[str, int] | None  # a register, and the position of what set it
    offset: int


def strides(function: Function, executed: Iterable[int], dialect: type[Dialect]) -> dict[str, int]:
    """What instructions add to the registers that they change by adding numbers, and by nothing else."""
    found: dict[str, list[Assignment]] = {}
    for at in executed:
        assignment = dialect.assignment(function.instructions[at])
        if assignment:
            found.setdefault(assignment.register, []).append(assignment)
    return {
        register: sum(one.offset for one in all_of_it)
        for register, all_of_it in found.items()
        if all(one.is_known and one.base == register for one in all_of_it)
    }


def trip_count(loop: Loop, dialect: type[Dialect]) -> int | None:
    """How often a loop runs, where that is a number known to the compiler; else None.

    The branch back looks at a register that advances by a fixed stride, from a start to an end that differ by a number.
    """
    function = loop.function
    end = max(loop.body)
    tests = [at for at in sorted(loop.body) if dialect.comparison(function.instructions[at])]
    if not tests or function.jump_of(function.instructions[end]) is None:
        return None
    comparison = dialect.comparison(function.instructions[tests[-1]])
    assert comparison is not None
    steps = strides(function, loop.body, dialect)
    pairs = [(comparison.left, comparison.right)]
    if isinstance(comparison.right, str):
        pairs.append((comparison.right, comparison.left))
    for counter, bound in pairs:
        if steps.get(counter) and bound not in steps:
            start = _value(function, counter, loop.head, dialect)
            stop = (
                Linear(None, bound) if isinstance(bound, int) else _value(function, bound, loop.head, dialect)
            )
            late = any(
                _sets(function.instructions[at], counter, dialect) for at in loop.body if at > tests[-1]
            )
            if start.unknown == stop.unknown:
                return abs(stop.offset - start.offset) // abs(steps[counter]) + late
    return None


def _sets(instruction: str, register: str, dialect: type[Dialect]) -> bool:
    assignment = dialect.assignment(instruction)
    return assignment is not None and assignment.register == register


def _value(function: Function, register: str, before: int, dialect: type[Dialect]) -> Linear:
    """The value of a register as the last line above that sets it has it."""
    for at in range(before - 1, -1, -1):
        assignment = dialect.assignment(function.instructions[at])
        if assignment is None or assignment.register != register:
            continue
        if not assignment.is_known:
            return Linear((register, at), 0)
        if assignment.base is None:
            return Linear(None, assignment.offset)
        value = _value(function, assignment.base, at, dialect)
        return Linear(value.unknown, value.offset + assignment.offset)
    return Linear((register, -1), 0)
