"""Owns the text of CUDA kernels: the same printed formula as for processors, and the tiling that its sizes suggest.

The tiling is a pure function of a plan: everything that a kernel is compiled for is in its text, and what the host has
to allocate for it is known before anything is compiled.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass

from ..errors import ShapeError
from ..formulas.expressions import Node
from ..formulas.text import print_formula
from .compilation import NATIVE_FOLDER
from .planning import Plan
from .printing import PrintedKernel, Spelled, columns_at_once, kept_values, kernel_name, print_struct
from .products import Product, find_products

THREADS = 128  # of a block
MOST_SHARED_BYTES = 48 << 10  # that every GPU grants without being asked
MOST_TILE_COLUMNS = 128  # one per thread that stages them
MOST_PRODUCT_BYTES = 32 << 10  # of the products of a block's rows with a tile of columns
LEAST_PRODUCT_COLUMNS = 16  # of such a tile
COMPONENTS_AT_ONCE = 4  # that are added in one turn of its inner loop; mirrors native/products.cuh
PRODUCT_BLOCKS = 4  # of a multiprocessor, at least: the compiler keeps to 128 registers then, which suffice
ROW_REGISTERS = 20  # numbers that the rows of a thread may keep, beside the columns in flight

# Approximate divisions, square roots and powers of 2, as math.cuh says; fused multiply-adds. Functions without a
# qualifier run on the device: the headers of native/ are shared with processors.
OPTIONS_OF_CUPY = (
    "--device-as-default-execution-space",
    "--ftz=true",
)  # it adds them to those that it is given
OPTIONS = (
    "--std=c++17", *OPTIONS_OF_CUPY, "--fmad=true", "--prec-div=false", "--prec-sqrt=false",
    f"--include-path={NATIVE_FOLDER}",
)  # fmt: skip


@dataclass(frozen=True)
class Tiling:
    """How a kernel cuts its work.

    Attributes
    ----------
    rows : rows of a thread.
    threads : threads of a block.
    columns : columns whose pairs are evaluated together.
    tile_columns : columns that a block stages at once.
    shared_bytes : shared memory of a block.
    state_bytes : of a row's partial state, at least.
    """

    rows: int
    threads: int
    columns: int
    tile_columns: int
    shared_bytes: int
    state_bytes: int


@dataclass(frozen=True)
class CudaText:
    """What NVRTC compiles for a plan, and what the host must know of it."""

    printed: PrintedKernel
    tiling: Tiling
    variable_count: int
    products: tuple[Product, ...] = ()

    @property
    def work_of_inner_loop(self) -> int:
        """How many multiplications or additions one turn of the inner loop does, at least."""
        if self.products:  # some components of the tile's pairs, which the threads share
            return self.tiling.tile_columns * COMPONENTS_AT_ONCE
        return self.tiling.rows * self.tiling.columns

    @property
    def pairs_of_inner_loop(self) -> float:
        """How many pairs one turn of the inner loop computes."""
        return self.work_of_inner_loop / (sum(product.dim for product in self.products) or 1)

    @property
    def merge_name(self) -> str:
        return f"{self.printed.kernel_name}_merge"


def choose_tiling(plan: Plan, rows_per_thread: int | None = None) -> Tiling:
    """The tiling of a plan. ``rows_per_thread`` limits what a thread keeps, for problems with few rows.

    Raises
    ------
    ShapeError : a single staged column is larger than the shared memory of a block.
    """
    products = chosen_products(plan)
    kept = _kept_sizes(plan, products)
    itemsize, outputs = plan.real.itemsize, math.prod(plan.output_shape)
    rows = 1 if products else _rows_per_thread(plan, kept["row"], outputs)
    stride = _column_stride(kept["column"], itemsize)
    fixed = 16 + 8 * variable_count(plan) + itemsize * max(1, kept["parameter"])
    tile_columns = _tile_columns(fixed, itemsize, stride, len(products))
    if tile_columns < 1:
        raise ShapeError(
            f"The columns and parameters of this formula hold {stride} and {kept['parameter']} numbers of "
            f"{itemsize} bytes, more than the {MOST_SHARED_BYTES} bytes of shared memory of a GPU's block: "
            "use vectors of a lower dimension, or pass backend='reference'."
        )
    return Tiling(
        rows=min(rows, rows_per_thread or rows),
        threads=THREADS,
        columns=min(columns_at_once(plan), tile_columns),
        tile_columns=tile_columns,
        shared_bytes=_shared_bytes(fixed, itemsize, stride, len(products), tile_columns),
        # A reduction keeps at most a number, what its rounding lost and a position per component, and two more.
        state_bytes=(outputs + plan.formula.dim + 2) * (2 * itemsize + 8),
    )


@functools.lru_cache(maxsize=4096)
def chosen_products(plan: Plan) -> tuple[Product, ...]:
    """The products that are computed for a tile at a time: none where too little shared memory is left for them."""
    products, itemsize = find_products(plan), plan.real.itemsize
    while products:
        kept = _kept_sizes(plan, products)
        fixed = 16 + 8 * variable_count(plan) + itemsize * max(1, kept["parameter"])
        stride = _column_stride(kept["column"], itemsize)
        if _tile_columns(fixed, itemsize, stride, len(products)) >= LEAST_PRODUCT_COLUMNS:
            break
        products = products[:-1]
    return products


def _kept_sizes(plan: Plan, products: tuple[Product, ...]) -> dict[str, int]:
    given = {product.node for product in products}
    return {stage.name: values.size for stage, values in kept_values(plan.formula, given).items()}


def _tile_columns(fixed: int, itemsize: int, stride: int, products: int) -> int:
    """Columns that a block stages: as many as fit its shared memory, with the products of each row; 0 if none do."""
    most = MOST_PRODUCT_BYTES // (itemsize * THREADS) if products else MOST_TILE_COLUMNS
    sizes = (1 << power for power in range(most.bit_length() - 1, -1, -1))
    return next(
        (n for n in sizes if _shared_bytes(fixed, itemsize, stride, products, n) <= MOST_SHARED_BYTES), 0
    )


def _shared_bytes(fixed: int, itemsize: int, stride: int, products: int, tile_columns: int) -> int:
    """Mirrors ``Shared`` of native/reduce.cuh and native/products.cuh."""
    tiles = products * THREADS * (tile_columns + 16 // itemsize) * itemsize
    return tiles + -(-(fixed + tile_columns * itemsize * max(1, stride)) // 16) * 16


def _rows_per_thread(plan: Plan, row_dim: int, outputs: int) -> int:
    """Rows share the loads of a column, as long as all that a thread keeps fits its registers.

    They also repeat the text of a pair, as columns do: a formula that is long for columns is long for rows.
    """
    if columns_at_once(plan) < 8:
        return 1
    words = plan.real.itemsize // 4
    kept = words * (row_dim + 3 * outputs)
    return next((rows for rows in (4, 2) if rows * kept <= ROW_REGISTERS * 2), 1)


def _column_stride(column_dim: int, itemsize: int) -> int:
    """Mirrors ``stride`` of native/reduce.cuh."""
    vector = 16 // itemsize
    return column_dim if column_dim <= 2 else -(-column_dim // vector) * vector


@functools.cache
def headers_digest() -> str:
    """What stands for the headers of ``native/`` where compiled kernels are kept by their text alone."""
    paths = sorted((*NATIVE_FOLDER.glob("*.cuh"), *NATIVE_FOLDER.glob("*.hpp")))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def variable_count(plan: Plan) -> int:
    """Length of the kernel's list of variables, which holds at least one."""
    return max((variable.index + 1 for variable in plan.variables), default=1)


@functools.lru_cache(maxsize=4096)
def print_cuda_kernel(plan: Plan, rows_per_thread: int | None = None) -> CudaText:
    """The whole text that NVRTC compiles for a plan. Equal plans print equal texts."""
    tiling = choose_tiling(plan, rows_per_thread)
    count = variable_count(plan)
    reduction = plan.reduction.spelling("Formula::dim")
    body = "\n".join(
        (
            f"// {plan.reduction.name} over j of  {print_formula(plan.formula)}",
            *_definitions(plan, tiling, count),
            '#include "reduce.cuh"',
            "",
            "namespace symbolic_matrices {",
            _print_struct(plan),
            "",
        )
    )
    name = kernel_name(plan, f"{body}{reduction}")
    source = f"{body}\nSM_KERNEL({name}, Formula, {reduction})\n}}\n"
    return CudaText(PrintedKernel(source, name), tiling, count, chosen_products(plan))


def _print_struct(plan: Plan) -> str:
    """The struct of the formula, whose loop nest gives products as if they were staged numbers of the column."""
    products = chosen_products(plan)
    staged, lines = _kept_sizes(plan, products)["column"], list[str]()
    given: dict[Node, Spelled] = {}
    for number, product in enumerate(products):
        given[product.node] = Spelled(1, f"c[{staged + number}]")
        lines += [f"struct Product{number} {{", *product.lines, "};"]
    names = ", ".join(f"Product{number}" for number in range(len(products)))
    return print_struct(plan.formula, given, [*lines, f"typedef ProductList<{names}> Products;"])


def _definitions(plan: Plan, tiling: Tiling, count: int) -> list[str]:
    values = {
        "REAL": plan.real.spelling,
        "REAL_BITS": 8 * plan.real.itemsize,
        "SM_VARIABLES": count,
        "SM_ROWS": tiling.rows,
        "SM_THREADS": tiling.threads,
        "SM_BLOCKS": PRODUCT_BLOCKS if chosen_products(plan) else 1,
        "SM_MOST_COLUMNS": tiling.columns,
        "SM_TILE_COLUMNS": tiling.tile_columns,
        "SM_SHARED_BYTES": tiling.shared_bytes,
        "SM_STATE_BYTES": tiling.state_bytes,
    }
    if plan.storage:
        values["SM_STORAGE_OF(variable)"] = f"({_spell_storage(plan)})"
    return [f"#define {name} {value}" for name, value in values.items()]


def _spell_storage(plan: Plan) -> str:
    """How a variable is stored, as a function of its number that the compiler evaluates."""
    cases = [f"variable == {index} ? Storage::{dtype}" for index, dtype in plan.storage]
    return " : ".join([*cases, "Storage::real"])
