"""Owns plans between weighted points that use few pairs: greatest flows in whole units of mass; ignores costs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

_CRUMB = 1e-15  # of a sum of masses
UNITS = 1 << 30  # of mass, at most: SciPy counts flows in 32 bits


class Edges(NamedTuple):
    """Pairs (i, j) of points."""

    rows: np.ndarray  # (E,)
    columns: np.ndarray  # (E,)


class Flow(NamedTuple):
    """Masses that go from i to j."""

    rows: np.ndarray  # (E,)
    columns: np.ndarray  # (E,)
    units: np.ndarray  # (E,), positive: whole units, or masses


def count_units(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Two measures of equal masses in whole units, never above the weights, and the mass of a unit.

    As many units on both sides; one per point where all the weights are the same.
    """
    if len(a) == len(b) and bool((a == a[0]).all() and (b == a[0]).all()):
        ones = np.ones(len(a), np.int64)
        return ones, ones, float(a[0])
    unit = float(max(a.sum(), b.sum())) / UNITS
    found = [np.floor(weights / unit).astype(np.int64) for weights in (a, b)]
    total = min(int(units.sum()) for units in found)
    # The last points give up what the other side lacks: less than a unit per point.
    left, right = (np.diff(np.minimum(np.cumsum(units), total), prepend=0) for units in found)
    return left, right, unit


def join_edges(first: Edges, second: Edges, columns: int) -> Edges:
    """The union of two sets of edges towards so many columns."""
    keys = np.concatenate([edges.rows * columns + edges.columns for edges in (first, second)])
    keys.sort()
    is_new = np.concatenate([[True], keys[1:] != keys[:-1]])
    return Edges(*np.divmod(keys[is_new], columns))


def greatest_flow(supply: np.ndarray, demand: np.ndarray, edges: Edges) -> Flow:
    """A flow along edges, from the units (N,) of the rows to those (M,) of the columns, that is as large as can be.

    Source: Dinic's algorithm, in SciPy.
    """
    n, m = len(supply), len(demand)
    source, sink = n + m, n + m + 1
    tails = np.concatenate([edges.rows, np.full(n, source), n + np.arange(m)])
    heads = np.concatenate([n + edges.columns, np.arange(n), np.full(m, sink)])
    along = np.minimum(supply[edges.rows], demand[edges.columns])
    capacities = np.concatenate([along, supply, demand]).astype(np.int32)
    graph = csr_matrix((capacities, (tails, heads)), shape=(n + m + 2, n + m + 2))
    flow = maximum_flow(graph, source, sink).flow.tocoo()
    kept = (flow.data > 0) & (flow.row < n) & (flow.col >= n) & (flow.col < source)
    return Flow(
        flow.row[kept].astype(np.int64), flow.col[kept].astype(np.int64) - n, flow.data[kept].astype(np.int64)
    )


def couple_in_order(a: np.ndarray, b: np.ndarray) -> Flow:
    """The plan between masses (N,) and (M,) that serves rows and columns in their order, with N + M pairs at most.

    What one side has more than the other stays, and so do masses that are but rounding errors of their sum. Source: the
    rule of the north-west corner.
    """
    ends = np.cumsum(a), np.cumsum(b)
    cuts = np.unique(np.concatenate(ends))
    cuts = cuts[cuts <= min(ends[0][-1], ends[1][-1])]
    masses = np.diff(cuts, prepend=0.0)
    rows, columns = (np.searchsorted(end, cuts) for end in ends)
    some = masses > _CRUMB * masses.sum()
    return Flow(rows[some], columns[some], masses[some])
