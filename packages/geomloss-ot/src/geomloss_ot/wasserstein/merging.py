"""Owns points that are the same: they are one point for the solvers, and share its plan; ignores transport."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from .flows import couple_in_order


class Merged(NamedTuple):
    """Points without repetition."""

    points: np.ndarray  # (K, D)
    weights: np.ndarray  # (K,): sums of those of equal points
    group: np.ndarray  # (N,): the number of the point that each one equals


def merge_equal_points(points: np.ndarray, weights: np.ndarray) -> Merged:
    """One point for those that are equal, and their total weight; the same points, in their order, if all differ."""
    # Equal points have equal projections, which are faster to sort.
    projections = points @ np.random.default_rng(0).normal(size=points.shape[1])
    order = np.argsort(projections, kind="stable")
    is_new = np.concatenate([[True], (points[order[1:]] != points[order[:-1]]).any(1)])
    if is_new.all():
        return Merged(points, weights, np.arange(len(points)))
    group = np.empty(len(points), np.int64)
    group[order] = np.cumsum(is_new) - 1
    return Merged(points[order[is_new]], np.bincount(group, weights), group)


def split_plan(
    plan: csr_array, sides: tuple[Merged, Merged], weights: tuple[np.ndarray, np.ndarray]
) -> csr_array:
    """The plan between all the points, of given weights, that a plan between merged points stands for."""
    rows = _split_rows(plan, sides[0].group, weights[0])
    return csr_array(_split_rows(csr_array(rows.T), sides[1].group, weights[1]).T)


def _split_rows(plan: csr_array, group: np.ndarray, weights: np.ndarray) -> csr_array:
    """Serve the members of each row in their order, from the entries of the row in theirs."""
    members = np.argsort(group, kind="stable")
    pieces = couple_in_order(weights[members], plan.data)
    shape = len(group), plan.shape[1]
    return csr_array((pieces.units, (members[pieces.rows], plan.indices[pieces.columns])), shape=shape)
