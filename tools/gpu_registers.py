"""Compile every operation and reduction for GPUs, and write down which kernels leave the registers.

Usage: ``python tools/gpu_registers.py [ARCHITECTURES]``, for instance ``sm_75 sm_90``; by default the five that the
tests name. It writes ``gpu_registers.json`` beside the tests of GPUs: registers of each kernel and architecture, and
bytes of local memory, spilled registers included. It needs NVIDIA's compiler (nvidia-cuda-nvrtc) and no GPU, and takes
some minutes for each architecture.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from symbolic_matrices.formulas.expressions import Axis, Node, variable
from symbolic_matrices.formulas.operations import OPERATIONS, Operation, pointwise, vectors
from symbolic_matrices.formulas.operations.indexing import concat
from symbolic_matrices.formulas.reductions import REDUCTIONS, Reduction
from symbolic_matrices.kernels.cuda_printing import print_cuda_kernel
from symbolic_matrices.kernels.planning import Plan, make_plan
from symbolic_matrices.machine_code.cuda import resources_of

FILE = Path(__file__).parents[1] / "packages/symbolic-matrices/tests/gpu/gpu_registers.json"
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
DTYPES = ("float32", "float64")
WEIGHTS, NEIGHBOURS = 2, 10


def rows() -> Iterator[tuple[str, Node, Reduction]]:
    """Every row of the tables by name: the sum of an operation's components, a reduction of squared distances."""
    for operation in OPERATIONS.values():
        yield operation.name, _applied(operation), REDUCTIONS["sum"]()
    distance = vectors.sqdist(variable(0, Axis.I, 3), variable(1, Axis.J, 3))
    for name, row in REDUCTIONS.items():
        if row.make is not None:
            yield f"{name} of distances", distance, row(*((NEIGHBOURS,) if row.is_counted else ()))
        if row.weighted is not None:
            weighted = concat(pointwise.negate(distance), variable(2, Axis.J, WEIGHTS))
            yield f"{name} with weights", weighted, row(weight_dim=WEIGHTS)


def _applied(operation: Operation) -> Node:
    dims = operation.dims or (3,) * operation.arity
    arguments: list[Node] = [variable(k, Axis.I if k == 0 else Axis.J, dim) for k, dim in enumerate(dims)]
    if operation.arity == 1:  # of something that varies from pair to pair
        arguments = [pointwise.add(arguments[0], variable(1, Axis.J, dims[0]))]
    value: Node = operation(*arguments, attributes=operation.attributes)
    return vectors.vector_sum(value) if value.dim > 1 else value


def plans() -> Iterator[tuple[str, Plan]]:
    for name, formula, reduction in rows():
        for dtype in DTYPES:
            yield f"{name}, {dtype}", make_plan(formula, reduction, Axis.J, dtype)


def read_table() -> dict[str, dict[str, list[int]]]:
    """[registers, bytes of local memory] by the name of a row and the architecture."""
    return dict(json.loads(FILE.read_text())) if FILE.exists() else {}


def main() -> None:
    architectures = tuple(sys.argv[1:]) or ARCHITECTURES
    table = read_table()
    for name, plan in plans():
        for arch in architectures:
            found = resources_of(print_cuda_kernel(plan), arch)
            table.setdefault(name, {})[arch] = [found.registers, found.local_bytes]
            if found.local_bytes:
                print(f"{name}, {arch}: {found.local_bytes} bytes of local memory", flush=True)
        FILE.write_text(json.dumps(table, indent=0) + "\n")
    largest = max(max(registers for registers, _ in row.values()) for row in table.values())
    print(f"{len(table)} kernels, at most {largest} registers")


if __name__ == "__main__":
    main()
