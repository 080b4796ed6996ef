"""Owns the text of CUDA kernels: the same printed formula as for processors, and the tiling that its sizes suggest.

The tiling is a pure function of a plan: everything that a kernel is compiled for is in its text, and what the host has
to allocate for it is known before anything is compiled.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from dataclasses import dataclass, replace

from ..errors import ShapeError
from ..formulas.expressions import Node
from ..formulas.reductions import Smallest, Sum
from ..formulas.text import print_formula
from .compilation import NATIVE_FOLDER
from .planning import Plan
from .printing import PrintedKernel, Spelled, columns_at_once, kept_values, kernel_name, print_struct
from .products import MULTIPLY_ADD, Product, find_products
from .wide_sums import WideSum, find_wide_sum

THREADS = 128  # of a block
MOST_SHARED_BYTES = 48 << 10  # that every GPU grants without being asked
MOST_TILE_COLUMNS = 128  # one per thread that stages them
MOST_PRODUCT_BYTES = 32 << 10  # of the products of a block's rows with a tile of columns
LEAST_PRODUCT_COLUMNS = 16  # of such a tile
COMPONENTS_AT_ONCE = 4  # that are added in one turn of its inner loop; mirrors native/products.cuh
LEAST_SPLIT_COLUMNS = 32  # of a tile of operands in high and low words; see native/tensor_cores.cuh
COMMON_BLOCKS = 4  # of a multiprocessor, at least: the compiler keeps to 128 registers then, which suffice
TENSOR_DISTANCE_BLOCKS = 3  # the same for 168 registers, where norms join the products
MOST_PLACES = 32  # of neighbours, in registers; mirrors native/nearest.cuh
WIDE_BLOCKS = 2  # of a multiprocessor, where threads keep sums of wide vectors: with up to 255 registers
MOST_WIDE_COLUMNS = 32  # of a tile of weights, or of products: their sums have to fit the registers too
VECTOR_BYTES = 16  # that one instruction loads
MOST_UNROLLED = 33  # components of a vector that may be kept in registers
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
    chunks : blocks that share the components of the same rows.
    components : partial states of a row, which threads of their own merge.
    """

    rows: int
    threads: int
    columns: int
    tile_columns: int
    shared_bytes: int
    state_bytes: int
    chunks: int = 1
    components: int = 1


@dataclass(frozen=True)
class CudaText:
    """What NVRTC compiles for a plan, and what the host must know of it."""

    printed: PrintedKernel
    tiling: Tiling
    variable_count: int
    products: tuple[Product, ...] = ()
    wide: WideSum | None = None
    vector_length: int = 4

    @property
    def work_of_inner_loop(self) -> tuple[int, float]:
        """How many multiplications or additions one turn of the inner loop does: at least and at most."""
        if self.wide:  # the threads' rows by their components, for as many columns as one instruction loads
            exact = self.wide.chunk * self.vector_length * (2 if self.wide.has_rows else 1)
            return exact, exact
        if self.is_tensor:  # a warp computes 32 rows by blocks of 16 x 8
            return self._tensor_turns * self.products[
                0
            ].format.terms * self.tiling.tile_columns // 4, math.inf
        if self.products:  # some components of the tile's pairs, which the threads share
            return self.tiling.tile_columns * COMPONENTS_AT_ONCE, math.inf
        return self.tiling.rows * self.tiling.columns, math.inf

    @property
    def pairs_of_inner_loop(self) -> float:
        """How many pairs one turn of the inner loop computes."""
        if self.wide:
            return self.vector_length / self.wide.chunks
        dims = sum(product.dim for product in self.products) or 1
        if self.is_tensor:
            components = self._tensor_turns * self.products[0].format.depth
            return self.tiling.tile_columns * components / dims
        return self.work_of_inner_loop[0] / dims

    @property
    def is_tensor(self) -> bool:
        """Whether the inner loop is that of tensor cores: multiply-adds take most of the time where there are some."""
        return (
            bool(self.products)
            and not self.wide
            and all(product.format.is_tensor for product in self.products)
        )

    @property
    def _tensor_turns(self) -> int:
        """How many times 8 words of each vector a turn takes; mirrors native/tensor_cores.cuh."""
        planes = 2 if self.products[0].format.terms == 3 else 1
        return max(1, self.tiling.tile_columns // (2 * planes) // 8 // 2)

    @property
    def merge_name(self) -> str:
        return f"{self.printed.kernel_name}_merge"


def choose_tiling(plan: Plan, rows_per_thread: int | None = None) -> Tiling:
    """The tiling of a plan. ``rows_per_thread`` limits what a thread keeps, for problems with few rows.

    Raises
    ------
    ShapeError : a single staged column is larger than the shared memory of a block.
    """
    products, wide = chosen_products(plan), find_wide_sum(plan)
    core = evaluated(plan)
    memory = _memory(plan, products)
    tile_columns = memory.tile_columns
    if tile_columns < 1:
        raise ShapeError(
            f"The columns and parameters of this formula hold {memory.stride} and {memory.parameters} numbers of "
            f"{memory.itemsize} bytes, more than the {MOST_SHARED_BYTES} bytes of shared memory of a GPU's block: "
            "use vectors of a lower dimension, or pass backend='reference'."
        )
    rows = 1 if products or wide else _rows_per_thread(plan)
    return Tiling(
        rows=min(rows, rows_per_thread or rows),
        threads=THREADS,
        columns=min(columns_at_once(core), tile_columns),
        tile_columns=tile_columns,
        shared_bytes=memory.bytes(tile_columns),
        state_bytes=_state_bytes(plan, wide),
        chunks=wide.chunks if wide else 1,
        components=wide.dim if wide else 1,
    )


@functools.lru_cache(maxsize=4096)
def evaluated(plan: Plan) -> Plan:
    """The plan with what is evaluated for each pair as its formula: of the sum of a wide vector, its weights alone."""
    wide = find_wide_sum(plan)
    return replace(plan, formula=wide.weights) if wide else plan


def _state_bytes(plan: Plan, wide: WideSum | None) -> int:
    """Of the partial states of a row, rounded up to whole 64-bit words."""
    itemsize, outputs = plan.real.itemsize, math.prod(plan.output_shape)
    if wide:  # of a component, a sum and what its rounding lost; or an origin and two such pairs
        is_plain = isinstance(plan.reduction, Sum)
        return -(-wide.dim * (2 if is_plain else 5) * itemsize // 8) * 8
    # A reduction keeps at most a number, what its rounding lost and a position per component, and two more.
    return (outputs + plan.formula.dim + 2) * (2 * itemsize + 8)


@functools.lru_cache(maxsize=4096)
def chosen_products(plan: Plan, capability: int = 0) -> tuple[Product, ...]:
    """The products that are computed for a tile at a time: none where too little shared memory is left for them.

    The capability of the GPU, such as 90 for sm_90, tells which of them tensor cores compute.
    """
    products = find_products(evaluated(plan), capability)
    while products:
        tile_columns = _memory(plan, products).tile_columns
        if tile_columns >= LEAST_PRODUCT_COLUMNS:
            return tuple(_that_fits(product, tile_columns) for product in products)
        products = products[:-1]
    return products


def _that_fits(product: Product, tile_columns: int) -> Product:
    """The same product, by multiply-adds where its words do not fit in the place of a tile."""
    is_split = product.format.terms > 1
    return (
        replace(product, format=MULTIPLY_ADD) if is_split and tile_columns < LEAST_SPLIT_COLUMNS else product
    )


def _kept_sizes(plan: Plan, products: tuple[Product, ...]) -> dict[str, int]:
    given = {product.node for product in products}
    kept = kept_values(evaluated(plan).formula, given)
    return {stage.name: values.size for stage, values in kept.items()}


@dataclass(frozen=True)
class _Memory:
    """The shared memory of a block: mirrors ``Shared`` of native/staging.cuh, products.cuh and wide.cuh."""

    itemsize: int
    variables: int
    parameters: int
    stride: int
    products: int
    chunk: int  # of a sum of wide vectors, or 0

    def bytes(self, tile_columns: int) -> int:
        vector = VECTOR_BYTES // self.itemsize
        tiles = max(self.products, 1 if self.chunk else 0) * THREADS * (tile_columns + vector) * self.itemsize
        kept = 8 * self.variables + self.itemsize * (
            max(1, self.parameters) + tile_columns * max(1, self.stride)
        )
        wide = (tile_columns * self.chunk + 4 * THREADS) * self.itemsize if self.chunk else 0
        return tiles + -(-(VECTOR_BYTES + kept) // VECTOR_BYTES) * VECTOR_BYTES + wide

    @property
    def tile_columns(self) -> int:
        """Columns that a block stages: as many as fit; 0 if none do."""
        most = MOST_PRODUCT_BYTES // (self.itemsize * THREADS) if self.products else MOST_TILE_COLUMNS
        most = min(most, MOST_WIDE_COLUMNS) if self.chunk else most
        least = VECTOR_BYTES // self.itemsize if self.chunk else 1
        sizes = (1 << power for power in range(most.bit_length() - 1, least.bit_length() - 2, -1))
        return next((n for n in sizes if self.bytes(n) <= MOST_SHARED_BYTES), 0)


def _memory(plan: Plan, products: tuple[Product, ...]) -> _Memory:
    kept, wide, itemsize = _kept_sizes(plan, products), find_wide_sum(plan), plan.real.itemsize
    stride = _column_stride(kept["column"], itemsize)
    return _Memory(
        itemsize, variable_count(plan), kept["parameter"], stride, len(products), wide.chunk if wide else 0
    )


def _rows_per_thread(plan: Plan) -> int:
    """Rows share the loads of a column, as long as all that a thread keeps fits its registers.

    They also repeat the text of a pair, as columns do: a formula that is long for columns is long for rows.
    """
    if columns_at_once(plan) < 8:
        return 1
    words = plan.real.itemsize // 4
    kept = words * (_kept_sizes(plan, ())["row"] + 3 * math.prod(plan.output_shape))
    return next((rows for rows in (4, 2) if rows * kept <= ROW_REGISTERS * 2), 1)


def _column_stride(column_dim: int, itemsize: int) -> int:
    """Mirrors ``stride`` of native/staging.cuh."""
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
def print_cuda_kernel(plan: Plan, rows_per_thread: int | None = None, capability: int = 0) -> CudaText:
    """The whole text that NVRTC compiles for a plan and a GPU. Equal plans print equal texts.

    ``capability`` is 90 for sm_90; 0 stands for any GPU. From 80 on, tensor cores compute what the plan allows.
    """
    tiling, products = choose_tiling(plan, rows_per_thread), chosen_products(plan, capability)
    count = variable_count(plan)
    reduction = plan.reduction.spelling(str(plan.formula.dim))
    body = "\n".join(
        (
            f"// {plan.reduction.name} over j of  {print_formula(plan.formula)}",
            *_definitions(plan, tiling, products),
            f'#include "{"wide" if find_wide_sum(plan) else "reduce"}.cuh"',
            "",
            "namespace symbolic_matrices {",
            _print_struct(plan, products),
            "",
        )
    )
    name = kernel_name(plan, f"{body}{reduction}")
    wide = find_wide_sum(plan)
    loop_nest = "WideKernel" if wide else "Kernel"
    source = f"{body}\nSM_KERNEL({name}, {loop_nest}<Formula, {reduction}>)\n}}\n"
    vector_length = VECTOR_BYTES // plan.real.itemsize
    return CudaText(PrintedKernel(source, name), tiling, count, products, wide, vector_length)


def _print_struct(plan: Plan, products: tuple[Product, ...]) -> str:
    """The struct of the formula, whose loop nest gives products as if they were staged numbers of the column."""
    staged, lines = _kept_sizes(plan, products)["column"], list[str]()
    given: dict[Node, Spelled] = {}
    for number, product in enumerate(products):
        given[product.node] = Spelled(1, f"c[{staged + number}]")
        lines += [f"struct Product{number} {{", *product.lines, "};"]
    names = ", ".join(f"Product{number}" for number in range(len(products)))
    wide = find_wide_sum(plan)
    more = [*lines, f"typedef ProductList<{names}> Products;", *(wide.lines if wide else ())]
    return _unrolled(print_struct(evaluated(plan).formula, given, more))


def _unrolled(struct: str) -> str:
    """Short loops over components are unrolled where pairs are evaluated: registers have no addresses."""
    stages, signature, pair = struct.partition("static void pair(")

    def repeat(loop: re.Match[str]) -> str:
        return f"SM_UNROLL {loop[0]}" if int(loop[1]) <= MOST_UNROLLED else loop[0]

    return stages + signature + re.sub(r"for \(int k = 0; k < (\d+);", repeat, pair)


def _definitions(plan: Plan, tiling: Tiling, products: tuple[Product, ...]) -> list[str]:
    wide = find_wide_sum(plan)
    values = {
        "REAL": plan.real.spelling,
        "REAL_BITS": 8 * plan.real.itemsize,
        "SM_VARIABLES": variable_count(plan),
        "SM_ROWS": tiling.rows,
        "SM_THREADS": tiling.threads,
        "SM_BLOCKS": _least_blocks(plan, products),
        "SM_MOST_COLUMNS": tiling.columns,
        "SM_TILE_COLUMNS": tiling.tile_columns,
        "SM_SHARED_BYTES": tiling.shared_bytes,
        "SM_STATE_BYTES": tiling.state_bytes,
        **({"SM_CHUNK": wide.chunk} if wide else {}),
    }
    if plan.storage:
        values["SM_STORAGE_OF(variable)"] = f"({_spell_storage(plan)})"
    return [f"#define {name} {value}" for name, value in values.items()]


def _least_blocks(plan: Plan, products: tuple[Product, ...]) -> int:
    """Of a multiprocessor: they limit the registers of a thread. 1 where the compiler finds a good number by itself."""
    if find_wide_sum(plan):
        return WIDE_BLOCKS
    if any(product.is_distance and product.format.is_tensor for product in products):
        return TENSOR_DISTANCE_BLOCKS
    has_places = isinstance(plan.reduction, Smallest) and plan.reduction.count > MOST_PLACES
    return COMMON_BLOCKS if has_places or products else 1


def _spell_storage(plan: Plan) -> str:
    """How a variable is stored, as a function of its number that the compiler evaluates."""
    cases = [f"variable == {index} ? Storage::{dtype}" for index, dtype in plan.storage]
    return " : ".join([*cases, "Storage::real"])
