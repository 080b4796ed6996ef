"""The K smallest values and where they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...arrays import Array, ArrayLibrary
from ...errors import ShapeError
from .monoid import Returns, SelectingReduction, State


@dataclass(frozen=True)
class Smallest(SelectingReduction):
    """The K smallest F_ij of each row, in increasing order; equal values by increasing index.

    With fewer than K columns, the missing values are +inf and the missing indices -1.
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ShapeError(f"The number of neighbours must be at least 1 but K = {self.count}.")

    @property
    def name(self) -> str:
        return {Returns.VALUES: "Kmin", Returns.INDICES: "argKmin"}.get(self.returns, "Kmin_argKmin")

    def returning(self, returns: Returns) -> Smallest:
        return replace(self, returns=returns)

    def output_shape(self, dim: int) -> tuple[int, ...]:
        return (self.count,) if dim == 1 else (self.count, dim)

    def spelling(self, dim: str) -> str:
        return f"Smallest<{self.count}, {dim}, {self.returns.value}>"

    def identity(self, library: ArrayLibrary, like: Array) -> State:
        values = like[..., None, :][..., :0, :]
        return values, library.astype(values, "int64")

    def absorb(self, library: ArrayLibrary, block: Array, first: int) -> State:
        xp = library.namespace
        columns = library.integers(first, first + block.shape[-2], library.device(block))
        return self._truncate(library, block, xp.broadcast_to(columns[:, None], block.shape))

    def merge(self, library: ArrayLibrary, left: State, right: State) -> State:
        xp = library.namespace
        return self._truncate(
            library, *(xp.concatenate((a, b), -2) for a, b in zip(left, right, strict=True))
        )

    def finish(self, library: ArrayLibrary, state: State) -> tuple[Array, ...]:
        values, indices = (
            self._pad(library, array, fill) for array, fill in zip(state, (float("inf"), -1), strict=True)
        )
        shape = (*values.shape[:-2], *self.output_shape(values.shape[-1]))
        return self.keep(values.reshape(shape), indices.reshape(shape))

    def _truncate(self, library: ArrayLibrary, values: Array, indices: Array) -> State:
        best = library.stable_argsort(values, -2)[..., : self.count, :]
        return library.gather(values, best, -2), library.gather(indices, best, -2)

    def _pad(self, library: ArrayLibrary, array: Array, fill: float) -> Array:
        missing = self.count - array.shape[-2]
        if missing <= 0:
            return array
        shape = (*array.shape[:-2], missing, array.shape[-1])
        padding = library.full(shape, fill, library.dtype_name(array), library.device(array))
        return library.namespace.concatenate((array, padding), -2)
