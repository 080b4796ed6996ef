"""Owns partial transport of a given mass: the search for the price that makes a plan move it; ignores conventions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from symbolic_matrices.arrays import library_of

from .annealing import epsilon_schedule
from .descent import sinkhorn
from .divergences import Divergence, Solved
from .penalties import Balanced, Partial, Penalty, Range
from .problems import GivenMass, Problem, Solution, Stopping
from .sinkhorn import converge

_SCALING = 0.5
_WHOLE = 1e-6  # masses closer than this, relatively, to that of one side use it up
_TRIALS = 100  # prices, at most: a dozen is what problems take
_CLOSE = 3.0  # changes of prices, in units of the temperature, that need no annealing
_INNER = 0.25  # problems are solved to this part of the tolerance on the mass


class _Trial(NamedTuple):
    """A price, and how much more than the given mass the plan moves there."""

    price: float
    excess: float


def solve_given_mass(problem: Problem, mass: float, stopping: Stopping) -> Divergence:
    """The plan of the given mass, with marginals at most those of ``problem``, whose penalties are ignored.

    The mass is that of the plan where every unit that is left behind, on either side, costs some price: a rising
    function of this price. Source: Chapel, Alaya and Gasso, *Partial optimal transport with applications on
    positive-unlabeled learning* (2020), for the same problem without entropy.
    """
    fixed = problem.detached()
    masses = float(fixed.source.mass), float(fixed.target.mass)
    if mass >= (1 - _WHOLE) * min(masses):
        return _whole(problem, masses, stopping)
    price, solution = _search(fixed, mass, stopping)
    given = GivenMass(mass, price)
    problem = replace(problem, penalties=(Partial(price), Partial(price)), given_mass=given)
    solution = replace(solution, value=solution.value - problem.detached().unpaid)
    return Divergence(Solved(problem, solution))


def _whole(problem: Problem, masses: tuple[float, float], stopping: Stopping) -> Divergence:
    """All the mass of the smallest measure."""
    penalties: list[Penalty] = [
        Balanced() if own <= (1 + _WHOLE) * other else Range(0.0, 1.0)
        for own, other in (masses, reversed(masses))
    ]
    problem = replace(problem, penalties=(penalties[0], penalties[1]))
    return Divergence(Solved(problem, sinkhorn(problem, _schedule(problem), stopping)))


def _search(problem: Problem, mass: float, stopping: Stopping) -> tuple[float, Solution]:
    """The price and the solution there: false positions, each problem starting from the potentials of the last."""
    lowest = low = _Trial(_lowest_price(problem, mass), -mass)
    high: _Trial | None = None
    price, solution = low.price + problem.geometry.cost_bound / 2 + problem.epsilon, None
    change = math.inf
    for _ in range(_TRIALS):
        solution = _solve(_at_price(problem, price), change, solution, stopping)
        excess = float(problem.target.integrate(solution.ratio_g)) - mass
        if abs(excess) <= stopping.tol * mass or solution.n_iter >= stopping.max_iter:
            break
        # The end that stays counts half: false positions would only move the other one.
        if excess < 0:
            low, high = _Trial(price, excess), high and high._replace(excess=high.excess / 2)
        else:
            low, high = low._replace(excess=low.excess / 2), _Trial(price, excess)
        if high is None:
            change = 2 * (price - lowest.price)
        else:
            change = low.price - price + (high.price - low.price) * low.excess / (low.excess - high.excess)
        price += change
    assert solution is not None
    return price, solution


def _at_price(problem: Problem, price: float) -> Problem:
    return replace(problem, penalties=(Partial(price), Partial(price)))


def _solve(problem: Problem, change: float, last: Solution | None, stopping: Stopping) -> Solution:
    """From the potentials of the last problem if its price was close, by annealing otherwise."""
    done = 0 if last is None else last.n_iter
    stopping = replace(stopping, tol=_INNER * stopping.tol)
    if last is not None and abs(change) <= _CLOSE * problem.epsilon:
        return converge(problem, problem.penalties[1].project(last.g), stopping, done)
    report = stopping.callback
    if report is not None and done:
        stopping = replace(
            stopping, callback=lambda seen: report(seen._replace(iteration=seen.iteration + done))
        )
    solution = sinkhorn(problem, _schedule(problem), replace(stopping, max_iter=stopping.max_iter - done))
    return replace(solution, n_iter=solution.n_iter + done)


def _schedule(problem: Problem) -> tuple[float, ...]:
    geometry = problem.geometry
    return epsilon_schedule(geometry.cost_bound, problem.epsilon, _SCALING**geometry.annealing_power)


def _lowest_price(problem: Problem, mass: float) -> float:
    """A price where a_i b_j exp((2 price - C_ij) / epsilon) has the given mass: plans, below it, have less."""
    softmin = problem.geometry.softmin(problem.epsilon, problem.target.log_weights)
    lowest = float(softmin.min())
    xp = library_of(softmin).namespace
    product = float(problem.source.integrate(xp.exp((lowest - softmin) / problem.epsilon)))
    return (lowest + problem.epsilon * math.log(mass / product)) / 2
