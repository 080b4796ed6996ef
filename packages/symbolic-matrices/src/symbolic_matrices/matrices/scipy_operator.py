"""Owns the bridge to SciPy's iterative solvers. Loaded only by users of SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

Apply = Callable[[np.ndarray], np.ndarray]


class SymbolicOperator(LinearOperator):  # type: ignore[misc]
    """A symbolic matrix as SciPy's linear operator: products with NumPy vectors, computed where its data live."""

    def __init__(self, shape: tuple[int, int], dtype: Any, multiply: Apply, multiply_adjoint: Apply) -> None:
        super().__init__(np.dtype(dtype), shape)
        self._multiply, self._multiply_adjoint = multiply, multiply_adjoint

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._multiply(x)

    def _matmat(self, x: np.ndarray) -> np.ndarray:
        return self._multiply(x)

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._multiply_adjoint(x)

    def _rmatmat(self, x: np.ndarray) -> np.ndarray:
        return self._multiply_adjoint(x)
