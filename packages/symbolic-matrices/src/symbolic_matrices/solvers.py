"""Owns the conjugate gradient method, on arrays of any library. Knows no differentiation."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .arrays import Array, ArrayLibrary, find_library, library_of
from .errors import ConvergenceWarning, IndefiniteMatrixError, OptionError, ShapeError, warn_user
from .execution import Request, execute
from .formulas.expressions import variable
from .formulas.operations.pointwise import multiply
from .formulas.reductions import Sum

Preconditioner = Callable[[Array], Array]
UNITS = {"float32": 6e-8, "float64": 1.1e-16}  # of rounding: p'Ap is known to a few of them times |A| |p|^2
SURELY = 1000  # units, below which a negative p'Ap is no rounding error


@dataclass(frozen=True)
class SolveOptions:
    """When to stop, and an approximate inverse."""

    eps: float
    max_iter: int
    preconditioner: Preconditioner | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.eps, numbers.Real) and self.eps > 0):
            raise OptionError(
                f"eps, the relative residual to reach, must be a positive number but is {self.eps!r}."
            )
        if not (isinstance(self.max_iter, numbers.Integral) and self.max_iter >= 1):
            raise OptionError(f"max_iter must be an integer of at least 1 but is {self.max_iter!r}.")


def check_shift(alpha: Any, b: Array) -> Any:
    """The shift of a matrix for the right-hand sides b (*batch, N, E): a number, or an array that broadcasts to b."""
    if isinstance(alpha, numbers.Real) and not isinstance(alpha, np.ndarray):
        return float(alpha)
    library, owner = library_of(b), find_library(alpha)
    if owner is None:
        raise OptionError(
            f"alpha must be a number or an array that broadcasts to b but got {type(alpha).__qualname__}."
        )
    shape, dtype = tuple(alpha.shape), owner.dtype_name(alpha)
    if not dtype.startswith(("float", "bfloat", "int", "uint")):
        raise OptionError(f"alpha must hold real numbers but has dtype {dtype}.")
    if shape == () and owner is not library:
        return float(alpha)
    given, expected = ((x.name, x.device(a)) for x, a in ((owner, alpha), (library, b)))
    if given != expected:
        raise OptionError(
            f"alpha must be of the library and on the device of b, {expected}, but is of {given}."
        )
    columns = alpha[:, None] if len(shape) == 1 else alpha
    goal, own = tuple(b.shape), tuple(columns.shape)
    if len(own) > len(goal) or any(n not in (1, m) for n, m in zip(own[::-1], goal[::-1], strict=False)):
        raise ShapeError(
            f"alpha has shape {shape}, which does not broadcast to the right-hand sides, of shape {goal}."
        )
    return library.astype(columns, library.dtype_name(b))


@dataclass(frozen=True)
class SolveReport:
    """How a linear solve went.

    Attributes
    ----------
    iterations : products with the matrix that searched for the solution.
    residuals : |b - A x| / |b| of each right-hand side, computed afresh from the solution, of shape (*batch, E).
    converged : whether all of them are at most eps.
    """

    iterations: int
    residuals: Array
    converged: bool


@dataclass(frozen=True)
class LinearSystem:
    """(K + alpha Id) x = b for a matrix K that a request describes, whose data come separately.

    Attributes
    ----------
    request : its formula and the axis that a product with K sums over.
    """

    request: Request
    options: SolveOptions

    @property
    def transposed(self) -> LinearSystem:
        return replace(self, request=replace(self.request, axis=self.request.axis.swapped))

    def product_request(self, count: int, width: int) -> Request:
        """K v, where v (*batch, N, width) comes after the ``count`` arrays of the formula."""
        vector = variable(count, self.request.axis, width)
        return replace(self.request, formula=multiply(self.request.formula, vector), reduction=Sum())

    def solve(self, b: Array, alpha: Any, arrays: tuple[Array, ...]) -> tuple[Array, SolveReport]:
        """The solution for right-hand sides (*batch, N, E)."""
        request = self.product_request(len(arrays), b.shape[-1])

        def product(v: Array) -> Array:
            return execute(request, (*arrays, v))[0] + alpha * v

        return conjugate_gradient(product, b, self.options)


def conjugate_gradient(
    product: Callable[[Array], Array], b: Array, options: SolveOptions
) -> tuple[Array, SolveReport]:
    r"""Solve A x = b for a symmetric positive definite matrix A, given by its products with vectors.

    Right-hand sides, the columns of b (*batch, N, E), advance together, each with steps of its own. The residual that
    the recurrence updates drifts away from b - A x by rounding: where the latter is still too large in the end, the
    method starts again from there, as long as this helps [1]_.

    References
    ----------
    .. [1] Y. Saad, Iterative Methods for Sparse Linear Systems, 2nd edition, SIAM, 2003, algorithm 9.1.
    """
    library = library_of(b)
    where, scale = library.namespace.where, _norm(library, b)
    target, x, residual, norms = options.eps * scale, 0 * b, b, scale
    iterations, worst = 0, float("inf")
    while True:
        left = replace(options, max_iter=options.max_iter - iterations)
        step, used = _descend(product, residual, target, left)
        iterations += used
        found = b - product(x + step)
        is_worse = _norm(library, found) >= norms  # a step into a direction that A nearly forgets
        x, residual = where(is_worse, x, x + step), where(is_worse, residual, found)
        norms = _norm(library, residual)
        relative = norms / (scale + (scale == 0))  # where b = 0, so is x
        previous, worst = worst, float(relative.max()) if 0 not in relative.shape else 0.0
        converged = bool((norms <= target).all())
        if converged or iterations >= options.max_iter or not worst < 0.5 * previous:
            break
    if not converged:
        _warn(iterations, worst, options)
    return x, SolveReport(iterations, relative[..., 0, :], converged)


def _descend(
    product: Callable[[Array], Array], b: Array, target: Array, options: SolveOptions
) -> tuple[Array, int]:
    """Conjugate gradient from 0 until the recurrence says that every residual is at most its target."""
    library = library_of(b)
    where, precondition = library.namespace.where, options.preconditioner or (lambda r: r)
    x, r = 0 * b, b
    z = precondition(r)
    p, rz, largest = z, _dot(r, z), 0.0
    for iteration in range(options.max_iter):
        is_open = _norm(library, r) > target
        if not bool(is_open.any()):
            return x, iteration
        Ap = product(p)
        curvature, squared = _dot(p, Ap), _dot(p, p)
        largest = max(largest, float((_dot(Ap, Ap) / (squared + (squared == 0))).max()) ** 0.5)
        rounding = UNITS[library.dtype_name(b)] * largest * squared
        _check_definite(curvature, SURELY * rounding, iteration)
        moves = is_open & ~(curvature <= rounding) & ~(rz <= 0)  # NaN goes on to the solution
        if not bool(moves.any()):
            return x, iteration  # nothing but rounding errors is left
        step = where(moves, rz, 0 * rz) / where(moves, curvature, 1 + 0 * curvature)
        x, r = x + step * p, r - step * Ap
        z = precondition(r)
        previous, rz = rz, _dot(r, z)
        p = z + where(moves, rz, 0 * rz) / where(moves, previous, 1 + 0 * rz) * p
    return x, options.max_iter


def _check_definite(curvature: Array, tolerance: Array, iteration: int) -> None:
    """Refuse p'Ap < 0 beyond rounding errors."""
    if bool((curvature < -tolerance).any()):
        raise IndefiniteMatrixError(
            f"A = K + alpha Id is not positive definite: p'Ap = {float(curvature.min()):.1e} for a direction p of "
            f"iteration {iteration}. Conjugate gradient needs a symmetric positive definite matrix: raise alpha, or "
            "use another solver, such as scipy.sparse.linalg.minres on K.aslinearoperator()."
        )


def _warn(iterations: int, worst: float, options: SolveOptions) -> None:
    warn_user(
        f"solve stopped after {iterations} iterations at a relative residual of {worst:.1e}, above "
        f"eps={options.eps:.1e}. Raise max_iter, eps or alpha, use float64 data, or pass preconditioner='nystrom'.",
        ConvergenceWarning,
    )


def _dot(x: Array, y: Array) -> Array:
    """Inner products of columns, (*batch, 1, E)."""
    return (x * y).sum(-2)[..., None, :]


def _norm(library: ArrayLibrary, x: Array) -> Array:
    return library.namespace.sqrt(_dot(x, x))


def jacobi(diagonal: Array, alpha: Any) -> Preconditioner:
    """Divide by the diagonal of K + alpha Id; ``diagonal`` is (*batch, N, 1)."""
    inverse = 1 / (diagonal + alpha)
    return lambda r: inverse * r


def nystrom(product: Callable[[Array], Array], sample: Array, alpha: Any) -> Preconditioner:
    r"""Invert K + alpha Id approximately, from the products of K with some random directions.

    With the orthonormal directions :math:`\Omega` of shape (*batch, N, R), the Nyström approximation
    :math:`\hat K = (K \Omega) (\Omega^\top K \Omega)^{-1} (K \Omega)^\top = U \Lambda U^\top` replaces K in

    .. math:: P^{-1} = (\lambda_R + \alpha) U (\Lambda + \alpha)^{-1} U^\top + (1 - U U^\top).

    References
    ----------
    .. [1] Z. Frangella, J. A. Tropp, M. Udell, Randomized Nyström preconditioning, SIAM J. Matrix Anal. Appl. 44 (2),
       2023, algorithm 2.1 and equation (1.3).
    """
    library = library_of(sample)
    linalg = library.namespace.linalg
    directions = linalg.qr(sample)[0]
    images = product(directions)
    shift = (
        UNITS[library.dtype_name(sample)]
        * (images * images).sum((-2, -1))[..., None, None] ** 0.5
        * sample.shape[-2] ** 0.5
    )
    images = images + shift * directions
    core = directions.swapaxes(-1, -2) @ images
    try:
        factor = linalg.cholesky((core + core.swapaxes(-1, -2)) / 2)
    except linalg.LinAlgError as error:
        raise IndefiniteMatrixError(
            "preconditioner='nystrom' needs a positive semi-definite K, but K has a negative direction; "
            "check the formula, or use another preconditioner."
        ) from error
    basis, singular, _ = linalg.svd(
        linalg.solve(factor, images.swapaxes(-1, -2)).swapaxes(-1, -2), full_matrices=False
    )
    values = (singular**2)[..., :, None] - shift
    values = library.namespace.where(values > 0, values, 0 * values)  # (*batch, R, 1)
    weights = (values[..., -1:, :] + alpha) / (values + alpha) - 1
    return lambda r: r + basis @ (weights * (basis.swapaxes(-1, -2) @ r))
