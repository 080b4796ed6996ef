"""Owns ``KernelSolve``: linear systems whose matrix is given by a formula as a string."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..arrays import Array, find_library
from ..errors import ArrayTypeError, FormulaError, ShapeError
from ..formulas.differentiation import gradients
from ..formulas.expressions import Axis, variable, variables_of
from ..formulas.simplification import simplify
from ..solvers import SolveOptions, conjugate_gradient
from .genred import Genred

_UNKNOWN_COTANGENT = 1 << 29  # the position of a variable that no argument reaches
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class System:
    """(A + alpha Id) x = b for a symmetric linear map A of arrays (*batch, size, D), which may mix their components.

    Attributes
    ----------
    product : A v, from v and the tuple of the data that A depends on.
    """

    product: Callable[[Array, tuple[Array, ...]], Array]
    alpha: float
    options: SolveOptions

    def solve(self, b: Array, data: tuple[Array, ...]) -> Array:
        """Conjugate gradient, whose steps are those of all the components together."""
        shape, flat = tuple(b.shape), (*b.shape[:-2], b.shape[-2] * b.shape[-1], 1)

        def product(v: Array) -> Array:
            return self.product(v.reshape(shape), data).reshape(flat) + self.alpha * v

        return conjugate_gradient(product, b.reshape(flat), self.options)[0].reshape(shape)


class KernelSolve:
    r"""Solve :math:`\sum_j F(x_i, x_j, a_j) + \alpha a_i = b_i` for a, where F is linear in a.

    Parameters
    ----------
    formula, aliases, axis, options
        As for :class:`~symbolic_matrices.pykeops_compat.Genred`.
    varinvalias : str
        The name of a, a variable along the reduced axis, with the dimension of the formula. Calls give b in its place.

    Raises
    ------
    FormulaError
        If the formula cannot be read, or is not linear in a.

    Notes
    -----
    The linear map must be symmetric and positive definite. Under PyTorch, the solution is a differentiable function of
    all the tensors, any number of times.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices.pykeops_compat import KernelSolve
    >>> solve = KernelSolve("Exp(-SqDist(x, y)) * a", ["x = Vi(1)", "y = Vj(1)", "a = Vj(1)"], "a", axis=1)
    >>> x, b = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
    >>> a = solve(x, x, b, alpha=0.1, eps=1e-9)
    >>> K = np.exp(-((x - x.T) ** 2))
    >>> np.allclose(K @ a + 0.1 * a, b)
    True
    """

    def __init__(
        self, formula: str, aliases: Sequence[str], varinvalias: str, axis: int = 0, **options: Any
    ) -> None:
        self._reduction = Genred(formula, aliases, "Sum", axis, **options)
        self._unknown = self._reduction.string.scope.find(varinvalias)._bindings[0]
        self._check_unknown(varinvalias, axis)

    def _check_unknown(self, name: str, axis: int) -> None:
        tensor, unknown = self._reduction.string.tensor, self._unknown
        position = tensor._bindings.index(unknown) if unknown in tensor._bindings else -1
        wanted = {0: Axis.I, 1: Axis.J}[axis]
        if position < 0 or unknown.axis is not wanted or unknown.dim != tensor._formula.dim:
            raise FormulaError(
                f"The unknown {name!r} must be read by the formula, vary along {wanted.letter}, the reduced axis, and "
                f"have the dimension {tensor._formula.dim} of the formula, but is: {unknown.describe()}."
            )
        v = variable(position, unknown.axis, unknown.dim)
        cotangent = variable(_UNKNOWN_COTANGENT, Axis.PARAMETER, tensor._formula.dim)
        (slope,) = gradients(tensor._formula, cotangent, (v,))
        if v in variables_of(simplify(slope)):
            raise FormulaError(
                f"The formula must be linear in the unknown {name!r} but its derivative reads it."
            )

    def __call__(
        self,
        *args: Any,
        backend: str = "auto",
        device_id: int = -1,
        alpha: float = 1e-10,
        eps: float = 1e-6,
        ranges: Any = None,
    ) -> Any:
        """Solve for the data, with b in the place of the unknown.

        Parameters
        ----------
        args : arrays as for :class:`Genred`.
        alpha : what is added to the diagonal, >= 0.
        eps : the residual |b - (A + alpha) x| / |b| to reach (KeOps counts it per component, and not relative to b).
        backend, device_id, ranges : as for :class:`Genred`.

        Returns
        -------
        array of the shape of b, with the batch dimensions of the data.
        """
        self._reduction.string.check_count(args)
        position = self._unknown.value.position
        others = [k for k in range(len(args)) if k != position and find_library(args[k]) is not None]

        def product(v: Array, data: tuple[Array, ...]) -> Array:
            filled = list(args)
            filled[position] = v
            for k, value in zip(others, data, strict=True):
                filled[k] = value
            return self._reduction(*filled, backend=backend, ranges=ranges)

        data = tuple(args[k] for k in others)
        b = self._right_hand_side(args[position], lambda b: product(b, data))
        system = System(product, float(alpha), SolveOptions(float(eps), MAX_ITERATIONS))
        if type(b).__module__.partition(".")[0] != "torch":
            return system.solve(b, data)
        # loaded on first use: it imports PyTorch, which only users of its tensors need to have
        return importlib.import_module(".torch_solve", __package__).solve(system, b, data)

    def _right_hand_side(self, b: Any, product: Callable[[Array], Array]) -> Array:
        library = find_library(b)
        if library is None:
            raise ArrayTypeError(f"The right-hand side must be an array but is {type(b).__qualname__}.")
        shape = tuple(product(library.detach(b)).shape)
        if shape[-2:] != tuple(b.shape[-2:]):
            raise ShapeError(
                f"The linear map must be square: it maps the right-hand side {tuple(b.shape)} to {shape}."
            )
        return library.namespace.broadcast_to(b, shape)
