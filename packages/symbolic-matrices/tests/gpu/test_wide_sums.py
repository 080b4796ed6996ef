"""Sums of wide vectors as products of matrices: which formulas, how they are cut, their values and instructions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gpu import emulated
from matrix_testing import assert_close, sample

from symbolic_matrices import BlockRanges, LazyTensor, Vi, Vj, execution
from symbolic_matrices.formulas.differentiation import gradients
from symbolic_matrices.formulas.expressions import Axis, Node, variable
from symbolic_matrices.formulas.operations import pointwise, vectors
from symbolic_matrices.formulas.operations.indexing import concat, extract
from symbolic_matrices.formulas.reductions import REDUCTIONS, Accumulate, Reduction
from symbolic_matrices.kernels import nvrtc
from symbolic_matrices.kernels.cuda_printing import MOST_SHARED_BYTES, print_cuda_kernel
from symbolic_matrices.kernels.planning import Plan, make_plan
from symbolic_matrices.kernels.wide_sums import WideSum, find_wide_sum
from symbolic_matrices.machine_code.cuda import inspect_kernel

BACKEND = emulated.NAME
SUM = REDUCTIONS["sum"]()
SOFTMAX = REDUCTIONS["sumsoftmaxweight"]


def x(dim: int) -> Node:
    return variable(0, Axis.I, dim)


def y(dim: int) -> Node:
    return variable(1, Axis.J, dim)


def v(dim: int) -> Node:
    return variable(2, Axis.J, dim)


def gaussian(dim: int) -> Node:
    return pointwise.exp(pointwise.negate(vectors.sqdist(x(dim), y(dim))))


def product(dim: int, width: int, dtype: str = "float32") -> Plan:
    return make_plan(pointwise.multiply(gaussian(dim), v(width)), SUM, Axis.J, dtype)


def attention(dim: int, width: int, dtype: str = "float32") -> Plan:
    formula = concat(vectors.dot(x(dim), y(dim)), v(width))
    return make_plan(formula, SOFTMAX(weight_dim=width), Axis.J, dtype)


def found(formula: Node, reduction: Reduction = SUM, dtype: str = "float32") -> WideSum | None:
    return find_wide_sum(make_plan(formula, reduction, Axis.J, dtype))


# ---------------------------------------------------------------------------- which formulas


def test_weights_and_vectors_are_found():
    wide = found(pointwise.multiply(gaussian(3), v(64)))
    assert wide is not None
    (part,) = wide.parts
    assert (part.weight, part.dim, part.column, part.row) == (gaussian(3), 64, "read(2, k)", None)
    scaled = pointwise.multiply(pointwise.multiply(variable(3, Axis.J, 1), gaussian(3)), pointwise.exp(v(64)))
    assert found(scaled).parts[0].column == "(exp(read(2, k)))"
    halves = extract(v(128), attributes=(64, 64))
    assert found(pointwise.multiply(gaussian(3), halves)).parts[0].column == "read(2, 64 + k)"


def test_differences_are_found_with_their_sign():
    forward = found(pointwise.multiply(gaussian(3), pointwise.subtract(v(64), variable(3, Axis.I, 64))))
    backward = found(pointwise.multiply(gaussian(3), pointwise.subtract(variable(3, Axis.I, 64), v(64))))
    for wide in (forward, backward):
        assert (wide.parts[0].column, wide.parts[0].row) == ("read(2, k)", "read(3, k)")
    assert forward.parts[0].weight is gaussian(3)
    assert backward.parts[0].weight is pointwise.negate(gaussian(3))


def test_derivatives_are_parts_that_stand_side_by_side():
    """With respect to y and to v, in one kernel."""
    formula = pointwise.multiply(gaussian(64), v(40))
    derivatives = gradients(formula, variable(3, Axis.I, 40), (y(64), v(40)))
    wide = find_wide_sum(make_plan(concat(*derivatives), SUM, Axis.I, "float32"))
    assert [part.dim for part in wide.parts] == [64, 40]
    assert [part.row is not None for part in wide.parts] == [True, False]
    assert (wide.chunk, wide.chunks, wide.weights.dim) == (32, 4, 2)


NOT_WIDE = {
    "narrow": pointwise.multiply(gaussian(3), v(32)),
    "no weight of pairs": pointwise.multiply(variable(3, Axis.J, 1), v(64)),
    "vectors of pairs": pointwise.exp(pointwise.subtract(variable(3, Axis.I, 64), v(64))),
    "vectors of rows": pointwise.multiply(gaussian(3), variable(3, Axis.I, 64)),
    "vectors that need all their components": pointwise.multiply(
        gaussian(3), pointwise.divide(v(64), vectors.vector_sum(v(64)))
    ),
    "mostly short parts": concat(
        pointwise.multiply(gaussian(3), v(40)),
        concat(gaussian(3), concat(gaussian(2), concat(gaussian(4), gaussian(5)))),
    ),
}


@pytest.mark.parametrize("case", NOT_WIDE)
def test_other_formulas_keep_their_loop_nest(case):
    assert found(NOT_WIDE[case]) is None


def test_other_reductions_keep_their_loop_nest():
    formula = pointwise.multiply(gaussian(3), v(64))
    assert found(formula, SUM.accumulating(Accumulate.KAHAN)) is None
    assert found(formula, REDUCTIONS["max"]()) is None
    pairs = concat(gaussian(3), pointwise.multiply(gaussian(2), v(64)))
    assert found(pairs, SOFTMAX(weight_dim=64)) is None


# ---------------------------------------------------------------------------- how they are cut


@pytest.mark.parametrize(
    ("width", "dtype", "chunk", "chunks"),
    [
        (33, "float32", 64, 1), (64, "float32", 64, 1), (65, "float32", 32, 3), (1000, "float32", 64, 16),
        (17, "float64", 32, 1), (64, "float64", 32, 2), (40, "float64", 16, 3),
    ],
)  # fmt: skip
def test_components_are_cut_into_chunks(width, dtype, chunk, chunks):
    tiling = print_cuda_kernel(product(3, width, dtype)).tiling
    wide = find_wide_sum(product(3, width, dtype))
    assert (wide.chunk, wide.chunks, tiling.chunks, tiling.components) == (chunk, chunks, chunks, width)
    assert tiling.rows == 1
    assert tiling.tile_columns == 32
    assert tiling.shared_bytes <= MOST_SHARED_BYTES
    assert tiling.state_bytes >= width * 2 * (4 if dtype == "float32" else 8)


def test_columns_are_staged_fewer_at_a_time_where_they_are_long():
    farthest = vectors.vector_max(pointwise.subtract(x(200), y(200)))
    plan = make_plan(pointwise.multiply(farthest, v(64)), SUM, Axis.J, "float32")
    assert print_cuda_kernel(plan).tiling.tile_columns == 16


# ---------------------------------------------------------------------------- values


@pytest.fixture
def _emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(execution.BACKENDS, BACKEND, emulated)


needs_emulator = [emulated.needs_emulator, pytest.mark.usefixtures("_emulated")]


def tensors(case: str, arrays: list[np.ndarray]) -> tuple[LazyTensor, str, LazyTensor | None]:
    """A formula, its reduction and a weight."""
    rows, columns, values = Vi(arrays[0]), Vj(arrays[1]), Vj(arrays[2])
    kernel = -rows.sqdist(columns) / 2
    return {
        "sum": (kernel.exp() * values, "sum", None),
        "softmax": (rows | columns, "sumsoftmaxweight", values),
        "logsumexp": (kernel, "logsumexp", values * values),
        "differences": (kernel.exp() * (rows - columns), "sum", None),
    }[case]


def check(
    case: str, arrays: list[np.ndarray], dtype: str, axis: int = 1, ranges: BlockRanges | None = None
) -> None:
    """Against the reference in float64."""

    def reduce(data: list[np.ndarray], backend: str) -> np.ndarray:
        formula, name, weight = tensors(case, data)
        return formula.reduction(name, axis=axis, weight=weight, backend=backend, ranges=ranges)

    wanted = reduce([array.astype("float64") for array in arrays], "reference")
    assert_close(reduce(arrays, BACKEND), wanted, dtype, factor=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("case", "dim", "width"),
    [("sum", 3, 70), ("softmax", 3, 70), ("logsumexp", 3, 70), ("softmax", 40, 64), ("differences", 40, 40)],
)
class TestValues:
    pytestmark = needs_emulator

    def test_at_the_borders_of_blocks_and_tiles(self, case, dim, width, dtype, rng):
        """One row and column, neither a whole block nor a whole tile, and columns that are cut and merged."""
        for rows, columns in ((1, 1), (129, 65), (3, 2300)):
            shapes = ((rows, dim), (columns, dim), (columns, width))
            check(case, [sample(rng, shape, dtype=dtype) for shape in shapes], dtype)


@pytest.mark.parametrize("case", ["sum", "softmax"])
class TestProblems:
    pytestmark = needs_emulator

    def test_batches_and_block_ranges(self, case, rng):
        shapes = ((2, 1, 150, 1, 3), (1, 3, 1, 90, 3), (2, 1, 1, 90, 70))
        data = [sample(rng, shape) for shape in shapes]
        ranges = BlockRanges([[0, 3], [5, 140]], [1, 3], [[10, 60], [0, 1], [70, 90]])
        rows, columns, values = map(LazyTensor, data)
        kernel = -rows.sqdist(columns)
        for visited in (None, ranges):
            got, wanted = (
                (kernel.exp() * values).sum(axis=3, backend=backend, ranges=visited)
                if case == "sum"
                else kernel.sumsoftmaxweight(values, axis=3, backend=backend, ranges=visited)
                for backend in (BACKEND, "reference")
            )
            assert_close(got, wanted)


class TestExceptions:
    pytestmark = needs_emulator

    def test_exponents_of_any_size(self):
        """That grow from column to column, are all -inf, or NaN in one column."""
        values = np.linspace(1, 2, 100, dtype="float32")[:, None] * np.ones((1, 40), "float32")
        growing = np.linspace(-1e4, 1e4, 100, dtype="float32")[:, None]
        nothing = np.full_like(growing, -np.inf)
        undefined = growing.copy()
        undefined[50] = np.nan
        rows = Vi(np.zeros((5, 1), "float32"))
        for exponents, expected in ((growing, 2.0), (nothing, 0.0), (undefined, np.nan)):
            averages = (rows + Vj(exponents)).sumsoftmaxweight(Vj(values), axis=1, backend=BACKEND)
            np.testing.assert_allclose(averages, expected, rtol=1e-6)

    def test_infinite_values_stay_where_they_are(self):
        values = np.ones((70, 40), "float32")
        values[3, 5], values[69, 39], values[0, 0] = np.inf, np.nan, -np.inf
        x, y = (np.ones((n, 1), "float32") for n in (130, 70))
        sums = (Vi(x).sqdist(Vj(y)).exp() * Vj(values)).sum(axis=1, backend=BACKEND)
        expected = np.full(40, 70.0)
        expected[[5, 39, 0]] = np.inf, np.nan, -np.inf
        np.testing.assert_array_equal(sums, np.broadcast_to(expected, (130, 40)))

    def test_sums_of_many_terms_are_accurate(self):
        terms = np.full((100_000, 1), 1000.1, "float32")
        ones = np.ones((len(terms), 33), "float32")
        total = ((Vi(np.zeros((3, 1), "float32")) + Vj(terms)) * Vj(ones)).sum(axis=1, backend=BACKEND)
        assert np.abs(total / terms.sum(dtype="float64") - 1).max() < 1e-6

    def test_gradients(self, rng):
        """With respect to all the variables, of attention, whose backward pass is a wide sum too."""
        data = [sample(rng, shape) for shape in ((40, 20), (50, 20), (50, 36))]

        def derivatives(backend: str) -> list[torch.Tensor]:
            q, k, v = (torch.tensor(array, requires_grad=True) for array in data)
            out = (Vi(q) | Vj(k)).sumsoftmaxweight(Vj(v), axis=1, backend=backend)
            return list(torch.autograd.grad(out.square().sum(), (q, k, v)))

        for got, wanted in zip(derivatives(BACKEND), derivatives("reference"), strict=True):
            assert_close(got.numpy(), wanted.numpy(), factor=10)


# ---------------------------------------------------------------------------- machine code

# Instructions per pair and component on sm_90, where a multiply-add is one: at most.
COUNTED = {
    "K @ V, D = 3, 64 columns": (product(3, 64), 1.12),
    "K @ V, D = 3, 128 columns": (product(3, 128), 1.12),
    "K @ V, D = 64, 64 columns": (product(64, 64), 1.12),
    "attention, D = 64, 64 columns": (attention(64, 64), 1.12),
    "attention, D = 64, 128 columns": (attention(64, 128), 1.12),
    "K @ V, D = 3, 64 columns, float64": (product(3, 64, "float64"), 1.36),
    "gradient of the Gaussian, D = 64": (
        make_plan(
            pointwise.multiply(pointwise.multiply(gaussian(64), v(1)), pointwise.subtract(x(64), y(64))),
            SUM, Axis.J, "float32",
        ),
        2.2,
    ),
}  # fmt: skip


@pytest.mark.skipif(
    not (nvrtc.is_available() and nvrtc.find_disassembler()), reason="there is no NVRTC or no nvdisasm"
)
@pytest.mark.parametrize("case", COUNTED)
def test_inner_loops_take_little_more_than_a_multiply_add(case):
    plan, most = COUNTED[case]
    text = print_cuda_kernel(plan)
    report = inspect_kernel(text, "sm_90")
    assert most / 1.2 < report.loop.instructions_per_pair / text.tiling.components <= most
    assert report.spill_bytes == report.local_bytes == 0
    assert report.registers <= 255  # two blocks of a multiprocessor
