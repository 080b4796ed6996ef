"""The class of symbolic matrices of complex vectors, which are stored as pairs of real numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import ArrayTypeError, OptionError
from ..formulas.expressions import Attributes, Node
from ..formulas.operations import Operation
from ..formulas.operations import complex as c
from ..formulas.operations import indexing as x
from ..formulas.operations import pointwise as p
from ..formulas.operations import vectors as v
from ..formulas.reductions import ReductionCall
from .bindings import bind_complex
from .joining import single
from .lazy_tensor import LazyTensor, SymbolicReduction

# What real operations become between complex numbers, by parts.
COMPLEX_VALUED: dict[Operation, Callable[..., c.Parts]] = {
    p.add: c.complex_add,
    p.subtract: c.complex_subtract,
    p.multiply: c.complex_multiply,
    p.divide: c.complex_divide,
    p.negate: c.complex_negate,
    p.inverse: c.complex_inverse,
    p.square: c.complex_square,
    p.integer_power: c.complex_power,
    p.exp: c.complex_exp,
    v.vector_sum: c.complex_sum,
    v.dot: c.complex_dot,
}
REAL_VALUED: dict[Operation, Callable[..., Node]] = {
    p.absolute: c.modulus,
    v.sqnorm2: c.complex_sqnorm2,
    v.norm2: c.complex_norm2,
}
DTYPES = {"float32": "complex64", "float64": "complex128"}


class ComplexLazyTensor(LazyTensor):
    r"""A symbolic matrix :math:`M_{ij} = F(x_i, y_j) \in \mathbb{C}^D`.

    ``LazyTensor(z)``, ``Vi(z)``, ``Vj(z)`` and ``Pm(z)`` make one of a complex array, and so does arithmetic of a
    LazyTensor with complex numbers, or one of ``x.real2complex()``, ``x.imag2complex()`` and ``x.exp1j()``.

    Parameters
    ----------
    x : array, number or sequence of numbers
        complex64 or complex128, of the shapes that :class:`LazyTensor` takes. D counts complex components.
    axis : 0, 1 or None
        As for :class:`LazyTensor`.

    Notes
    -----
    Arithmetic, integer powers, ``exp``, ``abs``, ``real``, ``imag``, ``angle``, ``conj``, ``x | y`` (nothing is
    conjugated), components, ``sum``, ``sqnorm2`` and ``norm2`` are defined; reductions are ``sum``, ``mean`` and
    ``K @ v``. Under PyTorch, gradients follow its convention, dL/dRe + i dL/dIm.

    Raises
    ------
    ArrayTypeError
        If an operation or a reduction has no meaning between complex numbers.

    Examples
    --------
    A Fourier transform at frequencies of any kind:

    >>> import numpy as np
    >>> from symbolic_matrices import Vi, Vj
    >>> frequencies, times = np.arange(4.0)[:, None], np.arange(4.0)[:, None] / 4
    >>> signal = np.array([1.0, 2.0, 0.0, -1.0])
    >>> K = (-2 * np.pi * Vi(frequencies) * Vj(times)).exp1j()
    >>> np.allclose(K @ signal, np.fft.fft(signal))
    True
    """

    __slots__ = ()

    _is_complex = True
    _real_class: ClassVar[type[LazyTensor]] = LazyTensor

    def __init__(self, x: Any, axis: int | None = None) -> None:
        self._assign(*single(bind_complex(x, axis)))

    @classmethod
    def _lift(cls, value: Any) -> LazyTensor:
        return value if isinstance(value, LazyTensor) else cls._real_class(value)

    @property
    def _vector_dim(self) -> int:
        return self._formula.dim // 2

    @property
    def dtype(self) -> Any:
        """complex64 or complex128, as in the library of the data; None for numbers only."""
        library, real = self._context.library, super().dtype
        return (
            None
            if library is None or real is None
            else library.dtype_named(DTYPES[self._context.computed_in])
        )

    # ------------------------------------------------------------------ operations

    @property
    def real(self) -> LazyTensor:
        """Real part, a LazyTensor of dimension D."""
        return self._as(self._real_class, c.real_part)

    @property
    def imag(self) -> LazyTensor:
        """Imaginary part, a LazyTensor of dimension D."""
        return self._as(self._real_class, c.imaginary_part)

    def angle(self) -> LazyTensor:
        """Angle in [-pi, pi], a LazyTensor of dimension D."""
        return self._as(self._real_class, lambda z: c.argument(c.parts_of(z)))

    def conj(self) -> ComplexLazyTensor:
        """Complex conjugate."""
        return self._combine((), lambda z: c.conjugate(c.parts_of(z)).node)  # type: ignore[return-value]

    @property
    def H(self) -> ComplexLazyTensor:
        """The conjugate of the transposed matrix."""
        return self.T.conj()  # type: ignore[attr-defined]

    def real2complex(self) -> LazyTensor:
        """The matrix itself: it is complex already."""
        return self

    def imag2complex(self) -> LazyTensor:
        """i z."""
        return self * 1j

    def exp1j(self) -> LazyTensor:
        """exp(i z)."""
        return self.imag2complex().exp()

    def _apply(self, operation: Operation, *others: Any, attributes: Attributes = ()) -> LazyTensor:
        return self._of_complex(operation, (self, *map(self._lift, others)), attributes)

    @classmethod
    def _of_complex(
        cls, operation: Operation, operands: tuple[LazyTensor, ...], attributes: Attributes
    ) -> LazyTensor:
        """An operation between operands of which some are complex."""
        first, *others = operands
        kinds = tuple(operand._is_complex for operand in operands)

        def parts(nodes: tuple[Node, ...]) -> list[c.Parts]:
            pairs = zip(nodes, kinds, strict=True)
            return [c.parts_of(node) if is_complex else c.Parts(node, None) for node, is_complex in pairs]

        if operation in REAL_VALUED:
            measure = REAL_VALUED[operation]
            return first._as(cls._real_class, lambda node: measure(*parts((node,))))
        if operation is x.extract or operation is x.concat:
            head, *tail = (operand.real2complex() for operand in operands)
            doubled = tuple(
                2 * number for number in attributes if isinstance(number, int)
            )  # positions of pairs
            return head._combine(tuple(tail), lambda *nodes: operation(*nodes, attributes=doubled))
        if operation in COMPLEX_VALUED:
            rule = COMPLEX_VALUED[operation]
            result = first._combine(tuple(others), lambda *nodes: rule(*parts(nodes), *attributes).node)
            return result._as(cls, lambda node: node)
        raise ArrayTypeError(
            f"{operation.name} is not defined between complex numbers; take their real and imaginary parts first."
        )

    def _derive(self, variable: LazyTensor, rule: Any, *others: Any) -> LazyTensor:
        raise ArrayTypeError(
            "Symbolic calculus works on real formulas: take the real and imaginary parts first."
        )

    def solve(self, *_: Any, **__: Any) -> Any:
        raise ArrayTypeError("solve works on real matrices only.")

    # ------------------------------------------------------------------ reductions

    def reduction(self, name: str, *arguments: Any, **options: Any) -> Any:
        """The reductions "sum" and "mean", as :meth:`LazyTensor.reduction` runs them; complex arrays."""
        if name not in ("sum", "mean"):
            raise ArrayTypeError(
                f"{name} is not defined between complex numbers; reduce their real or imaginary parts, or moduli."
            )
        return super().reduction(name, *arguments, **options)

    def _reduce(self, call: ReductionCall, out: Any = None) -> Any:
        if out is not None:
            raise OptionError("A complex reduction takes no out: use the array that it returns.")
        pairs = super()._reduce(call)
        if isinstance(pairs, SymbolicReduction):
            return pairs
        library, dtype = self._context.library, self._context.computed_in
        assert library is not None
        return library.as_complex(library.astype(pairs, dtype))


LazyTensor._complex_class = ComplexLazyTensor
