"""B-splines, as formulas of other operations: derivatives of any order in x and in the knots follow."""

from __future__ import annotations

from ...errors import ShapeError
from ..expressions import Node
from .indexing import extract
from .pointwise import add, inverse, less, less_equal, logical_and, multiply, subtract, where
from .table import number


def bspline(knots: Node, x: Node, degree: int) -> Node:
    """The B-splines of a degree at x, one per component, by the recursion of Cox and de Boor."""
    count = knots.dim - 1 - degree
    if x.dim != 1 or degree < 0 or count < 1:
        raise ShapeError(
            f"bspline of degree {degree} needs a degree >= 0, an x of dimension 1 and at least degree + 2 knots, "
            f"but x has dimension {x.dim} and there are {knots.dim} knots."
        )

    def from_knot(start: int, length: int) -> Node:
        return extract(knots, attributes=(start, length))

    intervals = knots.dim - 1
    basis: Node = logical_and(less_equal(from_knot(0, intervals), x), less(x, from_knot(1, intervals)))
    for d in range(1, degree + 1):
        length = intervals - d
        rising = multiply(
            subtract(x, from_knot(0, length)), _inverse_width(from_knot(0, length), from_knot(d, length))
        )
        falling = multiply(
            subtract(from_knot(d + 1, length), x),
            _inverse_width(from_knot(1, length), from_knot(d + 1, length)),
        )
        left, right = (extract(basis, attributes=(start, length)) for start in (0, 1))
        basis = add(multiply(rising, left), multiply(falling, right))
    return basis


def _inverse_width(left: Node, right: Node) -> Node:
    """1 / (right - left), and 0 between knots that coincide, with finite derivatives."""
    width = subtract(right, left)
    is_regular = less(number(0), width)
    return multiply(is_regular, inverse(where(is_regular, width, number(1))))
