"""What every attachment shares: it is bound to a target once, then measures how far moving shapes are from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from ..shapes import Mesh, Polyline, Shape

Loss = Callable[[Shape], Tensor]


class Attachment(ABC):
    """A squared distance, or a divergence, between two shapes that need no common connectivity."""

    @abstractmethod
    def bind(self, target: Shape) -> Loss:
        """The function of a moving shape; what depends on the target alone is computed once, here."""

    def __call__(self, shape: Shape, target: Shape) -> Tensor:
        """The value for two shapes: a scalar, differentiable in the points of `shape`."""
        check_compatible(shape, target)
        return self.bind(target)(shape)


def check_compatible(shape: Shape, target: Shape) -> None:
    """Raise if two shapes cannot be compared: another dimension, type or device."""
    for what in ("dim", "dtype", "device"):
        given, expected = getattr(shape, what), getattr(target, what)
        if given != expected:
            raise ValueError(
                f"The two shapes differ in {what}: {given} and {expected}. Convert one with shape.to(...)."
            )


def with_directions(shape: Shape, attachment: str) -> Mesh | Polyline:
    """The shape, if it has tangents or normals; else an error that names the attachment which needs them."""
    if isinstance(shape, (Mesh, Polyline)):
        return shape
    raise ValueError(
        f"{attachment} compares tangents or normals: it needs a Mesh or a Polyline, not a {type(shape).__name__}."
    )
