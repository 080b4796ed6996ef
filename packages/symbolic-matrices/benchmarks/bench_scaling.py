"""How the time of a Gaussian product grows with the number of points and with the dimension."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import contenders as c
from benchmarking import Case, Point

SIZES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
DIMENSIONS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000)
MOST_PAIRS_OF_PEERS = 1e9  # above, one run of a peer takes too long


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


def cases() -> Iterator[Case]:
    """Two curves."""
    for n in SIZES:
        yield gaussian_case(f"N={n}", c.make_data(n, n, 3), Point("Gaussian product, D = 3", "N = M", n))
    for dim in DIMENSIONS:
        data = c.make_data(2_000, 2_000, dim)
        yield gaussian_case(f"D={dim}", data, Point("Gaussian product, N = M = 2000", "D", dim))
