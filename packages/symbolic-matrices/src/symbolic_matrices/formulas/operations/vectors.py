"""Rows of the operations that combine the components of vectors: norms, products, sums."""

from __future__ import annotations

from collections.abc import Callable

from ...arrays import Array, Namespace
from ...errors import ShapeError
from .pointwise import REALS, multiply, negate, rsqrt, subtract
from .table import Operand, Operation, as_real, broadcast_dim, number, row


def _one(*_: object) -> int:
    return 1


def _one_per_pair(name: str) -> Callable[[tuple[int, ...]], int]:
    def dim(dims: tuple[int, ...]) -> int:
        broadcast_dim(name, dims)
        return 1

    return dim


def _accumulate(out: Operand, dim: int, term: str, prelude: str = "") -> str:
    """out = sum over k of a term, written as a loop."""
    return f"{out[0]} = V();\nfor (int k = 0; k < {dim}; ++k) {{ {prelude}{out[0]} += {term}; }}"


def _sqdist_statement(out: Operand, x: Operand, y: Operand) -> str:
    difference = f"const V d = {x['k']} - {y['k']}; "
    return _accumulate(out, max(x.dim, y.dim), "d * d", difference)


def _dot_statement(out: Operand, x: Operand, y: Operand) -> str:
    return _accumulate(out, max(x.dim, y.dim), f"{x['k']} * {y['k']}")


# ---------------------------------------------------------------- extreme components


def _extreme_statement(function: str) -> Callable[..., str]:
    def statement(out: Operand, x: Operand) -> str:
        return f"{out[0]} = {x[0]};\nfor (int k = 1; k < {x.dim}; ++k) {out[0]} = {function}({out[0]}, {x['k']});"

    return statement


def _position_statement(comparison: str) -> Callable[..., str]:
    """The first component that no other one beats."""

    def statement(out: Operand, x: Operand) -> str:
        return (
            f"{out[0]} = splat<V>(REAL(0));\n{{\n    V best = {x[0]};\n"
            f"    for (int k = 1; k < {x.dim}; ++k) {{\n"
            f"        {out[0]} = select({x['k']} {comparison} best, splat<V>(REAL(k)), {out[0]});\n"
            f"        best = select({x['k']} {comparison} best, {x['k']}, best);\n    }}\n}}"
        )

    return statement


def _position_reference(name: str) -> Callable[[Namespace, Array], Array]:
    def reference(xp: Namespace, x: Array) -> Array:
        position = getattr(xp, name)(x, -1)[..., None]
        return sum(as_real(xp, position == k, x[..., :1]) * k for k in range(x.shape[-1]))

    return reference


# ---------------------------------------------------------------- products


def _cross_statement(out: Operand, x: Operand, y: Operand) -> str:
    terms = ((1, 2), (2, 0), (0, 1))
    return "\n".join(f"{out[k]} = {x[a]} * {y[b]} - {x[b]} * {y[a]};" for k, (a, b) in enumerate(terms))


def _cross_dim(dims: tuple[int, ...]) -> int:
    if dims != (3, 3):
        raise ShapeError(
            f"cross: the cross product needs two vectors of dimension 3 but got {dims[0]} and {dims[1]}."
        )
    return 3


def _cross_reference(xp: Namespace, x: Array, y: Array) -> Array:
    pairs = ((1, 2), (2, 0), (0, 1))
    return xp.stack([x[..., a] * y[..., b] - x[..., b] * y[..., a] for a, b in pairs], -1)


# ---------------------------------------------------------------- matrix products, row-major


def _divided(name: str, matrix: int, vector: int) -> int:
    if matrix % vector:
        raise ShapeError(
            f"{name}: a matrix of {matrix} entries cannot multiply a vector of dimension {vector}; "
            "the entries, stored row by row, must be a multiple of it."
        )
    return matrix // vector


def _matrix(array: Array, rows: int) -> Array:
    """(..., rows * columns) -> (..., rows, columns)."""
    return array.reshape(*array.shape[:-1], rows, array.shape[-1] // rows)


def _matvec_reference(xp: Namespace, matrix: Array, vector: Array) -> Array:
    rows = matrix.shape[-1] // vector.shape[-1]
    return (_matrix(matrix, rows) * vector[..., None, :]).sum(-1)


def _vecmat_reference(xp: Namespace, vector: Array, matrix: Array) -> Array:
    return (_matrix(matrix, vector.shape[-1]) * vector[..., :, None]).sum(-2)


def _tensorprod_reference(xp: Namespace, x: Array, y: Array) -> Array:
    product = x[..., :, None] * y[..., None, :]
    return product.reshape(*product.shape[:-2], -1)


def _matvec_statement(out: Operand, matrix: Operand, vector: Operand) -> str:
    return _contraction(out, vector.dim, f"{matrix[f'l * {vector.dim} + k']} * {vector['k']}")


def _vecmat_statement(out: Operand, vector: Operand, matrix: Operand) -> str:
    return _contraction(out, vector.dim, f"{vector['k']} * {matrix[f'k * {out.dim} + l']}")


def _contraction(out: Operand, length: int, term: str) -> str:
    """out_l = sum over k of a term, for each component l."""
    return (
        f"for (int l = 0; l < {out.dim}; ++l) {{\n"
        f"    {out['l']} = V();\n"
        f"    for (int k = 0; k < {length}; ++k) {out['l']} += {term};\n}}"
    )


def _tensorprod_statement(out: Operand, x: Operand, y: Operand) -> str:
    return (
        f"for (int l = 0; l < {x.dim}; ++l) {{\n"
        f"    for (int k = 0; k < {y.dim}; ++k) {out[f'l * {y.dim} + k']} = {x['l']} * {y['k']};\n}}"
    )


# fmt: off
vector_sum: Operation = row(
    name="vector_sum", doc="Sum of the components.", domain=(REALS,), dims=(3,), dim=_one, method=False,
    statement=lambda out, x: _accumulate(out, x.dim, x['k']), reads_operands_once=True,
    reference=lambda xp, x: x.sum(-1)[..., None],
    derivative=lambda g, x: (broadcast(g, attributes=(x.dim,)),),
)
broadcast: Operation = row(
    name="broadcast", doc="Repeat a number D times.", domain=(REALS,), dims=(1,), attributes=(3,), method=False,
    dim=lambda dims, dim: dim,
    statement=lambda out, x, dim: f"for (int k = 0; k < {dim}; ++k) {out['k']} = {x[0]};", assigns_once=True,
    reference=lambda xp, x, dim: xp.broadcast_to(x, (*x.shape[:-1], dim)),
    derivative=lambda g, x, dim: (vector_sum(g),),
)
dot: Operation = row(
    name="dot", doc="Inner product of x and y, also written ``x | y``.", domain=(REALS, REALS), dims=(3, 3),
    dim=_one_per_pair("dot"), statement=_dot_statement, reads_operands_once=True,
    reference=lambda xp, x, y: (x * y).sum(-1)[..., None],
    derivative=lambda g, x, y: (multiply(g, y), multiply(g, x)),
)
sqnorm2: Operation = row(
    name="sqnorm2", doc="Squared Euclidean norm.", domain=(REALS,), dims=(3,), dim=_one,
    statement=lambda out, x: _accumulate(out, x.dim, f"{x['k']} * {x['k']}"),
    reference=lambda xp, x: (x * x).sum(-1)[..., None],
    derivative=lambda g, x: (multiply(g, multiply(number(2), x)),),
)
norm2: Operation = row(
    name="norm2", doc="Euclidean norm; its gradient at 0 is 0.", domain=(REALS,), dims=(3,), dim=_one,
    statement=lambda out, x: (
        _accumulate(out, x.dim, f"{x['k']} * {x['k']}") + f"\n{out[0]} = sqrt({out[0]});"
    ),
    reference=lambda xp, x: xp.sqrt((x * x).sum(-1))[..., None],
    derivative=lambda g, x: (multiply(multiply(g, rsqrt(sqnorm2(x))), x),),
)
sqdist: Operation = row(
    name="sqdist", doc="Squared Euclidean distance, |x - y|^2, by direct differences.", domain=(REALS, REALS),
    dims=(3, 3), dim=_one_per_pair("sqdist"), statement=_sqdist_statement, reads_operands_once=True,
    reference=lambda xp, x, y: ((x - y) ** 2).sum(-1)[..., None],
    derivative=lambda g, x, y: (
        multiply(multiply(number(2), g), subtract(x, y)), negate(multiply(multiply(number(2), g), subtract(x, y))),
    ),
)
vector_max: Operation = row(
    name="vector_max", doc="Largest component.", domain=(REALS,), dims=(4,), dim=_one, method=False,
    statement=_extreme_statement("maximum"), reference=lambda xp, x: xp.amax(x, -1)[..., None],
    derivative=lambda g, x: (multiply(g, one_hot(vector_argmax(x), attributes=(x.dim,))),),
)
vector_min: Operation = row(
    name="vector_min", doc="Smallest component.", domain=(REALS,), dims=(4,), dim=_one, method=False,
    statement=_extreme_statement("minimum"), reference=lambda xp, x: xp.amin(x, -1)[..., None],
    derivative=lambda g, x: (multiply(g, one_hot(vector_argmin(x), attributes=(x.dim,))),),
)
vector_argmax: Operation = row(
    name="vector_argmax", doc="Position of the largest component, the first of equal ones.", domain=(REALS,),
    dims=(4,), dim=_one, method=False, smooth=False,
    statement=_position_statement(">"), reference=_position_reference("argmax"), derivative=lambda g, x: (None,),
)
vector_argmin: Operation = row(
    name="vector_argmin", doc="Position of the smallest component, the first of equal ones.", domain=(REALS,),
    dims=(4,), dim=_one, method=False, smooth=False,
    statement=_position_statement("<"), reference=_position_reference("argmin"), derivative=lambda g, x: (None,),
)
one_hot: Operation = row(
    name="one_hot", doc="The vector of dimension D that is 1 at position x, rounded, and 0 elsewhere.",
    domain=((0.0, 3.0),), dims=(1,), attributes=(4,), dim=lambda dims, size: size, method=False, smooth=False,
    statement=lambda out, x, size: (
        f"for (int k = 0; k < {size}; ++k) {out['k']} = as_real(round({x[0]}) == splat<V>(REAL(k)));"
    ),
    reference=lambda xp, x, size: xp.concatenate([as_real(xp, xp.round(x) == k, x) for k in range(size)], -1),
    derivative=lambda g, x, size: (None,),
)
cross: Operation = row(
    name="cross", doc="Cross product of two vectors of dimension 3.", domain=(REALS, REALS), dims=(3, 3),
    dim=_cross_dim, statement=_cross_statement, reference=_cross_reference,
    derivative=lambda g, x, y: (cross(y, g), cross(g, x)),
)
matvecmult: Operation = row(
    name="matvecmult", doc="Matrix-vector product, of a matrix that is stored row by row.",
    domain=(REALS, REALS), dims=(6, 3), dim=lambda dims: _divided("matvecmult", dims[0], dims[1]),
    statement=_matvec_statement, reference=_matvec_reference,
    derivative=lambda g, x, y: (tensorprod(g, y), vecmatmult(g, x)),
)
vecmatmult: Operation = row(
    name="vecmatmult", doc="Vector-matrix product, of a matrix that is stored row by row.",
    domain=(REALS, REALS), dims=(3, 6), dim=lambda dims: _divided("vecmatmult", dims[1], dims[0]),
    statement=_vecmat_statement, reference=_vecmat_reference,
    derivative=lambda g, x, y: (matvecmult(y, g), tensorprod(x, g)),
)
tensorprod: Operation = row(
    name="tensorprod", doc="All the products x_k y_l, row by row.", domain=(REALS, REALS), dims=(2, 3),
    dim=lambda dims: dims[0] * dims[1], statement=_tensorprod_statement, reference=_tensorprod_reference,
    derivative=lambda g, x, y: (matvecmult(g, y), vecmatmult(x, g)),
)
# fmt: on
