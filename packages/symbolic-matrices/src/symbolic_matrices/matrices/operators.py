"""Owns Python's operators on symbolic matrices, and the methods that are short combinations of operations."""

from __future__ import annotations

import abc
import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import AxisError, ShapeError
from ..formulas.expressions import Node
from ..formulas.operations import indexing as x
from ..formulas.operations import pointwise as p
from ..formulas.operations import special as s
from ..formulas.operations import tensors as t
from ..formulas.operations import vectors as v
from ..formulas.operations.splines import bspline
from ..formulas.operations.warping import softdtw_sqdist
from .table_methods import TableMethods

if TYPE_CHECKING:
    from .lazy_tensor import LazyTensor

CONDITIONS = (p.less, p.less_equal, p.equal, p.not_equal, p.logical_and, p.logical_or)


class Operators(TableMethods):
    """``x + y``, ``x[..., 0]``, ``x | y``...: each applies a row of the table of operations."""

    __slots__ = ()
    __array_ufunc__ = None  # NumPy arrays leave `array * tensor` to this class

    _formula: Node

    @classmethod
    @abc.abstractmethod
    def _lift(cls, value: Any) -> LazyTensor:
        """Make a symbolic matrix of a number or an array."""

    @property
    def _vector_dim(self) -> int:
        """D, the number of components."""
        return self._formula.dim

    @property
    @abc.abstractmethod
    def ndim(self) -> int: ...

    @abc.abstractmethod
    def _combine(self, others: tuple[Any, ...], function: Callable[..., Node]) -> LazyTensor:
        """The symbolic matrix whose formula is a function of the formulas of self and others."""

    def __add__(self, other: Any) -> LazyTensor:
        return self._apply(p.add, other)

    def __radd__(self, other: Any) -> LazyTensor:
        return self._lift(other)._apply(p.add, self)

    def __sub__(self, other: Any) -> LazyTensor:
        return self._apply(p.subtract, other)

    def __rsub__(self, other: Any) -> LazyTensor:
        return self._lift(other)._apply(p.subtract, self)

    def __mul__(self, other: Any) -> LazyTensor:
        return self._apply(p.multiply, other)

    def __rmul__(self, other: Any) -> LazyTensor:
        return self._lift(other)._apply(p.multiply, self)

    def __truediv__(self, other: Any) -> LazyTensor:
        return self._apply(p.divide, other)

    def __rtruediv__(self, other: Any) -> LazyTensor:
        return self._apply(p.inverse) if _is_number(other, 1) else self._lift(other)._apply(p.divide, self)

    def __neg__(self) -> LazyTensor:
        return self._apply(p.negate)

    def __abs__(self) -> LazyTensor:
        return self._apply(p.absolute)

    def __pow__(self, exponent: Any) -> LazyTensor:
        """Powers; small integers and halves are compiled in, other exponents are read at run time."""
        special = {2: p.square, -1: p.inverse, 0.5: p.sqrt, -0.5: p.rsqrt}
        if isinstance(exponent, (int, float)) and exponent in special:
            return self._apply(special[exponent])
        if isinstance(exponent, (int, np.integer)):
            return self._apply(p.integer_power, attributes=(int(exponent),))
        return self._apply(p.power, exponent)

    def __rpow__(self, base: Any) -> LazyTensor:
        return self._lift(base)._apply(p.power, self)

    def __lt__(self, other: Any) -> LazyTensor:
        return self._apply(p.less, other)

    def __le__(self, other: Any) -> LazyTensor:
        return self._apply(p.less_equal, other)

    def __gt__(self, other: Any) -> LazyTensor:
        return self._lift(other)._apply(p.less, self)

    def __ge__(self, other: Any) -> LazyTensor:
        return self._lift(other)._apply(p.less_equal, self)

    def __eq__(self, other: Any) -> LazyTensor:  # type: ignore[override]
        return self._apply(p.equal, other)

    def __ne__(self, other: Any) -> LazyTensor:  # type: ignore[override]
        return self._apply(p.not_equal, other)

    __hash__ = object.__hash__
    __iter__ = None
    __contains__ = None

    def __bool__(self) -> bool:
        raise TypeError("A symbolic matrix has no truth value: reduce it first, as in (x == y).sum(axis=1).")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("A symbolic matrix is never stored: reduce it, as in K.sum(axis=1) or K @ v.")

    def __and__(self, other: Any) -> LazyTensor:
        """Both conditions hold: 1, else 0."""
        return self._apply(p.logical_and, other)

    def __rand__(self, other: Any) -> LazyTensor:
        return self._lift(other) & self

    def __or__(self, other: Any) -> LazyTensor:
        """Inner product of vectors ``x | y``; between conditions (comparisons), 1 where one of them holds."""
        other = self._lift(other)
        both = all(getattr(tensor._formula, "operation", None) in CONDITIONS for tensor in (self, other))
        return self._apply(p.logical_or if both else v.dot, other)

    def __ror__(self, other: Any) -> LazyTensor:
        return self._lift(other) | self

    def ifelse(self, a: Any, b: Any) -> LazyTensor:
        """a where self >= 0, else b."""
        return (self >= 0)._apply(p.where, a, b)

    def mod(self, modulus: Any, offset: Any = 0.0) -> LazyTensor:
        """x - m floor((x - offset) / m), the representative of x modulo m in [offset, offset + m)."""
        return self._apply(p.mod, modulus, offset)

    def round(self, digits: int = 0) -> LazyTensor:
        """The nearest number with ``digits`` decimals; halves go to the even digit."""
        return self._apply(p.round_, attributes=(operator.index(digits),))

    def polygamma(self, n: int) -> LazyTensor:
        """Derivative number n >= 0 of the digamma function."""
        order = operator.index(n)
        if order < 0:
            raise ValueError(f"polygamma: the order of a derivative must be 0 or more but got {order}.")
        return self._apply(s.polygamma, attributes=(order,)) if order else self._apply(s.digamma)

    def norm(self, axis: int | None = None, dim: int | None = None) -> LazyTensor:
        """Euclidean norm along the vector dimension."""
        self._check_vector_axis("norm", choose_axis(axis, dim))
        return self._apply(v.norm2)

    def normalize(self, axis: int | None = None) -> LazyTensor:
        """x / |x|, and 0 where x = 0."""
        self._check_vector_axis("normalize", axis)
        return self * self._apply(v.sqnorm2)._apply(p.rsqrt)

    def weightedsqnorm(self, s: Any) -> LazyTensor:
        """s |x|^2, sum_k s_k x_k^2 or x' S x, for s of dimension 1, D or D * D (a matrix stored row by row)."""
        weights = self._lift(s)
        dim, weight_dim = self._formula.dim, weights._formula.dim
        if weight_dim == dim * dim and dim > 1:
            return self._apply(v.dot, weights._apply(v.matvecmult, self))
        if weight_dim not in (1, dim):
            raise ShapeError(
                f"weightedsqnorm: the weights of a vector of dimension {dim} must have dimension 1, {dim} or "
                f"{dim * dim} but have {weight_dim}."
            )
        return (weights * self._apply(p.square))._apply(v.vector_sum)

    def weightedsqdist(self, other: Any, s: Any) -> LazyTensor:
        """The weighted squared norm of x - y."""
        return (self - other).weightedsqnorm(s)

    def one_hot(self, size: int) -> LazyTensor:
        """The vector of dimension ``size`` that is 1 at position x, rounded, and 0 elsewhere."""
        return self._apply(v.one_hot, attributes=(operator.index(size),))

    def keops_tensordot(
        self,
        other: Any,
        dimfa: Sequence[int],
        dimfb: Sequence[int],
        contfa: Sequence[int] = (),
        contfb: Sequence[int] = (),
        *perm: Any,
    ) -> LazyTensor:
        """Product of two tensors, stored row by row, summed over some pairs of axes.

        Parameters
        ----------
        other : a vector of dimension ``prod(dimfb)``.
        dimfa, dimfb : the shapes of self and other as tensors.
        contfa, contfb : the axes of each that are summed over, pair by pair; none by default.
        perm : where the axes of the result go, those of self that are kept and then those of other; nowhere else by
            default.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi, Vj
        >>> a, b = np.arange(6.0)[None], np.arange(12.0)[None]
        >>> product = Vi(a).keops_tensordot(Vj(b), [2, 3], [3, 4], [1], [0]).sum(axis=1)
        >>> np.array_equal(product[0], (a.reshape(2, 3) @ b.reshape(3, 4)).ravel())
        True
        """
        order = perm[0] if len(perm) == 1 and not isinstance(perm[0], (int, np.integer)) else perm
        axes = [_whole_numbers(given) for given in (dimfa, dimfb, contfa, contfb, order)]
        return self._apply(t.tensordot, other, attributes=(t.contraction(*axes),))

    def kron(self, other: Any, dims: Sequence[int], other_dims: Sequence[int]) -> LazyTensor:
        """Kronecker product of tensors of shapes ``dims`` and ``other_dims``, with as many axes, stored row by row."""
        if len(dims) != len(other_dims):
            raise ShapeError(
                f"kron needs as many axes in both tensors but got {len(dims)} and {len(other_dims)}."
            )
        order = (*range(0, 2 * len(dims), 2), *range(1, 2 * len(dims), 2))
        return self._apply(t.tensordot, other, attributes=(t.contraction(dims, other_dims, (), (), order),))

    def keops_kron(self, other: Any, dimfself: Sequence[int], dimfother: Sequence[int]) -> LazyTensor:
        """KeOps' name of :meth:`kron`."""
        return self.kron(other, dimfself, dimfother)

    def bspline(self, x: Any, k: int) -> LazyTensor:
        """The B-splines of degree k on the knots self, of increasing order, at a number x.

        There are D - k - 1 of them, for D knots. Intervals are closed on the left and open on the right.

        References
        ----------
        C. de Boor, A Practical Guide to Splines, Springer, 1978, chapter IX.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Pm, Vi
        >>> hats = Pm([0.0, 1.0, 2.0, 3.0]).bspline(Vi(np.array([[0.25], [1.5]])), 1)
        >>> hats.sum(axis=1)
        array([[0.25, 0.  ],
               [0.5 , 0.5 ]])
        """
        degree = operator.index(k)
        return self._combine((x,), lambda knots, node: bspline(knots, node, degree))

    def softdtw_sqdist(self, other: Any, gamma: Any) -> LazyTensor:
        """Soft dynamic time warping of two sequences of numbers, the components of self and of other.

        It is -gamma log sum exp(-C / gamma) over the costs C of all the monotone paths that pair the steps of both
        sequences, where a pair costs (x_k - y_l)^2. Derivatives of any order.

        References
        ----------
        M. Cuturi and M. Blondel, Soft-DTW: a differentiable loss function for time-series, ICML 2017.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi, Vj
        >>> x, y = np.array([[0.0, 1.0, 2.0]]), np.array([[0.0, 0.0, 1.0, 2.0]])
        >>> abs(Vi(x).softdtw_sqdist(Vj(y), 1e-3).sum(axis=1)) < 1e-6
        array([[ True]])
        """
        return self._combine((other, gamma), softdtw_sqdist)

    def elem(self, i: int) -> LazyTensor:
        """Component number i."""
        return self.extract(i, 1)

    def extract(self, start: int, length: int) -> LazyTensor:
        """Components ``start`` to ``start + length - 1``."""
        return self._apply(x.extract, attributes=(operator.index(start), operator.index(length)))

    def __getitem__(self, key: Any) -> LazyTensor:
        """Components: ``tensor[..., k]`` or ``tensor[..., k:l]``."""
        dim = self._vector_dim
        if isinstance(key, tuple) and len(key) == 2 and key[0] is Ellipsis:
            chosen = key[1]
            if isinstance(chosen, (int, np.integer)) and -dim <= chosen < dim:
                return self.elem(int(chosen) % dim)
            if isinstance(chosen, slice) and chosen.step in (None, 1):
                start, stop, _ = chosen.indices(dim)
                if start < stop:
                    return self.extract(start, stop - start)
        raise AxisError(
            f"Only components of the vector dimension, here {dim}, may be indexed, as tensor[..., k] or "
            f"tensor[..., k:l], but got [{key!r}]."
        )

    def concat(self, *others: Any) -> LazyTensor:
        """The components of self, followed by those of the others."""
        return functools.reduce(lambda left, right: left._apply(x.concat, right), others, self._lift(self))

    @classmethod
    def concatenate(cls, tensors: Sequence[Any], axis: int = -1) -> LazyTensor:
        """Concatenate along the vector dimension."""
        if len(tensors) == 0:
            raise ShapeError("concatenate needs at least one tensor but got none.")
        first = cls._lift(tensors[0])
        first._check_vector_axis("concatenate", axis)
        return first.concat(*tensors[1:])

    @classmethod
    def cat(cls, tensors: Sequence[Any], dim: int = -1) -> LazyTensor:
        """Concatenate along the vector dimension, as PyTorch spells it."""
        return cls.concatenate(tensors, axis=dim)

    def _check_vector_axis(self, name: str, axis: int | None) -> None:
        if axis not in (None, -1, self.ndim - 1):
            raise AxisError(f"{name} works along the vector dimension, axis=-1, but got axis={axis}.")


def choose_axis(axis: int | None, dim: int | None) -> int | None:
    """The one that is given of two synonyms."""
    for given in (axis, dim):
        if given is not None and not isinstance(given, (int, np.integer)):
            raise AxisError(f"An axis must be an integer but got {given!r}; reduce one axis at a time.")
    if axis is not None and dim is not None:
        raise AxisError(f"axis={axis} and dim={dim} are synonyms: give one of them.")
    return dim if axis is None else axis


def _is_number(value: Any, number: float) -> bool:
    return isinstance(value, (int, float)) and value == number


def _whole_numbers(given: Any) -> tuple[int, ...]:
    try:
        return tuple(operator.index(number) for number in given)
    except TypeError as error:
        raise ShapeError(
            f"tensordot: shapes and axes are sequences of integers but got {given!r}."
        ) from error
