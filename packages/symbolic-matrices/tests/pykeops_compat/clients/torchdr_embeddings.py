"""TorchDR's KeOps backend against its dense one: distances, neighbours, affinities, and a t-SNE embedding."""

from __future__ import annotations

import sys

import pytest
import torch
import torchdr

from symbolic_matrices import Profile, pykeops_compat

OPTIONS = {"device": "cpu", "verbose": False}
AFFINITIES = {
    "Student": lambda backend: torchdr.NormalizedStudentAffinity(backend=backend, **OPTIONS),
    "entropic": lambda backend: torchdr.EntropicAffinity(
        perplexity=10, sparsity=False, backend=backend, **OPTIONS
    ),
    "Sinkhorn": lambda backend: torchdr.SinkhornAffinity(eps=1.0, max_iter=20, backend=backend, **OPTIONS),
    "self-tuning": lambda backend: torchdr.SelfTuningAffinity(K=7, backend=backend, **OPTIONS),
}


@pytest.fixture
def x():
    torch.manual_seed(0)
    two_clusters = torch.randn(50, 5, dtype=torch.float64)
    two_clusters[:25] += 3
    return two_clusters


def affinity(name, x, backend):
    """The matrix, without the indices that some affinities add for sparse ones."""
    result = AFFINITIES[name](backend)(x)
    return result[0] if isinstance(result, tuple) else result


def assert_same_matrix(lazy, dense):
    """Their products with a vector agree: one is a tensor, the other is never stored."""
    assert isinstance(lazy, pykeops_compat.LazyTensor)
    assert isinstance(dense, torch.Tensor)
    v = torch.rand(dense.shape[1], dtype=dense.dtype)
    torch.testing.assert_close(lazy @ v, dense @ v, rtol=1e-7, atol=1e-10)


def test_torchdr_uses_our_modules():
    assert sys.modules["pykeops"].__file__ == pykeops_compat.__file__
    assert torchdr.utils.LazyTensor is pykeops_compat.LazyTensor


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan", "angular"])
def test_distances(metric, x):
    lazy, dense = (torchdr.pairwise_distances(x, metric=metric, backend=b) for b in ("keops", None))
    assert_same_matrix(lazy, dense)


def test_nearest_neighbours(x):
    with Profile() as profile:
        ours = torchdr.pairwise_distances(x, k=5, exclude_diag=True, return_indices=True, backend="keops")
    assert profile.launches == 1
    expected = torchdr.pairwise_distances(x, k=5, exclude_diag=True, return_indices=True, backend=None)
    for actual, target in zip(ours, expected, strict=True):
        torch.testing.assert_close(actual, target)


@pytest.mark.parametrize("name", AFFINITIES)
def test_affinities(name, x):
    with Profile() as profile:
        lazy = affinity(name, x, "keops")
    assert profile.launches > 0
    assert_same_matrix(lazy, affinity(name, x, None))


def test_embedding(x):
    def embedding(backend):
        method = torchdr.TSNE(perplexity=10, max_iter=30, init="pca", lr=1.0, backend=backend, device="cpu")
        return method.fit_transform(x)

    with Profile() as profile:
        ours = embedding("keops")
    assert profile.launches >= 2 * 30
    torch.testing.assert_close(ours, embedding(None), rtol=1e-7, atol=1e-10)
