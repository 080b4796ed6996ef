"""Owns the entropic cost and the Sinkhorn divergence, made of one or three problems; ignores public conventions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from symbolic_matrices.arrays import Array, library_of

from .annealing import epsilon_schedule
from .descent import sinkhorn, sinkhorn_in_float64
from .geometries import Geometry
from .pairs import join_sides, join_solutions, join_values
from .problems import Problem, Solution, Stopping

_START = 0.25  # first temperature, as a distance, in diameters: larger ones tell next to nothing
_HOT = 10.0  # temperatures, in units of the largest cost, from where float32 loses more than two digits
_COARSE = 1e-2  # marginal errors that rounding alone must not leave unsaid


@dataclass(frozen=True)
class Solved:
    """A problem and its solution; values and potentials are part of the graph of PyTorch's tensors."""

    problem: Problem
    solution: Solution
    alone: tuple[Solved, ...] = ()  # the problems of a batch, where each one was solved by itself

    @cached_property
    def value(self) -> Array:
        """Optimal value, in float64."""
        if self.alone:
            return join_values(self.problem, [one.value for one in self.alone])
        if library_of(self.solution.f).name != "torch":
            return self.solution.value
        # PyTorch is optional: this file is only imported for its tensors.
        from .differentiation import attach_value

        return attach_value(self.problem, self.solution)

    @cached_property
    def potentials(self) -> tuple[Array, Array]:
        """Optimal potentials (f, g)."""
        if self.alone:
            return join_sides(self.problem, [one.potentials for one in self.alone])
        if library_of(self.solution.f).name != "torch":
            return self.solution.f, self.solution.g
        from .differentiation import attach_potentials

        return attach_potentials(self.problem, self.solution)


def gather(problem: Problem, alone: tuple[Solved, ...]) -> Solved:
    """A batch, from its problems and their solutions."""
    return Solved(problem, join_solutions(problem, [one.solution for one in alone]), alone)


@dataclass(frozen=True)
class Divergence:
    """OT(a, b), and OT(a, a) and OT(b, b) if debiased."""

    ab: Solved
    aa: Solved | None = None
    bb: Solved | None = None

    @property
    def parts(self) -> tuple[Solved, ...]:
        return tuple(part for part in (self.ab, self.aa, self.bb) if part is not None)

    @cached_property
    def value(self) -> Array:
        """OT(a, b), or the Sinkhorn divergence, in float64.

        S(a, b) = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 + epsilon / 2 (m_a - m_b)^2, for any masses m_a and m_b.
        Source: Sejourne et al., *Sinkhorn divergences for unbalanced optimal transport*, arXiv 1910.12958.
        """
        if self.aa is None or self.bb is None:
            return self.ab.value
        problem = self.ab.problem
        masses = problem.source.mass - problem.target.mass
        return self.ab.value - (self.aa.value + self.bb.value) / 2 + problem.epsilon / 2 * masses**2


@dataclass(frozen=True)
class Annealing:
    """How temperatures decrease, in terms of distances: epsilon follows their p-th powers."""

    scaling: float = 0.5  # ratio between two steps
    diameter: float | None = None  # of both measures together; None: an upper bound


def solve_divergence(
    problem: Problem,
    self_geometries: tuple[Geometry, Geometry] | None,
    annealing: Annealing,
    stopping: Stopping,
) -> Divergence:
    """Solve the problem, and the two symmetric ones if their geometries are given."""
    power = problem.geometry.annealing_power
    largest = problem.geometry.cost_bound if annealing.diameter is None else annealing.diameter**power
    schedule = epsilon_schedule(_START**power * largest, problem.epsilon, annealing.scaling**power)
    solve = _precise_enough(problem)
    ab = Solved(problem, solve(problem, schedule, stopping))
    if self_geometries is None:
        return Divergence(ab)
    # Averaged updates of a symmetric problem at least halve the error each time, at any temperature, when
    # exp(-C / epsilon) is a positive kernel: annealing would only add iterations.
    aa, bb = (
        Solved(p, solve(p, (p.epsilon,), stopping)) for p in symmetric_problems(problem, self_geometries)
    )
    return Divergence(ab, aa, bb)


def _precise_enough(problem: Problem) -> Callable[[Problem, tuple[float, ...], Stopping], Solution]:
    """The loop, in float64 where potentials, of the size of the costs, would be differences of numbers like epsilon."""
    library = library_of(problem.source.weights)
    is_single = library.dtype_name(problem.source.weights) == "float32"
    return (
        sinkhorn_in_float64
        if is_single and problem.epsilon > _HOT * problem.geometry.cost_bound
        else sinkhorn
    )


def symmetric_problems(problem: Problem, geometries: tuple[Geometry, Geometry]) -> list[Problem]:
    """The problems from each measure to itself."""
    sides = zip(geometries, (problem.source, problem.target), problem.penalties, strict=True)
    return [
        replace(
            problem,
            geometry=own,
            source=measure,
            target=measure,
            penalties=(penalty, penalty),
            symmetric=True,
        )
        for own, measure, penalty in sides
    ]


def warn_if_stopped_early(divergence: Divergence, stopping: Stopping, stacklevel: int) -> None:
    """Say so when the iterations ran out, or the digits, before the marginals were right."""
    stopped = [part.solution for part in divergence.parts if part.solution.status == "max_iter"]
    if stopped:
        worst = max(float(solution.error.max()) for solution in stopped)
        warnings.warn(
            f"Sinkhorn's loop stopped after max_iter={stopping.max_iter} iterations with a relative marginal error of "
            f"{worst:.1e}, above tol={stopping.tol:.1e}: raise max_iter, or ask for a larger tol or blur.",
            stacklevel=stacklevel + 1,
        )
    rounded = [float(p.solution.error.max()) for p in divergence.parts if p.solution.status == "rounding"]
    if rounded and max(rounded) > max(_COARSE, stopping.tol):
        weights = divergence.ab.problem.source.weights
        dtype = library_of(weights).dtype_name(weights)
        warnings.warn(
            f"The relative marginal error is {max(rounded):.1e}, as {dtype} has no digits for a smaller one at this "
            "temperature: ask for a larger reg or blur, or for float64.",
            stacklevel=stacklevel + 1,
        )
