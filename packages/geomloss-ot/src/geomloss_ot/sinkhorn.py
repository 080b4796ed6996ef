"""Owns the Sinkhorn loop: one for all geometries, penalties and batches; ignores gradients and divergences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from symbolic_matrices.arrays import Array, library_of

from . import acceleration
from .geometries import Geometry
from .measures import Measure
from .penalties import Penalty

# Rounding leaves a marginal error of about machine precision * (1 + this number * largest cost / epsilon).
_ROUNDING = 0.25


@dataclass(frozen=True)
class Problem:
    """Entropic transport from ``source`` to ``target``.

    min_P <P, C> + epsilon KL(P | a b^T) + penalty_a(P 1 | a) + penalty_b(P^T 1 | b). A ``symmetric`` problem has the
    same measure on both sides, and one potential.
    """

    geometry: Geometry
    source: Measure
    target: Measure
    penalties: tuple[Penalty, Penalty]
    epsilon: float
    symmetric: bool = False

    @property
    def T(self) -> Problem:
        """The same problem, from target to source."""
        penalty_a, penalty_b = self.penalties
        return replace(
            self,
            geometry=self.geometry.T,
            source=self.target,
            target=self.source,
            penalties=(penalty_b, penalty_a),
        )

    @property
    def conserves_mass(self) -> bool:
        """Whether both marginals are constraints: the dual is then blind to f + c, g - c."""
        return all(penalty.conserves_mass for penalty in self.penalties)

    @property
    def tensors(self) -> tuple[Array, ...]:
        """The arrays that the value depends upon: geometry, then weights."""
        weights = (self.source.weights,) if self.symmetric else (self.source.weights, self.target.weights)
        return (*self.geometry.tensors, *weights)

    def replace(self, tensors: tuple[Array, ...]) -> Problem:
        """The same problem on other arrays."""
        count = len(self.geometry.tensors)
        source = Measure(tensors[count])
        target = source if self.symmetric else Measure(tensors[count + 1])
        return replace(self, geometry=self.geometry.replace(tensors[:count]), source=source, target=target)

    def detached(self) -> Problem:
        """The same problem, outside of any differentiation graph."""
        return self.replace(tuple(library_of(t).detach(t) for t in self.tensors))


class Progress(NamedTuple):
    """What a callback sees after each iteration."""

    iteration: int
    epsilon: float
    marginal_error: float


@dataclass(frozen=True)
class Stopping:
    """When to stop: relative L1 error of the marginals at the final temperature, total number of iterations."""

    tol: float
    max_iter: int
    callback: Callable[[Progress], None] | None = None


@dataclass(frozen=True)
class Solution:
    """Dual potentials, with the softmins that they are the proximal steps of, and how the loop ended."""

    f: Array  # (..., N)
    g: Array  # (..., M)
    softmin_f: Array  # (..., N)
    softmin_g: Array  # (..., M)
    error: Array  # (...), float64: relative L1 marginal error of the last but one iterate, not smaller than the last
    n_iter: int
    status: str  # "converged", "rounding" or "max_iter"


class _Step(NamedTuple):
    """One application of the fixed-point map: ``state`` is f for symmetric problems and g for others."""

    f: Array
    g: Array
    softmin_f: Array
    softmin_g: Array
    residual: Array  # map(state) - state
    error: Array


def sinkhorn(problem: Problem, schedule: tuple[float, ...], stopping: Stopping) -> Solution:
    """Anneal along ``schedule``, then iterate at its last temperature until the marginals are right.

    Annealing uses averaged updates, which treat both measures alike. The last temperature uses alternate updates
    under Anderson acceleration: what annealing leaves behind shrinks too slowly by itself, and a result must depend
    on the problem, not on the schedule.
    """
    problem = problem.detached()
    f, g = _first_potentials(problem, schedule[0])
    steps = schedule[:-1][: max(stopping.max_iter - 1, 0)]
    for iteration, epsilon in enumerate(steps):
        step = _averaged_step(problem, f, g, epsilon)
        f, g = step.f, step.g
        _report(stopping, iteration + 1, epsilon, step.error)
    return _converge(problem, f if problem.symmetric else g, stopping, len(steps))


def solution_value(problem: Problem, solution: Solution) -> Array:
    """The dual objective, in float64: a lower bound of the optimal value, with an error of second order.

    Since g is an exact proximal step, the mass of the plan needs no other reduction.
    """
    problem = problem.detached()
    source, target = problem.source, problem.target
    penalty_a, penalty_b = problem.penalties
    gain = source.integrate(penalty_a.dual(solution.f)) + target.integrate(penalty_b.dual(solution.g))
    xp = library_of(solution.g).namespace
    plan_mass = target.integrate(xp.exp((solution.g - solution.softmin_g) / problem.epsilon))
    return gain - problem.epsilon * (plan_mass - source.mass * target.mass)


def row_marginal(problem: Problem, f: Array, g: Array) -> Array:
    """Row sums of the plan a_i b_j exp((f_i + g_j - C_ij) / epsilon)."""
    values = problem.target.weights[..., None]
    return problem.source.weights * problem.geometry.apply_plan(problem.epsilon, f, g, values)[..., 0]


def _converge(problem: Problem, state: Array, stopping: Stopping, done: int) -> Solution:
    """Accelerated fixed-point iterations at the final temperature."""
    floor = _rounding_error(problem)
    target = max(stopping.tol, floor)
    weights = problem.target.weights
    history: acceleration.History = ()
    best = float("inf")
    while True:
        step = _alternate_step(problem, state)
        done += 1
        worst = float(step.error.max())
        _report(stopping, done, problem.epsilon, step.error)
        if worst <= target or done >= stopping.max_iter:
            break
        if not worst < 2 * best:  # the extrapolation did harm: forget where it came from
            history = ()
        best = min(best, worst)
        history = (*history[-acceleration.MEMORY :], (state, step.residual))
        state = acceleration.extrapolate(history, weights)
    status = "max_iter" if worst > target else "converged" if worst <= stopping.tol else "rounding"
    return _solution(problem, step, done, status)


def _first_potentials(problem: Problem, epsilon: float) -> tuple[Array, Array]:
    """The potentials of very large temperatures, where the plan is the product of the measures."""
    geometry, (penalty_a, penalty_b) = problem.geometry, problem.penalties
    f = penalty_a.proximal(geometry.softmin(epsilon, problem.target.log_weights), epsilon)
    if problem.symmetric:
        return f / 2, f / 2
    g = penalty_b.proximal(geometry.T.softmin(epsilon, problem.source.log_weights), epsilon)
    return f, g


def _averaged_step(problem: Problem, f: Array, g: Array, epsilon: float) -> _Step:
    """Both potentials updated from the old ones, then averaged with them."""
    step = _both_softmins(problem, f, g, epsilon)
    return step._replace(f=(f + step.f) / 2, g=(g + step.g) / 2)


def _both_softmins(problem: Problem, f: Array, g: Array, epsilon: float) -> _Step:
    softmin_f = problem.geometry.softmin(epsilon, problem.target.log_weights + g / epsilon)
    softmin_g = softmin_f
    if not problem.symmetric:
        softmin_g = problem.geometry.T.softmin(epsilon, problem.source.log_weights + f / epsilon)
    new_f = problem.penalties[0].proximal(softmin_f, epsilon)
    new_g = problem.penalties[1].proximal(softmin_g, epsilon)
    error = _marginal_error(problem.target, g, new_g, softmin_g, epsilon)
    return _Step(new_f, new_g, softmin_f, softmin_g, new_g - g, error)


def _alternate_step(problem: Problem, state: Array) -> _Step:
    """f from g, then g from the new f; in the symmetric case, the average of f and its update."""
    epsilon = problem.epsilon
    if problem.symmetric:
        step = _both_softmins(problem, state, state, epsilon)
        return step._replace(f=state, residual=step.residual / 2)
    softmin_f = problem.geometry.softmin(epsilon, problem.target.log_weights + state / epsilon)
    f = problem.penalties[0].proximal(softmin_f, epsilon)
    softmin_g = problem.geometry.T.softmin(epsilon, problem.source.log_weights + f / epsilon)
    g = problem.penalties[1].proximal(softmin_g, epsilon)
    error = _marginal_error(problem.target, state, g, softmin_g, epsilon)
    return _Step(f, g, softmin_f, softmin_g, g - state, error)


def _marginal_error(measure: Measure, old: Array, new: Array, softmin: Array, epsilon: float) -> Array:
    """Relative L1 distance between the marginal of the plan of ``old`` and the one that the penalty asks for."""
    xp = library_of(old).namespace
    # The bound keeps a wild extrapolation from overflowing; such an error is above one anyway.
    actual = xp.exp(xp.clip((old - softmin) / epsilon, -80.0, 80.0))
    wanted = xp.exp(xp.clip((new - softmin) / epsilon, -80.0, 80.0))
    return measure.integrate(abs(actual - wanted)) / measure.integrate(wanted)


def _solution(problem: Problem, step: _Step, n_iter: int, status: str) -> Solution:
    f, g, softmin_f, softmin_g = step.f, step.g, step.softmin_f, step.softmin_g
    if problem.conserves_mass and not problem.symmetric:
        # Constants move freely between f and g: give both potentials the same mean.
        source, target = problem.source, problem.target
        shift = (source.integrate(f) - target.integrate(g)) / (source.mass + target.mass)
        shift = library_of(f).astype(shift, library_of(f).dtype_name(f))[..., None]
        f, g, softmin_f, softmin_g = f - shift, g + shift, softmin_f - shift, softmin_g + shift
    return Solution(f, g, softmin_f, softmin_g, step.error, n_iter, status)


def _rounding_error(problem: Problem) -> float:
    """The marginal error below which this precision cannot go."""
    library = library_of(problem.source.weights)
    digits = float(library.namespace.finfo(problem.source.weights.dtype).eps)
    return digits * (1 + _ROUNDING * problem.geometry.cost_bound / problem.epsilon)


def _report(stopping: Stopping, iteration: int, epsilon: float, error: Array) -> None:
    if stopping.callback is not None:
        stopping.callback(Progress(iteration, epsilon, float(error.max())))
