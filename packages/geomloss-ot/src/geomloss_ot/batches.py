"""Owns batches of transport problems, of equal or unequal sizes, solved together; ignores algorithms."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from symbolic_matrices import ragged
from symbolic_matrices.arrays import Array, library_of

from .arguments import check_clouds, read_measures, read_penalties, read_stopping, read_temperature
from .certificates import Certificate
from .costs import Cost, find_cost
from .divergences import Annealing, Divergence, Solved, solve_divergence, warn_if_stopped_early
from .geometries import MatrixGeometry, PointGeometry, RaggedGeometry, pad
from .measures import Measure, check_compatible_masses, check_costs, check_same_kind, middle
from .pairs import one_problem
from .problems import Problem, Progress, Solution
from .results import OTResult
from .solve import Unbalanced, read_backend

Sizes = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class OTBatchResult:
    """Solutions of a batch of problems: ``value`` has all the values, ``result[k]`` is the OTResult of one problem."""

    padded: OTResult
    sizes: Sizes

    def __len__(self) -> int:
        return len(self.sizes[0])

    @cached_property
    def value(self) -> Array:
        """Optimal values, or Sinkhorn divergences when debiased: (B,)."""
        return self.padded.value

    @cached_property
    def value_linear(self) -> Array:
        """Transport costs of the plans alone: (B,)."""
        return self.padded.value_linear

    @cached_property
    def certificate(self) -> Certificate:
        """Marginal errors and duality gaps, (B,) each."""
        return self.padded.certificate

    @property
    def n_iter(self) -> int:
        """Number of iterations: those of the slowest problem."""
        return self.padded.n_iter

    @property
    def status(self) -> str:
        """How the loop ended for the slowest problem, as for ``OTResult``."""
        return self.padded.status

    def __getitem__(self, k: int) -> OTResult:
        """The result of problem k, with arrays of its own sizes."""
        k = operator.index(k)
        if not -len(self) <= k < len(self):
            raise IndexError(
                f"This batch has {len(self)} problems, numbered from 0: there is no problem {k}."
            )
        k = k % len(self)
        n, m = self.sizes[0][k], self.sizes[1][k]
        whole = self.padded.divergence
        parts = ((whole.ab, (n, m)), (whole.aa, (n, n)), (whole.bb, (m, m)))
        ab, aa, bb = (part and self._one(part, k, sizes) for part, sizes in parts)
        assert ab is not None
        return OTResult(Divergence(ab, aa, bb), self.padded.centre)

    def _one(self, part: Solved, k: int, sizes: tuple[int, int]) -> Solved:
        if part.alone:
            return part.alone[k]
        solution = part.solution
        rows, columns = (solution.f, solution.ratio_f), (solution.g, solution.ratio_g)
        (f, ratio_f), (g, ratio_g) = (
            tuple(array[k, :size] for array in side) for side, size in ((rows, sizes[0]), (columns, sizes[1]))
        )
        ends = (solution.value[k], solution.error[k], solution.n_iter, solution.status)
        return Solved(one_problem(part.problem, (k,), sizes), Solution(f, g, ratio_f, ratio_g, *ends))


def solve_sample_batch(
    X_a: Sequence[Array],
    X_b: Sequence[Array],
    a: Sequence[Array] | None = None,
    b: Sequence[Array] | None = None,
    metric: str | Callable[[Any, Any], Any] = "sqeuclidean",
    reg: float | None = None,
    unbalanced: Unbalanced = None,
    *,
    unbalanced_type: str = "kl",
    blur: float | None = None,
    reach: float | tuple[float | None, float | None] | None = None,
    debias: bool = False,
    backend: str = "online",
    max_iter: int = 1000,
    tol: float | None = None,
    verbose: bool = False,
    callback: Callable[[Progress], None] | None = None,
) -> OTBatchResult:
    r"""Entropic optimal transport between pairs of clouds of any sizes, all solved together.

    Each pair is a problem of :func:`solve_sample`. One iteration of all of them is one launch, that visits no pair of
    points of different problems; iterations stop when the slowest problem has converged.

    Parameters
    ----------
    X_a, X_b
        B clouds each, (N_k, D) and (M_k, D); also arrays (B, N, D) and (B, M, D).
    a, b
        Their weights, B arrays (N_k,) and (M_k,). Default: 1/N_k and 1/M_k.
    metric, reg, unbalanced, unbalanced_type, blur, reach, debias, max_iter, tol, verbose, callback
        As for :func:`solve_sample`, the same for all problems.
    backend
        ``"online"``: as above; ``"multiscale"``: one problem after the other, as :func:`solve_sample` does with this
        back end, for clouds of thousands of points.

    Returns
    -------
    OTBatchResult
        Values (B,), and one OTResult per problem.

    Raises
    ------
    ValueError
        As :func:`solve_sample`, and for sequences of different lengths.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import solve_sample_batch
    >>> clouds = [np.random.default_rng(n).normal(size=(n, 2)) for n in (30, 50)]
    >>> result = solve_sample_batch(clouds, [x + [1.0, 2.0] for x in clouds], blur=0.3, debias=True)
    >>> result.value.round(3)
    array([5., 5.])
    >>> result[1].plan.shape
    (50, 50)
    """
    pairs = _read_pairs((X_a, X_b), (a, b))
    cost = find_cost(metric, "metric")
    method = read_backend(backend, cost, f"metric={metric!r}")
    epsilon = read_temperature(reg, blur, cost)
    sides = read_penalties(unbalanced, reach, unbalanced_type, cost)
    bounds = sides[0].ratio_bounds, sides[1].ratio_bounds
    for measures in pairs:
        check_compatible_masses(measures, bounds)
    sizes = tuple(len(x) for x in X_a), tuple(len(y) for y in X_b)
    xp = library_of(X_a[0]).namespace
    x, y = xp.concatenate(list(X_a)), xp.concatenate(list(X_b))
    centre = middle(x, y) if cost.translation_invariant else None
    if centre is not None:
        x, y = x - centre, y - centre
    masks = _mask(sizes[0]), _mask(sizes[1])
    source, target = _pad_weights(pairs, masks)
    geometry, aa, bb = (
        _geometry((x, y)[i], (x, y)[j], cost, (masks[i], masks[j])) for i, j in ((0, 1), (0, 0), (1, 1))
    )
    stopping = read_stopping(x, tol, max_iter, callback, verbose=verbose)
    problem = Problem(geometry, source, target, sides, epsilon)
    divergence = method(problem, (aa, bb) if debias else None, stopping=stopping)
    warn_if_stopped_early(divergence, stopping, stacklevel=2)
    return OTBatchResult(OTResult(divergence, centre), sizes)


def solve_batch(
    C: Sequence[Array],
    a: Sequence[Array] | None = None,
    b: Sequence[Array] | None = None,
    reg: float | None = None,
    unbalanced: Unbalanced = None,
    *,
    unbalanced_type: str = "kl",
    max_iter: int = 1000,
    tol: float | None = None,
    verbose: bool = False,
    callback: Callable[[Progress], None] | None = None,
) -> OTBatchResult:
    r"""Entropic optimal transport for explicit cost matrices of any sizes, all solved together.

    .. math::
        \min_{P \ge 0} \langle P, C_k \rangle + \varepsilon\, \mathrm{KL}(P | a_k b_k^\top)
        + \rho_a \mathrm{KL}(P 1 | a_k) + \rho_b \mathrm{KL}(P^\top 1 | b_k)

    Each one is a problem of :func:`solve`. Matrices are padded to the size of the largest.

    Parameters
    ----------
    C
        B cost matrices (N_k, M_k), or an array (B, N, M).
    a, b
        Weights, B arrays (N_k,) and (M_k,). Default: 1/N_k and 1/M_k.
    reg, unbalanced, unbalanced_type, max_iter, tol, verbose, callback
        As for :func:`solve`, the same for all problems.

    Returns
    -------
    OTBatchResult
        Values (B,), and one OTResult per problem.

    Raises
    ------
    ValueError
        As :func:`solve`, and for sequences of different lengths.

    Examples
    --------
    >>> import numpy as np
    >>> from geomloss_ot import solve_batch
    >>> result = solve_batch([1 - np.eye(2), 1 - np.eye(3)], reg=0.1)
    >>> result[0].plan.round(3)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    _check_lengths({"C": C}, a=a, b=b)
    epsilon = read_temperature(reg, None, None)
    sides = read_penalties(unbalanced, None, unbalanced_type, None)
    pairs = []
    for k, costs in enumerate(C):
        check_costs(f"C[{k}]", costs)
        check_same_kind(f"C[{k}]", costs, "C[0]", C[0])
        if costs.ndim != 2:
            raise ValueError(f"C[{k}] has shape {tuple(costs.shape)}: expected (N, M).")
        swapped = library_of(costs).namespace.swapaxes(costs, -1, -2)
        pairs.append(
            read_measures((costs, swapped), (None if a is None else a[k], None if b is None else b[k]))
        )
        check_compatible_masses(pairs[-1], (sides[0].ratio_bounds, sides[1].ratio_bounds))
    sizes = tuple(costs.shape[0] for costs in C), tuple(costs.shape[1] for costs in C)
    masks, xp = (_mask(sizes[0]), _mask(sizes[1])), library_of(C[0]).namespace
    inside = masks[0][:, :, None] & masks[1][:, None, :]
    costs = pad(xp.concatenate([matrix.reshape(-1) for matrix in C]), inside)
    stopping = read_stopping(C[0], tol, max_iter, callback, verbose=verbose)
    problem = Problem(MatrixGeometry(costs), *_pad_weights(pairs, masks), sides, epsilon)
    divergence = solve_divergence(problem, None, Annealing(), stopping)
    warn_if_stopped_early(divergence, stopping, stacklevel=2)
    return OTBatchResult(OTResult(divergence), sizes)


def _pad_weights(
    pairs: list[tuple[Measure, Measure]], masks: tuple[np.ndarray, np.ndarray]
) -> tuple[Measure, Measure]:
    xp = library_of(pairs[0][0].weights).namespace
    source, target = (
        Measure(pad(xp.concatenate([pair[side].weights for pair in pairs]), masks[side])) for side in (0, 1)
    )
    return source, target


def _geometry(x: Array, y: Array, cost: Cost, masks: tuple[np.ndarray, np.ndarray]) -> RaggedGeometry:
    ranges = ragged(*(mask.sum(1) for mask in masks))
    return RaggedGeometry(PointGeometry(x, y, cost, ranges), *masks)


def _mask(sizes: tuple[int, ...]) -> np.ndarray:
    return np.arange(max(sizes)) < np.array(sizes)[:, None]


def _check_lengths(needed: dict[str, Sequence[Array]], **optional: Sequence[Array] | None) -> None:
    given = {**needed, **{name: value for name, value in optional.items() if value is not None}}
    for name, value in given.items():
        if not hasattr(value, "__len__"):
            raise ValueError(
                f"{name} is a {type(value).__name__}: expected a list of arrays, one per problem."
            )
    lengths = {name: len(value) for name, value in given.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(
            f"Received sequences of lengths {lengths}: expected as many entries, one per problem."
        )


def _read_pairs(
    clouds: tuple[Sequence[Array], Sequence[Array]],
    weights: tuple[Sequence[Array] | None, Sequence[Array] | None],
) -> list[tuple[Measure, Measure]]:
    _check_lengths({"X_a": clouds[0], "X_b": clouds[1]}, a=weights[0], b=weights[1])
    pairs = []
    for k, (x, y) in enumerate(zip(*clouds, strict=True)):
        check_clouds(x, y, (f"X_a[{k}]", f"X_b[{k}]"))
        check_clouds(x, clouds[0][0], (f"X_a[{k}]", "X_a[0]"))
        if x.ndim != 2:
            raise ValueError(f"X_a[{k}] has shape {tuple(x.shape)}: expected (N, D).")
        given = [None if side is None else side[k] for side in weights]
        pairs.append(read_measures((x, y), (given[0], given[1])))
    return pairs
