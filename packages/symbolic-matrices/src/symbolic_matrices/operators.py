"""Owns Python's operators on symbolic matrices, and the methods that are short combinations of operations."""

from __future__ import annotations

import abc
import functools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import AxisError, ShapeError
from .expressions import Node
from .operations import indexing as x
from .operations import pointwise as p
from .operations import special as s
from .operations import vectors as v
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
    @abc.abstractmethod
    def ndim(self) -> int: ...

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

    def elem(self, i: int) -> LazyTensor:
        """Component number i."""
        return self.extract(i, 1)

    def extract(self, start: int, length: int) -> LazyTensor:
        """Components ``start`` to ``start + length - 1``."""
        return self._apply(x.extract, attributes=(operator.index(start), operator.index(length)))

    def __getitem__(self, key: Any) -> LazyTensor:
        """Components: ``tensor[..., k]`` or ``tensor[..., k:l]``."""
        dim = self._formula.dim
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
