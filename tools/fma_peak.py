"""How many fused multiply-adds per second the machine reaches: the yardstick of arithmetic-bound kernels."""

from __future__ import annotations

import ctypes
import time
from concurrent.futures import ThreadPoolExecutor

from symbolic_matrices import get_num_threads
from symbolic_matrices.kernels.compilation import load

REAL_BITS = {"float32": 32, "float64": 64}
ROUNDS = 10_000_000
ATTEMPTS = 10  # the best one counts: other programs may disturb some
ACCUMULATORS = 16  # independent chains: more than the latency of an addition hides
LOOP = """
#define REAL {spelling}
#define REAL_BITS {bits}
#include "reduce.hpp"

// Independent chains of x -> a x + b, all in registers; returns the number of multiply-adds.
SM_EXPORT double multiply_adds(long rounds, REAL a, REAL b, REAL* out) {{
    Vec x[{accumulators}];
    for (int k = 0; k < {accumulators}; ++k) x[k] = splat(REAL(k));
    for (long n = 0; n < rounds; ++n)
        SM_UNROLL for (int k = 0; k < {accumulators}; ++k) x[k] = x[k] * a + b;
    Vec sum = x[0];
    for (int k = 1; k < {accumulators}; ++k) sum += x[k];
    *out = sum[0];
    return double(rounds) * {accumulators} * lanes;
}}
"""


def measure_fma_peak(dtype: str) -> float:
    """Fused multiply-adds per second of all the threads that reductions use."""
    bits = REAL_BITS[dtype]
    number = ctypes.c_float if bits == 32 else ctypes.c_double
    source = LOOP.format(spelling="float" if bits == 32 else "double", bits=bits, accumulators=ACCUMULATORS)
    loop = load(source).multiply_adds
    loop.restype = ctypes.c_double
    loop.argtypes = [ctypes.c_long, number, number, ctypes.POINTER(number)]

    def run(_: int) -> float:
        return float(loop(ROUNDS, 0.5, 1.0, ctypes.byref(number())))

    threads = get_num_threads()
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ATTEMPTS):
            start = time.perf_counter()
            done = sum(pool.map(run, range(threads)))
            best = max(best, done / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    for name in REAL_BITS:
        print(f"{name}: {measure_fma_peak(name) / 1e9:.0f} billion fused multiply-adds per second")
