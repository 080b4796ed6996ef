"""Rows of complex numbers, which vectors store as pairs (re, im) side by side, and complex arithmetic made of them.

Three rows move parts in and out of pairs; everything else is a formula of the parts, so that derivatives and rewrites
follow from the real operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...arrays import Array, Namespace
from ...errors import ShapeError
from ..expressions import Node
from .pointwise import REALS, add, atan2, cos, divide, exp, multiply, negate, sin, sqrt, square, subtract
from .table import Operand, Operation, broadcast_dim, number, row
from .vectors import vector_sum


def _half_dim(dims: tuple[int, ...]) -> int:
    if dims[0] % 2:
        raise ShapeError(f"Complex numbers are stored as pairs, but the vector has dimension {dims[0]}.")
    return dims[0] // 2


def _interleaved(xp: Namespace, re: Array, im: Array) -> Array:
    shape = xp.broadcast_shapes(re.shape, im.shape)
    parts = xp.stack([xp.broadcast_to(part, shape) for part in (re, im)], -1)
    return parts.reshape(*parts.shape[:-2], -1)


def _pair_statement(out: Operand, re: Operand, im: Operand) -> str:
    count = max(re.dim, im.dim)
    return (
        f"for (int k = 0; k < {count}; ++k) {{ {out['2 * k']} = {re['k']}; {out['2 * k + 1']} = {im['k']}; }}"
    )


# fmt: off
real_part: Operation = row(
    name="real_part", doc="Real parts of complex numbers.", domain=(REALS,), dims=(6,), dim=_half_dim, method=False,
    statement=lambda out, z: f"for (int k = 0; k < {z.dim // 2}; ++k) {out['k']} = {z['2 * k']};",
    reference=lambda xp, z: z[..., ::2],
    derivative=lambda g, z: (complex_pair(g, number(0)),),
)
imaginary_part: Operation = row(
    name="imaginary_part", doc="Imaginary parts of complex numbers.", domain=(REALS,), dims=(6,), dim=_half_dim,
    method=False,
    statement=lambda out, z: f"for (int k = 0; k < {z.dim // 2}; ++k) {out['k']} = {z['2 * k + 1']};",
    reference=lambda xp, z: z[..., 1::2],
    derivative=lambda g, z: (complex_pair(number(0), g),),
)
complex_pair: Operation = row(
    name="complex_pair", doc="The complex numbers x + i y.", domain=(REALS, REALS), dims=(3, 3), method=False,
    dim=lambda dims: 2 * broadcast_dim("complex_pair", dims), statement=_pair_statement, reference=_interleaved,
    derivative=lambda g, x, y: (real_part(g), imaginary_part(g)),
)
# fmt: on


@dataclass(frozen=True)
class Parts:
    """Complex vectors by their parts; ``im`` is None for real ones, which saves the products with zero."""

    re: Node
    im: Node | None

    @property
    def node(self) -> Node:
        return complex_pair(self.re, number(0) if self.im is None else self.im)

    @property
    def imaginary(self) -> Node:
        return number(0) if self.im is None else self.im


def parts_of(node: Node) -> Parts:
    """The parts of a vector of pairs."""
    return Parts(real_part(node), imaginary_part(node))


def complex_add(a: Parts, b: Parts) -> Parts:
    if a.im is None or b.im is None:
        return Parts(add(a.re, b.re), a.im if b.im is None else b.im)
    return Parts(add(a.re, b.re), add(a.im, b.im))


def complex_negate(a: Parts) -> Parts:
    return Parts(negate(a.re), None if a.im is None else negate(a.im))


def complex_subtract(a: Parts, b: Parts) -> Parts:
    if a.im is not None and b.im is not None:
        return Parts(subtract(a.re, b.re), subtract(a.im, b.im))
    return complex_add(a, complex_negate(b))


def complex_multiply(a: Parts, b: Parts) -> Parts:
    if a.im is None:
        return Parts(multiply(a.re, b.re), None if b.im is None else multiply(a.re, b.im))
    if b.im is None:
        return complex_multiply(b, a)
    real = subtract(multiply(a.re, b.re), multiply(a.im, b.im))
    return Parts(real, add(multiply(a.re, b.im), multiply(a.im, b.re)))


def complex_square(a: Parts) -> Parts:
    return complex_multiply(a, a)


def squared_modulus(a: Parts) -> Node:
    return square(a.re) if a.im is None else add(square(a.re), square(a.im))


def modulus(a: Parts) -> Node:
    """|z|, whose gradient at 0 is 0."""
    return sqrt(squared_modulus(a))


def conjugate(a: Parts) -> Parts:
    return Parts(a.re, None if a.im is None else negate(a.im))


def complex_divide(a: Parts, b: Parts) -> Parts:
    """a (1 / b), where |b|^2 must neither overflow nor underflow."""
    if b.im is None:
        return Parts(divide(a.re, b.re), None if a.im is None else divide(a.im, b.re))
    return complex_multiply(a, complex_inverse(b))


def complex_inverse(a: Parts) -> Parts:
    """1 / z."""
    if a.im is None:
        return Parts(divide(number(1), a.re), None)
    size = squared_modulus(a)
    return Parts(divide(a.re, size), negate(divide(a.im, size)))


def complex_power(a: Parts, n: int) -> Parts:
    """z^n for an integer n, by repeated squaring."""
    if n < 0:
        return complex_inverse(complex_power(a, -n))
    if n == 0:
        return Parts(add(multiply(number(0), a.re), number(1)), None)
    if n == 1:
        return a
    half = complex_square(complex_power(a, n // 2))
    return complex_multiply(half, a) if n % 2 else half


def exp_of_imaginary(angle: Node) -> Parts:
    """exp(i x) = cos x + i sin x."""
    return Parts(cos(angle), sin(angle))


def complex_exp(a: Parts) -> Parts:
    size = exp(a.re)
    return Parts(size, None) if a.im is None else complex_multiply(Parts(size, None), exp_of_imaginary(a.im))


def argument(a: Parts) -> Node:
    """The angle of z, in [-pi, pi]."""
    return atan2(a.imaginary, a.re)


def complex_sum(a: Parts) -> Parts:
    return Parts(vector_sum(a.re), None if a.im is None else vector_sum(a.im))


def complex_dot(a: Parts, b: Parts) -> Parts:
    """sum_k a_k b_k: no factor is conjugated."""
    return complex_sum(complex_multiply(a, b))


def complex_sqnorm2(a: Parts) -> Node:
    return vector_sum(squared_modulus(a))


def complex_norm2(a: Parts) -> Node:
    return sqrt(complex_sqnorm2(a))
