"""Owns what the arguments of the public functions mean, and what is refused; ignores algorithms."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from symbolic_matrices import LazyTensor
from symbolic_matrices.arrays import Array, library_of

from .costs import COSTS, Cost, check_scalar_formula
from .geometries import Geometry, GridGeometry, MatrixGeometry, PointGeometry
from .measures import Measure, check_array, check_points, check_same_kind, check_weights, uniform_weights
from .penalties import PENALTIES, Penalty, find_penalty
from .problems import Progress, Stopping

DEFAULT_TOLERANCES = {"float32": 1e-4, "float64": 1e-5}
SEPARABLE_COSTS = ("sqeuclidean", "cityblock")
UNBALANCED_TYPES = (*PENALTIES, "range")


def point_geometries(
    x: Array, y: Array, cost: Cost, centre: Array | None, *, lazy: bool, debias: bool
) -> tuple[Geometry, ...]:
    """The costs from x to y and, if debiased, from x to x and from y to y, once ``centre`` is subtracted."""
    if centre is not None:
        x, y = x - centre, y - centre
    pairs = ((x, y), (x, x), (y, y)) if debias else ((x, y),)
    if lazy:
        _check_formula(x, y, cost)
        return tuple(PointGeometry(p, q, cost) for p, q in pairs)
    return tuple(MatrixGeometry(_dense_costs(p, q, cost), cost.power) for p, q in pairs)


def _check_formula(x: Array, y: Array, cost: Cost) -> None:
    """Raise a ValueError unless the function of a user returns one number per pair of points, as a formula."""
    if cost.name in COSTS:
        return
    formula = cost.formula(LazyTensor(x[..., :, None, :]), LazyTensor(y[..., None, :, :]))
    check_scalar_formula(f"The cost {cost.name!r}", formula, x.ndim, "((x - y) ** 2).sum(-1)")


def _dense_costs(x: Array, y: Array, cost: Cost) -> Array:
    """The costs (..., N, M); a ValueError if the function of a user returns anything else."""
    costs = cost.dense(x, y)
    if cost.name not in COSTS:
        expected = (*x.shape[:-1], y.shape[-2])
        check_same_kind(f"What the cost {cost.name!r} returns", costs, "the points", x)
        if tuple(costs.shape) != expected:
            raise ValueError(
                f"The cost {cost.name!r} of two arrays returns an array of shape {tuple(costs.shape)}: expected "
                f"{expected}, one number per pair of points."
            )
    return cost.coefficient * costs


def check_positive(name: str, value: float) -> None:
    """Raise a ValueError unless the parameter is a number of Python or NumPy, positive and finite."""
    if not isinstance(value, numbers.Real) or not 0 < value < math.inf:
        kind = "positive, finite number" + (", not an array" if hasattr(value, "ndim") else "")
        raise ValueError(f"{name}={value!r}: expected a {kind}.")


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raise a ValueError unless the parameter is a whole number that is large enough."""
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number, at least {least}.")


def check_scaling(scaling: float) -> None:
    """Raise a ValueError unless the parameter is a ratio between two steps of an annealing schedule."""
    if not isinstance(scaling, numbers.Real) or not 0 < scaling < 1:
        raise ValueError(f"scaling={scaling!r}: expected a number in (0, 1), such as 0.5 or 0.9.")


def check_not_negative(name: str, value: float) -> None:
    """Raise a ValueError unless the parameter is zero or a positive, finite number."""
    if not isinstance(value, numbers.Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r}: expected zero or a positive, finite number.")


def read_grid(
    name: str, weights: Array, axes: Sequence[tuple[float, float]] | None
) -> tuple[Measure, tuple[int, ...], tuple[tuple[float, ...], ...]]:
    """An image as a measure with weights (..., N), its size along each axis and the coordinates of its pixels.

    ``axes`` holds the bounds (low, high) of the domain; without it, the image has no batch and lives on a unit cube.
    """
    check_array(name, weights)
    bounds = read_axes(axes, weights.ndim)
    dims = len(bounds)
    if not 1 <= dims <= 3 or weights.ndim < dims or 0 in weights.shape:
        raise ValueError(
            f"{name} has shape {tuple(weights.shape)} and axes={axes!r}: expected a signal (N,), an image (N, M) or a "
            "volume (N, M, P); with batches in front, give axes, one pair (low, high) per dimension of the grid."
        )
    sizes = tuple(weights.shape[weights.ndim - dims :])
    coordinates = []
    for size, (low, high) in zip(sizes, bounds, strict=True):
        width = (high - low) / size
        coordinates.append(tuple(low + (k + 0.5) * width for k in range(size)))
    flat = weights.reshape(*weights.shape[: weights.ndim - dims], -1)
    check_weights(name, flat, tuple(flat.shape), flat)
    return Measure(flat), sizes, tuple(coordinates)


def read_axes(axes: Any, dims: int) -> tuple[tuple[float, float], ...]:
    """The bounds (low, high) of a domain along each dimension: by default, those of a unit cube."""
    if axes is None:
        return ((0.0, 1.0),) * dims
    pairs = tuple(axes) if hasattr(axes, "__len__") else ()
    if not pairs or not all(_is_interval(pair) for pair in pairs):
        raise ValueError(
            f"axes={axes!r}: expected one pair (low, high) of increasing numbers per dimension of the grid, such as "
            "((0, 1), (0, 1))."
        )
    return pairs


def _is_interval(pair: Any) -> bool:
    is_pair = hasattr(pair, "__len__") and len(pair) == 2
    return (
        is_pair
        and all(isinstance(end, numbers.Real) for end in pair)
        and -math.inf < pair[0] < pair[1] < math.inf
    )


def grid_geometries(
    measures: tuple[Measure, Measure], coordinates: tuple[Any, Any], cost: Cost, *, debias: bool
) -> tuple[Geometry, ...]:
    """The costs from a to b and, if debiased, from a to a and from b to b."""
    if cost.name not in SEPARABLE_COSTS:
        raise ValueError(
            f"metric={cost.name!r}: costs on grids are sums over axes, {' or '.join(map(repr, SEPARABLE_COSTS))}."
        )
    batch, other_batch = (tuple(measure.weights.shape[:-1]) for measure in measures)
    if batch != other_batch or len(coordinates[0]) != len(coordinates[1]):
        shapes = [(*batch, *map(len, coordinates[0])), (*other_batch, *map(len, coordinates[1]))]
        raise ValueError(
            f"a and b have shapes {shapes[0]} and {shapes[1]}: expected as many grids, of the same dimension."
        )
    x, y = coordinates
    pairs = ((x, y), (x, x), (y, y)) if debias else ((x, y),)
    return tuple(GridGeometry(p, q, cost.power, cost.coefficient, batch) for p, q in pairs)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise a ValueError unless the parameter is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}.")


def check_clouds(x: Array, y: Array, names: tuple[str, str]) -> None:
    """Raise a ValueError unless both clouds are finite points of the same batch and dimension."""
    check_points(names[0], x)
    check_points(names[1], y)
    check_same_kind(names[1], y, names[0], x)
    if tuple(x.shape[:-2]) != tuple(y.shape[:-2]) or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            f"{names[0]} and {names[1]} have shapes {tuple(x.shape)} and {tuple(y.shape)}: expected (N, D) and (M, D), "
            "or (B, N, D) and (B, M, D), with the same B and D."
        )


def read_measures(
    rows: tuple[Array, Array], weights: tuple[Array | None, Array | None]
) -> tuple[Measure, Measure]:
    """The weights of the rows of two arrays (..., N, D) and (..., M, D): uniform unless given."""
    found = []
    for name, array, given in zip(("a", "b"), rows, weights, strict=True):
        if given is None:
            given = uniform_weights(array)
        check_weights(name, given, tuple(array.shape[:-1]), array)
        found.append(Measure(given))
    return found[0], found[1]


def read_temperature(reg: float | None, blur: float | None, cost: Cost | None) -> float:
    """epsilon, from one of ``reg``, in the units of the cost, or ``blur``, a distance."""
    if (reg is None) == (blur is None):
        if cost is None:
            raise ValueError("reg=None: expected a temperature, in the units of the cost.")
        raise ValueError(
            f"reg={reg!r}, blur={blur!r}: expected exactly one temperature, as reg (in units of the cost) or blur (a "
            "distance). Without entropy, wasserstein_distance(..., accuracy=0) finds exact plans."
        )
    if reg is not None:
        check_positive("reg", reg)
        return float(reg)
    assert blur is not None
    check_positive("blur", blur)
    return _in_cost_units(blur, cost)


def find_penalties(
    name: str, given: Any, unbalanced_type: str, in_cost_units: Callable[[float], float]
) -> tuple[Penalty, Penalty]:
    """One penalty per side, from the argument called ``name``: a strength, None, or a pair of them.

    A strength is a positive number, that ``in_cost_units`` converts; for ``"range"``, a pair (low, high). POT's
    capital letters are accepted.
    """
    if isinstance(unbalanced_type, str):
        unbalanced_type = unbalanced_type.lower()
    check_choice("unbalanced_type", unbalanced_type, UNBALANCED_TYPES)
    is_pair = isinstance(given, (tuple, list))
    if unbalanced_type == "range":
        is_pair = is_pair and not all(isinstance(value, (int, float)) for value in given)
    pair = tuple(given) if is_pair else (given, given)
    if len(pair) != 2:
        raise ValueError(f"{name}={given!r}: expected one value, None, or a pair of them, one per side.")
    read = _range if unbalanced_type == "range" else _strength
    strengths = (read(name, pair[0], in_cost_units), read(name, pair[1], in_cost_units))
    return find_penalty(strengths[0], unbalanced_type), find_penalty(strengths[1], unbalanced_type)


def _strength(name: str, value: Any, in_cost_units: Callable[[float], float]) -> float | None:
    if value is None or (isinstance(value, numbers.Real) and value == math.inf):
        return None
    check_positive(name, value)
    return in_cost_units(value)


def _range(name: str, value: Any, _: Callable[[float], float]) -> tuple[float, float] | None:
    if value is None:
        return None
    is_pair = isinstance(value, (tuple, list)) and len(value) == 2
    is_pair = is_pair and all(isinstance(bound, numbers.Real) for bound in value)
    if not is_pair or not 0 <= value[0] <= value[1] < math.inf or not value[1] > 0:
        raise ValueError(
            f"{name}={value!r}: expected (low, high), ratios between the mass of the plan and that of the measure, "
            "with 0 <= low <= high and high positive and finite, such as (0.8, 1.2)."
        )
    return float(value[0]), float(value[1])


def read_penalties(
    unbalanced: Any, reach: Any, unbalanced_type: str, cost: Cost | None
) -> tuple[Penalty, Penalty]:
    """The penalties of the two sides, from ``unbalanced``, in the units of the cost, or ``reach``, a distance."""
    if unbalanced is not None and reach is not None:
        raise ValueError(f"unbalanced={unbalanced!r}, reach={reach!r}: give only one of them.")
    if reach is None:
        return find_penalties("unbalanced", unbalanced, unbalanced_type, float)
    if str(unbalanced_type).lower() == "range":
        raise ValueError(
            f"reach={reach!r}: give the bounds of unbalanced_type='range' as unbalanced=(low, high)."
        )
    return find_penalties("reach", reach, unbalanced_type, lambda distance: _in_cost_units(distance, cost))


def _in_cost_units(distance: float, cost: Cost | None) -> float:
    """2 distance^2 for squared distances and for costs of unknown units; the distance itself for distances."""
    if cost is not None and cost.power == 1:
        return float(distance)
    return 2.0 * float(distance) ** 2


def read_stopping(
    like: Array,
    tol: float | None,
    max_iter: int,
    callback: Callable[[Progress], None] | None = None,
    *,
    verbose: bool = False,
) -> Stopping:
    """When to stop; the default tolerance depends on the dtype of ``like``. A callback has precedence over printing."""
    if tol is None:
        tol = DEFAULT_TOLERANCES[library_of(like).dtype_name(like)]
    check_positive("tol", tol)
    check_count("max_iter", max_iter)
    if callback is not None and not callable(callback):
        raise ValueError(f"callback={callback!r}: expected a function of a Progress, or None.")
    return Stopping(tol, max_iter, print_progress if verbose and callback is None else callback)


def print_progress(progress: Progress) -> None:
    """The callback of ``verbose=True``."""
    print(
        f"{progress.iteration:4d}: epsilon = {progress.epsilon:.3e}, marginal error = {progress.marginal_error:.1e}"
    )
