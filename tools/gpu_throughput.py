"""What GPUs may reach: the instructions of CUDA kernels, divided by what a multiprocessor does per clock.

Usage: ``python tools/gpu_throughput.py`` after a change of the kernels, with NVRTC and nvdisasm but without a GPU. It
writes the counts of the inner loops to ``gpu_counts.json`` beside the docs, and the tables of the page on GPUs, which
follow from the counts by arithmetic alone: nothing is measured.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from symbolic_matrices.backends.cuda import choose_launch
from symbolic_matrices.kernels.cuda_printing import CudaText, Tiling, print_cuda_kernel
from symbolic_matrices.machine_code.cuda import inspect_kernel

PACKAGE = Path(__file__).parents[1] / "packages/symbolic-matrices"
FILE, PAGE = (PACKAGE / "docs/benchmarks" / name for name in ("gpu_counts.json", "gpu_throughput.md"))
SIZES = {10_000: "10k", 100_000: "100k", 1_000_000: "1M"}  # rows and columns
LAUNCH = 5e-6  # seconds from one kernel to the next, on an idle GPU
WARP = 32
# Of a multiprocessor and a clock: CUDA C++ Programming Guide, "Arithmetic Instructions", for compute capability 8.9 and
# 9.0. A warp's load from shared memory takes a turn of the memory for each 128 bytes that differ between its lanes.
ISSUED, HALF_RATE, SPECIAL, TURNS = 128, 64, 16, 1
HALF_RATE_KINDS = ("compare, blend", "integer", "convert", "shuffle")
ARITHMETIC_KINDS = ("multiply-add", "multiply", "add")
PRODUCT_TURNS = 1.5  # of a load, on average: 16 of 32 lanes read other rows, and 2 of them other columns


@dataclass(frozen=True)
class Device:
    name: str
    arch: str
    multiprocessors: int
    clock: float  # Hz, under load
    doubles: int  # operations in float64, of a multiprocessor and a clock


DEVICES = (
    Device("H100 SXM", "sm_90", 132, 1.7e9, 64),
    Device("RTX 4090", "sm_89", 128, 2.52e9, 2),
)


@dataclass(frozen=True)
class Counts:
    """The inner loop of a kernel, for one thread, and what cuts its problems."""

    pairs: float
    instructions: dict[str, int]
    registers: int
    tiling: Tiling
    is_double: bool
    is_product: bool

    def per_pair(self, *kinds: str) -> float:
        return sum(self.instructions.get(kind, 0) for kind in kinds) / self.pairs


def clocks_per_pair(counts: Counts, device: Device) -> dict[str, float]:
    """Clocks of a multiprocessor that a pair takes at least, by what limits it."""
    turns = PRODUCT_TURNS if counts.is_product else 1.0
    limits = {
        "issue": counts.per_pair(*counts.instructions) / ISSUED,
        "comparisons": counts.per_pair(*HALF_RATE_KINDS) / HALF_RATE,
        "MUFU": counts.per_pair("special function") / SPECIAL,
        "shared memory": counts.per_pair("load") * turns / (WARP * TURNS),
    }
    if counts.is_double:
        limits["float64"] = counts.per_pair(*ARITHMETIC_KINDS) / device.doubles
    return limits


def seconds(counts: Counts, device: Device, size: int) -> float:
    """Of a problem of ``size`` rows and columns: the multiprocessor with most blocks works at its limit."""
    shape = choose_launch(counts.tiling, (size, size, 1), counts.registers, device.multiprocessors)
    blocks = math.ceil(shape.blocks * shape.column_splits / device.multiprocessors)
    pairs = counts.tiling.rows * counts.tiling.threads * min(size, shape.split_columns)
    clocks = blocks * pairs * max(clocks_per_pair(counts, device).values())
    return clocks / device.clock + LAUNCH * (1 if shape.column_splits == 1 else 2)


# ---------------------------------------------------------------------------- counts, from the machine code


def texts() -> dict[str, CudaText]:
    """The kernels of the page, by name."""
    sys.path.insert(0, str(PACKAGE / "tests"))
    formulas = importlib.import_module("gpu.formulas")
    plans = {
        **formulas.cases(),
        "Gaussian, D = 64, without the epilogue": formulas.plan(formulas.gaussian(64)),
        "Gaussian, D = 3, float64": formulas.plan(formulas.gaussian(3), dtype="float64"),
    }
    return {name: print_cuda_kernel(plan) for name, plan in plans.items()}


def count(text: CudaText, arch: str) -> Counts:
    report = inspect_kernel(text, arch)
    is_double = "double" in text.printed.source
    return Counts(
        report.loop.pairs, dict(report.loop.counts), report.registers, text.tiling, is_double, bool(text.products)
    )  # fmt: skip


def read() -> dict[str, dict[str, Counts]]:
    """The counts that were written down, by architecture and case."""
    written: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        arch: {
            name: Counts(**{**record, "tiling": Tiling(**record["tiling"])}) for name, record in cases.items()
        }
        for arch, cases in written.items()
    }


# ---------------------------------------------------------------------------- tables


def page(counts: dict[str, dict[str, Counts]]) -> str:
    return "\n".join(_table(device, counts[device.arch]) for device in DEVICES)


def _table(device: Device, cases: dict[str, Counts]) -> str:
    head = f"{device.name}, {device.multiprocessors} multiprocessors at {device.clock / 1e9:g} GHz"
    lines = [
        f"| {head} | instructions per pair | pairs per ns | limited by | {' | '.join(SIZES.values())} |",
        f"|---|---|---|---|{'---|' * len(SIZES)}",
    ]
    for name, counts in cases.items():
        limits = clocks_per_pair(counts, device)
        binding = max(limits, key=lambda limit: limits[limit])
        rate = device.multiprocessors * device.clock / limits[binding] / 1e9
        times = " | ".join(_time(seconds(counts, device, size)) for size in SIZES)
        instructions = counts.per_pair(*counts.instructions)
        lines.append(f"| {name} | {instructions:.1f} | {rate:.0f} | {binding} | {times} |")
    return "\n".join(lines) + "\n"


def _time(value: float) -> str:
    for factor, unit in ((1e6, "µs"), (1e3, "ms"), (1.0, "s")):
        if value * factor < 1000:
            return f"{value * factor:.2g} {unit}" if value * factor < 100 else f"{value * factor:.0f} {unit}"
    return f"{value:.0f} s"


def main() -> None:
    kernels = texts()
    counts = {d.arch: {name: count(text, d.arch) for name, text in kernels.items()} for d in DEVICES}
    records = {
        arch: {name: asdict(record) for name, record in cases.items()} for arch, cases in counts.items()
    }
    FILE.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(counts), encoding="utf-8")
    print(page(counts))


if __name__ == "__main__":
    main()
