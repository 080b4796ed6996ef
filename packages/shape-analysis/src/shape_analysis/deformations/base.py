"""What every deformation model shares: its few methods, and the path of shapes that it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from ..shapes import Shape

AnyShape = TypeVar("AnyShape", bound=Shape)


@dataclass(frozen=True)
class Path(Generic[AnyShape]):
    """A moving shape, seen at some times.

    Attributes
    ----------
    times : tuple of floats
        As they were asked for.
    shapes : tuple of shapes
        One per time.
    """

    times: tuple[float, ...]
    shapes: tuple[AnyShape, ...]

    @property
    def end(self) -> AnyShape:
        """The shape at the last of the times."""
        return self.shapes[-1]

    def __len__(self) -> int:
        return len(self.shapes)


class Deformation(ABC):
    """A family of deformations of the whole space, indexed by one tensor of parameters."""

    @abstractmethod
    def initial_parameters(self, source: Shape) -> Tensor:
        """The parameters of the identity: all zeros, in the type and on the device of the source."""

    @abstractmethod
    def energy(self, source: Shape, parameters: Tensor) -> Tensor:
        """The cost of a deformation, a scalar: zero for the identity."""

    @abstractmethod
    def flow(self, source: Shape, parameters: Tensor, points: Tensor, times: Sequence[float]) -> list[Tensor]:
        """Where the deformation of `source` carries any points (N, D): their positions at each time."""

    def coordinates(self, source: Shape) -> Callable[[Tensor], Tensor]:
        """A linear change of variables, onto the parameters, in which the energy is easier to minimise.

        The default is the identity.
        """
        return lambda variables: variables

    def __call__(
        self, source: AnyShape, parameters: Tensor, times: Sequence[float] = (1.0,)
    ) -> Path[AnyShape]:
        """Deform the source.

        Parameters
        ----------
        source : Shape
        parameters : Tensor
            Of the shape of `initial_parameters(source)`.
        times : sequence of floats
            Time 0 is the source, time 1 the deformed shape; times outside of [0, 1] extrapolate.

        Returns
        -------
        Path
            The shape at each of the times; differentiable in the parameters and in the points of the source.
        """
        return self.carry(source, parameters, source, times)

    def carry(
        self, source: Shape, parameters: Tensor, other: AnyShape, times: Sequence[float] = (1.0,)
    ) -> Path[AnyShape]:
        """Apply the deformation of `source` to another shape (an annotation, a finer mesh...)."""
        expected = self.initial_parameters(source).shape
        if parameters.shape != expected:
            raise ValueError(
                f"{type(self).__name__} needs parameters of shape {tuple(expected)} for this source, got "
                f"{tuple(parameters.shape)}. Start from initial_parameters(source)."
            )
        if other.dim != source.dim:
            raise ValueError(
                f"The shape is in dimension {other.dim}, the source of the deformation in {source.dim}."
            )
        if len(times) == 0:
            raise ValueError("times is empty: ask for at least one time, such as (1.0,).")
        positions = self.flow(source, parameters, other.points, times)
        return Path(
            tuple(float(time) for time in times), tuple(other.with_points(points) for points in positions)
        )
