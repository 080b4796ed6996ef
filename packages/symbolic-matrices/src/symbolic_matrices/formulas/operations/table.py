"""Owns what an operation is: one complete row of a table. Knows no operation by name.

Methods of ``LazyTensor``, generated code, derivatives, documentation and tests are all read from these rows.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...arrays import Array, Namespace
from ...errors import ShapeError
from ..expressions import Attributes, Call, Node, call, constant


class Operand(Protocol):
    """A vector in generated text: ``operand[k]`` spells its k-th component (a number or a C expression).

    Vectors of dimension 1 broadcast: every component is the same one.
    """

    @property
    def dim(self) -> int: ...

    def __getitem__(self, component: int | str) -> str: ...


Derivative = Callable[..., Sequence["Node | None"]]
Statement = Callable[..., str]
Interval = tuple[float, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Operation:
    """One row: everything that the engine, the documentation and the tests know about an operation.

    Attributes
    ----------
    name : the row's key, and the name of the ``LazyTensor`` method.
    doc : one line; ``x`` and ``y`` are the operands.
    reference : the definition, ``reference(xp, *arrays, *attributes)``, where ``xp`` is NumPy, PyTorch or CuPy and
        the vector dimension is the last one.
    derivative : ``derivative(cotangent, *arguments, *attributes)`` -> one node per argument, or None for zero.
    domain : the open interval from which tests sample each argument.
    component : C spelling of one component, for operations that act on each component alone: ``"exp({0})"``.
    statement : C spelling of the whole vector otherwise: ``statement(out, *operands, *attributes)``.
    assigns_once : the statement assigns each component of ``out`` once, in order, and reads none.
    reads_operands_once : the statement reads each component of its operands once at most.
    dim : the shape rule, ``dim(dims, *attributes)``; operations on each component broadcast 1 against D.
    dims, attributes : an example of argument dimensions and attributes, for tests.
    text : how people write it, ``"{0} + {1}"``; ``name(arguments)`` by default.
    method : whether ``LazyTensor`` gets a method of this name.
    smooth : False where the function jumps, so that finite differences of the tests stay away.
    """

    name: str
    doc: str
    reference: Callable[..., Array]
    derivative: Derivative
    domain: tuple[Interval, ...]
    component: str = ""
    statement: Statement | None = None
    assigns_once: bool = False
    reads_operands_once: bool = False
    dim: Callable[..., int] | None = None
    dims: tuple[int, ...] = ()
    attributes: Attributes = ()
    text: str = ""
    method: bool = True
    smooth: bool = True

    def __post_init__(self) -> None:
        if bool(self.component) == (self.statement is not None):
            raise TypeError(f"Operation {self.name!r} needs either a component or a statement spelling.")
        if self.statement is not None and (self.dim is None or not self.dims):
            raise TypeError(
                f"Operation {self.name!r} acts on whole vectors: it needs a shape rule and example dims."
            )
        if not self.doc or not self.domain:
            raise TypeError(f"Operation {self.name!r} needs a doc line and the domain of its arguments.")

    @property
    def arity(self) -> int:
        return len(self.domain)

    @functools.cached_property
    def operand_names(self) -> tuple[str, ...]:
        """How the reference calls its arguments, which is how users may name them: ``x.clamp(a=0, b=1)``."""
        names = tuple(inspect.signature(self.reference).parameters)
        return names[1 : 1 + self.arity]

    @property
    def is_componentwise(self) -> bool:
        return bool(self.component)

    @property
    def goes_straight(self) -> bool:
        """Whether each component of the result is assigned once and not read again."""
        return self.is_componentwise or self.assigns_once

    def reads_once(self, position: int) -> bool:
        """Whether each component of the argument at this position is read once at most."""
        return self.component.count(f"{{{position}}}") == 1 or self.reads_operands_once

    def infer_dim(self, dims: tuple[int, ...], attributes: Attributes) -> int:
        if self.dim is not None:
            return self.dim(dims, *attributes)
        return broadcast_dim(self.name, dims)

    def __call__(self, *arguments: Node, attributes: Attributes = ()) -> Call:
        """Apply the operation: rows write their derivatives with other rows."""
        return call(self, arguments, attributes)

    def __reduce__(self) -> tuple[Any, ...]:
        return find_operation, (self.name,)  # rows hold functions, so a pickle holds the key only

    def __repr__(self) -> str:
        return self.name


OPERATIONS: dict[str, Operation] = {}


def row(**fields: Any) -> Operation:
    """Add one operation to the table."""
    operation = Operation(**fields)
    if operation.name in OPERATIONS:
        raise TypeError(f"Two operations are called {operation.name!r}.")
    OPERATIONS[operation.name] = operation
    return operation


def find_operation(name: str) -> Operation:
    return OPERATIONS[name]


def broadcast_dim(name: str, dims: tuple[int, ...]) -> int:
    """The vector dimension of a component-wise operation: 1 broadcasts against D."""
    dim = max(dims)
    if any(d not in (1, dim) for d in dims):
        raise ShapeError(
            f"{name}: vector dimensions {' and '.join(map(str, dims))} do not match; "
            "they must be equal, or 1 which broadcasts."
        )
    return dim


def number(value: float) -> Node:
    """A number written in a derivative or in a rewrite rule."""
    return constant(value)


def as_real(xp: Namespace, mask: Array, like: Array) -> Array:
    """0/1 in the dtype of ``like``, for a condition of the reference backend."""
    return xp.where(mask, xp.ones_like(like), xp.zeros_like(like))
