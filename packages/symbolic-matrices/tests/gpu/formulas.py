"""Plans that the tests of CUDA kernels share."""

from __future__ import annotations

import functools

from symbolic_matrices.formulas.differentiation import gradients
from symbolic_matrices.formulas.expressions import Axis, Node, constant, variable
from symbolic_matrices.formulas.operations import OPERATIONS, pointwise, vectors
from symbolic_matrices.formulas.operations.indexing import concat
from symbolic_matrices.formulas.reductions import REDUCTIONS, SumSoftmax
from symbolic_matrices.kernels.planning import Plan, make_plan

ROW, COLUMN, WEIGHT, COTANGENT = range(4)  # positions of the variables


def plan(formula: Node, reduction: str = "sum", *arguments: int, dtype: str = "float32") -> Plan:
    return make_plan(formula, REDUCTIONS[reduction](*arguments), Axis.J, dtype)


def sqdist(dim: int) -> Node:
    return vectors.sqdist(variable(ROW, Axis.I, dim), variable(COLUMN, Axis.J, dim))


def inner_product(dim: int) -> Node:
    return vectors.dot(variable(ROW, Axis.I, dim), variable(COLUMN, Axis.J, dim))


def weighted(kernel: Node) -> Node:
    return pointwise.multiply(kernel, variable(WEIGHT, Axis.J, 1))


def gaussian(dim: int) -> Node:
    return weighted(pointwise.exp(pointwise.negate(sqdist(dim))))


def wide_softmax(dim: int, dtype: str) -> Plan:
    """Averages of y, weighted by the exponential of a parameter times the largest of the x - y."""
    columns = variable(COLUMN, Axis.J, dim)
    largest = vectors.vector_max(pointwise.subtract(variable(ROW, Axis.I, dim), columns))
    exponent = pointwise.multiply(largest, variable(WEIGHT, Axis.PARAMETER, 1))
    return make_plan(concat(exponent, columns), SumSoftmax(weights=dim), Axis.J, dtype)


def cases(dtype: str = "float32") -> dict[str, Plan]:
    """The kernels whose instructions are counted."""
    d2 = sqdist(3)
    exponent = pointwise.negate(d2)
    (gradient,) = gradients(gaussian(3), variable(COTANGENT, Axis.I, 1), (variable(ROW, Axis.I, 3),))
    return {
        "Gaussian, D = 3": plan(gaussian(3), dtype=dtype),
        "Gaussian, D = 10": plan(gaussian(10), dtype=dtype),
        "log-sum-exp, D = 3": plan(exponent, "logsumexp", dtype=dtype),
        "Laplacian, D = 3": plan(weighted(pointwise.exp(pointwise.negate(pointwise.sqrt(d2)))), dtype=dtype),
        "gradient of the Gaussian, D = 3": plan(gradient, dtype=dtype),
        "argmin, D = 3": plan(d2, "argmin", dtype=dtype),
        "10 nearest, D = 3": plan(d2, "argKmin", 10, dtype=dtype),
    }


def all_operations() -> Node:
    """The sum of the components of every row of the table, applied to its examples."""
    terms = []
    for operation in OPERATIONS.values():
        dims = operation.dims or (3,) * operation.arity
        arguments = [variable(k, Axis.I if k == 0 else Axis.J, dim) for k, dim in enumerate(dims)]
        value = operation(*arguments, attributes=operation.attributes)
        terms.append(vectors.vector_sum(value) if value.dim > 1 else value)
    return functools.reduce(pointwise.add, terms, constant(0.0))
