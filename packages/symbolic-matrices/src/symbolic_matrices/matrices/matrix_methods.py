"""Owns what a symbolic matrix does as a matrix: products, entries, linear systems, SciPy's operators."""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Array, ArrayLibrary, find_library
from ..errors import ArrayTypeError, MissingLibraryError, OptionError, ShapeError
from ..formulas.expressions import Axis, Node, Variable
from ..formulas.reductions import ReductionCall, Sum
from ..solvers import LinearSystem, Preconditioner, SolveOptions, SolveReport, check_shift, jacobi, nystrom
from . import entries
from .bindings import Binding
from .contexts import Context, context_of, resolve
from .operators import Operators, choose_axis
from .reducing import request_of

if TYPE_CHECKING:
    from .lazy_tensor import LazyTensor

WIDE = 128  # right-hand sides: beyond, they are cut into batches of
SLICE = 64  # columns, whose running sums stay in the nearest cache, and which all share one kernel
NYSTROM_RANK = 50
SUM_OVER_J = ReductionCall(Sum(), Axis.J)


class MatrixMethods(Operators):
    """``K @ v``, ``K[rows]``, ``K.dense()``, ``K.solve(b)``..."""

    __slots__ = ()

    _bindings: tuple[Binding, ...]
    _context: Context

    @classmethod
    @abc.abstractmethod
    def _make(cls, formula: Node, bindings: tuple[Binding, ...], context: Context) -> Any: ...

    @classmethod
    @abc.abstractmethod
    def _lift_columns(cls, array: Array) -> LazyTensor:
        """v_j, from an array of shape (*batch, N, E)."""

    @abc.abstractmethod
    def _reduce(self, call: ReductionCall, out: Any = None) -> Any: ...

    @abc.abstractmethod
    def _reduced_axis(self, name: str, axis: int | None) -> Axis: ...

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]: ...

    @property
    @abc.abstractmethod
    def T(self) -> Any: ...

    @property
    def _sizes(self) -> tuple[int, int]:
        rows, columns = self._context.rows, self._context.columns
        return 1 if rows is None else rows, 1 if columns is None else columns

    # ------------------------------------------------------------------ products

    def __matmul__(self, vector: Any) -> Any:
        """Matrix-vector products, sum_j K_ij v_j: v of shape (N,) gives (M,), (*batch, N, E) gives (*batch, M, E).

        A LazyTensor v_j works too. A vector-valued K of dimension D multiplies v_j of dimension 1 or D, component by
        component.
        """
        if isinstance(vector, MatrixMethods):
            return (self * vector)._reduce(SUM_OVER_J)
        if find_library(vector) is None:
            raise ArrayTypeError(f"K @ v needs an array v but got {type(vector).__qualname__}.")
        is_flat = len(vector.shape) == 1
        columns = vector[:, None] if is_flat else vector
        if len(columns.shape) < 2 or columns.shape[-2] != self._sizes[1]:
            raise ShapeError(
                f"K @ v: K has shape {self.shape} but v has shape {tuple(vector.shape)}; they must match."
            )
        result = self._product(columns)
        return result[..., 0] if is_flat and result.shape[-1] == 1 else result

    def _product(self, columns: Array) -> Array:
        if self._formula.dim == 1 and columns.shape[-1] > WIDE:
            return self._wide_product(columns)
        return (self * self._lift_columns(columns))._reduce(SUM_OVER_J)

    def _wide_product(self, columns: Array) -> Array:
        """The columns as batches of slices, all of one width: one kernel serves any number of them."""
        library = find_library(columns)
        assert library is not None
        *batch, size, width = columns.shape
        missing = -width % SLICE
        if missing:
            nothing = library.full(
                (*batch, size, missing), 0.0, library.dtype_name(columns), library.device(columns)
            )
            columns = library.namespace.concatenate((columns, nothing), -1)
        count = columns.shape[-1] // SLICE
        slices = columns.reshape(*batch, size, count, SLICE).swapaxes(-3, -2)  # (*batch, slices, N, SLICE)
        bindings = entries.with_batch_axis(self._bindings)
        sliced = self._make(self._formula, bindings, context_of(bindings, self._context.ranges))
        result = sliced._product(slices).swapaxes(-3, -2)
        return result.reshape(*result.shape[:-2], count * SLICE)[..., :width]

    def __rmatmul__(self, vector: Array) -> Any:
        """v @ K = K^T v."""
        return self.T @ vector

    # ------------------------------------------------------------------ entries

    def dense(self, backend: str = "auto") -> Array:
        """The matrix as an array of shape (*batch, M, N), followed by D unless D = 1; differentiable.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi, Vj
        >>> (Vi(np.arange(2.0)[:, None]) - Vj(np.arange(3.0)[:, None])).dense()
        array([[ 0., -1., -2.],
               [ 1.,  0., -1.]])
        """
        formula = entries.with_data(self._formula, self._bindings, self._context, "dense()")
        return self._entries(formula, backend)

    def _entries(self, formula: entries.Formula, backend: str) -> Array:
        rows, columns = (1 if n is None else n for n in (formula.context.rows, formula.context.columns))
        if columns < entries.FEW < rows:
            transposed = self._make(formula.node, formula.bindings, formula.context).T
            swapped = entries.with_data(
                transposed._formula, transposed._bindings, transposed._context, "dense()"
            )
            array = transposed._entries(swapped, backend)
            return array.swapaxes(-1, -2) if self._vector_dim == 1 else array.swapaxes(-2, -3)
        values = self._row_values(entries.all_entries(formula), backend)
        shape = (*self._context.batch_shape, rows, columns, self._vector_dim)
        return values.reshape(shape if self._vector_dim > 1 else shape[:-1])

    def _row_values(self, formula: entries.Formula, backend: str) -> Array:
        """The values of a formula that varies along i only, (*batch, rows, D)."""
        moved = self._make(formula.node, formula.bindings, formula.context)
        return moved._reduce(ReductionCall(Sum(), Axis.J, backend=backend))

    def diagonal(self, backend: str = "auto") -> Array:
        """The entries K_ii, of shape (*batch, M), followed by D unless D = 1; differentiable, in M steps.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi, Vj
        >>> x = np.arange(3.0)[:, None]
        >>> (Vi(x) * Vj(x)).diagonal()
        array([0., 1., 4.])
        """
        self._check_square("diagonal()")
        formula = entries.with_data(self._formula, self._bindings, self._context, "diagonal()")
        values = self._row_values(entries.diagonal(formula), backend)
        return values[..., 0] if self._vector_dim == 1 else values

    def _check_square(self, task: str) -> None:
        rows, columns = self._sizes
        if rows != columns:
            raise ShapeError(f"{task} needs a square matrix but this one has shape {self.shape}.")

    def __getitem__(self, key: Any) -> Any:
        """Components of the vectors, ``K[..., k]`` or ``K[..., k:l]``, symbolic; or rows as arrays, ``K[rows]``.

        Rows are a number, a slice, a mask or positions along i, whatever the batch dimensions: the result has shape
        (*batch, N) or (*batch, R, N), followed by D unless D = 1. They are differentiable.
        """
        if isinstance(key, tuple) or key is Ellipsis or key is None:
            return super().__getitem__(key)
        formula = entries.with_data(self._formula, self._bindings, self._context, "K[rows]")
        library, rows = self._library, self._sizes[0]
        chosen = entries.find_rows(key, rows, library, self._context.device)
        array = self._entries(entries.some_rows(formula, chosen.key), "auto")
        axis = -2 if self._vector_dim == 1 else -3
        if self._context.rows is None and chosen.count != 1:  # all rows are the same one
            tail = array.shape[array.ndim + axis + 1 :]
            array = library.namespace.broadcast_to(array, (*self._context.batch_shape, chosen.count, *tail))
        return array.reshape(*array.shape[:axis], *array.shape[axis + 1 :]) if chosen.is_one else array

    @property
    def _library(self) -> ArrayLibrary:
        assert self._context.library is not None
        return self._context.library

    # ------------------------------------------------------------------ linear systems

    def solve(
        self,
        b: Any,
        alpha: Any = 1e-10,
        eps: float = 1e-6,
        *,
        max_iter: int = 1000,
        preconditioner: str | Preconditioner | None = None,
        axis: int | None = None,
        dim: int | None = None,
        report: bool = False,
        backend: str = "auto",
    ) -> Any:
        r"""Solve (K + alpha Id) x = b by conjugate gradient, for a symmetric positive definite K + alpha Id.

        Under PyTorch, x is a differentiable function of b, alpha and the data of K, any number of times: derivatives
        solve systems with the transposed matrix.

        Parameters
        ----------
        b : right-hand sides, an array of shape (N,) or (*batch, N, E), or a variable such as ``Vi(b)``.
        alpha : a number, or an array that broadcasts against b, such as one noise variance per point.
        eps : the relative residual \|b - (K + alpha) x\| / \|b\| to reach, in each column of b.
        max_iter : products with the matrix at most.
        preconditioner : "jacobi" divides by the diagonal; "nystrom" inverts an approximation of rank 50, found with
            random directions: for smooth kernels, whose eigenvalues decay fast; or a function from residuals
            (*batch, N, E) to approximate solutions, linear, symmetric and positive definite.
        axis, dim : the axis that products sum over, the last by default: the first one solves with K^T.
        report : whether to return (x, :class:`SolveReport`) instead of x.
        backend : as for reductions.

        Returns
        -------
        x : array of the shape of b, with the batch dimensions of K.

        Raises
        ------
        ShapeError
            If K is not square, vector-valued, or does not fit b.
        ArrayTypeError
            If b is no array of the library, dtype and device of the data, or if these are in half precision.
        IndefiniteMatrixError
            If a direction p with p'(K + alpha Id)p < 0 shows up.

        Warns
        -----
        ConvergenceWarning
            If a residual stays above eps: x is the best that was found.

        Examples
        --------
        >>> import numpy as np
        >>> from symbolic_matrices import Vi, Vj
        >>> x = np.linspace(0, 1, 50)[:, None]
        >>> K = (-Vi(x).sqdist(Vj(x)) / 0.02).exp()
        >>> weights, report = K.solve(np.sin(6 * x), alpha=1e-3, report=True)
        >>> report.converged, bool(np.abs(K @ weights + 1e-3 * weights - np.sin(6 * x)).max() < 1e-5)
        (True, True)
        """
        entries.check_data(self._bindings, self._context, "solve")
        self._check_square("solve")
        if self._formula.dim != 1:
            raise ShapeError(
                f"solve needs a matrix of numbers but this one has vectors of dimension {self._formula.dim}."
            )
        columns, is_flat = self._right_hand_side(b)
        alpha = check_shift(alpha, columns)
        call = ReductionCall(Sum(), self._reduced_axis("solve", _last(axis, dim, self.ndim)), backend=backend)
        approximate = self._preconditioner(preconditioner, alpha)
        system = LinearSystem(
            request_of(self._formula, self._context, call),
            SolveOptions(eps, max_iter, approximate),
        )
        x, outcome = self._solved(system, columns, alpha)
        x = x[..., 0] if is_flat else x
        return (x, outcome) if report else x

    def _solved(self, system: LinearSystem, b: Array, alpha: Any) -> tuple[Array, SolveReport]:
        arrays = tuple(resolve(binding, self._context) for binding in self._bindings)
        if self._library.name != "torch":
            return system.solve(b, alpha, arrays)
        # loaded on first use: it imports PyTorch, which only users of its tensors need to have
        solution: tuple[Array, SolveReport] = importlib.import_module("..torch_bridge", __package__).solve(
            system, b, alpha, arrays
        )
        return solution

    def _right_hand_side(self, b: Any) -> tuple[Array, bool]:
        """Columns (*batch, N, E), with the batch dimensions of the matrix, and whether b had one dimension only."""
        if (
            isinstance(b, MatrixMethods)
            and isinstance(b._formula, Variable)
            and b._formula.axes is not Axis.PARAMETER
        ):
            b = resolve(b._bindings[0], b._context)
        library = find_library(b)
        context = self._context
        if library is None or len(b.shape) == 0:
            raise ArrayTypeError(
                f"solve needs an array b, or a variable such as Vi(b), but got {type(b).__qualname__}."
            )
        given = (library, library.dtype_name(b), library.device(b))
        if (
            given != (context.library, context.computed_in, context.device)
            or context.dtype != context.computed_in
        ):
            raise ArrayTypeError(
                "solve needs b and the data of K in one library, on one device, in float32 or float64; but b is a "
                f"{library.name} array, {given[1]}, on {given[2]}, and the data are {context.dtype}, "
                f"on {context.device}."
            )
        is_flat = len(b.shape) == 1
        columns = b[:, None] if is_flat else b
        if columns.shape[-2] != self._sizes[0]:
            raise ShapeError(
                f"solve: K has shape {self.shape} but b has shape {tuple(b.shape)}; they must match."
            )
        batch = np.broadcast_shapes(context.batch_shape, tuple(columns.shape[:-2]))
        if batch != context.batch_shape:
            raise ShapeError(
                f"solve: b has shape {tuple(b.shape)}, with batch dimensions beyond those of K, {context.batch_shape}; "
                "move them to the last dimension of b."
            )
        return library.namespace.broadcast_to(columns, (*batch, *columns.shape[-2:])), is_flat

    def _preconditioner(self, choice: str | Preconditioner | None, alpha: Any) -> Preconditioner | None:
        if choice is None or callable(choice):
            return choice
        library, bindings = self._library, self._bindings
        fixed = tuple(_detached(b) for b in bindings)
        matrix = self._make(self._formula, fixed, self._context)
        shift = library.detach(alpha) if find_library(alpha) is library else alpha
        if isinstance(choice, str) and choice == "jacobi":
            return jacobi(matrix.diagonal()[..., None], shift)
        if not (isinstance(choice, str) and choice == "nystrom"):
            raise OptionError(f"preconditioner must be 'jacobi', 'nystrom' or a function but is {choice!r}.")
        if find_library(shift) is not None and len(shift.shape) > 0:
            raise OptionError("preconditioner='nystrom' needs one number alpha; use 'jacobi' with several.")
        size = (self._sizes[0], min(NYSTROM_RANK, self._sizes[0]))
        sample = np.random.default_rng(0).standard_normal((*self._context.batch_shape, *size))
        directions = library.convert(sample, self._context.computed_in, self._context.device)
        return nystrom(lambda v: matrix @ v, directions, shift)

    # ------------------------------------------------------------------ SciPy

    def aslinearoperator(self) -> Any:
        """The matrix as a ``scipy.sparse.linalg.LinearOperator``, for eigenvalues, least squares, other solvers.

        SciPy works with NumPy arrays: those of other libraries are copied at each product. Gradients stop there.

        Raises
        ------
        MissingLibraryError
            If SciPy is not installed.
        ShapeError
            If the matrix has batch dimensions or vectors as entries.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.sparse.linalg import eigsh
        >>> from symbolic_matrices import Vi, Vj
        >>> x = np.linspace(0, 1, 100)[:, None]
        >>> K = (-Vi(x).sqdist(Vj(x))).exp()
        >>> eigsh(K.aslinearoperator(), k=1, return_eigenvectors=False).round(2)
        array([86.26])
        """
        try:
            bridge = importlib.import_module(".scipy_operator", __package__)
        except ModuleNotFoundError as error:
            raise MissingLibraryError(
                "aslinearoperator needs SciPy: install it with `pip install symbolic-matrices[scipy]`."
            ) from error
        if len(self.shape) != 2:
            raise ShapeError(f"SciPy's operators are matrices (M, N) but this one has shape {self.shape}.")
        return bridge.SymbolicOperator(self.shape, self._context.computed_in, self.matvec, self.rmatvec)

    def matvec(self, vector: np.ndarray) -> np.ndarray:
        """K v for a NumPy array of shape (N,) or (N, E), as SciPy's operators call it."""
        return _apply_to_host(lambda v: self @ v, vector, self._context)

    def rmatvec(self, vector: np.ndarray) -> np.ndarray:
        """K^T v for a NumPy array of shape (M,) or (M, E)."""
        return _apply_to_host(lambda v: self.T @ v, vector, self._context)


def _apply_to_host(product: Callable[[Array], Array], vector: np.ndarray, context: Context) -> np.ndarray:
    """A product with a NumPy array, computed in the library, dtype and device of the matrix."""
    if np.iscomplexobj(vector):
        real, imaginary = (_apply_to_host(product, part, context) for part in (vector.real, vector.imag))
        return real + 1j * imaginary
    library = context.library
    if library is None:
        raise ArrayTypeError("A product needs a matrix with data, but this one holds numbers only.")
    return library.to_numpy(product(library.convert(vector, context.dtype, context.device)))


def _detached(binding: Binding) -> Binding:
    if not binding.is_data or binding.library is None:
        return binding
    return replace(binding, value=binding.library.detach(binding.value))


def _last(axis: int | None, dim: int | None, ndim: int) -> int:
    chosen = choose_axis(axis, dim)
    return ndim - 2 if chosen is None else chosen
