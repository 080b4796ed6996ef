"""Rows of the operations that act on each component alone. See :class:`~.table.Operation` for the columns."""

from __future__ import annotations

import math
from typing import Any

from ..expressions import Node
from .table import Operation, as_real, number, row

REALS = (-2.0, 2.0)
POSITIVE = (0.1, 3.0)
UNIT = (-0.9, 0.9)


def _no_gradient(g: Node, *arguments: Any) -> tuple[None, ...]:
    """Derivative of a piecewise constant function."""
    return (None,) * len(arguments)


# fmt: off
# ---------------------------------------------------------------- arithmetic
add: Operation = row(
    name="add", text="{0} + {1}",
    doc="x + y.", component="{0} + {1}", domain=(REALS, REALS), method=False,
    reference=lambda xp, x, y: x + y,
    derivative=lambda g, x, y: (g, g),
)
subtract: Operation = row(
    name="subtract", text="{0} - {1}",
    doc="x - y.", component="{0} - {1}", domain=(REALS, REALS), method=False,
    reference=lambda xp, x, y: x - y,
    derivative=lambda g, x, y: (g, negate(g)),
)
multiply: Operation = row(
    name="multiply", text="{0} * {1}",
    doc="x y, component by component.", component="{0} * {1}", domain=(REALS, REALS), method=False,
    reference=lambda xp, x, y: x * y,
    derivative=lambda g, x, y: (multiply(g, y), multiply(g, x)),
)
divide: Operation = row(
    name="divide", text="{0} / {1}",
    doc="x / y.", component="{0} / {1}", domain=(REALS, POSITIVE), method=False,
    reference=lambda xp, x, y: x / y,
    derivative=lambda g, x, y: (divide(g, y), negate(divide(multiply(g, divide(x, y)), y))),
)
negate: Operation = row(
    name="negate", text="-{0}", doc="-x.", component="-{0}", domain=(REALS,), method=False,
    reference=lambda xp, x: -x,
    derivative=lambda g, x: (negate(g),),
)
inverse: Operation = row(
    name="inverse", text="1 / {0}", doc="1 / x.", component="REAL(1) / {0}", domain=(POSITIVE,),
    reference=lambda xp, x: 1 / x,
    derivative=lambda g, x: (negate(multiply(g, square(inverse(x)))),),
)
square: Operation = row(
    name="square", text="{0}**2", doc="x^2.", component="{0} * {0}", domain=(REALS,),
    reference=lambda xp, x: x * x,
    derivative=lambda g, x: (multiply(g, multiply(number(2), x)),),
)
integer_power: Operation = row(
    name="integer_power", text="{0}**{attributes[0]}",
    doc="x^n for an integer n that is compiled in.", component="powi<{attributes[0]}>({0})",
    domain=(POSITIVE,), attributes=(3,), method=False,
    reference=lambda xp, x, n: x**n if n >= 0 else 1 / x**-n,
    derivative=lambda g, x, n: (
        multiply(g, multiply(number(n), integer_power(x, attributes=(n - 1,)))) if n else None,
    ),
)
power: Operation = row(
    name="power", text="{0}**{1}", doc="x^y.", component="pow({0}, {1})", domain=(POSITIVE, REALS),
    reference=lambda xp, x, y: x**y,
    derivative=lambda g, x, y: (
        multiply(g, multiply(y, power(x, subtract(y, number(1))))),
        multiply(g, multiply(power(x, y), log(x))),
    ),
)
absolute: Operation = row(
    name="abs", doc="|x|.", component="abs({0})", domain=(REALS,),
    reference=lambda xp, x: abs(x),
    derivative=lambda g, x: (multiply(g, sign(x)),),
)
mod: Operation = row(
    name="mod", doc="x - m floor((x - offset) / m), the representative of x modulo m in [offset, offset + m).",
    component="{0} - {1} * floor(({0} - {2}) / {1})", domain=(REALS, (0.7, 0.9), REALS), smooth=False,
    reference=lambda xp, x, modulus, offset: x - modulus * xp.floor((x - offset) / modulus),
    derivative=lambda g, x, m, offset: (g, negate(multiply(g, floor(divide(subtract(x, offset), m)))), None),
)

# ---------------------------------------------------------------- exponentials and powers
exp: Operation = row(
    name="exp", doc="Exponential.", component="exp({0})", domain=(REALS,),
    reference=lambda xp, x: xp.exp(x),
    derivative=lambda g, x: (multiply(g, exp(x)),),
)
log: Operation = row(
    name="log", doc="Natural logarithm.", component="log({0})", domain=(POSITIVE,),
    reference=lambda xp, x: xp.log(x),
    derivative=lambda g, x: (divide(g, x),),
)
exp2: Operation = row(
    name="exp2", doc="2^x.", component="exp2({0})", domain=(REALS,),
    reference=lambda xp, x: xp.exp2(x),
    derivative=lambda g, x: (multiply(g, multiply(number(math.log(2)), exp2(x))),),
)
expm1: Operation = row(
    name="expm1", doc="exp(x) - 1, exact near 0.", component="expm1({0})", domain=(REALS,),
    reference=lambda xp, x: xp.expm1(x),
    derivative=lambda g, x: (multiply(g, exp(x)),),
)
log1p: Operation = row(
    name="log1p", doc="log(1 + x), exact near 0.", component="log1p({0})", domain=((-0.8, 2.0),),
    reference=lambda xp, x: xp.log1p(x),
    derivative=lambda g, x: (divide(g, add(number(1), x)),),
)
sqrt: Operation = row(
    name="sqrt", doc="Square root; its gradient at 0 is 0.", component="sqrt({0})", domain=(POSITIVE,),
    reference=lambda xp, x: xp.sqrt(x),
    derivative=lambda g, x: (multiply(g, multiply(number(0.5), rsqrt(x))),),
)
rsqrt: Operation = row(
    name="rsqrt", doc="1 / sqrt(x), and 0 at 0.", component="rsqrt({0})", domain=(POSITIVE,),
    reference=lambda xp, x: xp.where(x == 0, xp.zeros_like(x), 1 / xp.sqrt(xp.where(x == 0, xp.ones_like(x), x))),
    derivative=lambda g, x: (multiply(g, multiply(number(-0.5), integer_power(rsqrt(x), attributes=(3,)))),),
)

# ---------------------------------------------------------------- trigonometry
sin: Operation = row(
    name="sin", doc="Sine.", component="sin({0})", domain=(REALS,),
    reference=lambda xp, x: xp.sin(x),
    derivative=lambda g, x: (multiply(g, cos(x)),),
)
cos: Operation = row(
    name="cos", doc="Cosine.", component="cos({0})", domain=(REALS,),
    reference=lambda xp, x: xp.cos(x),
    derivative=lambda g, x: (negate(multiply(g, sin(x))),),
)
tan: Operation = row(
    name="tan", doc="Tangent.", component="tan({0})", domain=((-1.2, 1.2),),
    reference=lambda xp, x: xp.tan(x),
    derivative=lambda g, x: (multiply(g, add(number(1), square(tan(x)))),),
)
asin: Operation = row(
    name="asin", doc="Arc sine.", component="asin({0})", domain=(UNIT,),
    reference=lambda xp, x: xp.arcsin(x),
    derivative=lambda g, x: (multiply(g, rsqrt(subtract(number(1), square(x)))),),
)
acos: Operation = row(
    name="acos", doc="Arc cosine.", component="acos({0})", domain=(UNIT,),
    reference=lambda xp, x: xp.arccos(x),
    derivative=lambda g, x: (negate(multiply(g, rsqrt(subtract(number(1), square(x))))),),
)
atan: Operation = row(
    name="atan", doc="Arc tangent.", component="atan({0})", domain=(REALS,),
    reference=lambda xp, x: xp.arctan(x),
    derivative=lambda g, x: (divide(g, add(number(1), square(x))),),
)
atan2: Operation = row(
    name="atan2", doc="Angle of the point (y, x): the arc tangent of x / y in the right quadrant.",
    component="atan2({0}, {1})", domain=(POSITIVE, POSITIVE),
    reference=lambda xp, x, y: xp.arctan2(x, y),
    derivative=lambda g, x, y: (
        multiply(g, divide(y, add(square(x), square(y)))),
        negate(multiply(g, divide(x, add(square(x), square(y))))),
    ),
)
sinh: Operation = row(
    name="sinh", doc="Hyperbolic sine.", component="sinh({0})", domain=(REALS,),
    reference=lambda xp, x: xp.sinh(x),
    derivative=lambda g, x: (multiply(g, cosh(x)),),
)
cosh: Operation = row(
    name="cosh", doc="Hyperbolic cosine.", component="cosh({0})", domain=(REALS,),
    reference=lambda xp, x: xp.cosh(x),
    derivative=lambda g, x: (multiply(g, sinh(x)),),
)
tanh: Operation = row(
    name="tanh", doc="Hyperbolic tangent.", component="tanh({0})", domain=(REALS,),
    reference=lambda xp, x: xp.tanh(x),
    derivative=lambda g, x: (multiply(g, subtract(number(1), square(tanh(x)))),),
)

# ---------------------------------------------------------------- piecewise
sign: Operation = row(
    name="sign", doc="-1, 0 or 1.", component="sign({0})", domain=(REALS,), smooth=False,
    reference=lambda xp, x: xp.sign(x), derivative=_no_gradient,
)
step: Operation = row(
    name="step", doc="1 where x >= 0, else 0.", component="step({0})", domain=(REALS,), smooth=False,
    reference=lambda xp, x: as_real(xp, x >= 0, x), derivative=_no_gradient,
)
floor: Operation = row(
    name="floor", doc="Largest integer below x.", component="floor({0})", domain=(REALS,), smooth=False,
    reference=lambda xp, x: xp.floor(x), derivative=_no_gradient,
)
ceil: Operation = row(
    name="ceil", doc="Smallest integer above x.", component="ceil({0})", domain=(REALS,), smooth=False,
    reference=lambda xp, x: xp.ceil(x), derivative=_no_gradient,
)
round_: Operation = row(
    name="round", doc="The nearest number with ``digits`` decimals; halves go to the even digit.",
    component="round({0} * powi<{attributes[0]}>(splat<V>(REAL(10)))) / powi<{attributes[0]}>(splat<V>(REAL(10)))",
    domain=(REALS,), attributes=(1,), smooth=False, method=False,
    reference=lambda xp, x, digits: xp.round(x * 10.0**digits) / 10.0**digits, derivative=_no_gradient,
)
minimum: Operation = row(
    name="minimum", doc="The smaller of x and y (x takes the gradient of a tie).",
    component="minimum({0}, {1})", domain=(REALS, REALS),
    reference=lambda xp, x, y: xp.minimum(x, y),
    derivative=lambda g, x, y: (multiply(g, less_equal(x, y)), multiply(g, less(y, x))),
)
maximum: Operation = row(
    name="maximum", doc="The larger of x and y (x takes the gradient of a tie).",
    component="maximum({0}, {1})", domain=(REALS, REALS),
    reference=lambda xp, x, y: xp.maximum(x, y),
    derivative=lambda g, x, y: (multiply(g, less_equal(y, x)), multiply(g, less(x, y))),
)
clamp: Operation = row(
    name="clamp", doc="x limited to the interval [a, b].", component="minimum(maximum({0}, {1}), {2})",
    domain=(REALS, (-1.0, -0.5), (0.5, 1.0)),
    reference=lambda xp, x, a, b: xp.minimum(xp.maximum(x, a), b),
    derivative=lambda g, x, a, b: (
        multiply(g, multiply(less_equal(a, x), less_equal(x, b))), multiply(g, less(x, a)), multiply(g, less(b, x)),
    ),
)

# ---------------------------------------------------------------- conditions: 0 or 1
less: Operation = row(
    name="less", text="{0} < {1}",
    doc="1 where x < y, else 0.", component="as_real({0} < {1})", domain=(REALS, REALS),
    smooth=False, method=False,
    reference=lambda xp, x, y: as_real(xp, x < y, x + y), derivative=_no_gradient,
)
less_equal: Operation = row(
    name="less_equal", text="{0} <= {1}",
    doc="1 where x <= y, else 0.", component="as_real({0} <= {1})", domain=(REALS, REALS),
    smooth=False, method=False,
    reference=lambda xp, x, y: as_real(xp, x <= y, x + y), derivative=_no_gradient,
)
equal: Operation = row(
    name="equal", text="{0} == {1}",
    doc="1 where x == y, else 0.", component="as_real({0} == {1})", domain=(REALS, REALS),
    smooth=False, method=False,
    reference=lambda xp, x, y: as_real(xp, x == y, x + y), derivative=_no_gradient,
)
not_equal: Operation = row(
    name="not_equal", text="{0} != {1}",
    doc="1 where x != y, else 0.", component="as_real({0} != {1})", domain=(REALS, REALS),
    smooth=False, method=False,
    reference=lambda xp, x, y: as_real(xp, x != y, x + y), derivative=_no_gradient,
)
logical_and: Operation = row(
    name="logical_and", text="{0} & {1}",
    doc="1 where both conditions hold, else 0.",
    component="as_real(({0} != REAL(0)) & ({1} != REAL(0)))", domain=(REALS, REALS), smooth=False, method=False,
    reference=lambda xp, x, y: as_real(xp, (x != 0) & (y != 0), x + y), derivative=_no_gradient,
)
logical_or: Operation = row(
    name="logical_or", text="{0} | {1}",
    doc="1 where one of the conditions holds, else 0.",
    component="as_real(({0} != REAL(0)) | ({1} != REAL(0)))", domain=(REALS, REALS), smooth=False, method=False,
    reference=lambda xp, x, y: as_real(xp, (x != 0) | (y != 0), x + y), derivative=_no_gradient,
)
where: Operation = row(
    name="where", doc="x where the condition is not 0, else y.", component="select({0} != REAL(0), {1}, {2})",
    domain=(REALS, REALS, REALS),
    reference=lambda xp, condition, x, y: xp.where(condition != 0, x, y),
    derivative=lambda g, condition, x, y: (
        None, where(condition, g, number(0)), where(condition, number(0), g),
    ),
)
# fmt: on
