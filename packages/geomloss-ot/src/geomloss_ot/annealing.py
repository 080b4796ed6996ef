"""Owns the decreasing sequence of temperatures epsilon; ignores everything else."""

from __future__ import annotations

import math


def epsilon_schedule(start: float, epsilon: float, ratio: float) -> tuple[float, ...]:
    """Geometric sequence from ``start`` down to ``epsilon``, by factors of ``ratio``; ends with ``epsilon`` exactly.

    Annealing makes Sinkhorn's algorithm converge in a number of steps that depends on log(start / epsilon) instead
    of start / epsilon: each temperature hands over good potentials to the next one. Source: Feydy, *Geometric data
    analysis, beyond convolutions* (2020), section 3.3; Schmitzer, arXiv 1610.06519.

    Parameters
    ----------
    start
        Largest value of the cost: there, all pairs of points look alike. A ``start`` below ``epsilon``, such as zero
        when all the points are equal, leaves nothing to anneal.
    epsilon
        Final temperature, positive.
    ratio
        Factor between two steps, in (0, 1).

    Examples
    --------
    >>> epsilon_schedule(8.0, 1.0, 0.5)
    (8.0, 4.0, 2.0, 1.0)
    >>> epsilon_schedule(0.0, 1.0, 0.5)
    (1.0,)
    """
    if not start < math.inf:
        raise ValueError(
            f"The costs range up to {start}, which is no finite number: rescale points that are too far apart for "
            "their dtype, and remove those where the cost is not defined, such as zero for cosines."
        )
    if start <= epsilon:
        return (epsilon,)
    # The tolerance keeps rounding errors from adding a step next to the last one.
    steps = math.ceil(math.log(epsilon / start) / math.log(ratio) - 1e-9)
    return (*(start * ratio**k for k in range(steps)), epsilon)
