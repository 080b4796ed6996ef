"""Grid cells, sorted clusters, centroids, and the block-sparse products that they lead to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix_testing import assert_close, sample

from symbolic_matrices import ArrayTypeError, BlockRanges, ShapeError, Vi, Vj
from symbolic_matrices.clustering import (
    cluster_centroids,
    cluster_ranges,
    cluster_ranges_centroids,
    from_matrix,
    grid_cluster,
    sort_clusters,
    swap_axes,
)

LIBRARIES = {"numpy": np.asarray, "torch": torch.tensor}


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


def cell_labels(x: np.ndarray, size) -> np.ndarray:
    """The definition: ranks of the different cells, which are tuples."""
    x = x.astype("float64")
    cells = [tuple(cell) for cell in np.floor((x - x.min(0)) / size).astype(int)]
    ranks = {cell: rank for rank, cell in enumerate(sorted(set(cells)))}
    return np.array([ranks[cell] for cell in cells])


@pytest.mark.parametrize("dim", [1, 2, 3, 10])
@pytest.mark.parametrize("offset", [0.0, -7.3, 1e5])
def test_grid_cells(dim, offset, dtype, library, rng):
    x = sample(rng, (200, dim), dtype=dtype) + np.array(offset, dtype)
    for size in (0.3, np.linspace(0.2, 0.5, dim), 100.0):
        labels = grid_cluster(library(x), size)
        assert isinstance(labels, type(library(x)))
        np.testing.assert_array_equal(labels, cell_labels(x, size))


def test_grid_sizes_of_every_kind(library, rng):
    x = sample(rng, (50, 2))
    expected = cell_labels(x, 0.25)
    for size in (0.25, np.float32(0.25), [0.25, 0.25], np.array(0.25), torch.tensor([0.25, 0.25])):
        np.testing.assert_array_equal(grid_cluster(library(x), size), expected)


def test_float32_points_close_to_an_edge(library):
    """Their difference, 1 + 2^-26, is no float32 number."""
    x = np.array([[-1.0], [2.0**-26]], "float32")
    assert grid_cluster(library(x), 1 + 2.0**-27).tolist() == [0, 1]


def test_grids_with_more_cells_than_numbers(library):
    """2^61 cells along each of ten axes: their numbers fit no integer, their ranks do."""
    x = np.zeros((4, 10))
    x[1:3, 3], x[2, 9], x[3, 0] = 2.0**60, 2.0**60, 2.0**61
    assert grid_cluster(library(x), 1.0).tolist() == [0, 1, 2, 3]


def test_one_point_and_none(library):
    assert grid_cluster(library(np.array([[3.0, -4.0]])), 0.1).tolist() == [0]
    nothing = library(np.zeros((0, 3)))
    labels = grid_cluster(nothing, 0.1)
    assert labels.shape == (0,)
    ranges, centroids, weights = cluster_ranges_centroids(nothing, labels)
    assert (tuple(ranges.shape), tuple(centroids.shape), tuple(weights.shape)) == ((0, 2), (0, 3), (0,))


def test_sorted_clusters(library, rng):
    labels = rng.integers(0, 5, 40)
    x, w = sample(rng, (40, 3)), np.arange(40.0)
    order = np.argsort(labels, kind="stable")
    sorted_x, sorted_labels = sort_clusters(library(x), library(labels))
    np.testing.assert_array_equal(sorted_labels, labels[order])
    np.testing.assert_array_equal(sorted_x, x[order])
    for container in (tuple, list):
        both, _ = sort_clusters(container([library(x), library(w)]), library(labels))
        assert type(both) is container
        np.testing.assert_array_equal(both[1], w[order])


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=20),
    integers=st.sampled_from(["int32", "int64", "uint8"]),
    is_weighted=st.booleans(),
    name=st.sampled_from(sorted(LIBRARIES)),
)
def test_centroids(labels, integers, is_weighted, name):
    library, rng = LIBRARIES[name], np.random.default_rng(len(labels))
    x, weights = rng.random((len(labels), 2)), rng.integers(0, 3, len(labels)).astype("float64")
    numbers = library(np.array(labels, integers))
    given_weights = library(weights) if is_weighted else None
    ranges, centroids, totals = cluster_ranges_centroids(library(x), numbers, weights=given_weights)
    np.testing.assert_array_equal(cluster_ranges(numbers), ranges)
    np.testing.assert_array_equal(cluster_centroids(library(x), numbers, given_weights), centroids)
    sorted_x, _ = sort_clusters(x, np.array(labels))
    assert len(ranges) == 1 + max(labels)
    for k, (start, stop) in enumerate(np.asarray(ranges)):
        own = np.array(labels) == k
        np.testing.assert_array_equal(np.sort(sorted_x[start:stop], 0), np.sort(x[own], 0))
        w = weights[own] if is_weighted else np.ones(own.sum())
        assert float(totals[k]) == w.sum()
        if own.any():
            expected = np.average(x[own], axis=0, weights=w if w.any() else None)
            assert_close(np.asarray(centroids[k]), expected)
        else:
            assert np.isnan(np.asarray(centroids[k])).all()


def test_float32_centroids_far_from_the_origin(library, rng):
    x = (1e6 + sample(rng, (100_000, 1))).astype("float32")
    labels = np.zeros(100_000, int)
    weights = rng.random(100_000).astype("float32")
    for given_weights, w in ((library(weights[:, None]), weights), (None, None)):
        found = cluster_centroids(library(x), library(labels), given_weights)
        assert found.dtype == library(x).dtype
        expected = np.average(x.astype("float64")[:, 0], weights=w)
        assert abs(float(found[0, 0]) - expected) < 0.04  # half a spacing


def test_tensors_that_need_gradients(rng):
    x = torch.tensor(sample(rng, (30, 2)), requires_grad=True)
    labels = grid_cluster(x, 0.5)
    assert not labels.requires_grad
    assert not cluster_centroids(x, labels).requires_grad
    sorted_x, _ = sort_clusters(x, labels)
    assert sorted_x.requires_grad


def test_from_matrix_lists_blocks(library):
    ranges_i, ranges_j = [[2, 5], [7, 12]], [[1, 4], [4, 9], [20, 30]]
    keep = np.array([[True, True, False], [False, True, False]])
    found = from_matrix(library(np.array(ranges_i, "int32")), library(np.array(ranges_j)), library(keep))
    expected = (
        ranges_i, [2, 3], [[1, 4], [4, 9], [4, 9]],
        ranges_j, [1, 3, 3], [[2, 5], [2, 5], [7, 12]],
    )  # fmt: skip
    assert tuple(array.tolist() for array in found) == expected
    assert all(type(array) is type(library(keep)) for array in found)
    assert swap_axes(found) == (*found[3:], *found[:3])
    assert swap_axes(None) is None
    ranges = BlockRanges.from_keops(found)
    assert swap_axes(ranges) is ranges.T


def test_a_truncated_gaussian_is_that_of_close_clusters(rng, backend):
    """The whole way: cells, sorted points, centroids, close pairs of cells, a product; against a mask of points."""
    x, y = sample(rng, (150, 2)), sample(rng, (170, 2))
    sparse = []
    for cloud in (x, y):
        labels = grid_cluster(cloud, 0.4)
        cloud[:], labels = sort_clusters(cloud, labels)
        sparse.append((labels, *cluster_ranges_centroids(cloud, labels)))
    (labels_x, ranges_x, centers_x, _), (labels_y, ranges_y, centers_y, _) = sparse
    keep = ((centers_x[:, None] - centers_y[None]) ** 2).sum(-1) < 0.5
    K = (-Vi(x).sqdist(Vj(y))).exp()
    K.ranges = from_matrix(ranges_x, ranges_y, keep)
    dense = np.exp(-((x[:, None] - y[None]) ** 2).sum(-1)) * keep[labels_x][:, labels_y]
    assert 0 < K.ranges.pairs < x.shape[0] * y.shape[0] / 2
    assert_close(K.sum(axis=1, backend=backend), dense.sum(1)[:, None])
    assert_close(K.sum(axis=0, backend=backend), dense.sum(0)[:, None])


X, LABELS = np.zeros((3, 2)), np.array([0, 1, 1])


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        (lambda: grid_cluster(X[0], 1.0), ShapeError, r"shape \(M, D\) with D >= 1 but have shape \(2,\)"),
        (lambda: grid_cluster([[1.0]], 1.0), ArrayTypeError, "but got builtins.list"),
        (lambda: grid_cluster(X, 0.0), ShapeError, r"positive and finite but size = \[0.0, 0.0\]"),
        (lambda: grid_cluster(X, [1.0, 2.0, 3.0]), ShapeError, r"shape \(2,\) but has shape \(3,\)"),
        (lambda: grid_cluster(X + np.array([np.nan, 0]), 1.0), ShapeError, "some coordinates are infinite or NaN"),
        (lambda: grid_cluster(torch.tensor(X - np.inf), 1.0), ShapeError, "some coordinates are infinite or NaN"),
        (lambda: grid_cluster(np.array([[0.0], [1e300]]), 1e-9), ShapeError, "choose larger cells"),
        (lambda: sort_clusters(X, LABELS[:2]), ShapeError, r"2 labels for an array of shape \(3, 2\)"),
        (lambda: sort_clusters((X, X[:2]), LABELS), ShapeError, r"3 labels for an array of shape \(2, 2\)"),
        (lambda: sort_clusters(X, LABELS * 1.0), ArrayTypeError, "Labels must be integers but have dtype float64"),
        (lambda: sort_clusters(X, LABELS[:, None]), ShapeError, r"Labels must have shape \(M,\)"),
        (lambda: sort_clusters(torch.tensor(X), LABELS), ArrayTypeError, "must share their library and device"),
        (lambda: cluster_ranges(LABELS - 1), ShapeError, "some are negative; give the points of no cluster"),
        (lambda: cluster_centroids(X, LABELS, LABELS[:2]), ShapeError, r"3 labels for an array of shape \(2,\)"),
        (lambda: cluster_centroids(X, LABELS, -LABELS), ShapeError, "Weights must be >= 0"),
        (lambda: swap_axes((X, X)), ShapeError, "six arrays but got 2"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(attempt, error, words):
    with pytest.raises(error, match=words):
        attempt()
