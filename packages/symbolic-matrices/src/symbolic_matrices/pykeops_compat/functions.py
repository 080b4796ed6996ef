"""The table of the functions of KeOps' formula language: one row each, in terms of our operations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ShapeError
from ..formulas.operations import indexing, vectors
from ..matrices.complex_lazy_tensor import ComplexLazyTensor
from ..matrices.lazy_tensor import LazyTensor

# what a letter of a signature asks for
KINDS = {"x": "a formula", "n": "an integer", "l": "a list of integers such as [2, 3]"}


@dataclass(frozen=True)
class Function:
    """One row.

    Attributes
    ----------
    signature : one letter of ``KINDS`` per argument.
    apply : takes the arguments: LazyTensors for "x", integers for "n", tuples of integers for "l".
    optional : how many of the last arguments may be left out.
    variadic : whether the last argument may be repeated.
    """

    name: str
    signature: str
    apply: Callable[..., Any]
    optional: int = 0
    variadic: bool = False

    def kind_of(self, position: int) -> str:
        """The letter of an argument."""
        return self.signature[min(position, len(self.signature) - 1)]

    def takes(self, count: int) -> bool:
        longest = max(count, len(self.signature)) if self.variadic else len(self.signature)
        return len(self.signature) - self.optional <= count <= longest

    def describe(self) -> str:
        kinds = [KINDS[letter] for letter in self.signature]
        first_optional = len(kinds) - self.optional
        words = ", ".join(kinds[:first_optional]) + "".join(f" [, {kind}]" for kind in kinds[first_optional:])
        return words + (", ..." if self.variadic else "")


def _insert(x: LazyTensor, start: int, total: int) -> LazyTensor:
    """Zeros, the components of x from position ``start`` on, zeros up to ``total`` components."""
    return x._apply(indexing.pad, attributes=(start, total))


def _complex(pairs: LazyTensor) -> Any:
    """KeOps' formulas store complex numbers as pairs of components: those of a vector of even dimension."""
    if pairs._formula.dim % 2:
        raise ShapeError(
            f"Complex numbers are pairs of components, but the dimension is {pairs._formula.dim}."
        )
    return pairs._as(ComplexLazyTensor, lambda node: node)


def _of_complex(function: Callable[..., LazyTensor]) -> Callable[..., LazyTensor]:
    """A function of complex numbers, between pairs."""
    return lambda *operands: _pairs(function(*map(_complex, operands)))


def _pairs(tensor: LazyTensor) -> LazyTensor:
    return tensor._as(LazyTensor, lambda node: node)


def _repeat_complex(z: LazyTensor, dim: int) -> LazyTensor:
    if z._formula.dim != 2 or dim < 2 or dim % 2:
        raise ShapeError(
            f"ComplexSumT repeats one complex number, of dimension 2, up to an even dimension, but got "
            f"{z._formula.dim} and {dim}."
        )
    return z.concat(*[z] * (dim // 2 - 1))


def _tensordot(x: LazyTensor, y: LazyTensor, *lists: tuple[int, ...]) -> LazyTensor:
    """The shapes of both tensors, the axes of each that are summed over, and where the others go."""
    return x.keops_tensordot(y, *lists[:4], *lists[4:])


def _repeat(x: LazyTensor, count: int) -> LazyTensor:
    return x._apply(vectors.broadcast, attributes=(count,))


# fmt: off
_ROWS = (
    # ---------------------------------------------------------------- numbers
    Function("IntCst", "n", lambda n: n),
    Function("IntInv", "n", lambda n: 1 / n),
    Function("RatCst", "nn", lambda p, q: p / q),
    Function("Zero", "n", lambda n: LazyTensor([0.0] * n)),
    # ---------------------------------------------------------------- operators, written as functions
    Function("Add", "xx", operator.add),
    Function("Subtract", "xx", operator.sub),
    Function("Minus", "x", operator.neg),
    Function("Mult", "xx", operator.mul),
    Function("Divide", "xx", operator.truediv),
    Function("Scalprod", "xx", lambda x, y: x.dot(y)),
    Function("Equal", "xx", operator.eq),
    Function("NotEqual", "xx", operator.ne),
    Function("LessThan", "xx", operator.lt),
    Function("LessOrEqual", "xx", operator.le),
    # ---------------------------------------------------------------- each component alone
    Function("Inv", "x", lambda x: x.inverse()),
    Function("Exp", "x", lambda x: x.exp()),
    Function("Log", "x", lambda x: x.log()),
    Function("XLogX", "x", lambda x: x.xlogx()),
    Function("Sin", "x", lambda x: x.sin()),
    Function("Cos", "x", lambda x: x.cos()),
    Function("Asin", "x", lambda x: x.asin()),
    Function("Acos", "x", lambda x: x.acos()),
    Function("Atan", "x", lambda x: x.atan()),
    Function("Atan2", "xx", lambda x, y: x.atan2(y)),
    Function("SinXDivX", "x", lambda x: x.sinxdivx()),
    Function("Sinc", "x", lambda x: x.sinc()),
    Function("Pow", "xn", operator.pow),
    Function("Powf", "xx", lambda x, y: x.power(y)),
    Function("Square", "x", lambda x: x.square()),
    Function("Sqrt", "x", lambda x: x.sqrt()),
    Function("Rsqrt", "x", lambda x: x.rsqrt()),
    Function("Abs", "x", operator.abs),
    Function("Sign", "x", lambda x: x.sign()),
    Function("Step", "x", lambda x: x.step()),
    Function("ReLU", "x", lambda x: x.relu()),
    Function("Floor", "x", lambda x: x.floor()),
    Function("Round", "xn", lambda x, digits: x.round(digits)),
    Function("Mod", "xxx", lambda x, modulus, offset: x.mod(modulus, offset)),
    Function("Clamp", "xxx", lambda x, low, high: x.clamp(low, high)),
    Function("ClampInt", "xnn", lambda x, low, high: x.clamp(low, high)),
    Function("IfElse", "xxx", lambda x, a, b: x.ifelse(a, b)),
    # ---------------------------------------------------------------- vectors
    Function("SqNorm2", "x", lambda x: x.sqnorm2()),
    Function("Norm2", "x", lambda x: x.norm2()),
    Function("Normalize", "x", lambda x: x.normalize()),
    Function("SqDist", "xx", lambda x, y: x.sqdist(y)),
    Function("SqNormIso", "xx", lambda s, x: s * x.sqnorm2()),
    Function("SqNormDiag", "xx", lambda s, x: (s * x.square()).sum(-1)),
    Function("SymSqNorm", "xx", lambda s, x: s.matvecmult(x).dot(x)),
    Function("WeightedSqNorm", "xx", lambda s, x: x.weightedsqnorm(s)),
    Function("WeightedSqDist", "xxx", lambda s, x, y: x.weightedsqdist(y, s)),
    Function("Sum", "x", lambda x: x.sum(-1)),
    Function("SumT", "xn", _repeat),
    Function("Max", "x", lambda x: x.max(-1)),
    Function("Min", "x", lambda x: x.min(-1)),
    Function("ArgMax", "x", lambda x: x.argmax(-1)),
    Function("ArgMin", "x", lambda x: x.argmin(-1)),
    Function("Elem", "xn", lambda x, k: x.elem(k)),
    Function("ElemT", "xnn", lambda x, total, k: _insert(x, k, total)),
    Function("Extract", "xnn", lambda x, start, length: x.extract(start, length)),
    Function("ExtractT", "xnn", _insert),
    Function("Concat", "xx", lambda x, *others: x.concat(*others), variadic=True),
    Function("OneHot", "xn", lambda x, size: x.one_hot(size)),
    Function("MatVecMult", "xx", lambda matrix, x: matrix.matvecmult(x)),
    Function("VecMatMult", "xx", lambda x, matrix: x.vecmatmult(matrix)),
    Function("TensorProd", "xx", lambda x, y: x.tensorprod(y)),
    Function("TensorDot", "xxlllll", _tensordot, optional=1),
    Function("Kron", "xxll", lambda x, y, dims, other_dims: x.kron(y, dims, other_dims)),
    Function("BSpline", "xxn", lambda knots, x, degree: knots.bspline(x, degree)),
    Function("SoftDTW_SqDist", "xxx", lambda x, y, gamma: x.softdtw_sqdist(y, gamma)),
    # ---------------------------------------------------------------- complex numbers, as pairs
    Function("Real2Complex", "x", lambda x: _pairs(x.real2complex())),
    Function("Imag2Complex", "x", lambda x: _pairs(x.imag2complex())),
    Function("ComplexExp1j", "x", lambda x: _pairs(x.exp1j())),
    Function("ComplexReal", "x", _of_complex(lambda z: z.real)),
    Function("ComplexImag", "x", _of_complex(lambda z: z.imag)),
    Function("ComplexAbs", "x", _of_complex(operator.abs)),
    Function("ComplexSquareAbs", "x", _of_complex(lambda z: z.real**2 + z.imag**2)),
    Function("ComplexAngle", "x", _of_complex(lambda z: z.angle())),
    Function("Conj", "x", _of_complex(lambda z: z.conj())),
    Function("ComplexExp", "x", _of_complex(lambda z: z.exp())),
    Function("ComplexAdd", "xx", _of_complex(operator.add)),
    Function("ComplexSubtract", "xx", _of_complex(operator.sub)),
    Function("ComplexMult", "xx", _of_complex(operator.mul)),
    Function("ComplexDivide", "xx", _of_complex(operator.truediv)),
    Function("ComplexRealScal", "xx", lambda x, z: _pairs(x * _complex(z))),
    Function("ComplexSum", "x", _of_complex(lambda z: z.sum(-1))),
    Function("ComplexSumT", "xn", _repeat_complex),
    # ---------------------------------------------------------------- symbolic calculus
    Function("Grad", "xxx", lambda f, v, cotangent: f.grad(v, cotangent)),
    Function("GradMatrix", "xx", lambda f, v: f.grad_matrix(v)),
    Function("Diff", "xxx", lambda f, v, direction: f.diff(v, direction)),
    Function("Divergence", "xx", lambda f, v: f.divergence(v)),
    Function("Laplacian", "xx", lambda f, v: f.laplacian(v)),
)
# fmt: on
FUNCTIONS = {row.name: row for row in _ROWS}
