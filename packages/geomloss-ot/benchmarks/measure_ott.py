"""Time and values of OTT-JAX, which lives in an environment of its own: it imports neither PyTorch nor our packages.

``python measure_ott.py CLOUDS.npz BLUR THRESHOLD...`` prints, per threshold on marginal errors, the seconds of the
value and its gradients after compilation, and the value. ``CLOUDS.npz`` holds ``x`` (N, D) and ``y`` (M, D).
"""

from __future__ import annotations

import functools
import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from ott.geometry import costs
from ott.tools.sinkhorn_divergence import sinkdiv

MOST_ITERATIONS = 2000
ONCE = 20.0  # seconds: what takes longer is not run again


def divergence(x: jax.Array, y: jax.Array, blur: float, threshold: float) -> jax.Array:
    """Of half the squared distance, as ours."""
    solve = {"threshold": threshold, "max_iterations": MOST_ITERATIONS}
    value, _ = sinkdiv(x, y, cost_fn=costs.SqEuclidean(), epsilon=2 * blur**2, solve_kwargs=solve)
    return value / 2


def measure(x: jax.Array, y: jax.Array, blur: float, threshold: float) -> tuple[float, float]:
    """Seconds and value."""
    run = functools.partial(divergence, blur=blur, threshold=threshold)
    compiled = jax.jit(jax.value_and_grad(run, argnums=(0, 1))).lower(x, y).compile()
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        value, gradients = compiled(x, y)
        jax.block_until_ready(gradients)
        best = min(best, time.perf_counter() - start)
        if best > ONCE:
            break
    return best, float(value)


if __name__ == "__main__":
    clouds = np.load(sys.argv[1])
    left, right = (jnp.asarray(clouds[name]) for name in ("x", "y"))
    print(json.dumps([measure(left, right, float(sys.argv[2]), float(tol)) for tol in sys.argv[3:]]))
