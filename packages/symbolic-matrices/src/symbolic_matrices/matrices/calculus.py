"""Owns symbolic calculus on matrices given by a formula: gradients, derivatives, Jacobians, divergences, Laplacians."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ShapeError
from ..formulas.differentiation import directional_derivative, divergence, gradients, jacobian
from ..formulas.expressions import Node, Variable, constant
from ..formulas.text import print_formula
from .bindings import Binding, describe_all
from .operators import Operators

if TYPE_CHECKING:
    from .lazy_tensor import LazyTensor


class Calculus(Operators):
    """Derivatives of a formula F, of dimension D, with respect to a variable v that it reads, such as ``Vi(x)``.

    They are formulas again, for any reduction, on any backend and of any order.
    """

    __slots__ = ()

    _bindings: tuple[Binding, ...]

    def grad(self, variable: LazyTensor, cotangent: Any) -> LazyTensor:
        """The formula (dF/dv)^T e of dimension dim(v), where the cotangent e has dimension D.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi, Vj
        >>> x, y = np.zeros((2, 3)), np.ones((4, 3))
        >>> x_i, y_j = Vi(x), Vj(y)
        >>> x_i.sqdist(y_j).grad(x_i, 1.0).sum(axis=1)[0]
        array([-8., -8., -8.])
        """

        def pull_back(formula: Node, v: Variable, e: Node) -> Node:
            _check_dim("cotangent", e, "formula", formula)
            return gradients(formula, e, (v,))[0]

        return self._derive(variable, pull_back, cotangent)

    def diff(self, variable: LazyTensor, direction: Any) -> LazyTensor:
        """The formula (dF/dv) e of dimension D: how F moves when v moves along e, of dimension dim(v).

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi
        >>> x_i = Vi(np.array([[3.0]]))
        >>> (x_i**2).diff(x_i, 10.0).sum(axis=1)
        array([[60.]])
        """

        def push_forward(formula: Node, v: Variable, e: Node) -> Node:
            _check_dim("direction", e, "variable", v)
            return directional_derivative(formula, ((v, e),))

        return self._derive(variable, push_forward, direction)

    def grad_matrix(self, variable: LazyTensor) -> LazyTensor:
        """The Jacobian dF/dv, of dimension D dim(v): row by row, one row per component of F.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi
        >>> x_i = Vi(np.array([[3.0, 5.0]]))
        >>> (x_i**2).grad_matrix(x_i).sum(axis=1)
        array([[ 6.,  0.,  0., 10.]])
        """
        return self._derive(variable, jacobian)

    def divergence(self, variable: LazyTensor) -> LazyTensor:
        """The trace of dF/dv, of dimension 1, where dim(v) = D.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi
        >>> x_i = Vi(np.array([[3.0, 5.0]]))
        >>> (x_i**2).divergence(x_i).sum(axis=1)
        array([[16.]])
        """

        def trace(formula: Node, v: Variable) -> Node:
            _check_dim("variable", v, "formula", formula)
            return divergence(formula, v)

        return self._derive(variable, trace)

    def laplacian(self, variable: LazyTensor) -> LazyTensor:
        """The divergence of the gradient of F with respect to v, of dimension 1, where D = 1.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi
        >>> x_i = Vi(np.array([[3.0, 5.0]]))
        >>> x_i.sqnorm2().laplacian(x_i).sum(axis=1)
        array([[4.]])
        """
        if self._formula.dim != 1:
            raise ShapeError(
                f"The Laplacian needs a formula of dimension 1 but this one has {self._formula.dim}."
            )

        def of_gradient(formula: Node, v: Variable) -> Node:
            return divergence(gradients(formula, constant(1.0), (v,))[0], v)

        return self._derive(variable, of_gradient)

    def _derive(self, variable: LazyTensor, rule: Any, *others: Any) -> LazyTensor:
        """Apply a rule to the formula and the variable, once the variable is known to be one that the formula reads."""
        if not isinstance(variable, Calculus) or not isinstance(variable._formula, Variable):
            given = print_formula(variable._formula) if isinstance(variable, Calculus) else repr(variable)
            raise ShapeError(f"Gradients are with respect to variables, such as Vi(x), but got {given}.")
        if not any(binding.is_same_as(variable._bindings[0]) for binding in self._bindings):
            raise ShapeError(
                f"{print_formula(self._formula)} does not read the variable that the gradient is with respect to:\n"
                f"{describe_all(variable._bindings)}\nIts variables are:\n{describe_all(self._bindings)}"
            )
        return self._combine((variable, *others), rule)


def _check_dim(name: str, node: Node, reference_name: str, reference: Node) -> None:
    if node.dim != reference.dim:
        raise ShapeError(f"The {name} has dimension {node.dim} but the {reference_name} has {reference.dim}.")
