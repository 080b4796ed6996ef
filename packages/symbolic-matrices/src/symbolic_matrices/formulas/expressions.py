"""Owns the expression graph: immutable, interned nodes. Knows no operation, no reduction and no array.

Interning makes equality identity: two formulas that read the same *are* the same object, so sharing of common
sub-expressions is free and every later step (differentiation, planning, printing) can be cached by node.
"""

from __future__ import annotations

import enum
import functools
import threading
import weakref
from collections.abc import Callable, Container, Hashable, Iterator, Mapping
from typing import Any, Protocol


class Axis(enum.IntFlag):
    """The axes along which a value varies. A parameter varies along none, a general term of the matrix along both."""

    PARAMETER = 0
    I = 1  # noqa: E741  (the field's name of the first axis)
    J = 2

    @property
    def swapped(self) -> Axis:
        """The same dependence in the transposed matrix."""
        return {Axis.I: Axis.J, Axis.J: Axis.I}.get(self, self)

    @property
    def letter(self) -> str:
        return {Axis.PARAMETER: "p", Axis.I: "i", Axis.J: "j"}[self]


Attributes = tuple[Hashable, ...]


class OperationLike(Protocol):
    """What a node needs to know of its operation (the rows live one floor higher)."""

    @property
    def name(self) -> str: ...

    def infer_dim(self, dims: tuple[int, ...], attributes: Attributes) -> int: ...

    def __hash__(self) -> int: ...


class Node:
    """A vector-valued expression of x_i, y_j and parameters.

    Attributes
    ----------
    dim : number of components of the vector.
    axes : the axes along which the value varies.
    """

    __slots__ = ("__weakref__", "axes", "dim")

    dim: int
    axes: Axis

    @property
    def arguments(self) -> tuple[Node, ...]:
        return ()


class Variable(Node):
    """Data: entry number ``index`` of the list of arrays, read at i, at j, or once."""

    __slots__ = ("index",)

    def __init__(self, index: int, axis: Axis, dim: int) -> None:
        self.index, self.axes, self.dim = index, axis, dim

    def __reduce__(self) -> tuple[Any, ...]:
        return variable, (self.index, self.axes, self.dim)

    def __repr__(self) -> str:
        return f"{ {Axis.I: 'x', Axis.J: 'y'}.get(self.axes, 'p') }{self.index}"


class Index(Node):
    """The position i or j itself, as a real number."""

    __slots__ = ()

    def __init__(self, axis: Axis) -> None:
        self.axes, self.dim = axis, 1

    def __reduce__(self) -> tuple[Any, ...]:
        return index, (self.axes,)

    def __repr__(self) -> str:
        return self.axes.letter


class Constant(Node):
    """A number that is part of the formula, compiled in (a user's numbers are parameters, read at run time)."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value, self.axes, self.dim = value, Axis.PARAMETER, 1

    def __reduce__(self) -> tuple[Any, ...]:
        return constant, (self.value,)

    def __repr__(self) -> str:
        return f"{self.value:g}"


class Call(Node):
    """An operation applied to nodes; ``attributes`` are its compile-time arguments, such as an index."""

    __slots__ = ("_arguments", "attributes", "operation")

    def __init__(self, operation: OperationLike, arguments: tuple[Node, ...], attributes: Attributes) -> None:
        self.operation, self._arguments, self.attributes = operation, arguments, attributes
        self.dim = operation.infer_dim(tuple(argument.dim for argument in arguments), attributes)
        axes = Axis.PARAMETER
        for argument in arguments:
            axes |= argument.axes
        self.axes = axes

    @property
    def arguments(self) -> tuple[Node, ...]:
        return self._arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return call, (self.operation, self._arguments, self.attributes)

    def __repr__(self) -> str:
        inside = ", ".join(
            [repr(argument) for argument in self._arguments] + [repr(a) for a in self.attributes]
        )
        return f"{self.operation.name}({inside})"


_interned: weakref.WeakValueDictionary[Hashable, Node] = weakref.WeakValueDictionary()
_lock = threading.Lock()  # two threads must not create the same node twice


def _intern(key: Hashable, create: Callable[[], Node]) -> Any:
    node = _interned.get(key)
    if node is None:
        with _lock:
            node = _interned.get(key)
            if node is None:
                node = _interned[key] = create()
    return node


@functools.lru_cache(maxsize=4096)  # in front of the dictionary: as small formulas are built again and again
def variable(index: int, axis: Axis, dim: int) -> Variable:
    return _intern((Variable, index, axis, dim), lambda: Variable(index, axis, dim))


def index(axis: Axis) -> Index:
    return _intern((Index, axis), lambda: Index(axis))


def constant(value: float) -> Constant:
    # repr tells 0.0 from -0.0 and equals itself for nan
    return _intern((Constant, repr(float(value))), lambda: Constant(float(value)))


@functools.lru_cache(maxsize=16384)
def call(operation: OperationLike, arguments: tuple[Node, ...], attributes: Attributes = ()) -> Call:
    return _intern((operation, arguments, attributes), lambda: Call(operation, arguments, attributes))


def topological(*roots: Node, known: Container[Node] = ()) -> list[Node]:
    """Every node below the roots, once, arguments before the calls that use them; ``known`` ones are left out."""
    order: dict[Node, None] = {}
    stack: list[tuple[Node, Iterator[Node]]] = []
    for root in roots:
        if root in known:
            continue
        stack.append((root, iter(root.arguments)))
        while stack:
            node, remaining = stack[-1]
            child = next((a for a in remaining if a not in order and a not in known), None)
            if child is not None:
                stack.append((child, iter(child.arguments)))
            else:
                order[node] = None
                stack.pop()
    return list(order)


def variables_of(*roots: Node) -> list[Variable]:
    """The variables that occur below the roots, by increasing index."""
    found = (node for node in topological(*roots) if isinstance(node, Variable))
    return sorted(found, key=lambda node: node.index)


def rebuild(root: Node, leaf: Callable[[Node], Node]) -> Node:
    """Copy a graph with every leaf replaced by ``leaf(it)``."""
    new: dict[Node, Node] = {}
    for node in topological(root):
        if isinstance(node, Call):
            new[node] = call(node.operation, tuple(new[a] for a in node.arguments), node.attributes)
        else:
            new[node] = leaf(node)
    return new[root]


def renumber(root: Node, positions: Mapping[int, int]) -> Node:
    """Move variable ``k`` to position ``positions[k]`` of the list of arrays."""
    return rebuild(
        root,
        lambda node: (
            variable(positions[node.index], node.axes, node.dim) if isinstance(node, Variable) else node
        ),
    )


def transpose(root: Node) -> Node:
    """Exchange the roles of i and j."""

    def swap(node: Node) -> Node:
        if isinstance(node, Variable):
            return variable(node.index, node.axes.swapped, node.dim)
        return index(node.axes.swapped) if isinstance(node, Index) else node

    return rebuild(root, swap)
