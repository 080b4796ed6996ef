"""Owns the choice of inner products and squared distances that a loop nest computes for tiles of pairs, as products of
matrices, and the spelling of their operands component by component.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..formulas.expressions import Axis, Call, Constant, Index, Node, Variable, topological
from ..formulas.operations import Operation, indexing, vectors
from .planning import Plan
from .printing import spell_number

# Below, the rows and columns of a formula fit the registers of a thread, and each pair computes its own.
LEAST_DIM = {"float32": 25, "float64": 16}
MOST_PRODUCTS = 2  # of one formula; a tile of each has to fit the shared memory of a block
COMPONENT = "k"


@dataclass(frozen=True)
class Product:
    """A node that combines a vector of the row and one of the column: what the loop nest reads of both."""

    node: Call
    row: str
    column: str

    @property
    def dim(self) -> int:
        return max(argument.dim for argument in self.node.arguments)

    @property
    def lines(self) -> list[str]:
        """A C++ struct, but for its name."""
        is_distance = str(self.node.operation is vectors.sqdist).lower()
        functions = [
            f"    template <class Read> SM_INLINE static REAL {axis}(const Read& read, int {COMPONENT}) "
            f"{{ return {text}; }}"
            for axis, text in (("row", self.row), ("column", self.column))
        ]
        return [
            f"    static constexpr int dim = {self.dim};",
            f"    static constexpr bool is_distance = {is_distance};",
            *functions,
        ]


def find_products(plan: Plan) -> tuple[Product, ...]:
    """The products of a formula in high dimension, in the order of their computation."""
    found = (_product(node, LEAST_DIM[plan.dtype]) for node in topological(plan.formula))
    return tuple(product for product in found if product is not None)[:MOST_PRODUCTS]


def _product(node: Node, least_dim: int) -> Product | None:
    if not isinstance(node, Call) or node.operation not in (vectors.sqdist, vectors.dot):
        return None
    if max(argument.dim for argument in node.arguments) < least_dim:
        return None
    by_axes = {
        argument.axes: spell_component(argument) for argument in node.arguments
    }  # both operations are symmetric
    row, column = by_axes.get(Axis.I), by_axes.get(Axis.J)
    return Product(node, row, column) if row is not None and column is not None else None


@functools.cache
def spell_component(node: Node, component: str = COMPONENT) -> str | None:
    """One component of a vector that is computed component by component; None for any other."""
    component = component if node.dim > 1 else "0"
    if isinstance(node, Constant):
        return spell_number(node.value)
    if isinstance(node, Index):
        return "read.index()"
    if isinstance(node, Variable):
        place = f"{node.index}, {component}"
        return f"read.parameter({place})" if node.axes is Axis.PARAMETER else f"read({place})"
    assert isinstance(node, Call)
    operation = node.operation
    assert isinstance(operation, Operation)
    if operation is indexing.extract:
        return _spell_extracted(node, component)
    arguments = [spell_component(argument, component) for argument in node.arguments]
    if not operation.is_componentwise or any(text is None for text in arguments):
        return None
    return f"({operation.component.format(*arguments, attributes=node.attributes)})"


def _spell_extracted(node: Call, component: str) -> str | None:
    """A component further on of a variable; the components of others do not all have the same text."""
    (argument,), start = node.arguments, node.attributes[0]
    if not isinstance(argument, Variable):
        return None
    place = f"{argument.index}, {start} + {component}"
    return f"read.parameter({place})" if argument.axes is Axis.PARAMETER else f"read({place})"
