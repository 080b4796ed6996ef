"""Owns derivatives in PyTorch: envelope theorem, implicit second order; ignores how problems are solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from .geometries import PointGeometry
from .problems import Problem, Solution

_CG_ITERATIONS = 500


@dataclass(frozen=True)
class Solved:
    """A problem on detached tensors, with its solution."""

    problem: Problem
    solution: Solution

    @cached_property
    def close(self) -> _View:
        """The same problem, as second derivatives see it."""
        if self.solution.look_closely is None:
            return _View(self, ())
        found = self.solution.look_closely()
        return _View(
            Solved(found.problem, found.solution), found.orders[: 1 if self.problem.symmetric else 2]
        )


class _View(NamedTuple):
    """A problem between points in orders of their own, one per side that differs; none: as they were given."""

    solved: Solved
    orders: tuple[Tensor, ...]

    def take(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Tensors of one side after the other, in these orders."""
        if not self.orders:
            return tensors
        return tuple(tensor[self.orders[k % len(self.orders)]] for k, tensor in enumerate(tensors))

    def give_back(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        """Gradients of one side after the other, as their points were given."""
        if not self.orders:
            return gradients
        ranks = [order.argsort() for order in self.orders]
        return [None if g is None else g[ranks[k % len(ranks)]] for k, g in enumerate(gradients)]


def attach_value(problem: Problem, solution: Solution) -> Tensor:
    """The optimal value as a differentiable function of the tensors of ``problem``.

    By the envelope theorem, the gradient of the optimal value is the partial gradient of the dual objective at fixed
    potentials. Second derivatives differentiate the optimality conditions (see ``attach_potentials``).
    """
    if not _needs_graph(problem):
        return solution.value
    result: Tensor = _Value.apply(Solved(problem.detached(), solution), *problem.tensors)
    return result


def attach_potentials(problem: Problem, solution: Solution) -> tuple[Tensor, Tensor]:
    """The optimal potentials (f, g) as differentiable functions of the tensors of ``problem``.

    Implicit function theorem: with D the dual objective, dD/df = dD/dg = 0 at the optimum, so that the pull-back of a
    gradient u on the potentials is that of dD/d(f, g) along w, where -D'' w = u is solved by conjugate gradient.
    """
    if not _needs_graph(problem):
        return solution.f, solution.g
    solved = Solved(problem.detached(), solution)
    f, g = _Potentials.apply(solved, *problem.tensors)
    if not problem.conserves_mass:
        return f, g
    # Constants move freely between f and g: fix them inside the graph, as the loop did.
    source, target = problem.source, problem.target
    shift = (source.integrate(f) - target.integrate(g)) / (source.mass + target.mass)
    shift = shift.to(f.dtype)[..., None]
    return f - shift, g + shift


def dual_value(problem: Problem, f: Tensor, g: Tensor) -> Tensor:
    """The dual objective at any potentials, differentiable in everything, in float64."""
    source, target = problem.source, problem.target
    penalty_a, penalty_b = problem.penalties
    gain = source.integrate(penalty_a.dual(f)) + target.integrate(penalty_b.dual(g))
    if problem.given_mass is not None:
        gain = gain - _price(f, g) * problem.left_behind
    plan_mass = source.integrate(_row_density(problem, f, g))
    return gain - problem.epsilon * (plan_mass - source.mass * target.mass)


def _price(f: Tensor, g: Tensor) -> Tensor:
    """The price of a given mass, where the potentials of the points that leave some behind are."""
    return torch.maximum(f.amax(-1), g.amax(-1)).double()


class _Value(torch.autograd.Function):
    """(tensors of the problem) -> optimal value."""

    @staticmethod
    def forward(ctx: Any, solved: Solved, *tensors: Tensor) -> Tensor:
        ctx.solved = solved
        ctx.save_for_backward(*tensors)
        return torch.as_tensor(solved.solution.value).clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            close = ctx.solved.close
            tensors = close.take(ctx.saved_tensors)
            gradients = close.give_back(_differentiable_gradient(close.solved, tensors, wanted, gradient))
        else:
            gradients = _envelope_gradient(ctx.solved, ctx.saved_tensors, wanted, gradient)
        return (None, *gradients)


class _Potentials(torch.autograd.Function):
    """(tensors of the problem) -> optimal potentials."""

    @staticmethod
    def forward(ctx: Any, solved: Solved, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        ctx.solved = solved
        ctx.save_for_backward(*tensors)
        return solved.solution.f.clone(), solved.solution.g.clone()

    @staticmethod
    def backward(ctx: Any, grad_f: Tensor, grad_g: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "Third derivatives of transport (second derivatives of plans and potentials) are not available: "
                "differentiate values at most twice, plans and potentials once, and drop create_graph=True."
            )
        wanted = ctx.needs_input_grad[1:]
        close = ctx.solved.close
        tensors, slopes = close.take(ctx.saved_tensors), close.take((grad_f, grad_g))
        gradients = _implicit_gradient(close.solved, tensors, wanted, (slopes[0], slopes[1]))
        return (None, *close.give_back(gradients))


def _envelope_gradient(
    solved: Solved, tensors: tuple[Tensor, ...], wanted: tuple[bool, ...], gradient: Tensor
) -> list[Tensor | None]:
    """First order only: one reduction per cloud, with rows that sum to one up to rounding errors."""
    problem, solution = solved.problem, solved.solution
    count = len(problem.geometry.tensors)

    def total(live: tuple[Tensor, ...]) -> Tensor:
        terms = _cost_terms(solved, live[:count]) if any(wanted[:count]) else []
        if any(wanted[count:]):
            terms += [w * h for w, h in zip(live[count:], _weight_gradients(problem, solution), strict=True)]
        return torch.stack([(term.double().sum(-1) * gradient).sum() for term in terms]).sum()

    return _gradient_of(total, tensors, wanted)


def _cost_terms(solved: Solved, live: tuple[Tensor, ...]) -> list[Tensor]:
    """Functions of the geometry whose gradients add up to that of the dual objective: plan marginal times softmin."""
    problem, solution = solved.problem, solved.solution
    epsilon, source, target = problem.epsilon, problem.source, problem.target
    mass_a, mass_b = source.weights * solution.ratio_f, target.weights * solution.ratio_g
    if solution.extensions is not None:
        if problem.symmetric:
            return [_extension_term(solved, 0, live[0], 2 * mass_a)]
        masses = enumerate(zip(live, (mass_a, mass_b), strict=True))
        return [_extension_term(solved, side, x, mass) for side, (x, mass) in masses if x.requires_grad]
    if isinstance(problem.geometry, PointGeometry) and problem.geometry.cost.bilinear:
        return _barycentric_terms(problem, solution, live)
    rows, columns = problem.geometry.replace(live).one_sided()
    if problem.symmetric:  # both sides of the plan are the same, and g has the exact marginal
        mass_a = mass_b if columns is None else 2 * mass_b
    terms = []
    if any(t.requires_grad for t in rows.tensors):
        terms.append(mass_a * rows.softmin(epsilon, target.log_weights + solution.g / epsilon))
    if columns is not None and not problem.symmetric and any(t.requires_grad for t in columns.tensors):
        terms.append(mass_b * columns.softmin(epsilon, source.log_weights + solution.f / epsilon))
    return terms


def _barycentric_terms(problem: Problem, solution: Solution, live: tuple[Tensor, ...]) -> list[Tensor]:
    """The same for squared distances, whose gradients are displacements: one sum per cloud, without any graph."""
    epsilon, source, target = problem.epsilon, problem.source, problem.target
    rows, columns = (
        (measure, potential, ratio, _softmin(solution, k, epsilon))
        for k, (measure, potential, ratio) in enumerate(
            ((source, solution.f, solution.ratio_f), (target, solution.g, solution.ratio_g))
        )
    )
    if problem.symmetric:  # both sides of the plan are the same, and g has the exact marginal
        sides = [(problem.geometry, columns, columns, 2.0)]
    else:
        sides = [(problem.geometry, rows, columns, 1.0), (problem.geometry.T, columns, rows, 1.0)]
    terms = []
    for k, (x, (geometry, own, other, factor)) in enumerate(zip(live, sides, strict=True)):
        if x.requires_grad:
            measure, _, ratio, softmin = own
            if solution.slopes is not None:
                slopes = solution.slopes[k]
            else:
                assert isinstance(geometry, PointGeometry)
                exponents = other[0].log_weights + other[1] / epsilon
                slopes = geometry.slopes(epsilon, softmin, exponents)
            terms.append(factor * measure.weights * ratio * (slopes * x).sum(-1))
    return terms


def _softmin(solution: Solution, side: int, epsilon: float) -> Tensor:
    """What the potential of one side is the proximal step of, about; ratios are clipped far from all other points."""
    if solution.softmins is not None:
        return solution.softmins[side]
    potential, ratio = ((solution.f, solution.ratio_f), (solution.g, solution.ratio_g))[side]
    return potential - epsilon * ratio.log()


def _extension_term(solved: Solved, side: int, x: Tensor, mass: Tensor) -> Tensor:
    """A function of the points of one side, with the gradient of ``mass`` times the softmin of their potential."""
    epsilon, solution = solved.problem.epsilon, solved.solution
    assert solution.extensions is not None
    extension = solution.extensions[side]
    if not extension.geometry.cost.bilinear:
        return mass * extension.softmin(epsilon, x)
    return mass * (extension.gradient(epsilon, x.detach()) * x).sum(-1)


def _weight_gradients(problem: Problem, solution: Solution) -> list[Tensor]:
    """Derivatives of the dual objective with respect to a and b."""
    sides = (
        (problem.penalties[0], solution.f, solution.ratio_f, problem.target.mass),
        (problem.penalties[1], solution.g, solution.ratio_g, problem.source.mass),
    )
    gradients = []
    for penalty, potential, ratio, other_mass in sides:
        mass = other_mass.to(ratio.dtype)[..., None]
        gradients.append(penalty.dual(potential) - problem.epsilon * (ratio - mass))
    if problem.given_mass is not None:
        gradients = [gradient - problem.given_mass.price for gradient in gradients]
    return [gradients[0] + gradients[1]] if problem.symmetric else gradients


def _differentiable_gradient(
    solved: Solved, tensors: tuple[Tensor, ...], wanted: tuple[bool, ...], gradient: Tensor
) -> list[Tensor | None]:
    """Partial gradient of the dual objective, as a function of the tensors both directly and through the potentials."""
    problem = solved.problem.replace(tensors)
    f, g = _Potentials.apply(solved, *tensors)
    aliases = tuple(t.view_as(t) for t in tensors)  # stand for the direct dependence only
    value = (dual_value(problem.replace(aliases), f, g) * gradient).sum()
    return _partial_derivatives(value, aliases, wanted, create_graph=True)


def _implicit_gradient(
    solved: Solved, tensors: tuple[Tensor, ...], wanted: tuple[bool, ...], gradients: tuple[Tensor, Tensor]
) -> list[Tensor | None]:
    """Pull back gradients on the potentials through the optimality conditions."""
    solution = solved.solution
    w_f, w_g = _solve_curvature(solved, gradients)

    def slope(live: tuple[Tensor, ...]) -> Tensor:
        """Derivative of the dual objective along (w_f, w_g), as a function of the tensors."""
        problem = solved.problem.replace(live)
        source, target = problem.source, problem.target
        penalty_a, penalty_b = problem.penalties
        price = 0.0 if problem.given_mass is None else _price_slope(solution, (w_f, w_g))
        gain = source.integrate((w_f - price) * penalty_a.dual_slope(solution.f))
        gain = gain + target.integrate((w_g - price) * penalty_b.dual_slope(solution.g))
        rows = w_f * _row_density(problem, solution.f, solution.g)
        columns = _row_density(problem, solution.f, solution.g, w_g)
        return (gain - source.integrate(rows + columns)).sum()

    return _gradient_of(slope, tensors, wanted)


def _solve_curvature(solved: Solved, gradients: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """(w_f, w_g) such that minus the Hessian of the dual objective maps them to ``gradients``."""
    problem, solution = solved.problem, solved.solution
    epsilon, f, g = problem.epsilon, solution.f, solution.g
    a, b = problem.source.weights, problem.target.weights
    transposed = problem.geometry.T
    split = f.shape[-1]
    marginals = torch.cat([a * solution.ratio_f, b * solution.ratio_g], -1)
    penalty_a, penalty_b = problem.penalties
    curvature = torch.cat([a * penalty_a.dual_curvature(f), b * penalty_b.dual_curvature(g)], -1)
    # Dividing by the square roots of the diagonal makes the system well scaled. Empty points leave it, and so do
    # those at a kink of their penalty, where potentials stay.
    at_kink = ~torch.isfinite(curvature)
    tied = at_kink if problem.given_mass is not None else torch.zeros_like(at_kink)
    moves = (marginals > 0) & (~at_kink | tied)
    curvature = torch.where(at_kink, 0.0, curvature)
    inverse_root = torch.where(moves, marginals, torch.inf).rsqrt()

    def operator(z: Tensor) -> Tensor:
        w = z * inverse_root
        rows = a * problem.geometry.apply_plan(epsilon, f, g, (b * w[..., split:])[..., None])[..., 0]
        columns = b * transposed.apply_plan(epsilon, g, f, (a * w[..., :split])[..., None])[..., 0]
        product = torch.cat([rows, columns], -1) + (marginals - epsilon * curvature) * w
        return product * inverse_root

    right = torch.cat(gradients, -1) * inverse_root * epsilon
    # Constants move freely between f and g where no penalty is curved and no potential is held.
    free = ((curvature == 0) & (moves | (marginals == 0))).all(-1, keepdim=True)
    signs = torch.cat([torch.ones_like(f), -torch.ones_like(g)], -1)
    kernel = torch.where(free, signs * marginals.sqrt(), 0.0)
    if problem.given_mass is None:
        w = _conjugate_gradient(operator, right, _without(kernel)) * inverse_root
    else:
        w = (
            _conjugate_gradient(operator, right, _together(torch.where(tied, marginals.sqrt(), 0.0)))
            * inverse_root
        )
    return w[..., :split], w[..., split:]


Projection: TypeAlias = "Callable[[Tensor], Tensor]"


def _without(kernel: Tensor) -> Projection:
    """The projection on what is orthogonal to a vector, or the identity if it is zero."""
    squared_norm = (kernel * kernel).sum(-1, keepdim=True)
    direction = torch.where(squared_norm > 0, kernel / squared_norm, 0.0)
    return lambda z: z - kernel * (direction * z).sum(-1, keepdim=True)


def _together(tied: Tensor) -> Projection:
    """The projection on what is proportional to a vector, where the latter is positive."""
    direction = tied / (tied * tied).sum(-1, keepdim=True)
    return lambda z: torch.where(tied > 0, tied * (direction * z).sum(-1, keepdim=True), z)


def _conjugate_gradient(operator: Callable[[Tensor], Tensor], right: Tensor, project: Projection) -> Tensor:
    """Solve operator(z) = right for z in the image of ``project``, where the operator is positive definite."""
    right = project(right)
    tolerance = torch.finfo(right.dtype).eps ** 1.5 * (right * right).sum(-1, keepdim=True)
    z, residual = torch.zeros_like(right), right
    direction = residual
    energy = (residual * residual).sum(-1, keepdim=True)
    for _ in range(_CG_ITERATIONS):
        if bool((energy <= tolerance).all()):
            break
        product = project(operator(direction))
        curvature = (direction * product).sum(-1, keepdim=True)
        step = torch.where(curvature > 0, energy / curvature, 0.0)
        z = z + step * direction
        residual = residual - step * product
        new_energy = (residual * residual).sum(-1, keepdim=True)
        direction = residual + torch.where(energy > 0, new_energy / energy, 0.0) * direction
        energy = new_energy
    return z


def _row_density(problem: Problem, f: Tensor, g: Tensor, values: Tensor | None = None) -> Tensor:
    """sum_j exp((f_i + g_j - C_ij) / epsilon) b_j v_j."""
    weights = problem.target.weights if values is None else problem.target.weights * values
    return problem.geometry.apply_plan(problem.epsilon, f, g, weights[..., None])[..., 0]


def _price_slope(solution: Solution, w: tuple[Tensor, Tensor]) -> Tensor:
    """How the price of a given mass moves: with the potentials that stand there, which move together."""
    price = torch.maximum(solution.f.amax(-1, keepdim=True), solution.g.amax(-1, keepdim=True))
    moves = [torch.where(h == price, w_h, 0.0) for h, w_h in zip((solution.f, solution.g), w, strict=True)]
    largest = torch.cat(moves, -1)
    index = largest.abs().argmax(-1, keepdim=True)  # points of no mass do not move
    return largest.gather(-1, index)


def _gradient_of(
    function: Callable[[tuple[Tensor, ...]], Tensor], tensors: tuple[Tensor, ...], wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    with torch.enable_grad():
        live = tuple(t.detach().requires_grad_(w) for t, w in zip(tensors, wanted, strict=True))
        value = function(live)
    return _partial_derivatives(value, live, wanted, create_graph=False)


def _partial_derivatives(
    value: Tensor, tensors: tuple[Tensor, ...], wanted: tuple[bool, ...], *, create_graph: bool
) -> list[Tensor | None]:
    inputs = [t for t, w in zip(tensors, wanted, strict=True) if w]
    found = iter(torch.autograd.grad(value, inputs, create_graph=create_graph, allow_unused=True))
    return [next(found) if w else None for w in wanted]


def _needs_graph(problem: Problem) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in problem.tensors)
