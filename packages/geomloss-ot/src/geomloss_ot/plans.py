"""Owns the forms of a transport plan that are no dense array: an operator, and its large entries."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from symbolic_matrices.arrays import Array, find_library, library_of

from .problems import Problem

_BLOCK = 10_000_000  # entries of a plan that are looked at together


@dataclass(frozen=True)
class PlanOperator:
    """A transport plan (..., N, M) that multiplies vectors and matrices, in memory linear in N + M.

    ``plan @ v`` takes v (..., M) or (..., M, E), or (M,) for any number of problems, and ``plan.T`` is the transposed
    plan. With PyTorch, products are differentiable.
    """

    problem: Problem
    f: Array
    g: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., N, M)."""
        return self.problem.geometry.shape

    @property
    def T(self) -> PlanOperator:
        """The plan from target to source."""
        return PlanOperator(self.problem.T, self.g, self.f)

    def __matmul__(self, values: Array) -> Array:
        """sum_j P_ij v_j."""
        a, b = self.problem.source.weights, self.problem.target.weights
        library, given = library_of(b), find_library(values)
        if library is not given:
            raise ValueError(
                f"A plan of {library.name} arrays cannot multiply a {given.name if given else type(values).__name__}: "
                "convert one of them."
            )
        is_vector = values.ndim <= b.ndim and tuple(values.shape[-1:]) == tuple(b.shape[-1:])
        columns = values[..., None] if is_vector else values
        if columns.ndim < 2 or columns.shape[-2] != self.shape[-1]:
            raise ValueError(
                f"A plan of shape {self.shape} cannot multiply an array of shape {tuple(values.shape)}: expected "
                f"{self.shape[-1]} values, or ({self.shape[-1]}, E)."
            )
        sums = self.problem.geometry.apply_plan(self.problem.epsilon, self.f, self.g, b[..., None] * columns)
        moved = a[..., None] * sums
        return moved[..., 0] if is_vector else moved


def sparse_plan(problem: Problem, f: Array, g: Array, threshold: float) -> Any:
    """The entries P_ij of a plan that are above ``threshold`` times max(a_i, b_j), as a SciPy CSR matrix."""
    n, m = problem.geometry.shape[-2:]
    if not isinstance(threshold, numbers.Real) or not 0 <= threshold < 1:
        raise ValueError(
            f"threshold={threshold!r}: expected a number in [0, 1), a part of the largest of both weights."
        )
    if len(problem.geometry.shape) > 2:
        raise ValueError(
            f"A sparse plan has two dimensions, and this result has shape {problem.geometry.shape}: solve one problem."
        )
    a, b = (_host(side.weights) for side in (problem.source, problem.target))
    step, blocks = max(1, _BLOCK // m), []
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        plan = a[rows, None] * _host(problem.geometry.density(problem.epsilon, f, g, rows)) * b
        large = plan > threshold * np.maximum(a[rows, None], b)
        blocks.append(sparse.csr_matrix(np.where(large, plan, 0.0)))
    return sparse.vstack(blocks, format="csr")


def _host(array: Array) -> np.ndarray:
    array = library_of(array).detach(array)
    if library_of(array).name == "cupy":
        return np.asarray(array.get())
    return np.asarray(array.cpu() if library_of(array).name == "torch" else array)
