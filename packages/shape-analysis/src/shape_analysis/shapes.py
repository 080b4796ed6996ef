"""Point clouds, polylines and triangle meshes: frozen PyTorch tensors with cached geometry; no files, no pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .errors import ShapeError

Value = TypeVar("Value")
SameShape = TypeVar("SameShape", bound="Shape")


class geometry(Generic[Value]):
    """A property that is computed once per shape.

    While the points carry a gradient the value is computed anew at each access: it belongs to one autograd graph,
    and a cached value would raise "backward through the graph a second time" at the next loss.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self._key = f"_cached_{compute.__name__}"
        self.__doc__ = compute.__doc__

    def __get__(self, shape: Any, owner: type | None = None) -> Value:
        if shape is None:
            return self  # type: ignore[return-value]
        if shape.points.requires_grad:
            return self._compute(shape)
        cache = shape.__dict__
        if self._key not in cache:
            cache[self._key] = self._compute(shape)
        value: Value = cache[self._key]
        return value


@dataclass(frozen=True, eq=False)
class Shape(ABC):
    """What all shapes share: points, and a measure made of weighted elements.

    Parameters
    ----------
    points : Tensor, shape (N, D)
        Floating-point coordinates. NumPy arrays and nested lists are converted.
    """

    points: Tensor  # (N, D)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _checked_points(self.points))

    @property
    def n_points(self) -> int:
        """Number of points N."""
        return self.points.shape[0]

    @property
    def dim(self) -> int:
        """Dimension D of the ambient space."""
        return self.points.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the coordinates."""
        return self.points.dtype

    @property
    def device(self) -> torch.device:
        """Device of the coordinates."""
        return self.points.device

    @property
    @abstractmethod
    def centroids(self) -> Tensor:
        """Centres of the elements (points, segments or triangles), shape (E, D)."""

    @property
    @abstractmethod
    def measures(self) -> Tensor:
        """Weights, lengths or areas of the elements, shape (E,)."""

    @property
    @abstractmethod
    def vertex_masses(self) -> Tensor:
        """The measure of each element, shared evenly between its points, shape (N,)."""

    @property
    def extent(self) -> float:
        """Length of the diagonal of the bounding box, in the units of the points."""
        points = self.points.detach()
        return float(torch.linalg.vector_norm(points.amax(0) - points.amin(0)))

    def with_points(self: SameShape, points: Tensor) -> SameShape:
        """The same connectivity and weights, with other points.

        Values are not checked (an optimiser may pass through NaN, and has to see it); gradients flow.

        Parameters
        ----------
        points : Tensor, shape (N, D)

        Raises
        ------
        ShapeError
            If there are not as many points, of the same dimension, as before.
        """
        if points.shape != self.points.shape:
            raise ShapeError(
                f"with_points got an array of shape {tuple(points.shape)}; this {type(self).__name__} has "
                f"{self.n_points} points in dimension {self.dim}. Build a new shape to change the connectivity."
            )
        return self._replaced(points, lambda other: other)

    def to(
        self: SameShape, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> SameShape:
        """The same shape with coordinates of another type, or on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        return self._replaced(move(self.points), move)

    def _replaced(self: SameShape, points: Tensor, change: Callable[[Tensor], Tensor]) -> SameShape:
        """A copy without the cached geometry, which skips the validation of fields that were valid already."""
        copy = object.__new__(type(self))
        object.__setattr__(copy, "points", points)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "points":
                object.__setattr__(copy, field.name, None if value is None else change(value))
        return copy

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_points} points in dimension {self.dim}, {self.dtype}, {self.device})"


@dataclass(frozen=True, eq=False, repr=False)
class PointCloud(Shape):
    """Points with weights.

    Parameters
    ----------
    points : Tensor, shape (N, D)
    weights : Tensor, shape (N,), optional
        Non-negative, not all zero. Default: 1/N each.

    Raises
    ------
    ShapeError
        For NaN or infinite values, wrong ranks, no points, or negative weights.

    Examples
    --------
    >>> cloud = PointCloud([[0.0, 0.0], [3.0, 4.0]])
    >>> cloud.extent, cloud.measures.tolist()
    (5.0, [0.5, 0.5])
    """

    weights: Tensor | None = None  # (N,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is not None:
            object.__setattr__(self, "weights", _checked_weights(self.weights, self.points))

    @property
    def centroids(self) -> Tensor:
        """The points themselves, shape (N, D)."""
        return self.points

    @geometry
    def measures(self) -> Tensor:
        """The weights, shape (N,)."""
        if self.weights is None:
            return torch.full_like(self.points[:, 0].detach(), 1.0 / self.n_points)
        return self.weights

    @property
    def vertex_masses(self) -> Tensor:
        """The weights, shape (N,)."""
        return self.measures


@dataclass(frozen=True, eq=False, repr=False)
class Polyline(Shape):
    """Curves made of segments, in the plane or in space.

    Parameters
    ----------
    points : Tensor, shape (N, D), D = 2 or 3
    segments : Tensor of integers, shape (E, 2)
        Indices of the two ends of each segment.

    Raises
    ------
    ShapeError
        As for `PointCloud`; also when an index is not in [0, N).

    Examples
    --------
    >>> square = Polyline([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], [[0, 1], [1, 2], [2, 3], [3, 0]])
    >>> float(square.measures.sum())
    4.0
    """

    segments: Tensor  # (E, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim not in (2, 3):
            raise ShapeError(
                f"A Polyline lives in dimension 2 or 3, but the points have {self.dim} coordinates."
            )
        object.__setattr__(self, "segments", _checked_elements(self.segments, self.points, 2, "segments"))

    @geometry
    def centroids(self) -> Tensor:
        """Middles of the segments, shape (E, D)."""
        return self.points[self.segments].mean(dim=1)

    @geometry
    def directions(self) -> Tensor:
        """Tangents, from the first to the second end: as long as the segments, shape (E, D)."""
        return self.points[self.segments[:, 1]] - self.points[self.segments[:, 0]]

    @geometry
    def measures(self) -> Tensor:
        """Lengths of the segments, shape (E,)."""
        return torch.linalg.vector_norm(self.directions, dim=1)

    @geometry
    def vertex_masses(self) -> Tensor:
        """Half the length of the segments around each point, shape (N,)."""
        return _shared_with_points(self.measures, self.segments, self.n_points)


@dataclass(frozen=True, eq=False, repr=False)
class Mesh(Shape):
    """A triangle mesh in space.

    Parameters
    ----------
    points : Tensor, shape (N, 3)
    triangles : Tensor of integers, shape (T, 3)
        Indices of the corners, counter-clockwise when seen from outside.

    Raises
    ------
    ShapeError
        As for `PointCloud`; also when an index is not in [0, N), or the points are not in dimension 3.

    Examples
    --------
    >>> triangle = Mesh([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0, 1, 2]])
    >>> float(triangle.areas), triangle.normals.tolist()
    (1.0, [[0.0, 0.0, 1.0]])
    """

    triangles: Tensor  # (T, 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim != 3:
            raise ShapeError(f"A Mesh lives in dimension 3, but the points have {self.dim} coordinates.")
        object.__setattr__(self, "triangles", _checked_elements(self.triangles, self.points, 3, "triangles"))

    @geometry
    def corners(self) -> Tensor:
        """Coordinates of the corners of each triangle, shape (T, 3, 3)."""
        return self.points[self.triangles]

    @geometry
    def centroids(self) -> Tensor:
        """Centres of the triangles, shape (T, 3)."""
        return self.corners.mean(dim=1)

    @geometry
    def directions(self) -> Tensor:
        """Normals to the triangles: as long as the areas, shape (T, 3)."""
        first, second, third = self.corners.unbind(dim=1)
        return 0.5 * torch.linalg.cross(second - first, third - first)

    @geometry
    def areas(self) -> Tensor:
        """Areas of the triangles, shape (T,)."""
        return torch.linalg.vector_norm(self.directions, dim=1)

    @property
    def measures(self) -> Tensor:
        """Areas of the triangles, shape (T,)."""
        return self.areas

    @geometry
    def normals(self) -> Tensor:
        """Unit normals to the triangles; zero where a triangle is flat, shape (T, 3)."""
        return torch.nn.functional.normalize(self.directions, dim=1)

    @geometry
    def vertex_masses(self) -> Tensor:
        """A third of the area of the triangles around each vertex, shape (N,)."""
        return _shared_with_points(self.areas, self.triangles, self.n_points)

    @geometry
    def vertex_normals(self) -> Tensor:
        """Unit normals at the vertices: the mean of those around, weighted by areas, shape (N, 3)."""
        sums = torch.zeros_like(self.points)
        for corner in range(3):
            sums = sums.index_add(0, self.triangles[:, corner], self.directions)
        return torch.nn.functional.normalize(sums, dim=1)

    @geometry
    def edges(self) -> Tensor:
        """Pairs of neighbouring vertices, each once and sorted, shape (E, 2)."""
        pairs = self.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        return torch.unique(pairs.sort(dim=1).values, dim=0)

    def flipped(self) -> Mesh:
        """The same surface with the opposite orientation (as a mirror image needs)."""
        return Mesh(self.points, self.triangles.flip(1))


def _shared_with_points(measures: Tensor, elements: Tensor, n_points: int) -> Tensor:
    """Share the measure (E,) of each element (E, K) evenly between its K points; shape (n_points,)."""
    corners = elements.shape[1]
    shares = (measures / corners)[:, None].expand(-1, corners).reshape(-1)
    return torch.zeros(n_points, dtype=measures.dtype, device=measures.device).index_add(
        0, elements.reshape(-1), shares
    )


def _as_tensor(values: object, name: str) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(f"{name} cannot be converted to a tensor: {error}") from error


def _checked_points(values: object) -> Tensor:
    points = _as_tensor(values, "points")
    if points.ndim != 2:
        raise ShapeError(
            f"points must have shape (N, D), one row per point; got shape {tuple(points.shape)}."
        )
    if points.shape[0] == 0 or points.shape[1] == 0:
        raise ShapeError(f"points is empty (shape {tuple(points.shape)}); a shape needs at least one point.")
    if points.dtype not in (torch.float32, torch.float64):
        raise ShapeError(
            f"points must be float32 or float64, got {points.dtype}; convert with points.float()."
        )
    wrong = int((~torch.isfinite(points.detach())).any(dim=1).sum())
    if wrong:
        raise ShapeError(f"points has NaN or infinite coordinates in {wrong} of its {points.shape[0]} rows.")
    return points


def _checked_weights(values: object, points: Tensor) -> Tensor:
    weights = _as_tensor(values, "weights").to(points)
    if weights.shape != points.shape[:1]:
        raise ShapeError(
            f"weights must have shape ({points.shape[0]},), one per point; got {tuple(weights.shape)}."
        )
    if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()) or not bool((weights > 0).any()):
        raise ShapeError("weights must be finite and non-negative, with at least one positive value.")
    return weights


def _checked_elements(values: object, points: Tensor, corners: int, name: str) -> Tensor:
    elements = _as_tensor(values, name)
    if elements.ndim != 2 or elements.shape[1] != corners or elements.shape[0] == 0:
        raise ShapeError(f"{name} must have shape (E, {corners}) with E >= 1; got {tuple(elements.shape)}.")
    if elements.is_floating_point() or elements.is_complex() or elements.dtype == torch.bool:
        raise ShapeError(f"{name} holds indices of points and must be integers, got {elements.dtype}.")
    elements = elements.to(device=points.device, dtype=torch.int64)
    low, high = int(elements.min()), int(elements.max())
    if low < 0 or high >= points.shape[0]:
        raise ShapeError(
            f"{name} refers to points {low} to {high}, but the indices of {points.shape[0]} points go from 0 to "
            f"{points.shape[0] - 1}. Indices start at 0."
        )
    return elements
