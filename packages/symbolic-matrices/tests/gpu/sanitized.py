"""Runs kernels for GPUs in the emulator with the address and undefined-behaviour sanitizers: a program of its own.

Every reduction, and every way to cut a problem: rows shared by the registers of a thread, columns in intervals with a
merge, block ranges, batches, grids that are too small, tiles of products, places of neighbours in registers and in
local memory, halves, tensor cores, wide vectors. The threads run in ascending, descending and random order. Results
are compared with the reference backend. Arguments: texts that the names of the cases begin with; --headers FOLDER for
other headers than ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from cuda_emulator.stand_in import make_cupy
from gpu import formulas

from symbolic_matrices import BlockRanges
from symbolic_matrices.arrays import NUMPY
from symbolic_matrices.backends import cuda, reference
from symbolic_matrices.formulas.expressions import Axis, variable
from symbolic_matrices.formulas.operations.pointwise import multiply
from symbolic_matrices.formulas.reductions import REDUCTIONS, Accumulate, Sum
from symbolic_matrices.kernels.compilation import NATIVE_FOLDER
from symbolic_matrices.kernels.planning import Formats, Plan, make_plan
from symbolic_matrices.kernels.problems import Problem
from symbolic_matrices.precision import Precision

ORDERS = (0, 1, 2)  # of the threads: ascending, descending, random
ROWS, COLUMNS = 601, 203  # four rows of each thread of two blocks; two tiles; neither is full
PRODUCT_ROWS, PRODUCT_COLUMNS = 150, 80  # the same with one row
HALVES = ("float16", "float16", "float32")
BARRIER = "__syncthreads();"
BARRIERS = {
    "staging.cuh": 2,
    "reduce.cuh": 2,
    "products.cuh": 3,
    "tensor_cores.cuh": 4,
    "wide.cuh": 3,
}  # of the headers


def cases() -> Iterator[tuple[str, Plan]]:
    """Plans of a squared distance times a parameter, by name."""
    for name, row in REDUCTIONS.items():
        if row.make is not None:
            yield f"plain {name}", _plan(2, name, *((3,) if row.is_counted else ()))
    yield "plain sum in float64", make_plan(_formula(2), Sum(Accumulate.FLOAT64), Axis.J, "float32")
    yield "local memory", _plan(2, "Kmin_argKmin", 40)
    yield "halves", make_plan(_formula(2), Sum(), Axis.J, Formats("float32", HALVES))
    for name in ("sum", "logsumexp", "min_argmin", "Kmin_argKmin"):
        yield f"products {name}", _plan(41, name, *((3,) if REDUCTIONS[name].is_counted else ()))
    yield (
        "two products",
        make_plan(multiply(_formula(41), formulas.inner_product(41)), Sum(), Axis.J, "float64"),
    )
    for dim, stored, precision in ((44, (), "TF32X3"), (43, HALVES, "TF32")):
        formats = Formats("float32", stored, Precision[precision])
        name = f"tensor cores {' '.join(stored[:1])} {precision} {dim}"
        yield name, make_plan(_formula(dim), Sum(), Axis.J, formats)
    yield "wide softmax", formulas.wide_softmax(40, "float32")
    yield "wide sum", make_plan(multiply(_formula(41), variable(1, Axis.J, 41)), Sum(), Axis.J, "float32")


def _formula(dim: int) -> formulas.Node:
    return multiply(formulas.sqdist(dim), variable(formulas.WEIGHT, Axis.PARAMETER, 1))


def _plan(dim: int, reduction: str, *arguments: int) -> Plan:
    return make_plan(_formula(dim), REDUCTIONS[reduction](*arguments), Axis.J, "float32")


def problems(plan: Plan) -> Iterator[Problem]:
    """The schemes: columns whole and in intervals, as few blocks as there may be; a batch; block ranges."""
    rng, dim = np.random.default_rng(0), next(v.dim for v in plan.variables if v.axes == Axis.I)
    rows, columns = (ROWS, COLUMNS) if dim < 16 else (PRODUCT_ROWS, PRODUCT_COLUMNS)
    stored = dict(plan.storage)
    shapes = {formulas.ROW: (2, rows, dim), formulas.COLUMN: (columns, dim), formulas.WEIGHT: (2, 1, 1)}
    arrays = tuple(rng.random(shape).astype(stored.get(k, plan.dtype)) for k, shape in shapes.items())
    batch = Problem(NUMPY, plan.dtype, "cpu", arrays, rows, columns, (2,))
    single = replace(batch, arrays=tuple(a[0] if a.ndim > 2 else a for a in arrays), batch_shape=())
    intervals = [[0, columns], [3, 4], [9, columns], [0, 1], [2, columns]]
    for least_columns, grid in ((1024, (100, 100, 100)), (16, (1, 1, 1))):
        cuda.LEAST_SPLIT_COLUMNS, cuda.MOST_GRID = least_columns, grid
        cuda.choose_launch.cache_clear()
        yield single
        yield batch
        ranges = BlockRanges(
            [[0, 130], [135, 136], [140, rows]], [1, 3, 5], intervals
        )  # remembers how it was cut
        yield replace(batch, ranges=ranges)


def check(name: str, plan: Plan) -> None:
    tolerance = 1e-3 if plan.precision is Precision.TF32 else 2e-5
    cupys = [make_cupy(order, sanitize=True) for order in ORDERS]
    kernels = [cuda.compile_with(cupy, plan) for cupy in cupys]
    for problem in problems(plan):
        halves = {k: "float32" for k, _ in plan.storage}
        wide = tuple(a.astype(halves.get(k, a.dtype)) for k, a in enumerate(problem.arrays))
        expected = reference.launch(plan, replace(problem, arrays=wide))
        for kernel in kernels:
            for output, wanted in zip(cuda.run(kernel, problem), expected, strict=True):
                np.testing.assert_allclose(output, wanted, rtol=tolerance, err_msg=name)


def headers_without(header: str, barrier: int | None, folder: Path) -> Path:
    """A copy of the headers where one barrier of a loop nest is missing."""
    for path in (path for path in NATIVE_FOLDER.iterdir() if path.is_file()):
        text = path.read_text()
        if path.name == header:
            parts = text.split(BARRIER)
            separators = [BARRIER if k != barrier else "" for k in range(len(parts) - 1)]
            text = "".join(part + separator for part, separator in zip(parts, [*separators, ""], strict=True))
        (folder / path.name).write_text(text)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--headers")
    arguments = parser.parse_args()
    if arguments.headers:
        cuda.OPTIONS = (f"--include-path={arguments.headers}",)
    for name, plan in cases():
        if name.startswith(tuple(arguments.names or ("",))):
            check(name, plan)
    print("no complaint")


if __name__ == "__main__":
    main()
