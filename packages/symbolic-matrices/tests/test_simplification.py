"""Rewrites keep values and dimensions, end, and hoist what can be hoisted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_matrices.arrays import NUMPY
from symbolic_matrices.backends.reference import evaluate
from symbolic_matrices.formulas.expressions import Axis, Node, constant, topological, variable
from symbolic_matrices.formulas.operations import pointwise as p
from symbolic_matrices.formulas.operations import vectors as v
from symbolic_matrices.formulas.simplification import RULES, simplify
from symbolic_matrices.formulas.text import print_formula
from symbolic_matrices.kernels.printing import STAGES, kept_values
from symbolic_matrices.kernels.problems import Problem

X, Y = variable(0, Axis.I, 3), variable(1, Axis.J, 3)
S, B, A = variable(2, Axis.PARAMETER, 1), variable(3, Axis.J, 1), variable(4, Axis.I, 1)
LEAVES = (X, Y, S, B, A, constant(1), constant(0), constant(-1), constant(2.5))
UNARY = (p.negate, p.square, p.exp, v.norm2, v.sqnorm2, v.vector_sum)
BINARY = (p.add, p.subtract, p.multiply, p.multiply, p.divide, v.dot, v.sqdist)

formulas = st.recursive(
    st.sampled_from(LEAVES),
    lambda below: (
        st.builds(lambda op, x: op(x), st.sampled_from(UNARY), below)
        | st.builds(lambda op, x, y: op(x, y), st.sampled_from(BINARY), below, below)
    ),
    max_leaves=10,
)


def values(formula: Node) -> np.ndarray:
    rng = np.random.default_rng(3)
    arrays = tuple(rng.uniform(0.5, 1.5, shape) for shape in ((4, 3), (5, 3), (1, 1), (5, 1), (4, 1)))
    problem = Problem(NUMPY, "float64", "cpu", arrays, 4, 5, ())
    with np.errstate(all="ignore"):
        return evaluate(formula, problem, slice(0, 4), slice(0, 5))


@settings(max_examples=400, deadline=None)
@given(formula=formulas)
def test_rewrites_keep_the_values_and_end(formula):
    simple = simplify(formula)
    assert simple.dim == formula.dim
    assert simplify(simple) is simple
    before, after = values(formula), values(simple)
    regular = np.isfinite(before)
    scale = np.abs(before[regular]).max(initial=1.0)
    if scale < 1e6:  # beyond, cancellations of huge terms hide what is compared
        np.testing.assert_allclose(after[regular], before[regular], rtol=1e-9, atol=1e-10 * scale)


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (p.add(X, constant(0)), "x0"),
        (p.add(constant(0), X), "x0"),
        (p.subtract(X, constant(0)), "x0"),
        (p.subtract(constant(0), X), "-x0"),
        (p.multiply(X, constant(1)), "x0"),
        (p.multiply(constant(-1), X), "-x0"),
        (p.add(X, p.negate(Y)), "x0 - y1"),
        (p.subtract(X, p.negate(Y)), "x0 + y1"),
        (p.negate(p.negate(X)), "x0"),
        (p.negate(p.subtract(X, Y)), "y1 - x0"),
        (p.divide(X, constant(1)), "x0"),
        (v.sqnorm2(p.subtract(X, Y)), "sqdist(x0, y1)"),
        (v.norm2(p.subtract(X, Y)), "sqrt(sqdist(x0, y1))"),
        (v.vector_sum(p.square(p.subtract(X, Y))), "sqdist(x0, y1)"),
        (v.vector_sum(p.multiply(X, Y)), "dot(y1, x0)"),
        (v.vector_sum(p.multiply(A, p.exp(Y))), "vector_sum(exp(y1)) * x4"),
        (v.vector_sum(B), "y3"),
        (v.dot(A, B), "y3 * x4"),
        (p.square(v.norm2(X)), "sqnorm2(x0)"),
        (p.square(p.sqrt(B)), "sqrt(y3)**2"),
        (v.broadcast(X, attributes=(3,)), "x0"),
        (p.multiply(constant(2), constant(3)), "6"),
        (p.divide(p.exp(X), S), "(1 / p2) * exp(x0)"),
    ],
)
def test_rules(formula, text):
    assert print_formula(simplify(formula)) == text


def test_each_rule_has_words():
    assert all(rule.words for rule in RULES)


def per_pair(formula: Node) -> list[Node]:
    return [node for node in topological(simplify(formula)) if node.axes == Axis.I | Axis.J]


def test_parameters_leave_the_double_loop():
    """exp(-|x - y|^2 / s) b needs, for each pair, the distance, one product, the exponential and one product."""
    gaussian = p.multiply(p.exp(p.negate(p.divide(v.sqdist(X, Y), S))), B)
    assert len(per_pair(gaussian)) == 4


def test_a_vector_is_multiplied_once_per_pair():
    scaled = p.multiply(A, p.multiply(p.exp(v.sqdist(X, Y)), p.multiply(S, p.multiply(B, p.subtract(X, Y)))))
    vectors = [node for node in per_pair(scaled) if node.dim == 3]
    assert [repr(node.operation) for node in vectors] == ["subtract", "multiply"]


def test_logarithms_of_weights_are_kept_per_column():
    formula = simplify(p.add(p.log(B), v.sqdist(X, Y)))
    columns = kept_values(formula)[STAGES[2]]
    assert [print_formula(node) for node in columns.offsets] == ["log(y3)", "y1"]


def test_long_and_deep_formulas():
    """Neither recursion limits nor sub-expressions that double at each level stand in the way."""
    chain, tower, product = X, X, X
    for _ in range(1000):
        chain = p.add(chain, Y)
    for _ in range(40):
        tower = p.add(p.multiply(tower, tower), constant(1))
    for k in range(100):
        product = p.multiply(product, p.add(Y, constant(k)))
    assert len(topological(simplify(chain))) == 1002
    assert len(topological(simplify(tower))) <= 82
    assert simplify(simplify(product)) is simplify(product)
    assert all(len(print_formula(formula)) < 20_000 for formula in (chain, tower, product))
