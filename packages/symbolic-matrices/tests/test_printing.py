"""The generated text: readable, shared sub-expressions once, equal plans equal texts, and plans that travel."""

from __future__ import annotations

import functools
import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

from symbolic_matrices import Vi, Vj, explain, show_config
from symbolic_matrices.formulas.expressions import Axis, constant, variable
from symbolic_matrices.formulas.operations.pointwise import minimum
from symbolic_matrices.formulas.reductions import REDUCTIONS, Sum
from symbolic_matrices.kernels.planning import make_plan
from symbolic_matrices.kernels.printing import print_kernel

GENERATOR = Path(__file__).parents[3] / "tools" / "generate_stubs.py"
X = np.ones((4, 3), dtype="float32")


def gaussian():
    return (-Vi(X).sqdist(Vj(X)) / 2.0).exp()


def test_the_text_of_a_gaussian():
    explanation = explain(gaussian() * Vj(X[:, :1]), "sum", axis=1)
    pair = explanation.source.partition("static void pair")[2].partition("    }\n")[0]
    assert (
        pair
        == """(const R& r, const C& c, const P& p, Out& out) {
        V t0;
        t0 = V();
        for (int k = 0; k < 3; ++k) { const V d = r[k] - c[k]; t0 += d * d; }
        const V t1 = t0 * p[0];
        const V t2 = exp2(t1);
        out[0] = t2 * c[3];
"""
    )
    assert explanation.source.startswith("// sum over j of  exp2(sqdist(x0, y1)")
    assert explanation.kernel_name in explanation.source
    assert explanation.kernel_name in str(explanation)


def test_common_sub_expressions_are_computed_once():
    K = gaussian()
    struct = explain(K * K + K.sqrt(), "sum", axis=1).source.partition("struct")[2]
    assert struct.count("exp2(") == 1


def test_the_last_stage_never_reads_its_output():
    """A reduction absorbs each component as it is assigned, so sums of components go through a local variable."""
    source = explain(Vi(X).sqdist(Vj(X)), "sum", axis=1).source
    assert "out[0] = t0;" in source
    assert "out[0] +=" not in source


def test_vectors_that_are_read_once_are_never_stored():
    x, y = Vi(X), Vj(X)
    assert "out[k] = t2 * (r[k] - c[k]);" in explain(gaussian() * (x - y)).source
    average = explain(x | y, "sumsoftmaxweight", weight=x - y).source
    assert "out[1 + k] = (r[k] - c[k]);" in average
    assert "V t0[" not in explain((x - y).abs().sum(-1)).source
    assert "V t0[3];" in explain((x - y) * (x - y).exp()).source  # this difference is read twice


def test_equal_plans_print_equal_texts():
    texts = {explain(gaussian(), "sum", axis=1).source for _ in range(3)}
    assert len(texts) == 1
    assert explain(gaussian(), "sum", axis=1).source not in {
        explain(gaussian(), "logsumexp", axis=1).source,
        explain(gaussian(), "argKmin", axis=1, count=2).source,
    }


@pytest.mark.parametrize("name", REDUCTIONS)
def test_plans_are_pickled(name):
    row, formula = REDUCTIONS[name], gaussian() * constant_formula()
    if row.make is None:
        reduction, formula = row(weight_dim=1), formula.concat(formula)
    else:
        reduction = row(*((2,) if row.is_counted else ()))
    plan = make_plan(formula._formula, reduction, Axis.J, "float32")
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan
    assert again.formula is plan.formula
    assert print_kernel(again) == print_kernel(plan)


def constant_formula():
    return Vi(X).sqdist(Vj(X)).ifelse(1.0, 2.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.0, "REAL(2.0)"), (np.inf, "infinity()"), (-np.inf, "-infinity()"), (np.nan, "not_a_number()")],
)
def test_numbers(value, text):
    plan = make_plan(minimum(variable(0, Axis.I, 1), constant(value)), Sum(), Axis.J, "float64")
    assert f"minimum(read(0, 0), splat<V>({text}))" in print_kernel(plan).source


def test_the_configuration_names_what_was_found():
    configuration = show_config()
    assert "cpu" in configuration.backends
    assert configuration.threads >= 1
    assert str(configuration.cache_folder) in str(configuration)


def test_stubs_are_up_to_date():
    spec = importlib.util.spec_from_file_location("generate_stubs", GENERATOR)
    generate_stubs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate_stubs)
    written = "".join(generate_stubs.STUB.read_text().split())
    assert "".join(generate_stubs.stub_text().split()) == written, "run: python tools/generate_stubs.py"


def test_long_formulas_repeat_less_text():
    """Compile time grows with the text of a pair, once its functions are inlined and its columns unrolled."""
    x, y = Vi(X), Vj(X)
    short, longer, very_long = (functools.reduce(lambda f, _: (f * y).sin(), range(n), x) for n in (1, 4, 20))
    assert "SM_MOST_COLUMNS" not in explain(short).source
    assert "#define SM_MOST_COLUMNS 2" in explain(longer).source
    assert "#define SM_LONG_FORMULA" in explain(very_long).source
    for formula in (longer, very_long):
        expected = formula.sum(axis=1, backend="reference")
        np.testing.assert_allclose(formula.sum(axis=1), expected, rtol=1e-5, atol=1e-6)
