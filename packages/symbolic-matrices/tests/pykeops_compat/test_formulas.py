"""KeOps' formula language: every function against NumPy, precedences, declarations, and messages that point."""

from __future__ import annotations

import numpy as np
import pytest
from matrix_testing import assert_close, sample

from symbolic_matrices.errors import FormulaError, ShapeError
from symbolic_matrices.pykeops_compat import Genred
from symbolic_matrices.pykeops_compat.aliases import Alias, parse_alias
from symbolic_matrices.pykeops_compat.functions import FUNCTIONS
from symbolic_matrices.pykeops_compat.lexer import Kind, tokenize

# x, y: vectors of dimension 3; s, t: numbers; A: a 3 x 3 matrix; p: a parameter of dimension 3. All in (0.2, 0.9).
ALIASES = ["x = Vi(3)", "y = Vj(3)", "s = Vi(1)", "t = Vj(1)", "A = Vj(9)", "p = Pm(3)"]


def matrix(A):
    return A.reshape(*A.shape[:-1], 3, 3)


def total(z):
    return z.sum(-1, keepdims=True)


def one_hot(z, size):
    return (np.rint(z) == np.arange(size)).astype(z.dtype)


def padded(z, before, after):
    return np.concatenate(
        [np.zeros((*z.shape[:-1], before)), z, np.zeros((*z.shape[:-1], after))], -1, dtype=z.dtype
    )


def concatenated(*parts):
    shape = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return np.concatenate([np.broadcast_to(part, (*shape, part.shape[-1])) for part in parts], -1)


def products(x, y):
    z = x[..., :, None] * y[..., None, :]
    return z.reshape(*z.shape[:-2], -1)


def as_complex(A):
    """The first eight components as four complex numbers."""
    return A[..., 0:8:2] + 1j * A[..., 1:8:2]


def pairs(z):
    return np.stack([z.real, z.imag], -1).reshape(*z.shape[:-1], -1)


def soft_dtw(x, y, gamma):
    """Of sequences of three and two steps: the five monotone paths that pair them."""
    cost = [[(x[..., k] - y[..., j]) ** 2 for j in range(2)] for k in range(3)]
    paths = ("00 10 20 21", "00 10 11 21", "00 01 11 21", "00 10 21", "00 11 21")
    totals = [sum(cost[int(k)][int(j)] for k, j in path.split()) for path in paths]
    return -gamma * np.log(sum(np.exp(-total[..., None] / gamma) for total in totals))


def hats(z):
    """Hat functions centred at 1 and 2."""
    return np.maximum(1 - np.abs(z - np.array([1, 2])), 0)


# fmt: off
ROWS = {
    # ---------------------------------------------------------------- numbers
    "IntCst(3) * x": lambda x, **_: 3 * x,
    "IntInv(4) * x": lambda x, **_: x / 4,
    "RatCst(3, 4) * x": lambda x, **_: 0.75 * x,
    "Zero(3) + x": lambda x, **_: x,
    "2.5e-1 * x + .5 - 1.": lambda x, **_: 0.25 * x - 0.5,
    # ---------------------------------------------------------------- operators
    "x + y * s": lambda x, y, s, **_: x + y * s,
    "x - y - s": lambda x, y, s, **_: x - y - s,
    "x / y / s": lambda x, y, s, **_: x / y / s,
    "-x ** 2": lambda x, **_: -(x**2),
    "x ^ 2 ^ 3": lambda x, **_: x**8,
    "x ** -1 ** 2": lambda x, **_: 1 / x,
    "2 ** x": lambda x, **_: 2**x,
    "x ** y": lambda x, y, **_: x**y,
    "x ** 0.5": lambda x, **_: np.sqrt(x),
    "2 ** -1 * x": lambda x, **_: 0.5 * x,
    "x - -y": lambda x, y, **_: x + y,
    "+x - (y - s)": lambda x, y, s, **_: x - (y - s),
    "x | y + s": lambda x, y, s, **_: total(x * (y + s)),
    "(x | y) * x": lambda x, y, **_: total(x * y) * x,
    "x < y": lambda x, y, **_: x < y,
    "x <= y": lambda x, y, **_: x <= y,
    "x > y + 0.1": lambda x, y, **_: x > y + 0.1,
    "x >= y": lambda x, y, **_: x >= y,
    "x == x": lambda x, **_: x == x,
    "x != 2 * x": lambda x, **_: np.ones_like(x),
    "1 < 2": lambda s, **_: np.ones_like(s),
    "0.3 < x && x < y": lambda x, y, **_: (x > 0.3) & (x < y),
    "x < 0.4 || x > 0.6 && y > 0.5": lambda x, y, **_: (x < 0.4) | ((x > 0.6) & (y > 0.5)),
    "Add(x, y)": lambda x, y, **_: x + y,
    "Subtract(x, y)": lambda x, y, **_: x - y,
    "Minus(x)": lambda x, **_: -x,
    "Mult(x, y)": lambda x, y, **_: x * y,
    "Divide(x, y)": lambda x, y, **_: x / y,
    "Scalprod(x, y)": lambda x, y, **_: total(x * y),
    "Equal(x, x)": lambda x, **_: np.ones_like(x),
    "NotEqual(x, x)": lambda x, **_: np.zeros_like(x),
    "LessThan(x, y)": lambda x, y, **_: x < y,
    "LessOrEqual(x, y)": lambda x, y, **_: x <= y,
    # ---------------------------------------------------------------- each component alone
    "Inv(x)": lambda x, **_: 1 / x,
    "Exp(x)": lambda x, **_: np.exp(x),
    "Log(x)": lambda x, **_: np.log(x),
    "XLogX(x)": lambda x, **_: x * np.log(x),
    "Sin(x)": lambda x, **_: np.sin(x),
    "Cos(x)": lambda x, **_: np.cos(x),
    "Asin(x)": lambda x, **_: np.arcsin(x),
    "Acos(x)": lambda x, **_: np.arccos(x),
    "Atan(x)": lambda x, **_: np.arctan(x),
    "Atan2(x, y)": lambda x, y, **_: np.arctan2(x, y),
    "SinXDivX(x)": lambda x, **_: np.sin(x) / x,
    "Sinc(x)": lambda x, **_: np.sinc(x),
    "Pow(x, 3) + Pow(x, -2)": lambda x, **_: x**3 + x**-2.0,
    "Powf(x, y)": lambda x, y, **_: x**y,
    "Square(x)": lambda x, **_: x**2,
    "Sqrt(x)": lambda x, **_: np.sqrt(x),
    "Rsqrt(x)": lambda x, **_: 1 / np.sqrt(x),
    "Abs(x - y)": lambda x, y, **_: np.abs(x - y),
    "Sign(x - y)": lambda x, y, **_: np.sign(x - y),
    "Step(x - y)": lambda x, y, **_: x >= y,
    "ReLU(x - y)": lambda x, y, **_: np.maximum(x - y, 0),
    "Floor(3 * x)": lambda x, **_: np.floor(3 * x),
    "Round(x, 1)": lambda x, **_: np.round(x, 1),
    "Mod(5 * x, y, s)": lambda x, y, s, **_: 5 * x - y * np.floor((5 * x - s) / y),
    "Clamp(x, 0.3, y)": lambda x, y, **_: np.minimum(np.maximum(x, 0.3), y),
    "ClampInt(5 * x, 2, 3)": lambda x, **_: np.clip(5 * x, 2, 3),
    "IfElse(x - 0.5, x, y)": lambda x, y, **_: np.where(x >= 0.5, x, y),
    # ---------------------------------------------------------------- vectors
    "SqNorm2(x - y)": lambda x, y, **_: total((x - y) ** 2),
    "Norm2(x - y)": lambda x, y, **_: np.sqrt(total((x - y) ** 2)),
    "Normalize(x - y)": lambda x, y, **_: (x - y) / np.sqrt(total((x - y) ** 2)),
    "SqDist(x, y)": lambda x, y, **_: total((x - y) ** 2),
    "SqNormIso(s, y)": lambda s, y, **_: s * total(y**2),
    "SqNormDiag(x, y)": lambda x, y, **_: total(x * y**2),
    "SymSqNorm(A, x)": lambda A, x, **_: np.einsum("...kl,...k,...l->...", matrix(A), x, x)[..., None],
    "WeightedSqNorm(s, y)": lambda s, y, **_: s * total(y**2),
    "WeightedSqNorm(x, y)": lambda x, y, **_: total(x * y**2),
    "WeightedSqNorm(A, x)": lambda A, x, **_: np.einsum("...kl,...k,...l->...", matrix(A), x, x)[..., None],
    "WeightedSqDist(p, x, y)": lambda p, x, y, **_: total(p * (x - y) ** 2),
    "Sum(x * y)": lambda x, y, **_: total(x * y),
    "SumT(s, 4) * t": lambda s, t, **_: np.repeat(s * t, 4, axis=-1),
    "Max(x - y)": lambda x, y, **_: (x - y).max(-1, keepdims=True),
    "Min(x - y)": lambda x, y, **_: (x - y).min(-1, keepdims=True),
    "ArgMax(x - y)": lambda x, y, **_: (x - y).argmax(-1)[..., None],
    "ArgMin(x - y)": lambda x, y, **_: (x - y).argmin(-1)[..., None],
    "Elem(x, 2)": lambda x, **_: x[..., 2:],
    "ElemT(s, 4, 1)": lambda s, **_: padded(s, 1, 2),
    "Extract(A, 2, 5)": lambda A, **_: A[..., 2:7],
    "ExtractT(x, 1, 5)": lambda x, **_: padded(x, 1, 1),
    "Concat(x, s)": lambda x, s, **_: concatenated(x, s),
    "Concat(x, s, y)": lambda x, s, y, **_: concatenated(x, s, y),
    "OneHot(3 * s, 4)": lambda s, **_: one_hot(3 * s, 4),
    "MatVecMult(A, x)": lambda A, x, **_: np.einsum("...kl,...l->...k", matrix(A), x),
    "VecMatMult(x, A)": lambda A, x, **_: np.einsum("...kl,...k->...l", matrix(A), x),
    "TensorProd(x, y)": lambda x, y, **_: products(x, y),
    "TensorDot(A, x, [3, 3], [3], [0], [0])": lambda A, x, **_: np.einsum("...kl,...k->...l", matrix(A), x),
    "TensorDot(x, y, [3], [3], [], [])": lambda x, y, **_: products(x, y),
    "TensorDot(x, y, [3], [3], [], [], [1, 0])": lambda x, y, **_: products(y, x),
    "Kron(x, y, [3, 1], [1, 3])": lambda x, y, **_: products(x, y),
    "BSpline(Concat(0, 1, 2, 3), 3 * s, 1)": lambda s, **_: hats(3 * s),
    "SoftDTW_SqDist(x, Extract(y, 0, 2), s)": lambda x, y, s, **_: soft_dtw(x, y[..., :2], s),
    # ---------------------------------------------------------------- complex numbers, as pairs
    "Real2Complex(x)": lambda x, **_: pairs(x),
    "Imag2Complex(x)": lambda x, **_: pairs(1j * x),
    "ComplexExp1j(x)": lambda x, **_: pairs(np.exp(1j * x)),
    "ComplexReal(Extract(A, 0, 8))": lambda A, **_: as_complex(A).real,
    "ComplexImag(Extract(A, 0, 8))": lambda A, **_: as_complex(A).imag,
    "ComplexAbs(Extract(A, 0, 8))": lambda A, **_: np.abs(as_complex(A)),
    "ComplexSquareAbs(Extract(A, 0, 8))": lambda A, **_: np.abs(as_complex(A)) ** 2,
    "ComplexAngle(Extract(A, 0, 8))": lambda A, **_: np.angle(as_complex(A)),
    "Conj(Extract(A, 0, 8))": lambda A, **_: pairs(as_complex(A).conj()),
    "ComplexExp(Extract(A, 0, 8))": lambda A, **_: pairs(np.exp(as_complex(A))),
    "ComplexAdd(Real2Complex(x), Imag2Complex(y))": lambda x, y, **_: pairs(x + 1j * y),
    "ComplexSubtract(Real2Complex(x), Imag2Complex(y))": lambda x, y, **_: pairs(x - 1j * y),
    "ComplexMult(Extract(A, 0, 2), ComplexExp1j(s))": lambda A, s, **_: pairs(as_complex(A)[..., :1] * np.exp(1j * s)),
    "ComplexDivide(Extract(A, 0, 2), ComplexExp1j(s))": lambda A, s, **_: pairs(
        as_complex(A)[..., :1] * np.exp(-1j * s)),
    "ComplexRealScal(s, Extract(A, 0, 8))": lambda A, s, **_: pairs(as_complex(A) * s),
    "ComplexSum(Extract(A, 0, 8))": lambda A, **_: pairs(total(as_complex(A))),
    "ComplexSumT(Extract(A, 0, 2), 6)": lambda A, **_: pairs(np.repeat(as_complex(A)[..., :1], 3, axis=-1)),
    # ---------------------------------------------------------------- symbolic calculus
    "Grad(SqDist(x, y), x, t)": lambda x, y, t, **_: 2 * t * (x - y),
    "GradMatrix(x * s, s)": lambda x, **_: x,
    "GradMatrix(Extract(x, 0, 2) ** 2, x)": lambda x, **_: concatenated(
        2 * x[..., :1], np.zeros_like(x), 2 * x[..., 1:2], 0 * x[..., :1]),
    "Diff(x ** 2, x, y)": lambda x, y, **_: 2 * x * y,
    "Divergence(x ** 2, x)": lambda x, **_: 2 * total(x),
    "Laplacian(Exp(-SqNorm2(x)), x)": lambda x, **_: np.exp(-total(x**2)) * (4 * total(x**2) - 6),
}
# fmt: on


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    shapes = {"x": (4, 3), "y": (5, 3), "s": (4, 1), "t": (5, 1), "A": (5, 9), "p": (3,)}
    return {name: sample(rng, shape, (0.2, 0.9)) for name, shape in shapes.items()}


def dense(function, data):
    """sum over j of a function of arrays that broadcast to (M, N, D)."""
    along_i = {name: data[name][:, None, :] for name in "xs"}
    along_j = {name: data[name][None, :, :] for name in "ytA"}
    values = function(**along_i, **along_j, p=data["p"])
    return np.broadcast_to(values, (4, 5, values.shape[-1])).astype("float64").sum(1)


def test_every_function_is_in_the_table():
    named = {token.text for text in ROWS for token in tokenize(text) if token.kind is Kind.NAME}
    assert set(FUNCTIONS) <= named


@pytest.mark.parametrize("text", ROWS)
def test_formulas_mean_what_numpy_computes(text, data, dtype):
    arguments = [value.astype(dtype) for value in data.values()]
    result = Genred(text, ALIASES, axis=1)(*arguments, backend="reference")
    assert_close(result, dense(ROWS[text], data), dtype, factor=10)


@pytest.mark.parametrize("first", range(0, len(ROWS), 20))
def test_formulas_compile(first, data):
    """Twenty formulas side by side make one kernel."""
    texts = list(ROWS)[first : first + 20]
    result = Genred(f"Concat(Zero(1), {', '.join(texts)})", ALIASES, axis=1)(*data.values(), backend="CPU")
    columns = [np.zeros((4, 1)), *(dense(ROWS[text], data) for text in texts)]
    assert_close(result, np.concatenate(columns, -1), factor=10)


# ---------------------------------------------------------------------- declarations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = Vi(3)", Alias("x", 7, 3, 0)),
        ("  y_1=Vj( 2 , 3 )", Alias("y_1", 2, 3, 1)),
        ("p = Pm(1)", Alias("p", 7, 1, 2)),
        ("x = Vx(0,3)", Alias("x", 0, 3, 0)),
        ("y = Vy(3)", Alias("y", 7, 3, 1)),
        ("Vi(3)", Alias("", 7, 3, 0)),
        ("Vj(1,3)", Alias("", 1, 3, 1)),
        ("Var(4,3,2)", Alias("", 4, 3, 2)),
        ("v = Var(4,3,1)", Alias("v", 4, 3, 1)),
    ],
)
def test_declarations(text, expected):
    assert parse_alias(text, 7) == expected


@pytest.mark.parametrize(
    "text",
    ["x = Vk(3)", "x = Vi()", "x = Vi(1, 2, 3)", "x = Vi(3", "x = Vi(a)", "x : Vi(3)", "= Vi(3)", "x = Vi(-1)",
     "x = Vi(1.5)", "Var(0, 1)", "Var(0, 1, 3)", "x = y = Vi(3)", "Vi 3", "", 3, None],
)  # fmt: skip
def test_bad_declarations(text):
    with pytest.raises(FormulaError):
        parse_alias(text, 0)


def test_dimensions_of_declarations():
    with pytest.raises(ShapeError, match="dimension >= 1"):
        Genred("x", ["x = Vi(0)"])
    with pytest.raises(ShapeError, match="Argument 0 is declared twice"):
        Genred("x", ["x = Vi(0, 3)", "y = Vj(0, 3)"])
    with pytest.raises(FormulaError, match="Two variables are called 'x'"):
        Genred("x", ["x = Vi(3)", "x = Vj(3)"])
    with pytest.raises(FormulaError, match="No variable stands for argument number 1"):
        Genred("x + y", ["x = Vi(0, 3)", "y = Vj(2, 3)"])


def test_positions_of_declarations(data):
    swapped = Genred("SqDist(x, y) * b", ["y = Vj(1, 3)", "x = Vi(0, 3)", "b = Vj(2, 1)"], axis=1)
    in_formula = Genred("SqDist(Var(0,3,0), Vj(1,3)) * Var(2, 1, 1)", [], axis=1)
    mixed = Genred("SqDist(x, Vj(1, 3)) * Var(2,1,1)", ["x = Vi(3)"], axis=1)
    expected = dense(lambda x, y, t, **_: total((x - y) ** 2) * t, data)
    for routine in (swapped, in_formula, mixed):
        assert_close(routine(data["x"], data["y"], data["t"], backend="reference"), expected)


# ---------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("text", "message", "caret"),
    [
        ("Expp(x)", "There is no function 'Expp'; did you mean 'Exp'?", "^^^^"),
        ("SQDIST(x, y)", "There is no function 'SQDIST'; did you mean 'SqDist'?", "^^^^^^"),
        ("Exp(X)", "There is no variable 'X'; did you mean 'x'?", "    ^"),
        ("Exp + x", "Exp is a function: give its arguments", "^^^"),
        ("SqDist(x)", "SqDist takes (a formula, a formula) but 1 arguments were given", "^^^^^^"),
        ("Concat(x)", "Concat takes (a formula, a formula, ...) but 1", "^^^^^^"),
        ("Pow(x, y)", "Expected an integer", "       ^"),
        ("Exp(x", "Expected ',' or ')' but the formula ends", "     ^"),
        ("(x + y", "Expected ')' but the formula ends", "      ^"),
        ("x + ", "Expected a variable, a number, a function or '(' but the formula ends", "    ^"),
        ("x y", "Expected an operator or the end but got 'y'", "  ^"),
        ("x $ y", "'$' is no part of a formula", "  ^"),
        ("x < y < s", "Comparisons do not chain", "      ^"),
        ("x + [1, 2]", "A list of integers is no operand", "    ^"),
        ("1 / 0 * x", "division by zero", "  ^"),
        ("SqDist(x, A)", "vector dimensions 3 and 9 do not match", "^^^^^^"),
        ("x + A", "vector dimensions 3 and 9 do not match", "  ^"),
        ("Elem(x, 3)", "Components 3 to 3 of a vector of dimension 3 do not exist", "^^^^"),
        ("Grad(SqDist(x, y), s, t)", "does not read the variable", "^^^^"),
        ("ComplexReal(x)", "Complex numbers are pairs of components, but the dimension is 3", "^^^^^^^^^^^"),
        ("ComplexSumT(s, 3)", "ComplexSumT repeats one complex number", "^^^^^^^^^^^"),
        ("x + Var(0, 2, 0)", "Argument 0 is declared twice", "    ^^^"),
    ],
)
def test_messages_point_at_the_mistake(text, message, caret):
    with pytest.raises(FormulaError) as raised:
        Genred(text, ALIASES)
    words = str(raised.value)
    shown, carets = words.split("\n")[-2:]
    assert message in words
    assert shown.startswith("    " + text[:40])
    assert carets.rstrip("^") == "    " + caret.rstrip("^")

    assert carets.count("^") == len(caret.strip())


def test_long_formulas_show_the_neighbourhood_of_a_mistake():
    with pytest.raises(FormulaError) as raised:
        Genred(" + ".join(["x"] * 100 + ["z"] + ["x"] * 100), ALIASES)
    _, shown, carets = str(raised.value).split("\n")
    assert shown.startswith("    ...")
    assert shown[carets.index("^")] == "z"


def test_long_and_deep_formulas(data):
    long = Genred("+".join(["x"] * 2000), ALIASES[:2], axis=1)
    assert_close(long(data["x"], data["y"], backend="reference"), 2000 * 5 * data["x"], factor=100)
    Genred("(" * 90 + "x" + ")" * 90, ALIASES)
    with pytest.raises(FormulaError, match="nest at most 100 levels"):
        Genred("(" * 5000 + "x" + ")" * 5000, ALIASES)


def test_formulas_are_strings():
    for formula in (None, 3, b"x"):
        with pytest.raises(FormulaError, match="A formula is a string"):
            Genred(formula, ALIASES)


def test_numbers_that_are_too_large():
    with pytest.raises(FormulaError, match="too large"):
        Genred("9" * 400 + " * x", ALIASES)


def test_huge_powers_of_numbers_take_no_time(data):
    result = Genred("9 ** 9 ** 9 > x", ALIASES[:2], axis=1)(data["x"], data["y"], backend="reference")
    assert_close(result, np.full((4, 3), 5.0))
