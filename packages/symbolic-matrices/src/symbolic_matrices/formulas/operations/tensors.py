"""Rows of the products of tensors, which vectors store row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...arrays import Array, Namespace
from ...errors import ShapeError
from ..expressions import Node
from .pointwise import REALS
from .table import Operand, Operation, row

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Contraction:
    """A product of two tensors, summed over some pairs of axes.

    Attributes
    ----------
    shape_a, shape_b : the shapes of the tensors.
    contracted_a, contracted_b : the axes of each that are summed over, pair by pair.
    order : the axes of the result, those of a that are kept and then those of b, each by its final position.
    """

    shape_a: Axes
    shape_b: Axes
    contracted_a: Axes
    contracted_b: Axes
    order: Axes

    @property
    def kept_a(self) -> Axes:
        return tuple(axis for axis in range(len(self.shape_a)) if axis not in self.contracted_a)

    @property
    def kept_b(self) -> Axes:
        return tuple(axis for axis in range(len(self.shape_b)) if axis not in self.contracted_b)

    @property
    def out_shape(self) -> Axes:
        kept = [*(self.shape_a[k] for k in self.kept_a), *(self.shape_b[k] for k in self.kept_b)]
        return tuple(kept[k] for k in inverse(self.order))

    @property
    def transposed(self) -> Contraction:
        """The same product with the factors exchanged."""
        count = len(self.kept_a)
        order = (*self.order[count:], *self.order[:count])
        return Contraction(self.shape_b, self.shape_a, self.contracted_b, self.contracted_a, order)

    def adjoint_in_a(self) -> Contraction:
        """The product of a cotangent and b that a receives."""
        count = len(self.kept_a)
        target = (
            *self.kept_a_by_position(),
            *(self.contracted_a[self.contracted_b.index(k)] for k in self.paired_b),
        )
        return Contraction(self.out_shape, self.shape_b, self.order[count:], self.kept_b, target)

    def kept_a_by_position(self) -> Axes:
        """The axes of a that the result keeps, as the result orders them."""
        positions = self.order[: len(self.kept_a)]
        return tuple(self.kept_a[positions.index(position)] for position in sorted(positions))

    @property
    def paired_b(self) -> Axes:
        """The axes of b that are summed over, in their order in b."""
        return tuple(sorted(self.contracted_b))

    def check(self, dims: tuple[int, ...]) -> None:
        for name, shape, dim in (("first", self.shape_a, dims[0]), ("second", self.shape_b, dims[1])):
            if math.prod(shape) != dim:
                raise ShapeError(
                    f"tensordot: the {name} vector has dimension {dim}, which is no tensor of shape {shape}."
                )
        sizes_a = [self.shape_a[k] for k in self.contracted_a]
        sizes_b = [self.shape_b[k] for k in self.contracted_b]
        if sizes_a != sizes_b:
            raise ShapeError(
                f"tensordot: the contracted axes have lengths {sizes_a} and {sizes_b}; they must be equal."
            )


def inverse(permutation: Sequence[int]) -> Axes:
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def contraction(
    shape_a: Sequence[int], shape_b: Sequence[int], contracted_a: Sequence[int], contracted_b: Sequence[int],
    order: Sequence[int] = (),
) -> Contraction:  # fmt: skip
    """Check what a user asks for."""
    for shape, axes in ((shape_a, contracted_a), (shape_b, contracted_b)):
        if len(set(axes)) != len(axes) or not all(0 <= axis < len(shape) for axis in axes):
            raise ShapeError(
                f"tensordot: the axes {tuple(axes)} must be distinct and exist in a tensor of shape {tuple(shape)}."
            )
    if len(contracted_a) != len(contracted_b):
        raise ShapeError(
            f"tensordot: axes are contracted pair by pair but got {len(contracted_a)} and {len(contracted_b)} of them."
        )
    count = len(shape_a) + len(shape_b) - 2 * len(contracted_a)
    if order and sorted(order) != list(range(count)):
        raise ShapeError(f"tensordot: {tuple(order)} is no permutation of the {count} axes of the result.")
    return Contraction(
        tuple(shape_a),
        tuple(shape_b),
        tuple(contracted_a),
        tuple(contracted_b),
        tuple(order) or tuple(range(count)),
    )


def _strides(shape: Axes) -> Axes:
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def _place(shape: Axes, names: Sequence[str]) -> str:
    """The position of an entry in a vector, from the name of the loop of each axis."""
    terms = (f"{stride} * {name}" for stride, name in zip(_strides(shape), names, strict=True))
    return " + ".join(terms) or "0"


def _loops(sizes: Sequence[int], letter: str) -> str:
    return " ".join(
        f"for (int {letter}{k} = 0; {letter}{k} < {size}; ++{letter}{k})" for k, size in enumerate(sizes)
    )


def _dim(dims: tuple[int, ...], product: Contraction) -> int:
    product.check(dims)
    return math.prod(product.out_shape)


def _names(product: Contraction) -> tuple[list[str], list[str]]:
    """The loop of each axis of a and of b: o0, o1... over the result and c0, c1... over what is summed."""
    kept = dict(zip(product.kept_a, product.order, strict=False))
    kept_b = dict(zip(product.kept_b, product.order[len(product.kept_a) :], strict=True))
    names_a = [
        f"o{kept[k]}" if k in kept else f"c{product.contracted_a.index(k)}"
        for k in range(len(product.shape_a))
    ]
    names_b = [
        f"o{kept_b[k]}" if k in kept_b else f"c{product.contracted_b.index(k)}"
        for k in range(len(product.shape_b))
    ]
    return names_a, names_b


def _statement(out: Operand, x: Operand, y: Operand, product: Contraction) -> str:
    names_a, names_b = _names(product)
    target = out[_place(product.out_shape, [f"o{k}" for k in range(len(product.out_shape))])]
    term = f"{x[_place(product.shape_a, names_a)]} * {y[_place(product.shape_b, names_b)]}"
    inner = _loops([product.shape_a[k] for k in product.contracted_a], "c")
    return f"{_loops(product.out_shape, 'o')} {{\n    {target} = V();\n    {inner} {target} += {term};\n}}"


def _reference(xp: Namespace, x: Array, y: Array, product: Contraction) -> Array:
    names_a, names_b = _names(product)
    letters = {name: chr(ord("A") + k) for k, name in enumerate(dict.fromkeys(names_a + names_b))}
    out = "".join(letters[f"o{k}"] for k in range(len(product.out_shape)))
    a, b = ("".join(letters[name] for name in names) for names in (names_a, names_b))
    product_ab = xp.einsum(
        f"...{a},...{b}->...{out}",
        x.reshape(*x.shape[:-1], *product.shape_a),
        y.reshape(*y.shape[:-1], *product.shape_b),
    )
    rank = len(product.out_shape)
    return product_ab.reshape(*product_ab.shape[: product_ab.ndim - rank], -1)


def _derivative(g: Node, x: Node, y: Node, product: Contraction) -> tuple[Node, Node]:
    return (
        tensordot(g, y, attributes=(product.adjoint_in_a(),)),
        tensordot(g, x, attributes=(product.transposed.adjoint_in_a(),)),
    )


# fmt: off
tensordot: Operation = row(
    name="tensordot", doc="Product of two tensors, stored row by row, summed over some pairs of axes.",
    domain=(REALS, REALS), dims=(12, 18), method=False, dim=_dim,
    attributes=(Contraction((2, 3, 2), (3, 2, 3), (1,), (2,), (2, 0, 3, 1)),),
    statement=_statement, reference=_reference, derivative=_derivative,
)
# fmt: on
