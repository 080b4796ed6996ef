"""Owns Wasserstein distances between clouds, without entropy, up to a stated error that is proved; ignores gradients.

The temperature of entropic transport decreases until the bounds that its potentials and plans give are close; where
they do not get there, linear programs find the optimal plan.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array

from symbolic_matrices.arrays import Array, library_of

from ..arguments import check_choice, check_clouds, check_not_negative, read_measures
from ..costs import EUCLIDEAN, SQEUCLIDEAN, Cost
from ..measures import Measure, check_compatible_masses
from .duals import LowerBound, lower_bound
from .linear_programs import transport_exactly
from .merging import merge_equal_points, split_plan
from .pair import Pair, entropic_potentials
from .plans import Trial, bound_between_cells, bound_between_partners

_FIRST_BLUR = 1 / 16  # in units of the diameter
_MOST_ROUNDS = 8
_LEAST_STEP, _LARGEST_STEP = 1.5, 8.0  # ratios between the blurs of two rounds
_AIM = 0.8  # of the gap that is allowed: what a round aims at
_EXACT_BLUR = 1 / 128  # in units of the diameter: sharp enough for linear programs to start from
_MOST_EXACT = 20_000  # points, for which linear programs take seconds
_MANY, _FEW = 4000, 1000  # points: more are thinned for a first idea of the distance, to so many
_EXACT = 1e-9  # relative error of distances that count as exact
_LEAST_BLUR = 1 / 1024  # for more points: potentials in float32 still mean something


@dataclass(frozen=True)
class WassersteinDistance:
    """A Wasserstein distance, between two bounds that are proved up to the rounding of float64.

    Attributes
    ----------
    lower
        The value of ``potentials``, to the power 1 / p: at most the distance, and its best estimate.
    upper
        The cost of a plan with the right marginals, to the power 1 / p: at least the distance.
    potentials
        f (N,) and g (M,), with f_i + g_j <= |x_i - y_j|^p for all pairs: float64, of the kind of the points.
    p
        Exponent of the distances.
    blur
        Of the last entropic problem, as a distance: its plan is sharp up to that.
    status
        ``"converged"``, or ``"gap"`` if the bounds are further apart than ``accuracy`` asked for.
    plan
        An optimal plan (N, M), a SciPy sparse array with about N + M entries in float64, if it was computed: with
        ``accuracy=0``, and where other bounds stay apart. Its marginals are ``a`` and ``b`` up to rounding. If
        ``status`` is ``"gap"``, the best one that was found.
    """

    lower: float
    upper: float
    potentials: tuple[Array, Array]
    p: int
    blur: float
    status: str
    plan: csr_array | None = None

    @property
    def value(self) -> float:
        """The estimate of the distance: ``lower``, whose error is of second order in the temperature."""
        return self.lower

    def __float__(self) -> float:
        return self.value


def wasserstein_distance(
    X_a: Array,
    X_b: Array,
    a: Array | None = None,
    b: Array | None = None,
    p: int = 2,
    *,
    accuracy: float = 1e-2,
) -> WassersteinDistance:
    r"""Wasserstein distance between two point clouds, without entropy, between proved bounds.

    .. math::
        W_p(a, b) = \Big( \min_{P \ge 0,\ P 1 = a,\ P^\top 1 = b} \sum_{ij} P_{ij} |x_i - y_j|^p \Big)^{1/p}

    Parameters
    ----------
    X_a, X_b
        Points, (N, D) and (M, D): NumPy, PyTorch or CuPy, float32 or float64. Bounds are computed in float64.
    a, b
        Non-negative weights, (N,) and (M,), of equal masses. Default: 1/N and 1/M.
    p
        1 or 2.
    accuracy
        Largest ratio ``upper / lower - 1``. Time grows as it decreases, since the plan must be as sharp. Zero: the
        exact distance, up to rounding, and its plan.

    Returns
    -------
    WassersteinDistance
        The distance, its bounds and the potentials that prove the lower one.

    Raises
    ------
    ValueError
        For wrong shapes, unequal masses, non-finite points, negative weights, mixed libraries, dtypes or devices, and
        parameters out of range.

    Warns
    -----
    UserWarning
        If the bounds could not be brought as close as ``accuracy`` asks for: where the distance is much smaller than
        the distance between neighbours, for instance.

    Notes
    -----
    For p = 2, c-transforms are searches for nearest neighbours in dimension D + 1, that visit few of the pairs; for
    p = 1, they visit all of them. Upper bounds come from greatest flows between pairs that nearly reach the lower, or
    from entropic plans between cells, rounded to the right marginals. Where these are not sharp enough, between at most
    20,000 points on each side, and for ``accuracy=0``, SciPy's linear programs (HiGHS) find the optimal plan: they see
    the pairs that are nearly tight for entropic potentials, then those whose constraints their solutions violate, until
    there are none. Memory is linear. Sources: Peyre and Cuturi, *Computational optimal transport* (2019), sections 4.4
    and 5.1, for bounds by c-transforms; Altschuler, Weed and Rigollet, arXiv 1705.09634, for rounding; Schmitzer, *A
    sparse multiscale algorithm for dense optimal transport* (arXiv 1510.05466), for exact solutions from few pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import wasserstein_distance
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> found = wasserstein_distance(x, 2 * x + [3.0, 4.0], accuracy=1e-2)
    >>> exact = np.sqrt(((x + [3.0, 4.0]) ** 2).sum(-1).mean())  # the gradient of a convex function is optimal
    >>> bool(found.lower <= exact * (1 + 1e-12)), bool(exact <= found.upper)
    (True, True)
    >>> bool(found.upper <= 1.01 * found.lower)
    True
    >>> found = wasserstein_distance(x, 2 * x + [3.0, 4.0], accuracy=0)
    >>> bool(abs(found.value / exact - 1) < 1e-9), found.plan.shape
    (True, (300, 300))
    """
    check_clouds(X_a, X_b, ("X_a", "X_b"))
    if X_a.ndim > 2:
        raise ValueError(f"X_a has shape {tuple(X_a.shape)}: expected one cloud (N, D); loop over the batch.")
    check_choice("p", p, (1, 2))
    check_not_negative("accuracy", accuracy)
    measures = read_measures((X_a, X_b), (a, b))
    check_compatible_masses(measures, ((1.0, 1.0), (1.0, 1.0)))
    found = _distance((X_a, X_b), measures, EUCLIDEAN if p == 1 else SQEUCLIDEAN, accuracy)
    if found.status == "gap":
        advice = "ask for the exact plan with accuracy=0" if accuracy > 0 else "use weights of closer sizes"
        warnings.warn(
            f"The Wasserstein distance lies between {found.lower:.12g} and {found.upper:.12g}, further apart than "
            f"accuracy={accuracy:g}: accept it, or {advice}.",
            stacklevel=2,
        )
    return found


def _distance(
    points: tuple[Array, Array], measures: tuple[Measure, Measure], cost: Cost, accuracy: float
) -> WassersteinDistance:
    """Solve the problem between points without repetition; write the result for all of them, as they were given."""
    library, device = library_of(points[0]), library_of(points[0]).device(points[0])
    clouds, weights = (
        [library.to_numpy(library.detach(array)).astype(np.float64) for array in arrays]
        for arrays in (points, [measure.weights for measure in measures])
    )
    left, right = (merge_equal_points(*side) for side in zip(clouds, weights, strict=True))
    pair = Pair((left, right), cost, lambda array: library.convert(array, "float32", device))
    bracket = _narrow(pair, accuracy)
    f, g = (
        library.convert(cloud.hierarchy.unsorted(values)[side.group], "float64", device)
        for cloud, values, side in zip(
            pair.clouds, (bracket.lower.f, bracket.lower.g), pair.sides, strict=True
        )
    )
    lower, upper = (max(value, 0.0) ** (1 / cost.power) for value in (bracket.lower.value, bracket.upper))
    status = "converged" if bracket.is_close(pair, accuracy) else "gap"
    plan = bracket.plan
    if plan is not None:
        a, b = weights
        plan = split_plan(_unsorted(pair, plan), pair.sides, (a, b * (a.sum() / b.sum())))
    return WassersteinDistance(lower, upper, (f, g), cost.power, bracket.blur, status, plan)


def _unsorted(pair: Pair, plan: csr_array) -> csr_array:
    """A plan between points in the order in which they were given to the pair."""
    pairs = plan.tocoo()
    left, right = (cloud.hierarchy.order for cloud in pair.clouds)
    return csr_array(coo_array((pairs.data, (left[pairs.row], right[pairs.col])), shape=plan.shape))


class _Bracket(NamedTuple):
    """The best bounds of the cost so far, the last blur, and the plan, if it is known."""

    lower: LowerBound
    upper: float
    blur: float
    plan: csr_array | None = None
    expected: float = 0.0  # what the cost is, about: it proves nothing

    def is_close(self, pair: Pair, accuracy: float) -> bool:
        return self.upper - self.lower.value <= _allowed_gap(pair, self.lower.value, accuracy)


class _Method(NamedTuple):
    """A way to an upper bound, and the gap that it leaves between dense clouds, in units of D blur^p."""

    bound: Callable[[Pair, Trial], float]
    gap: float


# Entropic plans around a map have a density of about exp(-|x - y|^p / epsilon): D blur^p. Flows are sharper.
_FLOWS, _CELLS = _Method(bound_between_partners, 0.05), _Method(bound_between_cells, 1.0)


def _narrow(pair: Pair, accuracy: float) -> _Bracket:
    """Decrease the temperature until the bounds are close, or find the optimal plan from there."""
    blur = _FIRST_BLUR * pair.diameter
    if blur == 0:  # all the points are the same
        return _trivial(pair)
    has_program = accuracy == 0 or max(pair.shape) <= _MOST_EXACT
    least = (_EXACT_BLUR if has_program else _LEAST_BLUR) * pair.diameter
    if accuracy == 0:
        blur = least  # no other bound gets there
    bracket = _first_bracket(pair, blur, is_final=accuracy == 0)
    for method in (_FLOWS,) if has_program else (_FLOWS, _CELLS):
        bracket = _descend(pair, accuracy, method, bracket, least)
        if bracket.is_close(pair, accuracy):
            return bracket
    if has_program:
        exact = transport_exactly(pair, bracket.lower)
        bracket = _Bracket(exact.lower, min(exact.upper, bracket.upper), bracket.blur, exact.plan)
    return bracket


def _first_bracket(pair: Pair, blur: float, *, is_final: bool) -> _Bracket:
    """What is known from one temperature; where lower ones follow, a thinned pair tells how far to go."""
    if is_final or max(pair.shape) <= _MANY:
        return _Bracket(lower_bound(pair, entropic_potentials(pair, blur)[0]), math.inf, blur)
    some = pair.thinned(_FEW)
    expected = lower_bound(some, entropic_potentials(some, blur)[0]).value
    nothing = LowerBound(0.0, *(np.zeros(count) for count in pair.shape))
    return _Bracket(nothing, math.inf, blur, expected=expected)


def _trivial(pair: Pair) -> _Bracket:
    """The cost of transport between two merged points at the same place."""
    mass = csr_array(pair.weights[0][:, None])
    return _Bracket(LowerBound(0.0, np.zeros(1), np.zeros(1)), 0.0, 0.0, mass)


def _descend(pair: Pair, accuracy: float, method: _Method, start: _Bracket, least: float) -> _Bracket:
    """Decrease the blur until the bounds are close, or a method no longer makes progress, or it is the least one."""
    power, lower, upper, blur = pair.cost.power, start.lower, start.upper, start.blur
    sharpest, gap = math.inf, method.gap * pair.dim * blur**power
    for _ in range(_MOST_ROUNDS):
        if blur <= least:
            break
        expected = max(lower.value, start.expected)
        step = (gap / (_AIM * _allowed_gap(pair, expected, accuracy))) ** (1 / power)
        blur = max(least, blur / min(max(step, _LEAST_STEP), _LARGEST_STEP))
        potentials = entropic_potentials(pair, blur)
        lower = max(lower, lower_bound(pair, potentials[0]), key=lambda found: found.value)
        allowed = _allowed_gap(pair, lower.value, accuracy)
        found = method.bound(pair, Trial(blur, potentials, lower, allowed))
        if not found < sharpest:  # such temperatures take more iterations than there are
            break
        sharpest, upper, gap = found, min(found, upper), found - lower.value
        if gap <= allowed:
            break
    return _Bracket(lower, upper, blur)


def _allowed_gap(pair: Pair, lower: float, accuracy: float) -> float:
    """Between the bounds of the cost, for distances that differ by a factor 1 + accuracy, or by rounding."""
    factor = (1 + max(accuracy, _EXACT)) ** pair.cost.power
    return max(max(lower, 0.0) * (factor - 1), pair.rounding)
