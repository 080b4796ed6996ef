"""Owns the choice of inner products and squared distances that a loop nest computes for tiles of pairs, as products of
matrices, by multiply-adds or by tensor cores, and the spelling of their operands component by component.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from ..formulas.expressions import Axis, Call, Constant, Index, Node, Variable, topological
from ..formulas.operations import Operation, indexing, vectors
from ..precision import Precision
from .planning import Plan
from .printing import spell_number

# Below, the rows and columns of a formula fit the registers of a thread, and each pair computes its own.
LEAST_DIM = {"float32": 25, "float64": 16}
MOST_PRODUCTS = 2  # of one formula; a tile of each has to fit the shared memory of a block
COMPONENT = "k"
LEAST_CAPABILITY = 80  # of GPUs whose tensor cores take bfloat16 and TF32
HALF_FORMATS = {"float16": "Float16", "bfloat16": "BFloat16"}


@dataclass(frozen=True)
class Format:
    """What computes a product: the name of its struct in native/tensor_cores.cuh.

    Attributes
    ----------
    terms : products of matrices that one takes.
    depth : components that one instruction of the tensor cores takes.
    """

    name: str
    terms: int = 1
    depth: int = 1

    @property
    def is_tensor(self) -> bool:
        return self.depth > 1

    def __str__(self) -> str:
        if not self.is_tensor:
            return "multiply-adds"
        return f"tensor cores, {self.name} in {self.terms} term{'s' if self.terms > 1 else ''}"


MULTIPLY_ADD = Format("FusedMultiplyAdd")
TF32 = {Precision.TF32: Format("TF32", 1, 8), Precision.TF32X3: Format("TF32", 3, 8)}


@dataclass(frozen=True)
class Product:
    """A node that combines a vector of the row and one of the column: what the loop nest reads of both.

    Attributes
    ----------
    row, column : how component ``k`` of each is spelled.
    format : what computes the product.
    variables : the positions of those that are variables, where tensor cores read them as they are in memory.
    """

    node: Call
    row: str
    column: str
    format: Format = MULTIPLY_ADD
    variables: tuple[int | None, int | None] = (None, None)

    @property
    def dim(self) -> int:
        return max(argument.dim for argument in self.node.arguments)

    @property
    def lines(self) -> list[str]:
        """A C++ struct, but for its name."""
        return [
            f"    static constexpr int dim = {self.dim}, terms = {self.format.terms};",
            f"    static constexpr bool is_distance = {str(self.is_distance).lower()};",
            f"    typedef {self.format.name} Format;",
            *self._operands(),
        ]

    def __str__(self) -> str:
        return f"{self.node!r} by {self.format}"

    @property
    def is_distance(self) -> bool:
        return self.node.operation is vectors.sqdist

    def _operands(self) -> list[str]:
        kind = "HalfOperand" if self.format.name in HALF_FORMATS.values() else "RealOperand"
        return [
            f"    struct {name} {{ template <class Read> SM_INLINE static REAL read(const Read& read, int {COMPONENT}) "
            f"{{ return {text}; }} }};"
            if index is None
            else f"    typedef {kind}<{index}> {name};"
            for name, text, index in zip(
                ("RowOperand", "ColumnOperand"), (self.row, self.column), self.variables, strict=True
            )
        ]


def find_products(plan: Plan, capability: int = 0) -> tuple[Product, ...]:
    """The products of a formula in high dimension, in the order of their computation.

    ``capability`` is that of the GPU, such as 90 for sm_90; those below `LEAST_CAPABILITY` use no tensor cores.
    """
    found = (_product(node, LEAST_DIM[plan.dtype]) for node in topological(plan.formula))
    products = tuple(product for product in found if product is not None)[:MOST_PRODUCTS]
    if capability < LEAST_CAPABILITY or plan.dtype != "float32":
        return products
    return tuple(_by_tensor_cores(product, plan) for product in products)


def _by_tensor_cores(product: Product, plan: Plan) -> Product:
    """The same product in the format that the plan allows."""
    row, column = (_variable_along(axis, product) for axis in (Axis.I, Axis.J))
    stored = dict(plan.storage)
    halves = {None if index is None else stored.get(index, "float32") for index in (row, column)}
    is_allowed = not product.is_distance or plan.precision is not Precision.AUTO
    if is_allowed and len(halves) == 1 and (name := HALF_FORMATS.get(halves.pop() or "")):
        return replace(product, format=Format(name, 1, 16), variables=(row, column))
    if plan.precision is Precision.AUTO:
        return product
    in_float32 = (None if row in stored else row, None if column in stored else column)
    return replace(product, format=TF32[plan.precision], variables=in_float32)


def _variable_along(axis: Axis, product: Product) -> int | None:
    """The position of the row's or the column's vector, if it is a variable as it stands in memory."""
    (vector,) = (argument for argument in product.node.arguments if argument.axes is axis)
    return vector.index if isinstance(vector, Variable) and vector.dim == product.dim else None


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
