"""Count the instructions of reference kernels, and write them down for the test that guards them against regressions.

Usage: ``python tools/instruction_counts.py`` after a change that is meant to change the code of kernels, with another
compiler as ``CXX="clang++" python tools/instruction_counts.py``. It rewrites the entries of the compiler that it finds,
in ``instruction_counts.json`` beside the test and in the table of the page on speed, and prints what changed.

A count is that of the inner loop in the compiler's assembly: it depends on the compiler, but neither on the processor
that it runs on nor on what else runs there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from symbolic_matrices import BackendError, Explanation, LazyTensor, Vi, Vj, explain
from symbolic_matrices.kernels.compilation import Compiler, require_compiler

PACKAGE = Path(__file__).parents[1] / "packages/symbolic-matrices"
FILE = PACKAGE / "tests/native/instruction_counts.json"
PAGE, PAGE_COMPILER = PACKAGE / "docs/benchmarks/instructions.md", "gcc 12"
UPDATE = "hatch run instruction_counts"
ARCHITECTURES = ("avx512", "avx2", "neon")
ABSOLUTE, RELATIVE = 0.5, 0.02  # more instructions for a register of pairs than were written down
UNKNOWN = 1.5  # times the most of any compiler, for a compiler that none were written down of
ALL, SPILL = "all", "spill"
ARITHMETIC = {  # columns of the page: what a name sums up; what is left is moves, addresses and branches
    "products and multiply-adds": ("multiply", "multiply-add"),
    "additions": ("add",),
    "roots, divisions": ("divide, root",),
    "exponents, look-ups": ("exponent", "shuffle", "integer"),
    "comparisons": ("compare, blend",),
    "loads, stores": ("load", "store", "broadcast", "spill"),
}
Counts = dict[str, float]  # instructions for a register of pairs, by kind and in all


def _points(dim: int, dtype: str = "float32") -> tuple[LazyTensor, LazyTensor]:
    return Vi(np.zeros((1, dim), dtype)), Vj(np.zeros((1, dim), dtype))


def _weights(count: int = 1, dtype: str = "float32") -> LazyTensor:
    return Vj(np.zeros((1, count), dtype))


def _gaussian(dim: int, dtype: str = "float32", columns: int = 1) -> LazyTensor:
    x, y = _points(dim, dtype)
    return (-x.sqdist(y) * 0.5).exp() * _weights(columns, dtype)


def _laplacian() -> LazyTensor:
    x, y = _points(3)
    return (-x.sqdist(y).sqrt()).exp() * _weights()


def _gradient() -> LazyTensor:
    x, y = _points(3)
    return ((-x.sqdist(y) * 0.5).exp() * _weights()).grad(x, Vi(np.zeros((1, 1), "float32")))


def _distances() -> LazyTensor:
    x, y = _points(3)
    return x.sqdist(y)


# The rows of docs/performance.md: a name, the formula, the reduction, and how many neighbours it takes.
CASES: dict[str, tuple[Callable[[], LazyTensor], str, int | None]] = {
    "Gaussian, D = 3": (lambda: _gaussian(3), "sum", None),
    "Gaussian, D = 10": (lambda: _gaussian(10), "sum", None),
    "Gaussian, D = 64": (lambda: _gaussian(64), "sum", None),
    "Gaussian, D = 3, 64 columns": (lambda: _gaussian(3, columns=64), "sum", None),
    "Gaussian, D = 3, float64": (lambda: _gaussian(3, "float64"), "sum", None),
    "Laplacian, D = 3": (_laplacian, "sum", None),
    "log-sum-exp, D = 3": (lambda: -_distances(), "logsumexp", None),
    "gradient of the Gaussian, D = 3": (_gradient, "sum", None),
    "nearest, D = 3": (_distances, "argmin", None),
    "10 nearest, D = 3": (_distances, "argKmin", 10),
}


def explanation(case: str, arch: str) -> Explanation:
    """The kernel of a case, with its machine code."""
    formula, reduction, count = CASES[case]
    return explain(formula(), reduction, axis=1, count=count, arch=arch)


def count(case: str, arch: str) -> Counts:
    """Instructions for a register of pairs: all of them, and those of each kind."""
    loop = explanation(case, arch).loop
    assert loop is not None
    kinds = {kind: round(loop.per_pair(kind), 2) for kind in loop.counts}
    return {ALL: round(loop.instructions_per_pair, 2), **kinds}


def name_of(compiler: Compiler) -> str:
    """Family and major version: what the counts are written down by. zig is a clang."""
    family = "gcc" if compiler.kind == "gcc" else "apple clang" if "Apple" in compiler.version else "clang"
    version = re.search(r"(\d+)\.\d+\.\d+", compiler.version)
    return f"{family} {version[1]}" if version else family


def read() -> dict[str, dict[str, dict[str, Counts]]]:
    """The counts that were written down, by compiler, architecture and case."""
    written: dict[str, dict[str, dict[str, Counts]]] = json.loads(FILE.read_text())
    return written


def complaints(compiler: str, arch: str, case: str, found: Counts) -> Iterator[str]:
    """What grew beyond the tolerance; a compiler that is not written down is held to a multiple of the others."""
    written = read()
    known = written.get(compiler, {}).get(arch, {}).get(case)
    if known is None:
        others = [counts[arch][case][ALL] for counts in written.values() if case in counts.get(arch, {})]
        if found[ALL] > UNKNOWN * max(others):
            yield (
                f"{case} on {arch} takes {found[ALL]:g} instructions for a register of pairs with {compiler}, of which "
                f"nothing is written down, more than {UNKNOWN:g} times those of any other compiler, {max(others):g}. "
                f"If this is as it should be, write them down: {UPDATE}"
            )
        return
    for kind in (ALL, SPILL):
        before, now = known.get(kind, 0.0), found.get(kind, 0.0)
        if now > before + max(ABSOLUTE, RELATIVE * before):
            yield (
                f"{case} on {arch} with {compiler} takes {now:g} instructions for a register of pairs ({kind}), where "
                f"{before:g} are written down: {difference(known, found)}. If this is meant: {UPDATE}"
            )


def difference(before: Counts, now: Counts) -> str:
    """The kinds of instructions that are more or fewer, the largest change first."""
    changes = {kind: now.get(kind, 0.0) - before.get(kind, 0.0) for kind in {**before, **now} if kind != ALL}
    changed = sorted((kind for kind in changes if changes[kind]), key=lambda kind: -abs(changes[kind]))
    return ", ".join(f"{kind} {changes[kind]:+.2f}" for kind in changed) or "no kind changed"


def page() -> str:
    """A Markdown table of the committed counts of one compiler."""
    by_arch = read()[PAGE_COMPILER]
    lines = [
        f"| kernel | {' | '.join(ARITHMETIC)} | all | all with AVX2 |",
        f"|---|{'---|' * (len(ARITHMETIC) + 2)}",
    ]
    for case in CASES:
        wide, narrow = by_arch["avx512"][case], by_arch["avx2"][case]
        cells = [sum(wide.get(kind, 0.0) for kind in kinds) for kinds in ARITHMETIC.values()]
        counts = " | ".join(f"{number:.1f}" for number in (*cells, wide[ALL], narrow[ALL]))
        lines.append(f"| {case} | {counts} |")
    return "\n".join(lines) + "\n"


def update() -> None:
    """Count anew with the compiler at hand, and write down what it can compile for."""
    compiler = name_of(require_compiler())
    written = read() if FILE.exists() else {}
    for arch in ARCHITECTURES:
        try:
            found = {case: count(case, arch) for case in CASES}
        except BackendError as error:
            print(f"{arch}: {error}")
            continue
        before = written.setdefault(compiler, {}).get(arch, {})
        for case, counts in found.items():
            if counts != before.get(case):
                old = before.get(case, {})
                print(f"{arch}, {case}: {old.get(ALL, 0):g} -> {counts[ALL]:g} ({difference(old, counts)})")
        written[compiler][arch] = found
    FILE.write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    print(f"Wrote the counts of {compiler} to {FILE.name}.")
    PAGE.write_text(page())


if __name__ == "__main__":
    update()
