"""Owns multiscale divergences: how far the problems descend the scales together; ignores public conventions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from symbolic_matrices.arrays import Array, library_of

from ..divergences import Divergence, Solved, gather, symmetric_problems
from ..geometries import Geometry, PointGeometry
from ..measures import Measure
from ..pairs import problems_of
from ..problems import Problem, Solution, Stopping
from ..sinkhorn import to_tensors
from .cells import Cloud
from .close_ups import Convert, look_closely
from .hierarchy import build_hierarchy
from .walk import Stage, Stages, Walk, Walks, displacements, extend, first_stages, is_finest, refine

_FINER = 10  # scales below the cells that are asked for: there, cells are as good as points
_COARSE = 2.0  # edge of the cells while temperatures decrease, in units of the blur
_CELL = 0.5  # edge of the last cells
_SAMPLE = 512  # cells whose displacements are compared between two scales
_LEAST = 1e-4  # displacements that do not matter, in units of the blur
_MANY_PAIRS = {1: 2.5e7, 2: 2.5e7, 3: 1e8}  # per dimension: where the single-scale solver takes as long
# Once cells are halved, a fraction of the error is left: for gradients, between 1/4 and 1/20 was measured.
_DECREASE_OF_GRADIENTS = 8.0
_DECREASE = 8.0  # of the error on the value: at least that much


@dataclass(frozen=True)
class Multiscale:
    """How a multiscale solver proceeds.

    ``width`` is the edge of the cells whose potentials are handed to the points: by default, half of the blur; zero: as
    small as the points need. Cells are halved further until the value and, for squared distances, its gradient are
    foreseen to be right up to ``accuracy`` and ``gradient_accuracy``. Distances have a kink, that is felt by points in
    the same cell: there, cells are always as small as the points need. Blocks are skipped where the density of the plan
    is below exp(-truncate) and a quarter of the tolerance. Points of different ``labels``, one array per side, never
    share a cell.
    """

    width: float | None = None
    accuracy: float = 1e-3
    gradient_accuracy: float = 2e-2
    truncate: float | None = 5.0
    labels: tuple[np.ndarray, np.ndarray] | None = None


def choose_multiscale(problem: Problem) -> bool:
    """Whether cells are worth their while: for large clouds in low dimension, as measured on two cores.

    Of batches, each pair counts by itself, as cells take them one after the other.
    """
    geometry = problem.geometry
    if not isinstance(geometry, PointGeometry) or not geometry.cost.bilinear:
        return False
    n, m = geometry.shape[-2:]
    return n * m >= _MANY_PAIRS.get(geometry.x.shape[-1], math.inf)


def solve_multiscale(
    problem: Problem,
    self_geometries: tuple[Geometry, Geometry] | None,
    settings: Multiscale,
    stopping: Stopping,
) -> Divergence:
    """Solve a problem between points, or a batch, and the symmetric ones if their geometries are given."""
    problems = [problem, *(symmetric_problems(problem, self_geometries) if self_geometries else ())]
    if len(problem.geometry.shape) == 2:
        return Divergence(*_solve_together(problems, settings, stopping))
    found = [
        _solve_together(list(some), replace(settings, labels=labels), stopping)
        for some, labels in zip(
            zip(*map(problems_of, problems), strict=True), _labels_of(settings, problem), strict=True
        )
    ]
    return Divergence(*map(gather, problems, zip(*found, strict=True)))


def _labels_of(settings: Multiscale, problem: Problem) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """The labels of each problem of a batch."""
    batch = problem.geometry.shape[:-2]
    if settings.labels is None:
        return [None] * math.prod(batch)
    left, right = settings.labels
    return [(left[index], right[index]) for index in np.ndindex(*batch)]


def _solve_together(problems: list[Problem], settings: Multiscale, stopping: Stopping) -> list[Solved]:
    """Solve a problem between two clouds, and the two symmetric ones if they are given."""
    problem = problems[0]
    geometry = problem.geometry
    assert isinstance(geometry, PointGeometry)
    has_kink = not geometry.cost.bilinear and settings.width is None
    last = 0 if settings.width == 0 or has_kink else _FINER
    walks, convert = _walks(problems, settings, stopping, last)
    width, blur = _width(problem, settings), _blur(problem)
    coarse = _FINER + max(0, round(math.log2(_COARSE * blur / width)))
    stages = first_stages(walks, coarse)
    before = stages
    while not is_finest(walks, stages) and not (
        stages.ab.number <= last and _is_accurate((before, stages), settings)
    ):
        before, stages = stages, refine(walks, stages)
    return [
        Solved(one, _at_points(one, walk, stage, convert))
        for one, walk, stage in zip(problems, walks, stages, strict=False)
        if walk is not None and stage is not None
    ]


def _at_points(problem: Problem, walk: Walk, stage: Stage, convert: Convert | None) -> Solution:
    """What a stage tells about the points of a problem, in its library."""
    tensors = problem.tensors
    needs_gradient = any(library_of(tensor).needs_gradient(tensor) for tensor in tensors)
    solution = extend(walk, stage, with_slopes=needs_gradient)
    if convert is not None:
        solution = to_tensors(solution, convert)
    if not needs_gradient:
        return solution
    if len(tensors) % 2 == 1:  # both sides are one tensor with different weights: it would need two orders
        return solution
    return replace(solution, look_closely=lambda: look_closely(walk, stage, convert))


def _is_accurate(pair: tuple[Stages, Stages], settings: Multiscale) -> bool:
    """Whether what changed from the last cells to these ones foretells small changes down to the points.

    Of the value and of displacements, the gradients of the debiased potentials.
    """
    before, stages = pair
    if not stages.ab.is_new:
        return False  # the same cells tell nothing
    if not _is_value_accurate(stages, settings.accuracy):
        return False
    geometry = stages.ab.problem.geometry
    assert isinstance(geometry, PointGeometry)
    if not geometry.cost.bilinear:
        return True
    for side in (0, 1):
        cells = stages.ab.cells[side]
        every = slice(None, None, -(-len(cells.level) // _SAMPLE))
        old, new = (displacements(some, side, cells.points[every]) for some in (before, stages))
        weights = cells.measure.weights[every]
        change, size = (Measure(weights).integrate((d**2).sum(-1)) ** 0.5 for d in (new - old, new))
        least = _LEAST * _blur(stages.ab.problem) * float(weights.sum()) ** 0.5
        if float(change) / _DECREASE_OF_GRADIENTS > settings.gradient_accuracy * float(size) + least:
            return False
    return True


def _is_value_accurate(stages: Stages, accuracy: float) -> bool:
    value, change = 0.0, 0.0
    for sign, stage in zip((1.0, -0.5, -0.5), stages, strict=True):
        if stage is None:
            continue
        if stage.guess is None:
            return False
        value += sign * float(stage.solution.value)
        change += sign * float(stage.solution.value - stage.guess.value)
    problem, weights = stages.ab.problem, stages.ab.problem.source.weights
    if stages.aa is not None:
        value += problem.epsilon / 2 * float(problem.source.mass - problem.target.mass) ** 2
    digits = float(library_of(weights).namespace.finfo(weights.dtype).eps)
    return abs(change) / _DECREASE <= accuracy * abs(value) + digits * abs(float(stages.ab.solution.value))


def _blur(problem: Problem) -> float:
    """The distance that a temperature stands for."""
    geometry = problem.geometry
    assert isinstance(geometry, PointGeometry)
    cost = geometry.cost
    return float((problem.epsilon / (cost.power * cost.coefficient)) ** (1 / cost.power))


def _width(problem: Problem, settings: Multiscale) -> float:
    return settings.width or _CELL * _blur(problem)


def _walks(
    problems: list[Problem], settings: Multiscale, stopping: Stopping, last: int
) -> tuple[Walks, Convert | None]:
    """One walk per problem, on shared clouds, and what brings arrays back to the library of the problems, or None."""
    problem = problems[0].detached()
    geometry = problem.geometry
    assert isinstance(geometry, PointGeometry)
    library = library_of(geometry.x)
    hosted = library.name == "torch" and library.device(geometry.x) == "cpu" and geometry.takes_any_library
    cost = geometry.cost
    width = _width(problem, settings) / 2**_FINER
    dtype, device = library.dtype_name(geometry.x), library.device(geometry.x)

    def lift(array: np.ndarray) -> Array:
        return array if hosted else library.convert(array, dtype, device)

    def lift_indices(array: np.ndarray) -> Array:
        return array if hosted else library.convert(array, "int64", device)

    clouds = []
    for side, (points, measure) in enumerate(((geometry.x, problem.source), (geometry.y, problem.target))):
        labels = None if settings.labels is None else settings.labels[side]
        arrays = library.to_numpy(points), library.to_numpy(measure.weights)
        clouds.append(Cloud(build_hierarchy(*arrays, width, labels), lift, lift_indices))
    truncation = None
    if settings.truncate is not None and (
        cost.bilinear or cost.norm is not None or cost.lipschitz is not None
    ):
        truncation = max(settings.truncate, math.log(4 / stopping.tol))
    pairs = ((clouds[0], clouds[1]), (clouds[0], clouds[0]), (clouds[1], clouds[1]))
    walks = []
    for one, pair in zip(problems, pairs, strict=False):
        detached = one.detached()
        if hosted:
            detached = detached.replace(tuple(tensor.numpy() for tensor in detached.tensors))
        walks.append(Walk(detached, pair, cost, truncation, stopping, last))
    return Walks(*walks), library.namespace.from_numpy if hosted else None
