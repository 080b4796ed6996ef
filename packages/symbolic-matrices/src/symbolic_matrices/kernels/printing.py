"""Owns generated text: a plan's formula as a small C++ struct that a loop nest of ``native/`` is instantiated with.

The text is printed once, in the subset of C++ that is valid for CUDA scalars and for host SIMD vectors alike: ``V`` is
the type of one component, a ``float`` on a GPU, a register of several rows on a CPU. Work is printed in four stages,
and done where it varies: once per launch, per row, per column, per pair. The pair stage assigns each component of
``out`` once and never reads it, so that a reduction may absorb it on the spot.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import ShapeError
from ..formulas.expressions import Axis, Call, Constant, Index, Node, Variable, topological
from ..formulas.operations import Operand, Operation
from ..formulas.text import print_formula, readable_name
from .planning import Plan

INDENT = "    "
MOST_INLINED = (
    48  # functions in the inner loop, all its columns together: what compiles in well under a second
)
MOST_COMPONENTS = 1 << 12  # of the vectors of a pair, in registers of up to 64 bytes on the stack
MOST_RUNNING_COMPONENTS = 1 << 16  # of a reduction; see STACK_BYTES of backends/threads.py


@dataclass(frozen=True)
class Stage:
    """One function of the printed struct: the axes along which its values vary, and how others refer to them."""

    name: str
    axes: Axis
    buffer: str  # name of the kept values in later stages
    template: str
    parameters: str


STAGES = (
    Stage("parameter", Axis.PARAMETER, "p", "class V, class Read", "const Read& read, V* out"),
    Stage("row", Axis.I, "r", "class V, class Read, class P", "const Read& read, const P& p, V* out"),
    Stage("column", Axis.J, "c", "class V, class Read, class P", "const Read& read, const P& p, V* out"),
    Stage("pair", Axis.I | Axis.J, "out", "class V, class R, class C, class P, class Out",
          "const R& r, const C& c, const P& p, Out& out"),
)  # fmt: skip
_STAGE_OF = {stage.axes: stage for stage in STAGES}
_NOTHING: Mapping[Node, Spelled] = MappingProxyType({})


@dataclass(frozen=True)
class Spelled:
    """A vector in the text: ``pattern`` has ``{}`` where the component goes, ``offset`` is added to it."""

    dim: int
    pattern: str
    offset: int = 0

    def __getitem__(self, component: int | str) -> str:
        if self.dim == 1:
            return self.pattern.format(self.offset)
        if isinstance(component, int):
            return self.pattern.format(self.offset + component)
        return self.pattern.format(f"{self.offset} + {component}" if self.offset else component)


@dataclass(frozen=True)
class Inlined:
    """A vector in the text that is never stored: each component is spelled where it is read."""

    node: Call
    operands: tuple[Operand, ...]

    @property
    def dim(self) -> int:
        return self.node.dim

    def __getitem__(self, component: int | str) -> str:
        return f"({_spell_component(self.node, self.operands, component)})"


def _spell_component(node: Call, operands: Sequence[Operand], component: int | str) -> str:
    operation = _operation(node)
    return operation.component.format(
        *(operand[component] for operand in operands), attributes=node.attributes
    )


def _operation(node: Call) -> Operation:
    operation = node.operation
    assert isinstance(operation, Operation)
    return operation


def inlined_vectors(nodes: Collection[Node]) -> set[Node]:
    """The vectors whose components are each read once, in the stage that computes them.

    They need no memory: an array of all the components of several columns would not fit the registers.
    """
    readers: dict[Node, list[tuple[Call, int]]] = {}
    for node in nodes:
        if isinstance(node, Call):
            for position, argument in enumerate(node.arguments):
                readers.setdefault(argument, []).append((node, position))
    return {node for node, reads in readers.items() if len(reads) == 1 and _is_inlined(node, *reads[0])}


def _is_inlined(node: Node, reader: Call, position: int) -> bool:
    is_spelled = isinstance(node, Call) and node.dim > 1 and _operation(node).is_componentwise
    return is_spelled and node.axes == reader.axes and _operation(reader).reads_once(position)


def _goes_straight(root: Node) -> bool:
    """Whether the components of a result of pairs are assigned to ``out`` as they are computed."""
    return isinstance(root, Call) and _operation(root).goes_straight


@dataclass(frozen=True)
class KeptValues:
    """Where the values that later stages need stand in the buffer of their stage."""

    offsets: dict[Node, int]
    size: int


def kept_values(formula: Node, given: Collection[Node] = ()) -> dict[Stage, KeptValues]:
    """The values that cross from one stage to a later one, or that are the result. Others compute ``given`` ones."""
    kept: dict[Stage, dict[Node, int]] = {stage: {} for stage in STAGES}
    sizes = dict.fromkeys(STAGES, 0)
    nodes = topological(formula, known=given)
    crossing = {a for node in nodes for a in node.arguments if a.axes != node.axes} | {formula}
    for node in nodes:
        if node in crossing and not isinstance(node, Constant):
            stage = _STAGE_OF[node.axes]
            kept[stage][node] = sizes[stage]
            sizes[stage] += node.dim
    return {stage: KeptValues(kept[stage], sizes[stage]) for stage in STAGES}


class _StagePrinter:
    """Prints the statements of one stage."""

    def __init__(self, stage: Stage, kept: dict[Stage, KeptValues], given: Mapping[Node, Spelled]) -> None:
        self.stage, self.kept = stage, kept
        self.lines: list[str] = []
        self.names: dict[Node, Operand] = dict(given)
        self.inlined: set[Node] = set()

    def print_stage(self, nodes: list[Node], root: Node) -> list[str]:
        self.inlined = inlined_vectors(nodes)
        for node in nodes:
            if node.axes == self.stage.axes and not isinstance(node, Constant):
                self._print_node(node)
        if self._is_last and not self._writes_directly(root):
            self._copy(self._operand(root), Spelled(root.dim, "out[{}]"))
        return self.lines

    @property
    def _is_last(self) -> bool:
        return self.stage is STAGES[-1]

    def _writes_directly(self, node: Node) -> bool:
        """Whether a value goes straight to the buffer of its stage. The last one cannot hold intermediate sums."""
        if node not in self.kept[self.stage].offsets:
            return False
        return not self._is_last or _goes_straight(node)

    def _print_node(self, node: Node) -> None:
        if isinstance(node, Call):
            self._print_call(node)
        elif node in self.kept[self.stage].offsets:
            self._copy(self._read(node), self._kept(self.stage, node, "out"))

    def _print_call(self, node: Call) -> None:
        operands = tuple(self._operand(argument) for argument in node.arguments)
        if node in self.inlined:
            self.names[node] = Inlined(node, operands)
            return
        is_kept = self._writes_directly(node)
        name = f"t{len(self.names)}"
        local = Spelled(node.dim, name if node.dim == 1 else name + "[{}]")
        target = self._kept(self.stage, node, "out") if is_kept else local
        operation = _operation(node)
        declared = f"V {name};" if node.dim == 1 else f"V {name}[{node.dim}];"
        if operation.statement is not None:
            lines = operation.statement(target, *operands, *node.attributes).splitlines()
            self.lines += lines if is_kept else [declared, *lines]
        elif node.dim == 1:
            text = _spell_component(node, operands, 0)
            self.lines.append(f"{target[0]} = {text};" if is_kept else f"const V {name} = {text};")
        else:
            text = _spell_component(node, operands, "k")
            loop = f"for (int k = 0; k < {node.dim}; ++k) {target['k']} = {text};"
            self.lines += [loop] if is_kept else [declared, loop]
        self.names[node] = target

    def _copy(self, source: Operand, target: Operand) -> None:
        assignment = f"{target['k']} = {source['k']};"
        self.lines.append(
            assignment if target.dim == 1 else f"for (int k = 0; k < {target.dim}; ++k) {assignment}"
        )

    def _operand(self, node: Node) -> Operand:
        if isinstance(node, Constant):
            return Spelled(1, f"splat<V>({spell_number(node.value)})")
        if node in self.names:
            return self.names[node]
        stage = _STAGE_OF[node.axes]
        if stage is self.stage:
            return self._read(node)
        return self._kept(stage, node, stage.buffer)

    def _kept(self, stage: Stage, node: Node, buffer: str) -> Spelled:
        return Spelled(node.dim, buffer + "[{}]", self.kept[stage].offsets[node])

    def _read(self, node: Node) -> Spelled:
        if isinstance(node, Index):
            return Spelled(1, "read.index()")
        assert isinstance(node, Variable)
        return Spelled(node.dim, f"read({node.index}, {{}})")


def spell_number(value: float) -> str:
    if math.isnan(value):
        return "not_a_number()"
    if math.isinf(value):
        return "infinity()" if value > 0 else "-infinity()"
    return f"REAL({value!r})"


def kernel_name(plan: Plan, text: str) -> str:
    """What a kernel is called: the reduction and the formula, for people, and a digest of all the text."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{plan.reduction.name}_{readable_name(plan.formula)}_{digest}"


def print_struct(formula: Node, given: Mapping[Node, Spelled] = _NOTHING, more: Sequence[str] = ()) -> str:
    """The formula as a C++ struct of four stages.

    ``given`` spells the values of pairs that the loop nest computes, and ``more`` holds lines to add to the struct.
    """
    kept = kept_values(formula, given)
    nodes = topological(formula, known=given)
    lines = ["struct Formula {"]
    for stage in STAGES[:-1]:
        lines.append(f"{INDENT}static constexpr int {stage.name}_dim = {kept[stage].size};")
    lines.append(f"{INDENT}static constexpr int dim = {formula.dim};")
    lines += [INDENT + line for line in more]
    for stage in STAGES:
        body = _StagePrinter(stage, kept, given).print_stage(nodes, formula)
        lines += ["", f"{INDENT}template <{stage.template}>"]
        lines.append(f"{INDENT}SM_INLINE static void {stage.name}({stage.parameters}) {{")
        lines += [INDENT * 2 + line for line in body]
        lines.append(f"{INDENT}}}")
    return "\n".join([*lines, "};"])


def inlined_functions(formula: Node) -> float:
    """How much text one pair takes once its functions are inlined, in functions such as exp."""
    total = 0.0
    for node in topological(formula):
        if isinstance(node, Call) and node.axes == STAGES[-1].axes:
            calls_function = "(" in getattr(node.operation, "component", "")
            total += min(node.dim, 16) * (1.0 if calls_function else 0.125)
    return total


def _components_per_pair(plan: Plan) -> int:
    """How many components of vectors are held at once for one pair, beside the running ones of the reduction."""
    root = plan.formula
    nodes = topological(root)
    inlined = inlined_vectors(nodes)
    held = [node for node in nodes if node.axes == STAGES[-1].axes and node.dim > 1 and node not in inlined]
    total = sum(node.dim for node in held)
    if not plan.reduction.absorbs_components:
        return total + math.prod(plan.output_shape)
    return total - root.dim if _goes_straight(root) and root in held else total


def columns_at_once(plan: Plan) -> int:
    """How many columns may be evaluated together without too much text, nor too much memory on the stack."""
    text, held, running = (
        inlined_functions(plan.formula),
        _components_per_pair(plan),
        math.prod(plan.output_shape) * plan.reduction.running_values,
    )
    if held > MOST_COMPONENTS or running > MOST_RUNNING_COMPONENTS:
        raise ShapeError(
            f"A pair of this formula holds {held} components at once, and its reduction {running}, more than the "
            f"{MOST_COMPONENTS} and {MOST_RUNNING_COMPONENTS} of a compiled kernel: reduce fewer components at a time, "
            "or pass backend='reference'."
        )
    return next((n for n in (8, 4, 2) if n * text <= MOST_INLINED and 2 * n * held <= MOST_COMPONENTS), 1)


def definitions(plan: Plan, header: str) -> list[str]:
    """What the headers want to know: the number format, and how far they may repeat the text of a pair."""
    real, most_columns = plan.real, columns_at_once(plan)
    lines = [f"#define REAL {real.spelling}", f"#define REAL_BITS {8 * real.itemsize}"]
    if most_columns < 8:
        lines.append(f"#define SM_MOST_COLUMNS {most_columns}")
    if inlined_functions(plan.formula) > MOST_INLINED:
        lines.append("#define SM_LONG_FORMULA")
    return [*lines, f'#include "{header}"']


@dataclass(frozen=True)
class PrintedKernel:
    """The text of a kernel and the name of its entry point."""

    source: str
    kernel_name: str


@functools.lru_cache(maxsize=4096)
def print_kernel(plan: Plan) -> PrintedKernel:
    """The whole text that is compiled for a plan. Equal plans print equal texts."""
    # A namespace, so that the symbol of the inner loop, a member of a template, tells the formula to profilers.
    space = f"of_{readable_name(plan.formula)}"
    reduction = plan.reduction.spelling("Formula::dim")
    title = f"// {plan.reduction.name} over j of  {print_formula(plan.formula)}"
    struct = (f"namespace {space} {{", print_struct(plan.formula), "")
    body = "\n".join((title, *definitions(plan, "reduce.hpp"), "", *struct))
    name = kernel_name(plan, f"{body}{reduction}")
    return PrintedKernel(f"{body}\nSM_KERNEL({name}, Formula, {reduction})\n}}\n", name)
