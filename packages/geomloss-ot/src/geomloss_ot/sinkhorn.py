"""Owns the Sinkhorn loop: one for all geometries, penalties and batches; ignores gradients and divergences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from .acceleration import Acceleration
from .geometries import Extension, Geometry, Softmins, softmins
from .measures import Measure
from .penalties import Penalty
from .translations import best_translation

# Rounding leaves a marginal error of about machine precision * (1 + this number * largest cost / epsilon).
_ROUNDING = 0.25

# Updates at each temperature of a coarser problem, at most. They count as one, in view of what they cost.
_COARSE_ITERATIONS = 100

# How many extrapolations may fail before they start again from nothing.
_RETREATS = 5

# Near the solution, the dual objective is flat up to this relative difference, and tells nothing.
_FLAT = 1e-8

# Iterations before better steps are computed: there may be no need for them.
_PATIENCE = 4


class GivenMass(NamedTuple):
    """The mass that a plan must have, and the price, for leaving a unit of mass on one side, that makes it so."""

    mass: float
    price: float


@dataclass(frozen=True)
class Problem:
    """Entropic transport from ``source`` to ``target``.

    min_P <P, C> + epsilon KL(P | a b^T) + penalty_a(P 1 | a) + penalty_b(P^T 1 | b). A ``symmetric`` problem has the
    same measure on both sides, and one potential. If ``given_mass`` is, both penalties are ``Partial`` with its price.
    """

    geometry: Geometry
    source: Measure
    target: Measure
    penalties: tuple[Penalty, Penalty]
    epsilon: float
    symmetric: bool = False
    given_mass: GivenMass | None = None

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
    def unpaid(self) -> Array | float:
        """What the penalties add to the value of a plan of the given mass, and is no part of the problem."""
        if self.given_mass is None:
            return 0.0
        return self.given_mass.price * self.left_behind

    @property
    def left_behind(self) -> Array:
        """What a plan of the given mass leaves on both sides."""
        assert self.given_mass is not None
        return self.source.mass + self.target.mass - 2 * self.given_mass.mass

    @property
    def conserves_mass(self) -> bool:
        """Whether both marginals are constraints: the dual is then blind to f + c, g - c."""
        return all(penalty.ratio_bounds == (1.0, 1.0) for penalty in self.penalties)

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
    """Dual potentials, the marginals of their plan, and how the loop ended."""

    f: Array  # (..., N)
    g: Array  # (..., M)
    ratio_f: Array  # (..., N): row sums of the plan, over a
    ratio_g: Array  # (..., M): column sums of the plan, over b
    value: Array  # (...), float64: the dual objective, a lower bound of the optimum with an error of second order
    error: Array  # (...), float64: relative L1 marginal error of the last but one iterate, not smaller than the last
    n_iter: int
    status: str  # "converged", "rounding" or "max_iter"
    partner: Array | None = None  # (..., M): the potential that f is the Sinkhorn update of; close to g
    extensions: tuple[Extension, Extension] | None = None  # where f and g are updates of coarser potentials
    slopes: tuple[Array, Array] | None = (
        None  # (..., N, D), (..., M, D): derivatives of their softmins, if asked for
    )


# From potentials (f, g), what maps residuals to steps that take more of the problem into account.
Linearize = Callable[[Array, Array], "Callable[[Array], Array] | None"]


@dataclass(frozen=True)
class Means:
    """What solvers work with: slopes where they are cheap and asked for, better steps where some are known."""

    slopes: bool = False
    linearize: Linearize | None = None


class _Step(NamedTuple):
    """One application of the fixed-point map: ``state`` is f for symmetric problems and g for others."""

    f: Array
    g: Array
    partner: Array  # (..., M): what f is the Sinkhorn update of; f itself in symmetric problems
    ratio_f: Array
    ratio_g: Array
    residual: Array  # map(state) - state
    error: Array


class _Ascent(NamedTuple):
    """What accelerated iterations remember."""

    value: Array  # (...): the highest dual objective
    image: Array  # (..., M): the Sinkhorn update of the state that reached it
    acceleration: Acceleration
    retreats: int = 0  # how many times the objective has been lower since it last rose


def sinkhorn(problem: Problem, schedule: tuple[float, ...], stopping: Stopping) -> Solution:
    """Anneal along ``schedule``, then iterate at its last temperature until the marginals are right.

    One update per temperature (or the solution of a coarser problem), then accelerated ones: what annealing leaves
    behind shrinks too slowly by itself, and a result must depend on the problem, not on the schedule.
    """
    library = library_of(problem.source.weights)
    means = Means(slopes=any(library.needs_gradient(t) for t in problem.geometry.tensors))
    problem = problem.detached()
    if (
        library.name == "torch"
        and problem.geometry.takes_any_library
        and library.device(problem.tensors[0]) == "cpu"
    ):
        # Views of the same memory: between two reductions, NumPy's small operations start in a tenth of the time of
        # PyTorch's, whose threads also wait for the cores that the reductions use.
        hosted = problem.replace(tuple(tensor.numpy() for tensor in problem.tensors))
        return to_tensors(_anneal(hosted, schedule, stopping, means), library.namespace.from_numpy)
    return _anneal(problem, schedule, stopping, means)


def sinkhorn_in_float64(problem: Problem, schedule: tuple[float, ...], stopping: Stopping) -> Solution:
    """The same, in double precision, for problems in float32 whose digits are lost on the way."""
    library, weights = library_of(problem.source.weights), problem.source.weights
    dtype = library.dtype_name(weights)
    wide = problem.detached()
    wide = wide.replace(tuple(library.astype(tensor, "float64") for tensor in wide.tensors))
    found = sinkhorn(wide, schedule, stopping)
    names = ("f", "g", "ratio_f", "ratio_g", "partner")
    arrays = {name: getattr(found, name) for name in names}
    return replace(
        found, **{name: library.astype(array, dtype) for name, array in arrays.items() if array is not None}
    )


def _anneal(problem: Problem, schedule: tuple[float, ...], stopping: Stopping, means: Means) -> Solution:
    steps = schedule[:-1][: max(stopping.max_iter - 1, 0)]
    scales = _scales(problem) if steps else ()
    coarse_stopping = Stopping(stopping.tol, min(stopping.max_iter, _COARSE_ITERATIONS))
    current, state = problem, None
    for iteration, epsilon in enumerate(steps):
        scale = next((scale for scale, resolution in scales if resolution <= epsilon), problem)
        scale = replace(scale, epsilon=epsilon)
        if state is None:
            state = _first_state(scale, Softmins(scale.geometry, epsilon))
        elif scale.geometry is not current.geometry:
            state = _refined(replace(current, epsilon=epsilon), scale, state)
        current = scale
        if scale.geometry is problem.geometry:
            step = _fixed_point_step(scale, state, Softmins(scale.geometry, epsilon))
            state, error = state + step.residual, step.error
        else:
            # Small problems may as well be solved: what they leave behind shrinks slowly on the large one.
            solution = converge(scale, state, coarse_stopping, 0)
            state, error = solution.g, solution.error
        _report(stopping, iteration + 1, epsilon, error)
    if state is not None and current.geometry is not problem.geometry:
        state = _refined(replace(current, epsilon=problem.epsilon), problem, state)
    return converge(problem, state, stopping, len(steps), means)


def _scales(problem: Problem) -> tuple[tuple[Problem, float], ...]:
    """Coarser versions of a problem, the coarsest first, and the lowest temperature that each one can see."""
    found: list[tuple[Problem, float]] = []
    coarsening = problem.geometry.coarsen()
    while coarsening is not None:
        source = Measure(coarsening.pool_rows(problem.source.weights))
        target = Measure(coarsening.pool_columns(problem.target.weights))
        problem = replace(problem, geometry=coarsening.geometry, source=source, target=target)
        found.append((problem, coarsening.resolution))
        coarsening = problem.geometry.coarsen()
    return tuple(reversed(found))


def _refined(coarse: Problem, fine: Problem, state: Array) -> Array:
    """The Sinkhorn update of the fine columns, seen from the coarse rows."""
    f = _fixed_point_step(coarse, state, Softmins(coarse.geometry, coarse.epsilon)).f
    geometry = fine.geometry.T.with_columns_of(coarse.geometry.T)
    softmin = geometry.softmin(coarse.epsilon, coarse.source.log_weights + f / coarse.epsilon)
    return fine.penalties[1].proximal(softmin, coarse.epsilon)


def to_tensors(solution: Solution, convert: Callable[[np.ndarray], Array]) -> Solution:
    """A solution in NumPy's arrays, in those of another library."""
    names = ("f", "g", "ratio_f", "ratio_g", "value", "error", "partner")
    arrays = {name: getattr(solution, name) for name in names}
    found = {name: convert(np.asarray(array)) for name, array in arrays.items() if array is not None}
    extensions = solution.extensions
    if extensions is not None:
        extensions = extensions[0].to_tensors(convert), extensions[1].to_tensors(convert)
    slopes = solution.slopes and (convert(solution.slopes[0]), convert(solution.slopes[1]))
    return replace(solution, extensions=extensions, slopes=slopes, **found)


def converge(
    problem: Problem, state: Array | None, stopping: Stopping, done: int, means: Means | None = None
) -> Solution:
    """Accelerated fixed-point iterations at the final temperature."""
    means = means or Means()
    repeated = softmins(problem.geometry, problem.epsilon, symmetric=problem.symmetric)
    if state is None:
        state = _first_state(problem, repeated)
    ascent, floor = None, _rounding_error(problem, state)
    direction, start = None, done
    while True:
        step = _fixed_point_step(problem, state, repeated)
        done += 1
        _report(stopping, done, problem.epsilon, step.error)
        if not problem.conserves_mass:  # potentials are of the size of the penalties where masses differ
            floor = _rounding_error(problem, step.g)
        # Where no digit of a potential is of the order of the temperature, steps of zero mean nothing.
        if floor >= 1:
            step = step._replace(error=library_of(state).namespace.ones_like(step.error))
        worst = float(step.error.max())
        if worst <= max(stopping.tol, floor) or done >= stopping.max_iter:
            break
        if means.linearize is not None and done == start + _PATIENCE:
            direction, ascent = means.linearize(step.f, step.g), None
        move = step.residual if direction is None else direction(step.residual)
        state, ascent = _next_state(problem, (state, step, move), ascent, floor)
    status = "converged" if worst <= stopping.tol else "rounding" if worst <= floor else "max_iter"
    solution = _solution(problem, step, done, status)
    if means.slopes:
        exponents = (
            measure.log_weights + potential / problem.epsilon
            for measure, potential in ((problem.source, solution.f), (problem.target, solution.g))
        )
        solution = replace(solution, slopes=repeated.slopes(*exponents))
    repeated.close()
    return solution


def _next_state(
    problem: Problem, point: tuple[Array, _Step, Array], ascent: _Ascent | None, floor: float
) -> tuple[Array, _Ascent]:
    """An extrapolation of the past states, or, where the last one went too far, half the way back.

    Extrapolations overshoot far from the solution, between masses that hardly feel each other; the dual objective,
    which Sinkhorn updates never decrease, tells.
    """
    state, step, move = point
    xp = library_of(state).namespace
    value, image = _dual_value(problem, step), state + step.residual
    if ascent is None:
        ascent = _Ascent(value, image, Acceleration(problem.target.weights))
    higher = value >= ascent.value - problem.epsilon * floor - _FLAT * abs(ascent.value)
    rises = bool((value > ascent.value + _FLAT * abs(ascent.value)).any())
    retreats = 0 if rises else ascent.retreats
    if not bool(higher.all()):
        ascent.acceleration.forget()
        retreats += 1
    value, image = xp.where(higher, value, ascent.value), xp.where(higher[..., None], image, ascent.image)
    ascent = ascent._replace(value=value, image=image, retreats=retreats)
    if retreats > _RETREATS:
        # Extrapolations lead nowhere: take the update of the best state, and start again.
        ascent.acceleration.forget()
        return image, ascent._replace(retreats=0)
    bold = ascent.acceleration.extrapolate(state, move)
    # Extrapolations go anywhere: where the domain of the dual holds them in place, take the Sinkhorn update.
    bold = problem.penalties[1].project(bold)
    bold = xp.where((bold == state).all(-1)[..., None], state + step.residual, bold)
    return xp.where(higher[..., None], bold, (state + ascent.image) / 2), ascent


def _dual_value(problem: Problem, step: _Step) -> Array:
    """The dual objective, in float64. Since g is an exact proximal step, the mass of the plan needs no reduction."""
    source, target = problem.source, problem.target
    penalty_a, penalty_b = problem.penalties
    gain = source.integrate(penalty_a.dual(step.f)) + target.integrate(penalty_b.dual(step.g))
    return gain - problem.epsilon * (target.integrate(step.ratio_g) - source.mass * target.mass)


def row_marginal(problem: Problem, f: Array, g: Array) -> Array:
    """Row sums of the plan a_i b_j exp((f_i + g_j - C_ij) / epsilon)."""
    values = problem.target.weights[..., None]
    return problem.source.weights * problem.geometry.apply_plan(problem.epsilon, f, g, values)[..., 0]


def _first_state(problem: Problem, softmins: Softmins) -> Array:
    """The potential of very large temperatures, where the plan is the product of the measures."""
    return problem.penalties[1].proximal(softmins.over_rows(problem.source.log_weights), problem.epsilon) / 2


def _fixed_point_step(problem: Problem, state: Array, softmins: Softmins) -> _Step:
    """f from g, then g from the new f; in the symmetric case, the average of f and its update."""
    epsilon, (penalty_a, penalty_b) = problem.epsilon, problem.penalties
    softmin_f = softmins.over_columns(problem.target.log_weights + state / epsilon)
    f, softmin_g, partner = state, softmin_f, state
    if not problem.symmetric:
        f = penalty_a.proximal(softmin_f, epsilon)
        shift = best_translation((problem.source, penalty_a, f), (problem.target, penalty_b, state))
        # Proximal steps stay at the kinks of the penalty: translate what they start from.
        softmin_f, partner = softmin_f + shift, state - shift
        f = penalty_a.proximal(softmin_f, epsilon)
        softmin_g = softmins.over_rows(problem.source.log_weights + f / epsilon)
    g = penalty_b.proximal(softmin_g, epsilon)
    ratio_f, ratio_g = plan_ratio(f, softmin_f, epsilon), plan_ratio(g, softmin_g, epsilon)
    # Relative L1 distance between the marginal of the plan of f and its partner and the one that the penalty asks for.
    difference = abs(plan_ratio(partner, softmin_g, epsilon) - ratio_g)
    error = problem.target.integrate(difference) / problem.target.integrate(ratio_g)
    residual = (g - state) / 2 if problem.symmetric else g - state
    return _Step(f, g, partner, ratio_f, ratio_g, residual, error)


def plan_ratio(potential: Array, softmin: Array, epsilon: float) -> Array:
    """Marginal of the plan over the weights. The bound keeps a wild extrapolation from overflowing."""
    xp = library_of(potential).namespace
    if potential is softmin:  # balanced transport
        return xp.ones_like(potential)
    return xp.exp(xp.clip((potential - softmin) / epsilon, -80.0, 80.0))


def _solution(problem: Problem, step: _Step, n_iter: int, status: str) -> Solution:
    f, g, partner, value = step.f, step.g, step.partner, _dual_value(problem, step)
    if problem.conserves_mass and not problem.symmetric:
        # Constants move freely between f and g: give both potentials the same mean.
        source, target = problem.source, problem.target
        shift = (source.integrate(f) - target.integrate(g)) / (source.mass + target.mass)
        shift = library_of(f).astype(shift, library_of(f).dtype_name(f))[..., None]
        f, g, partner = f - shift, g + shift, partner + shift
    return Solution(f, g, step.ratio_f, step.ratio_g, value, step.error, n_iter, status, partner)


def _rounding_error(problem: Problem, potential: Array) -> float:
    """The marginal error below which this precision cannot go."""
    library = library_of(problem.source.weights)
    digits = float(library.namespace.finfo(problem.source.weights.dtype).eps)
    largest = problem.geometry.cost_bound
    if not problem.conserves_mass:
        largest = max(largest, float(abs(potential).max()))
    return digits * (1 + _ROUNDING * largest / problem.epsilon)


def _report(stopping: Stopping, iteration: int, epsilon: float, error: Array) -> None:
    if stopping.callback is not None:
        stopping.callback(Progress(iteration, epsilon, float(error.max())))
