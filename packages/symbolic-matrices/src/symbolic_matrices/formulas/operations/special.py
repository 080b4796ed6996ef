"""Rows of special functions and of the activation functions of neural networks."""

from __future__ import annotations

import math

from ..expressions import Node
from .pointwise import (
    POSITIVE,
    REALS,
    add,
    cos,
    divide,
    equal,
    exp,
    less,
    log,
    multiply,
    negate,
    sin,
    square,
    subtract,
    where,
)
from .table import Operation, number, row

_FROM_SQRT2 = math.sqrt(0.5)
_GAUSSIAN_PEAK = 1 / math.sqrt(2 * math.pi)


def _normal_density(x: Node) -> Node:
    return multiply(number(_GAUSSIAN_PEAK), exp(multiply(number(-0.5), square(x))))


def _normal_distribution(x: Node) -> Node:
    return multiply(number(0.5), erfc(multiply(number(-_FROM_SQRT2), x)))


def _sinxdivx_derivative(g: Node, x: Node) -> Node:
    """g (cos(x) - sin(x) / x) / x, and 0 at 0."""
    slope = divide(subtract(cos(x), divide(sin(x), x)), x)
    return where(equal(x, number(0)), number(0), multiply(g, slope))


def _sinc_derivative(g: Node, x: Node) -> Node:
    angle = multiply(number(math.pi), x)
    return multiply(number(math.pi), _sinxdivx_derivative(g, angle))


# fmt: off
cbrt: Operation = row(
    name="cbrt", doc="Cube root, of negative numbers too.", component="cbrt({0})", domain=(POSITIVE,),
    reference=lambda xp, x: xp.cbrt(x),
    derivative=lambda g, x: (divide(g, multiply(number(3), square(cbrt(x)))),),
)
erf: Operation = row(
    name="erf", doc="Error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.", component="erf({0})",
    domain=(REALS,),
    reference=lambda xp, x: xp.erf(x),
    derivative=lambda g, x: (multiply(g, multiply(number(2 / math.sqrt(math.pi)), exp(negate(square(x))))),),
)
erfc: Operation = row(
    name="erfc", doc="Complementary error function, 1 - erf(x), exact in the tail.", component="erfc({0})",
    domain=(REALS,),
    reference=lambda xp, x: xp.erfc(x),
    derivative=lambda g, x: (multiply(g, multiply(number(-2 / math.sqrt(math.pi)), exp(negate(square(x))))),),
)
lgamma: Operation = row(
    name="lgamma", doc="log |Gamma(x)|, and infinity at 0, -1, -2...", component="lgamma({0})", domain=(POSITIVE,),
    reference=lambda xp, x: xp.lgamma(x),
    derivative=lambda g, x: (multiply(g, digamma(x)),),
)
digamma: Operation = row(
    name="digamma", doc="Derivative of lgamma.", component="digamma({0})", domain=(POSITIVE,),
    reference=lambda xp, x: xp.polygamma(0, x),
    derivative=lambda g, x: (multiply(g, polygamma(x, attributes=(1,))),),
)
polygamma: Operation = row(
    name="polygamma", doc="Derivative number n of the digamma function.", component="polygamma<{attributes[0]}>({0})",
    domain=(POSITIVE,), attributes=(1,), method=False,
    reference=lambda xp, x, n: xp.polygamma(n, x),
    derivative=lambda g, x, n: (multiply(g, polygamma(x, attributes=(n + 1,))),),
)
xlogx: Operation = row(
    name="xlogx", doc="x log x, and 0 at 0.", component="select({0} == REAL(0), splat<V>(REAL(0)), {0} * log({0}))",
    domain=(POSITIVE,),
    reference=lambda xp, x: xp.where(x == 0, xp.zeros_like(x), x * xp.log(xp.where(x == 0, xp.ones_like(x), x))),
    derivative=lambda g, x: (multiply(g, add(log(x), number(1))),),
)
sinxdivx: Operation = row(
    name="sinxdivx", doc="sin(x) / x, and 1 at 0.", domain=(REALS,),
    component="select({0} == REAL(0), splat<V>(REAL(1)), sin({0}) / {0})",
    reference=lambda xp, x: xp.where(x == 0, xp.ones_like(x), xp.sin(x) / xp.where(x == 0, xp.ones_like(x), x)),
    derivative=lambda g, x: (_sinxdivx_derivative(g, x),),
)
sinc: Operation = row(
    name="sinc", doc="Normalised cardinal sine, sin(pi x) / (pi x), and 1 at 0.", domain=(REALS,),
    component="sinc({0})",
    reference=lambda xp, x: xp.sinc(x),
    derivative=lambda g, x: (_sinc_derivative(g, x),),
)
sigmoid: Operation = row(
    name="sigmoid", doc="Logistic function, 1 / (1 + exp(-x)).", component="sigmoid({0})",
    domain=(REALS,),
    reference=lambda xp, x: 1 / (1 + xp.exp(-x)),
    derivative=lambda g, x: (multiply(g, multiply(sigmoid(x), sigmoid(negate(x)))),),
)
softplus: Operation = row(
    name="softplus", doc="log(1 + exp(x)), without overflow.", domain=(REALS,),
    component="softplus({0})",
    reference=lambda xp, x: xp.where(x > 0, x, xp.zeros_like(x)) + xp.log1p(xp.exp(-abs(x))),
    derivative=lambda g, x: (multiply(g, sigmoid(x)),),
)
relu: Operation = row(
    name="relu", doc="max(x, 0).", component="select({0} > REAL(0), {0}, splat<V>(REAL(0)))", domain=(REALS,),
    reference=lambda xp, x: xp.where(x > 0, x, xp.zeros_like(x)),
    derivative=lambda g, x: (multiply(g, less(number(0), x)),),
)
gelu: Operation = row(
    name="gelu", doc="x times the distribution function of a standard normal variable at x.", domain=(REALS,),
    component="gelu({0})",
    reference=lambda xp, x: xp.where(x < -40, xp.zeros_like(x), 0.5 * x * xp.erfc(-_FROM_SQRT2 * x)),  # 0 at -inf
    derivative=lambda g, x: (multiply(g, add(_normal_distribution(x), multiply(x, _normal_density(x)))),),
)
# fmt: on
