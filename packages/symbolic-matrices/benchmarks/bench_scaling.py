"""How times grow: a Gaussian product with the number of points and with the dimension, neighbours with their number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import contenders as c
from benchmarking import Case, Point

SIZES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
DIMENSIONS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000)
NEIGHBOR_SIZES = (*SIZES[1:], 1_000_000)
MOST_PAIRS_OF_PEERS = 1e9  # above, one run of a peer that visits all the pairs takes too long


def gaussian_case(name: str, data: c.Data, point: Point) -> Case:
    """One point of a curve."""
    pairs = float(len(data[0])) * len(data[1])
    return Case(
        name=name,
        work=pairs,
        ours=c.ours(c.gaussian, data),
        peers=c.symbolic_peers(c.gaussian, data) if pairs <= MOST_PAIRS_OF_PEERS else {},
        reference=partial(c.in_float64, c.gaussian, *data),
        point=point,
    )


def neighbors_case(n: int) -> Case:
    """Ten neighbours of every point; the peers are libraries of nearest neighbours."""
    data = c.make_data(n, n, 3)
    peers = c.neighbor_peers(data, 10)
    exhaustive = [name for name in peers if name not in c.TREES]
    return Case(
        name=f"10 nearest, N={n}",
        work=float(n) ** 2,
        ours=c.ours(c.ten_nearest, data),
        peers={
            name: run for name, run in peers.items() if n**2 <= MOST_PAIRS_OF_PEERS or name not in exhaustive
        },
        reference=partial(c.in_float64, c.ten_nearest, *data),
        tolerance=1e-3,
        point=Point("10 nearest of D = 3", "N = M", n),
    )


def cases() -> Iterator[Case]:
    """Three curves."""
    for n in SIZES:
        yield gaussian_case(f"N={n}", c.make_data(n, n, 3), Point("Gaussian product of D = 3", "N = M", n))
    for dim in DIMENSIONS:
        data = c.make_data(2_000, 2_000, dim)
        yield gaussian_case(f"D={dim}", data, Point("Gaussian product of 2000 x 2000", "D", dim))
    for n in NEIGHBOR_SIZES:
        yield neighbors_case(n)
