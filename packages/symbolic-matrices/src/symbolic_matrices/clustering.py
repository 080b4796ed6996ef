"""Clusters of points and the blocks that they make of a matrix: KeOps' functions, for points of any dimension.

The usual way: label the points (:func:`grid_cluster`), store the points of a cluster side by side
(:func:`sort_clusters`), describe the clusters (:func:`cluster_ranges_centroids`), choose the pairs of clusters that
matter, and make a structure of them (:meth:`BlockRanges.from_mask`, or :func:`from_matrix` for KeOps' tuple).
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from .arrays import Array, ArrayLibrary, find_library, library_of
from .errors import ArrayTypeError, ShapeError
from .sparsity import BlockRanges

__all__ = [
    "cluster_centroids",
    "cluster_ranges",
    "cluster_ranges_centroids",
    "from_matrix",
    "grid_cluster",
    "sort_clusters",
    "swap_axes",
]

MOST_CELLS = 1 << 62  # numbers of cells are int64


def grid_cluster(x: Array, size: float | Array) -> Array:
    """Label points by the cell of a regular grid that they fall in.

    Parameters
    ----------
    x : array of shape (M, D)
        Finite points, in any dimension.
    size : number or sequence of shape (D,)
        Edge of the cells, along each axis. The grid starts at the smallest coordinates of the points.

    Returns
    -------
    labels : int64 array of shape (M,)
        Numbers 0 to C - 1 of the C cells that are not empty, in the lexicographic order of the cells.

    Raises
    ------
    ShapeError
        If shapes do not fit, if a size is not positive, or if points are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices.clustering import grid_cluster
    >>> grid_cluster(np.array([[0.0], [0.1], [0.9], [0.05], [0.5]]), 0.2)
    array([0, 0, 2, 0, 1])
    """
    library = library_of(x)
    _check_points(x)
    cells, widths = _cells(library, library.detach(x), _edges(size, x.shape[1]))
    label, span = library.integers(0, 1, library.device(x)), 1
    for axis, width in enumerate(widths):
        cell = cells[:, axis]
        if span * width > MOST_CELLS:
            (label, span), (cell, width) = _compact(library, label), _compact(library, cell)
        label, span = label * width + cell, span * width
    return _compact(library, label + library.namespace.zeros_like(cells[:, 0]))[0]


def sort_clusters(x: Any, labels: Array) -> tuple[Any, Array]:
    """Store the points of each cluster side by side, in the order of the labels; equal labels keep their order.

    Parameters
    ----------
    x : array of shape (M, ...), or tuple or list of them
        Points, weights... that the labels belong to.
    labels : integer array of shape (M,)

    Returns
    -------
    sorted_x, sorted_labels : as the arguments.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices.clustering import sort_clusters
    >>> sort_clusters(np.array([[0.0], [5.0], [0.4], [2.0]]), np.array([0, 2, 0, 1]))
    (array([[0. ],
           [0.4],
           [2. ],
           [5. ]]), array([0, 0, 1, 2]))
    """
    library = library_of(labels)
    arrays = x if isinstance(x, (tuple, list)) else (x,)
    for array in arrays:
        _checked_labels(labels, array)
        _check_lengths(array, labels)
    order = library.stable_argsort(labels, 0)
    found = [array[order] for array in arrays]
    sorted_x = type(x)(found) if isinstance(x, (tuple, list)) else found[0]
    return sorted_x, labels[order]


def cluster_ranges(labels: Array) -> Array:
    """The intervals [start, stop) of the clusters, once points are sorted by their labels.

    Parameters
    ----------
    labels : integer array of shape (M,)
        Labels 0 to C - 1, sorted or not.

    Returns
    -------
    ranges : int64 array of shape (C, 2)
        A label that no point has gives an empty interval.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices.clustering import cluster_ranges
    >>> cluster_ranges(np.array([0, 0, 0, 1, 3])).tolist()
    [[0, 3], [3, 4], [4, 4], [4, 5]]
    """
    library = library_of(labels)
    counts = _counts(library, _checked_labels(labels, labels))
    stops = counts.cumsum(0)
    return library.namespace.stack((stops - counts, stops), 1)


def cluster_centroids(x: Array, labels: Array, weights: Array | None = None) -> Array:
    r"""The mean of each cluster, :math:`c_k = \sum_{l_i = k} w_i x_i / \sum_{l_i = k} w_i`.

    Parameters
    ----------
    x : array of shape (M, D)
    labels : integer array of shape (M,)
        Labels 0 to C - 1, sorted or not.
    weights : array of shape (M,) or (M, 1)
        Weights >= 0, all equal by default. A cluster of total weight 0 has the plain mean of its points.

    Returns
    -------
    centroids : array of shape (C, D)
        Computed in float64 and rounded to the dtype of ``x``; NaN for a label that no point has. Not differentiable.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices.clustering import cluster_centroids
    >>> x, labels = np.array([[0.0], [1.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
    >>> cluster_centroids(x, labels, weights=np.array([0.5, 0.5, 3.0, 1.0]))[:, 0]
    array([0.5, 4.5])
    """
    return _describe(x, labels, weights)[1]


def cluster_ranges_centroids(
    x: Array, labels: Array, weights: Array | None = None
) -> tuple[Array, Array, Array]:
    """The intervals, the means and the weights of clusters.

    Parameters
    ----------
    x : array of shape (M, D)
    labels : integer array of shape (M,)
        Labels 0 to C - 1, sorted or not.
    weights : array of shape (M,) or (M, 1)
        Weights >= 0; 1 by default.

    Returns
    -------
    ranges : int64 array of shape (C, 2), see :func:`cluster_ranges`.
    centroids : array of shape (C, D), see :func:`cluster_centroids`.
    weights : array of shape (C,), the total weight of each cluster.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices.clustering import cluster_ranges_centroids
    >>> x, labels = np.array([[0.0], [1.0], [4.0], [6.0]]), np.array([0, 0, 1, 1])
    >>> ranges, centroids, weights = cluster_ranges_centroids(x, labels)
    >>> ranges.tolist(), centroids[:, 0].tolist(), weights.tolist()
    ([[0, 2], [2, 4]], [0.5, 5.0], [2.0, 2.0])
    """
    return _describe(x, labels, weights)


def from_matrix(ranges_i: Array, ranges_j: Array, keep: Array) -> tuple[Array, ...]:
    """KeOps' 6-tuple of the blocks ``ranges_i[k] x ranges_j[l]`` where ``keep[k, l]``.

    See :meth:`BlockRanges.from_mask`, which makes a :class:`BlockRanges` of the same arguments.

    Parameters
    ----------
    ranges_i, ranges_j : integer arrays of shapes (R, 2) and (S, 2)
    keep : boolean array of shape (R, S)

    Returns
    -------
    (ranges_i, slices_i, redranges_j, ranges_j, slices_j, redranges_i), int64 arrays of the library of ``ranges_i``.

    Examples
    --------
    >>> import numpy as np
    >>> from symbolic_matrices.clustering import from_matrix
    >>> clusters = np.array([[0, 3], [3, 5]])
    >>> [array.tolist() for array in from_matrix(clusters, clusters, np.eye(2) == 1)[:3]]
    [[[0, 3], [3, 5]], [1, 2], [[0, 3], [3, 5]]]
    """
    return BlockRanges.from_mask(keep, ranges_i, ranges_j).to_keops(like=ranges_i)


@overload
def swap_axes(ranges: None) -> None: ...
@overload
def swap_axes(ranges: BlockRanges) -> BlockRanges: ...
@overload
def swap_axes(ranges: tuple[Array, ...]) -> tuple[Array, ...]: ...


def swap_axes(ranges: Any) -> Any:
    """The structure of the transposed matrix, for KeOps' 6-tuple, a :class:`BlockRanges` or None.

    Examples
    --------
    >>> from symbolic_matrices.clustering import swap_axes
    >>> swap_axes(("ranges_i", "slices_i", "redranges_j", "ranges_j", "slices_j", "redranges_i"))
    ('ranges_j', 'slices_j', 'redranges_i', 'ranges_i', 'slices_i', 'redranges_j')
    """
    if ranges is None or isinstance(ranges, BlockRanges):
        return None if ranges is None else ranges.T
    if len(ranges) != 6:
        raise ShapeError(f"KeOps' ranges are six arrays but got {len(ranges)}.")
    return (*ranges[3:], *ranges[:3])


# ---------------------------------------------------------------------- points, cells, labels


def _check_points(x: Array) -> None:
    if len(x.shape) != 2 or x.shape[1] == 0:
        raise ShapeError(f"Points must have shape (M, D) with D >= 1 but have shape {tuple(x.shape)}.")
    dtype = library_of(x).dtype_name(x)
    if not dtype.startswith(("float", "bfloat", "int", "uint")):
        raise ArrayTypeError(f"Points must have real coordinates but are of dtype {dtype}.")


def _checked_labels(labels: Array, like: Array) -> Array:
    """The labels as int64, on the side of the points ``like``."""
    library = library_of(labels)
    name = library.dtype_name(labels)
    if (library, library.device(labels)) != (library_of(like), library_of(like).device(like)):
        raise ArrayTypeError(
            f"Labels and points must share their library and device but are {type(labels).__qualname__} on "
            f"{library.device(labels)!r} and {type(like).__qualname__} on {library_of(like).device(like)!r}."
        )
    if not name.startswith(("int", "uint")):
        raise ArrayTypeError(f"Labels must be integers but have dtype {name}.")
    if len(labels.shape) != 1:
        raise ShapeError(f"Labels must have shape (M,) but have shape {tuple(labels.shape)}.")
    return library.astype(labels, "int64")


def _check_lengths(array: Array, labels: Array) -> None:
    if len(array.shape) == 0 or array.shape[0] != labels.shape[0]:
        raise ShapeError(
            f"There must be one label per point but got {labels.shape[0]} labels for an array of shape "
            f"{tuple(array.shape)}."
        )


def _edges(size: Any, dim: int) -> np.ndarray:
    library = find_library(size)
    given = np.asarray(size) if library is None else library.to_numpy(size)
    if given.dtype.kind not in "fiu":
        raise ArrayTypeError(f"size must be a positive number, or one per axis, but got {size!r}.")
    edges = np.broadcast_to(given.astype("float64").reshape(-1), (dim,)) if given.size in (1, dim) else None
    if edges is None:
        raise ShapeError(f"size must be a number or have shape ({dim},) but has shape {given.shape}.")
    if not (np.isfinite(edges).all() and (edges > 0).all()):
        raise ShapeError(f"The edges of cells must be positive and finite but size = {edges.tolist()}.")
    return edges


def _cells(library: ArrayLibrary, x: Array, edges: np.ndarray) -> tuple[Array, list[int]]:
    """The integer coordinates of cells, from 0 on, and how many there are along each axis."""
    xp = library.namespace
    x = library.astype(x, "float64")  # so that rounding moves no point, wherever the origin is
    if x.shape[0] == 0:
        return library.astype(x, "int64"), [1] * x.shape[1]
    if not xp.isfinite(x).all():
        raise ShapeError(
            "Points must be finite but some coordinates are infinite or NaN; remove these points first."
        )
    lowest, highest = xp.amin(x, 0), xp.amax(x, 0)
    with np.errstate(over="ignore"):
        widths = (library.to_numpy(highest) - library.to_numpy(lowest)) / edges
    if widths.max() >= MOST_CELLS:
        raise ShapeError(
            f"A grid of {widths.max():.3g} cells along an axis cannot be numbered; choose larger cells than "
            f"size = {edges.tolist()}."
        )
    cells = xp.floor((x - lowest) / library.convert(edges.tolist(), "float64", library.device(x)))
    return library.astype(cells, "int64"), [int(width) + 1 for width in widths]


def _compact(library: ArrayLibrary, numbers: Array) -> tuple[Array, int]:
    """The rank of each number among the different ones, and how many are different."""
    different, ranks = library.namespace.unique(numbers, return_inverse=True)
    return ranks, max(1, len(different))


def _counts(library: ArrayLibrary, labels: Array) -> Array:
    """How many points each label has."""
    if labels.shape[0] and int(library.namespace.amin(labels, 0)) < 0:
        raise ShapeError(
            "Labels must be 0, 1, 2... but some are negative; give the points of no cluster a label of their own."
        )
    return library.astype(library.namespace.bincount(labels), "int64")


def _describe(x: Array, labels: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    library = library_of(x)
    _check_points(x)
    labels = _checked_labels(labels, x)
    counts = _counts(library, labels)
    _check_lengths(x, labels)
    points, xp = library.astype(library.detach(x), "float64"), library.namespace
    ones = xp.ones_like(points[:, :1])
    plain, number = (library.sum_by_label(values, labels, len(counts)) for values in (points, ones))
    with np.errstate(invalid="ignore"):
        means = plain / number
    total = number
    if weights is not None:
        _check_lengths(weights, labels)
        w = library.astype(library.detach(weights), "float64").reshape(-1, 1)
        if len(w) and (xp.amin(w, 0) < 0).any():
            raise ShapeError("Weights must be >= 0 but some are negative.")
        total = library.sum_by_label(w, labels, len(counts))
        deviations = library.sum_by_label(w * (points - means[labels]), labels, len(counts))
        means = means + deviations / xp.where(total > 0, total, xp.ones_like(total))
    dtype = library.dtype_name(x)
    return cluster_ranges(labels), library.astype(means, dtype), library.astype(total[:, 0], dtype)
