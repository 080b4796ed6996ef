"""Owns what a solver returns: frozen, computed on demand; ignores how the problem was solved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from symbolic_matrices.arrays import Array, library_of

from .certificates import Certificate
from .divergences import Divergence
from .multiscale import certify_points
from .pairs import worst_status
from .plans import PlanOperator, sparse_plan
from .problems import Problem, row_marginal

MAX_DENSE_ENTRIES = 100_000_000

_CITATION = """\
@inproceedings{feydy2019interpolating,
  title={Interpolating between optimal transport and {MMD} using {Sinkhorn} divergences},
  author={Feydy, Jean and S{\\'e}journ{\\'e}, Thibault and Vialard, Fran{\\c{c}}ois-Xavier and Amari, Shun-ichi
          and Trouv{\\'e}, Alain and Peyr{\\'e}, Gabriel},
  booktitle={AISTATS},
  year={2019}
}"""


@dataclass(frozen=True, repr=False)
class OTResult:
    """Solution of an entropic transport problem; everything but the potentials is computed when first read.

    With PyTorch, all the attributes but ``certificate``, ``n_iter`` and ``status`` are differentiable functions of
    the points (or costs) and of the weights: values twice, plans, maps and potentials once.

    Shapes are written for one problem between N and M points; batches come first. For images, N and M stand for their
    shapes, but in ``plan``, ``density`` and ``lazy_plan``, whose pixels stand in C order.
    """

    divergence: Divergence
    centre: Array | None = None  # what was subtracted from the points, (D,)
    grids: tuple[tuple[int, ...], tuple[int, ...]] | None = (
        None  # sizes of the images, where supports are grids
    )

    @property
    def _problem(self) -> Problem:
        return self.divergence.ab.problem

    @cached_property
    def value(self) -> Array:
        """Optimal value, entropy and penalties included: OT(a, b), or the Sinkhorn divergence when debiased."""
        return self._as_input(self.divergence.value)

    @cached_property
    def value_linear(self) -> Array:
        """Transport cost of the plan alone, <P, C>."""
        problem, (f, g) = self._problem, self.potentials
        b = problem.target.weights[..., None]
        costs = problem.geometry.apply_plan_cost(problem.epsilon, f, g, b)[..., 0]
        return self._as_input(problem.source.integrate(costs))

    @property
    def potentials(self) -> tuple[Array, Array]:
        """Dual potentials (f, g) of OT(a, b), debiased or not: the plan is a_i b_j exp((f_i + g_j - C_ij) / eps)."""
        return self.divergence.ab.potentials

    @property
    def potential_a(self) -> Array:
        """Dual potential f of the source points: (N,)."""
        return self._shaped(self.potentials[0], 0)

    @property
    def potential_b(self) -> Array:
        """Dual potential g of the target points: (M,)."""
        return self._shaped(self.potentials[1], 1)

    @property
    def potential_aa(self) -> Array | None:
        """Dual potential of OT(a, a), if debiased: (N,)."""
        return None if self.divergence.aa is None else self._shaped(self.divergence.aa.potentials[0], 0)

    @property
    def potential_bb(self) -> Array | None:
        """Dual potential of OT(b, b), if debiased: (M,)."""
        return None if self.divergence.bb is None else self._shaped(self.divergence.bb.potentials[0], 1)

    @cached_property
    def plan(self) -> Array:
        """Transport plan, dense: (N, M). A ValueError above 1e8 entries: see ``lazy_plan``."""
        a, b = self._problem.source.weights, self._problem.target.weights
        return a[..., :, None] * self.density * b[..., None, :]

    @cached_property
    def density(self) -> Array:
        """Density of the plan with respect to the product of the measures, dense: (N, M)."""
        shape = self._problem.geometry.shape
        if math.prod(shape) > MAX_DENSE_ENTRIES:
            raise ValueError(
                f"A dense plan of shape {shape} has {math.prod(shape):.1e} entries, above the limit of "
                f"{MAX_DENSE_ENTRIES:.0e}: use lazy_plan (products, sums), a_to_b (maps) or marginal_a."
            )
        return self._problem.geometry.density(self._problem.epsilon, *self.potentials)

    @property
    def lazy_plan(self) -> Any:
        """Transport plan as a LazyTensor (N, M), never stored: supports products with vectors and reductions."""
        from symbolic_matrices import LazyTensor

        problem = self._problem
        a = LazyTensor(problem.source.weights[..., :, None, None])
        b = LazyTensor(problem.target.weights[..., None, :, None])
        return a * problem.geometry.lazy_density(problem.epsilon, *self.potentials) * b

    @property
    def plan_operator(self) -> PlanOperator:
        """Transport plan as an operator: ``plan_operator @ v`` and ``plan_operator.T @ u``, for any kind of support."""
        return PlanOperator(self._problem, *self.potentials)

    def sparse_plan(self, threshold: float = 1e-6) -> Any:
        """The entries of the plan above ``threshold`` times max(a_i, b_j), as a SciPy CSR matrix (N, M).

        All pairs are looked at, block after block: time is quadratic, memory is not.
        """
        return sparse_plan(
            self._problem.detached(), self.divergence.ab.solution.f, self.divergence.ab.solution.g, threshold
        )

    @cached_property
    def marginal_a(self) -> Array:
        """Row sums of the plan: (N,)."""
        return self._shaped(row_marginal(self._problem, *self.potentials), 0)

    @cached_property
    def marginal_b(self) -> Array:
        """Column sums of the plan: (M,)."""
        return self._shaped(row_marginal(self._problem.T, *reversed(self.potentials)), 1)

    @property
    def marginals(self) -> tuple[Array, Array]:
        """Row sums and column sums of the plan."""
        return self.marginal_a, self.marginal_b

    @property
    def mapped_mass_a(self) -> Array:
        """Mass that leaves each source point; differs from its weight when mass is not conserved: (N,)."""
        return self.marginal_a

    @property
    def mapped_mass_b(self) -> Array:
        """Mass that reaches each target point: (M,)."""
        return self.marginal_b

    @cached_property
    def a_to_b(self) -> Array:
        """Barycentric map: for each source point, the mean of the target points under its row of the plan: (N, D)."""
        return self._shaped(self._barycentric_map(self._problem, *self.potentials), 0, 1)

    @cached_property
    def b_to_a(self) -> Array:
        """Barycentric map from the target points to the source: (M, D)."""
        return self._shaped(self._barycentric_map(self._problem.T, *reversed(self.potentials)), 1, 1)

    @cached_property
    def certificate(self) -> Certificate:
        """Marginal errors and duality gap of OT(a, b), measured on the result itself.

        Between many points and for squared distances, without the pairs where the density of the plan is proved to be
        below exp(-16): all of what they may hold is part of the errors and of the gap.
        """
        return certify_points(self._problem.detached(), self.divergence.ab.solution)

    @property
    def n_iter(self) -> int:
        """Number of Sinkhorn iterations, annealing included; the largest one of the three problems, if debiased."""
        return max(part.solution.n_iter for part in self.divergence.parts)

    @property
    def status(self) -> str:
        """How the loop ended.

        - ``"converged"``: the marginal errors are below ``tol``;
        - ``"rounding"``: they reached the precision of the dtype, which is above ``tol``;
        - ``"max_iter"``: neither.
        """
        return worst_status([part.solution for part in self.divergence.parts])

    @property
    def citation(self) -> str:
        """The article to cite, in BibTeX."""
        return _CITATION

    def __repr__(self) -> str:
        shape, epsilon = self._problem.geometry.shape, self._problem.epsilon
        return f"OTResult(shape={shape}, epsilon={epsilon:.3g}, status={self.status!r}, n_iter={self.n_iter})"

    def _as_input(self, values: Array) -> Array:
        weights = self._problem.source.weights
        library = library_of(weights)
        return library.convert(values, library.dtype_name(weights), library.device(weights))

    def _barycentric_map(self, problem: Problem, f: Array, g: Array) -> Array:
        b = problem.target.weights[..., None]
        y = problem.geometry.T.row_points(b)
        xp = library_of(b).namespace
        sums = problem.geometry.apply_plan(problem.epsilon, f, g, xp.concatenate([b * y, b], -1))
        means = sums[..., :-1] / sums[..., -1:]
        return means if self.centre is None else means + self.centre

    def _shaped(self, values: Array, side: int, trailing: int = 0) -> Array:
        """Values (..., N), or (..., N, D) with one trailing dimension, in the shape of the support."""
        if self.grids is None:
            return values
        split = values.ndim - 1 - trailing
        return values.reshape(*values.shape[:split], *self.grids[side], *values.shape[split + 1 :])
