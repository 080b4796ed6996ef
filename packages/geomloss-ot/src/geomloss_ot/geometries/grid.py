"""Owns costs that are sums over the axes of regular grids, in dimension 1 to 3: one axis is reduced after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from symbolic_matrices import LazyTensor
from symbolic_matrices.arrays import Array, library_of

from .geometry import ALL, Coarsening

_J = -2  # the j axis of the symbolic matrices that transform the lines of an image
_LARGEST = 80.0  # its exponential is finite in float32
_EMPTY = -1e30  # logarithm of the weight of an empty pixel: lines without any mass must not give NaN
_COARSEST = 8  # pixels per axis, below which coarser images bring nothing

Axis = tuple[float, ...]  # coordinates of the pixels along one axis


@dataclass(frozen=True)
class GridGeometry:
    """C_ij = coefficient * sum_k |x_i^k - y_j^k|^power between the pixels of two grids, in the C order of images.

    ``rows`` and ``columns`` hold the coordinates of the pixels along each axis.
    """

    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    power: int = 2
    coefficient: float = 1.0
    batch: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.batch, math.prod(map(len, self.rows)), math.prod(map(len, self.columns)))

    @property
    def T(self) -> GridGeometry:
        return replace(self, rows=self.columns, columns=self.rows)

    @property
    def cost_bound(self) -> float:
        lengths = [max(x[-1], y[-1]) - min(x[0], y[0]) for x, y in zip(self.rows, self.columns, strict=True)]
        return self.coefficient * sum(length**self.power for length in lengths)

    @property
    def annealing_power(self) -> int:
        return self.power

    @property
    def takes_any_library(self) -> bool:
        return True

    @property
    def tensors(self) -> tuple[Array, ...]:
        return ()

    def replace(self, tensors: tuple[Array, ...]) -> GridGeometry:
        return self

    def one_sided(self) -> tuple[GridGeometry, None]:
        return self, None

    def coarsen(self) -> Coarsening | None:
        """Pixels in pairs along each axis, down to grids that are too small for it to pay."""
        if min(len(axis) for axis in (*self.rows, *self.columns)) < 2 * _COARSEST:
            return None
        coarse = replace(self, rows=_paired(self.rows), columns=_paired(self.columns))
        widths = [(axis[-1] - axis[0]) / (len(axis) - 1) for axis in (*coarse.rows, *coarse.columns)]
        return Coarsening(
            coarse,
            lambda weights: _pool(weights, self.rows),
            lambda weights: _pool(weights, self.columns),
            lambda values: _spread(values, self.columns),
            self.coefficient * max(widths) ** self.power,
        )

    def with_columns_of(self, other: Any) -> GridGeometry:
        return replace(self, columns=other.columns)

    def row_points(self, like: Array) -> Array:
        points = np.stack([axis.ravel() for axis in np.meshgrid(*self.rows, indexing="ij")], -1)
        library = library_of(like)
        return library.convert(points.tolist(), library.dtype_name(like), library.device(like))

    def softmin(self, epsilon: float, exponents: Array) -> Array:
        xp = library_of(exponents).namespace
        image = self._unflatten(xp.clip(exponents, _EMPTY, None), self.columns)
        for axis in range(len(self.rows)):
            lines, shape = _lines(image, axis - len(self.rows))
            cost = self._axis_cost(axis, epsilon, lines)
            sums = (LazyTensor(lines[:, None, :, None]) - cost).logsumexp(axis=_J)[..., 0]
            image = _image(sums, shape, axis - len(self.rows))
        return -epsilon * self._flatten(image)

    def apply_plan(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        return self._transport(epsilon, (f, g), values, with_cost=False)

    def apply_plan_cost(self, epsilon: float, f: Array, g: Array, values: Array) -> Array:
        return self._transport(epsilon, (f, g), values, with_cost=True)

    def primal_density(
        self, epsilon: float, f: Array, g: Array, rank_one: tuple[Array, Array, Array]
    ) -> Array:
        """An upper bound, equal to the density where the rank one part vanishes: p log p does not separate over axes.

        With p = k + r and theta the part of r in each row, convexity of phi(p) = p log p - p + 1 gives
        phi(p) <= (1 - theta) phi(k / (1 - theta)) + theta phi(r / theta).
        """
        u, v, b = rank_one
        xp = library_of(f).namespace
        sums = self.apply_plan(epsilon, f, g, xp.stack([b, b * g], -1))
        kernel_mass, kernel_g = sums[..., 0], sums[..., 1]
        # C k + epsilon k log k = k (f + g): the costs cancel.
        value = f * kernel_mass + kernel_g
        mass, entropy = (b * v).sum(-1)[..., None], (b * _xlogx(v)).sum(-1)[..., None]
        value = value + u * self._product_cost(b * v) + epsilon * (_xlogx(u) * mass + u * entropy)
        total = kernel_mass + u * mass
        mixing = _xlogx(total) - _xlogx(kernel_mass) - _xlogx(u * mass)
        return value + epsilon * (mixing - total + b.sum(-1)[..., None])

    def dense_costs(self, like: Array) -> Array:
        x, y = self.row_points(like), self.T.row_points(like)
        costs = self.coefficient * (abs(x[:, None, :] - y[None, :, :]) ** self.power).sum(-1)
        return library_of(like).namespace.broadcast_to(costs, self.shape)

    def density(self, epsilon: float, f: Array, g: Array, rows: slice = ALL) -> Array:
        xp = library_of(f).namespace
        x, y = self.row_points(f)[rows], self.T.row_points(f)
        costs = (abs(x[:, None, :] - y[None, :, :]) ** self.power).sum(-1)
        return xp.exp((f[..., rows, None] + g[..., None, :] - self.coefficient * costs) / epsilon)

    def lazy_density(self, epsilon: float, f: Array, g: Array) -> Any:
        x, y = (LazyTensor(self.row_points(f)[:, None, :]), LazyTensor(self.T.row_points(f)[None, :, :]))
        cost = (self.coefficient / epsilon) * (x.sqdist(y) if self.power == 2 else (x - y).abs().sum(-1))
        row = LazyTensor(f[..., :, None, None] / epsilon)
        return (row + LazyTensor(g[..., None, :, None] / epsilon) - cost).exp()

    def _transport(
        self, epsilon: float, potentials: tuple[Array, Array], values: Array, *, with_cost: bool
    ) -> Array:
        """sum_j exp((f_i + g_j - C_ij) / epsilon) v_j, or the same times C_ij, for values of any sign.

        Sums along each axis are divided by what they would be for values of one at the pixels that have some, so that
        they stay in range; this divisor multiplies them again at the next axis, outside of any graph.
        """
        (f, g), library, dims = potentials, library_of(values), len(self.rows)
        xp = library.namespace
        if with_cost:  # a second group of channels, that have paid for the axes behind them
            values = xp.concatenate([values, xp.zeros_like(values)], -1)
        level = self._unflatten(g / epsilon, self.columns)
        images = xp.moveaxis(values, -1, 0)
        images = images.reshape(*images.shape[:-1], *map(len, self.columns))  # (E, ..., n_1, ..., n_D)
        for axis in range(dims):
            lines, lead = _lines(level, axis - dims)
            channels, channel_lead = _lines(images, axis - dims)
            channels = channels.reshape(images.shape[0], *lines.shape)
            level, channels = self._transport_lines(epsilon, axis, (lines, channels), with_cost=with_cost)
            level = _image(level, lead, axis - dims)
            images = _image(channels.reshape(-1, channels.shape[-1]), channel_lead, axis - dims)
        if with_cost:
            images = images[images.shape[0] // 2 :]
        return (
            xp.moveaxis(self._flatten(images), 0, -1) * xp.exp(f / epsilon + self._flatten(level))[..., None]
        )

    def _transport_lines(
        self, epsilon: float, axis: int, lines: tuple[Array, Array], *, with_cost: bool
    ) -> tuple[Array, Array]:
        """The divisors of lines (L, m) along one axis, (L, n), and the transport of their channels, (E, L, n)."""
        level, channels = lines
        library = library_of(level)
        xp = library.namespace
        cost = self._axis_cost(axis, epsilon, level)
        fixed, present = library.detach(level), (library.detach(channels) != 0).any(0)
        # Potentials are wild at pixels without mass.
        fixed = xp.where(present | ~present.any(-1)[:, None], fixed, _EMPTY)
        divisor = (LazyTensor(fixed[:, None, :, None]) - cost).logsumexp(axis=_J)[..., 0]
        exponents = LazyTensor(level[:, None, :, None]) - LazyTensor(divisor[:, :, None, None]) - cost
        kernel = exponents.minimum(_LARGEST).exp()
        weights = LazyTensor(xp.moveaxis(channels, 0, -1)[:, None])
        moved = xp.moveaxis((kernel * weights).sum(axis=_J), -1, 0)
        if with_cost:
            half = channels.shape[0] // 2
            weights = LazyTensor(xp.moveaxis(channels[:half], 0, -1)[:, None])
            paid = epsilon * xp.moveaxis((kernel * cost * weights).sum(axis=_J), -1, 0)
            moved = xp.concatenate([moved[:half], moved[half:] + paid], 0)
        return divisor, moved

    def _axis_cost(self, axis: int, epsilon: float, like: Array) -> Any:
        """Cost along one axis, over epsilon, as a formula."""
        scale = (self.coefficient / epsilon) ** (1 / self.power)
        library = library_of(like)
        x, y = (
            library.convert([scale * t for t in axes[axis]], library.dtype_name(like), library.device(like))
            for axes in (self.rows, self.columns)
        )
        x, y = LazyTensor(x[:, None, None]), LazyTensor(y[None, :, None])
        return x.sqdist(y) if self.power == 2 else (x - y).abs()

    def _product_cost(self, weights: Array) -> Array:
        """sum_j C_ij w_j for w (..., M): a function of each axis alone, from the marginals of w."""
        library = library_of(weights)
        image, dims = self._unflatten(weights, self.columns), len(self.rows)
        total = 0.0
        for axis in range(dims):
            others = tuple(k - dims for k in range(dims) if k != axis)
            marginal = image.sum(others) if others else image
            gaps = np.abs(np.subtract.outer(self.rows[axis], self.columns[axis])) ** self.power
            costs = library.convert(gaps.tolist(), library.dtype_name(weights), library.device(weights))
            paid = self.coefficient * (marginal @ costs.T)
            total = total + paid.reshape(*paid.shape[:-1], *(-1 if k == axis else 1 for k in range(dims)))
        return self._flatten(total)

    def _unflatten(self, values: Array, axes: tuple[Axis, ...]) -> Array:
        return values.reshape(*values.shape[:-1], *map(len, axes))

    def _flatten(self, image: Array) -> Array:
        return image.reshape(*image.shape[: image.ndim - len(self.rows)], -1)


def _lines(image: Array, axis: int) -> tuple[Array, tuple[int, ...]]:
    """The lines of an image along one axis, (L, n), and the shape of what they are taken from."""
    moved = library_of(image).namespace.moveaxis(image, axis, -1)
    return moved.reshape(-1, moved.shape[-1]), tuple(moved.shape[:-1])


def _image(lines: Array, lead: tuple[int, ...], axis: int) -> Array:
    """The image of these lines: inverse of ``_lines``."""
    return library_of(lines).namespace.moveaxis(lines.reshape(*lead, lines.shape[-1]), -1, axis)


def _paired(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Centres of pairs of pixels; a last one that is alone keeps its place."""
    return tuple(
        tuple((axis[k] + axis[min(k + 1, len(axis) - 1)]) / 2 for k in range(0, len(axis), 2))
        for axis in axes
    )


def _pool(weights: Array, axes: tuple[Axis, ...]) -> Array:
    """Sums of weights (..., N) over pairs of pixels along each axis."""
    library = library_of(weights)
    xp = library.namespace
    image = weights.reshape(*weights.shape[:-1], *map(len, axes))
    for axis in range(-len(axes), 0):
        lines, lead = _lines(image, axis)
        if lines.shape[-1] % 2:
            lines = xp.concatenate([lines, xp.zeros_like(lines[:, :1])], -1)
        image = _image(lines.reshape(lines.shape[0], -1, 2).sum(-1), lead, axis)
    return image.reshape(*weights.shape[:-1], -1)


def _spread(values: Array, axes: tuple[Axis, ...]) -> Array:
    """Values of pairs of pixels, (..., N / 2^D), at the pixels: linear in between, constant next to the boundary."""
    xp = library_of(values).namespace
    image = values.reshape(*values.shape[:-1], *(-(-len(axis) // 2) for axis in axes))
    for axis in range(-len(axes), 0):
        lines, lead = _lines(image, axis)
        before = xp.concatenate([lines[:, :1], lines[:, :-1]], -1)
        after = xp.concatenate([lines[:, 1:], lines[:, -1:]], -1)
        pairs = xp.stack([0.75 * lines + 0.25 * before, 0.75 * lines + 0.25 * after], -1)
        image = _image(pairs.reshape(lines.shape[0], -1)[:, : len(axes[axis])], lead, axis)
    return image.reshape(*values.shape[:-1], -1)


def _xlogx(values: Array) -> Array:
    xp = library_of(values).namespace
    return values * xp.log(xp.where(values > 0, values, 1.0))
