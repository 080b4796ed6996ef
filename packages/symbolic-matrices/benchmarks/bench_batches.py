"""Batches of small problems, ragged ones and block ranges: their time beside that of as many pairs in one problem."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from benchmarking import Figure

from symbolic_matrices import BlockRanges, LazyTensor, ragged

Reduction = Callable[[LazyTensor, LazyTensor, int], Any]
BIG = 3200  # points of the one problem
REPEATS = 30
LIMIT = 1.3

rng = np.random.default_rng(0)


def points(*shape: int) -> np.ndarray:
    return rng.random((*shape, 3), dtype=np.float32)


def gaussian(x: LazyTensor, y: LazyTensor, axis: int) -> Any:
    return (-x.sqdist(y) * 3.0).exp().sum(axis=axis)


def gradient(x: LazyTensor, y: LazyTensor, axis: int) -> Any:
    return (-x.sqdist(y) * 3.0).exp().grad(x, 1.0).sum(axis=axis)


def logsumexp(x: LazyTensor, y: LazyTensor, axis: int) -> Any:
    return (-x.sqdist(y) * 3.0).logsumexp(axis=axis)


REDUCTIONS: dict[str, Reduction] = {"Gaussian": gaussian, "gradient": gradient, "log-sum-exp": logsumexp}


def problem(
    reduction: Reduction, x: np.ndarray, y: np.ndarray, ranges: BlockRanges | None = None
) -> Callable[[], Any]:
    """A reduction of clouds (*batch, M, 3) and (*batch, N, 3)."""
    rows, columns = LazyTensor(x[..., :, None, :]), LazyTensor(y[..., None, :, :])
    rows.ranges = ranges
    return partial(reduction, rows, columns, x.ndim - 1)


def ratio(small: Callable[[], Any], pairs: int, reduction: Reduction) -> float:
    """Time per pair beside that of one big problem: the best of runs that take turns."""
    big = problem(reduction, points(BIG), points(BIG))
    best = [float("inf")] * 2
    for _ in range(REPEATS):
        for k, run in enumerate((small, big)):
            start = time.perf_counter()
            run()
            best[k] = min(best[k], time.perf_counter() - start)
    return best[0] / pairs / (best[1] / BIG**2)


def batch_ratio(reduction: Reduction, batches: int, size: int) -> float:
    clouds = points(batches, size), points(batches, size)
    return ratio(problem(reduction, *clouds), batches * size**2, reduction)


def ragged_ratio(reduction: Reduction) -> float:
    """1000 problems of 50 to 150 points."""
    lengths = rng.integers(50, 151, 1000)
    ranges, size = ragged(lengths), int(lengths.sum())
    return ratio(problem(reduction, points(size), points(size), ranges), ranges.pairs, reduction)


def ranges_ratio(reduction: Reduction, block: int) -> float:
    """Half of the blocks of a matrix, chosen by chance."""
    count = 4000 // block
    ends = block * np.arange(count + 1)
    intervals = np.stack((ends[:-1], ends[1:]), 1)
    ranges = BlockRanges.from_mask(rng.random((count, count)) < 0.5, intervals, intervals)
    size = block * count
    return ratio(problem(reduction, points(size), points(size), ranges), ranges.pairs, reduction)


def figures() -> Iterator[Figure]:
    """Ratios to one big problem, with their limits."""
    for name, reduction in REDUCTIONS.items():
        for batches, size in ((1000, 100), (100, 1000)):
            measure = partial(batch_ratio, reduction, batches, size)
            yield Figure(f"{name}: {batches} problems of {size} x {size}", measure, "x", LIMIT)
        yield Figure(
            f"{name}: 1000 problems of 50 to 150 points", partial(ragged_ratio, reduction), "x", LIMIT
        )
        for block in (16, 64, 256, 1000):
            measure = partial(ranges_ratio, reduction, block)
            yield Figure(f"{name}: half of the blocks of {block} points", measure, "x", LIMIT)
