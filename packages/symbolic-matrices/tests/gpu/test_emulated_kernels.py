"""Kernels for GPUs, run by the emulator. `pytest --backend cuda-emulated` runs the whole suite on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gpu import emulated
from matrix_testing import assert_close, sample

from symbolic_matrices import BlockRanges, EmptyReductionError, LazyTensor, Vi, Vj, execution
from symbolic_matrices.backends import cuda
from symbolic_matrices.formulas.expressions import Axis, Node, variable
from symbolic_matrices.formulas.operations import OPERATIONS
from symbolic_matrices.formulas.operations.indexing import concat
from symbolic_matrices.formulas.reductions import REDUCTIONS
from symbolic_matrices.kernels.planning import make_plan
from symbolic_matrices.kernels.products import find_products

pytestmark = emulated.needs_emulator
BACKEND = emulated.NAME
# One row, one column; one more than a block of rows or a tile of columns; several tiles; columns cut into intervals.
SIZES = [(1, 1), (129, 65), (200, 257), (3, 5000)]


@pytest.fixture(autouse=True)
def _emulated_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(execution.BACKENDS, BACKEND, emulated)


def outputs_of(tensor: LazyTensor, name: str, backend: str, axis: int = 1) -> tuple[np.ndarray, ...]:
    arguments = (3,) if REDUCTIONS[name].is_counted else ()
    outputs = tensor.reduction(name, *arguments, axis=axis, backend=backend)
    return outputs if isinstance(outputs, tuple) else (outputs,)


PLAIN = [name for name, row in REDUCTIONS.items() if row.make is not None]


@pytest.mark.parametrize("name", PLAIN)
def test_reductions_at_the_borders_of_blocks_and_tiles(name, rng):
    for rows, columns in SIZES:
        x, y = sample(rng, (rows, 2), dtype="float32"), sample(rng, (columns, 2), dtype="float32")
        tensor = Vi(x).sqdist(Vj(y))
        expected = outputs_of(tensor, name, "reference")
        for output, wanted in zip(outputs_of(tensor, name, BACKEND), expected, strict=True):
            if wanted.dtype == np.float32:
                assert_close(output, wanted, "float32")
            else:
                np.testing.assert_array_equal(output, wanted)


def joined(values: list[Node]) -> Node:
    """All the components, by a balanced tree: each is held a few times at most."""
    half = len(values) // 2
    return values[0] if len(values) == 1 else concat(joined(values[:half]), joined(values[half:]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_operation(dtype, rng):
    """The components of all the rows of the table, in one kernel."""
    values, arrays = [], []
    for operation in OPERATIONS.values():
        dims = operation.dims or (3,) * operation.arity
        axes = [Axis.I, *[Axis.J] * (operation.arity - 1)]
        nodes = [
            variable(len(arrays) + k, axis, dim) for k, (axis, dim) in enumerate(zip(axes, dims, strict=True))
        ]
        for axis, dim, interval in zip(axes, dims, operation.domain, strict=True):
            arrays.append(sample(rng, (4 if axis is Axis.I else 3, dim), interval, dtype))
        values.append(operation(*nodes, attributes=operation.attributes))
    formula = joined(values)

    def reduce(backend: str) -> np.ndarray:
        request = execution.Request(
            formula, REDUCTIONS["sum"](), Axis.J, (4, 3), (), LazyTensor(arrays[0], axis=0)._context.library, dtype,
            "cpu", backend,
        )  # fmt: skip
        return execution.execute(request, tuple(arrays))[0]

    got, expected, first = reduce(BACKEND), reduce("reference"), 0
    for operation, value in zip(OPERATIONS.values(), values, strict=True):
        part = np.s_[:, first : first + value.dim]
        first += value.dim
        try:
            assert_close(got[part], expected[part], dtype, factor=20)
        except AssertionError as error:
            raise AssertionError(f"{operation.name}: {error}") from error


def test_gradients(rng):
    """First and second derivatives of a Gaussian matrix-vector product."""
    data = [sample(rng, shape) for shape in ((40, 3), (30, 3), (30, 2))]

    def derivatives(backend: str) -> list[torch.Tensor]:
        x, y, b = (torch.tensor(array, requires_grad=True) for array in data)
        out = ((-Vi(x).sqdist(Vj(y))).exp() * Vj(b)).sum(axis=1, backend=backend)
        first = torch.autograd.grad(out.square().sum(), (x, y, b), create_graph=True)
        return [*first, *torch.autograd.grad(first[0].square().sum(), (x, y, b))]

    for output, wanted in zip(derivatives(BACKEND), derivatives("reference"), strict=True):
        assert_close(output.detach().numpy(), wanted.detach().numpy(), factor=10)


def test_batches_broadcast(rng):
    x, y, s = sample(rng, (2, 1, 20, 1, 2)), sample(rng, (3, 1, 30, 2)), sample(rng, (2, 3, 1, 1, 1), (1, 2))
    tensor = (LazyTensor(x).sqdist(LazyTensor(y)) * LazyTensor(s)).exp()
    wanted = tensor.sum(axis=3, backend="reference")
    assert wanted.shape == (2, 3, 20, 1)
    assert_close(tensor.sum(axis=3, backend=BACKEND), wanted, factor=10)


def test_batches_of_fewer_dimensions(rng):
    """An array with some of the batch's dimensions, but not all: none of its strides gets lost."""
    x, y, s = (sample(rng, shape) for shape in ((2, 1, 4, 6, 1, 2), (3, 1, 1, 5, 2), (3, 1, 1, 1, 1)))
    tensor = LazyTensor(x).sqdist(LazyTensor(y)) * LazyTensor(s)
    wanted = tensor.sum(axis=4, backend="reference")
    assert wanted.shape == (2, 3, 4, 6, 1)
    assert_close(tensor.sum(axis=4, backend=BACKEND), wanted, factor=10)


def test_strided_arrays(rng):
    x, y = sample(rng, (40, 6))[::2, ::2], sample(rng, (3, 25)).T
    tensor = Vi(x).sqdist(Vj(y))
    assert_close(tensor.sum(axis=1, backend=BACKEND), tensor.sum(axis=1, backend="reference"))


@pytest.mark.parametrize("name", ["sum", "argmin", "logsumexp"])
def test_block_ranges(name, rng):
    """Blocks of unequal sizes, rows that no block covers, columns cut into intervals, a batch."""
    x, y = sample(rng, (2, 700, 1, 2)), sample(rng, (1, 1, 9000, 2))
    ranges = BlockRanges(
        [[0, 3], [5, 600], [600, 601]], [2, 3, 5], [[0, 70], [4000, 9000], [10, 300], [1, 2], [8000, 8001]]
    )
    tensor = LazyTensor(x).sqdist(LazyTensor(y))
    for axis in (2, 1):
        got, wanted = (
            tensor.reduction(name, axis=axis, backend=b, ranges=ranges) for b in (BACKEND, "reference")
        )
        if name == "argmin":
            np.testing.assert_array_equal(got, wanted)
        else:
            assert_close(got, wanted, factor=10)


def high_dimensional(case: str, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> LazyTensor:
    scale, dim = np.array([1.5], x.dtype), x.shape[-1]
    rows, columns, others = Vi(x), Vj(y), Vj(z)
    return {
        "distance": lambda: rows.sqdist(columns),
        "scaled": lambda: ((rows / scale).sqdist(columns / scale) / -dim).exp() * others[:2],
        "two products": lambda: (columns | rows) * rows.sqdist(others),
        "vectors too": lambda: (rows.sqdist(columns) / -dim).exp() * (rows - columns),
    }[case]()


@pytest.mark.parametrize(
    ("case", "dtype", "dim"),
    [
        ("distance", "float32", 64),
        ("scaled", "float32", 43),
        ("two products", "float64", 43),
        ("vectors too", "float32", 43),
    ],
)
def test_products_in_high_dimension(case, dtype, dim, rng):
    """Tiles of products: rows and columns that do not fill the last one, components that do not fill the last step."""
    x, y, z = (sample(rng, (size, dim), dtype=dtype) for size in (150, 203, 203))
    tensor = high_dimensional(case, x, y, z)
    assert find_products(make_plan(tensor._formula, REDUCTIONS["sum"](), Axis.J, dtype))
    for axis, name in ((0, "sum"), (1, "argmin")):
        got, wanted = (tensor.reduction(name, axis=axis, backend=b) for b in (BACKEND, "reference"))
        assert_close(got, wanted, "int64" if name == "argmin" else dtype, factor=2)


def test_products_of_blocks_batches_and_cut_columns(rng):
    x, y = sample(rng, (2, 300, 1, 40), dtype="float32"), sample(rng, (1, 1, 5000, 40), dtype="float32")
    ranges = BlockRanges([[0, 3], [5, 290]], [1, 3], [[100, 170], [4000, 5000], [1, 2]])
    for visited in (None, ranges):
        tensor = (LazyTensor(x).sqdist(LazyTensor(y)) / -10).exp()
        got, wanted = (tensor.sum(axis=2, backend=b, ranges=visited) for b in (BACKEND, "reference"))
        assert_close(got, wanted, "float32", factor=2)


def test_ties_nan_and_nothing():
    x, y = np.zeros((20, 1)), np.tile([[2.0], [1.0], [1.0], [2.0], [0.0], [0.0]], (50, 1))
    difference = Vi(x) - Vj(y)
    assert (difference.argmin(axis=1, backend=BACKEND) == 0).all()
    assert (difference.argmax(axis=1, backend=BACKEND) == 4).all()
    assert (difference.argKmin(4, axis=1, backend=BACKEND) == [0, 3, 6, 9]).all()
    y[[100, 200]] = np.nan
    assert (difference.argmin(axis=1, backend=BACKEND) == 100).all()
    nearest = difference.Kmin(301, axis=1, backend=BACKEND)
    assert np.isnan(nearest[:, 298:300]).all()
    assert (nearest[:, 300] == np.inf).all()
    nothing = Vi(x) - Vj(np.zeros((0, 1)))
    assert (nothing.sum(axis=1, backend=BACKEND) == 0).all()
    with pytest.raises(EmptyReductionError):
        nothing.argmin(axis=1, backend=BACKEND)


def test_float32_sums_of_many_terms_are_accurate():
    terms = np.full((100_000, 1), 1000.1, "float32")
    total = (Vi(np.zeros((3, 1), "float32")) + Vj(terms)).sum(axis=1, backend=BACKEND)
    assert np.abs(total / terms.sum(dtype="float64") - 1).max() < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_at_their_exceptions(dtype):
    """rsqrt(0) = 0, step(0) = 1, rounding half to even, NaN in minimum and maximum: as the reference has them."""
    x = np.array([[0.0], [-0.0], [4.0], [2.5], [-1.5], [np.nan], [np.inf], [-np.inf]], dtype)
    one, z = Vj(np.ones((1, 1), dtype)), Vi(x)
    functions = (
        "rsqrt",
        "step",
        "sign",
        "abs",
        "floor",
        "ceil",
        "relu",
        "exp",
        "sqrt",
        "xlogx",
        "sinc",
        "softplus",
    )
    parts = [getattr(z, name)() for name in functions]
    parts += [
        z.round(0),
        z.minimum(one),
        one.minimum(z),
        z.maximum(one),
        one.maximum(z),
        z**-2,
        z**3,
        z == 4.0,
    ]
    tensor = LazyTensor.cat([part * one for part in parts])
    got, wanted = (tensor.sum(axis=1, backend=backend) for backend in (BACKEND, "reference"))
    np.testing.assert_allclose(got, wanted, rtol=1e-5 if dtype == "float32" else 1e-14)


def test_logsumexp_of_extreme_exponents():
    shifts = np.array([[-1e4], [0.0], [1e4]], "float32")
    y = np.array([[0.0], [1.0], [-np.inf]], "float32")
    result = (Vi(shifts) + Vj(y)).logsumexp(axis=1, backend=BACKEND)
    assert_close(result, shifts.astype("float64") + np.log(1 + np.e), "float32")
    nothing = np.full((5, 1), -np.inf, "float32")
    assert (Vi(shifts) + Vj(nothing)).logsumexp(axis=1, backend=BACKEND).tolist() == [[-np.inf]] * 3


# ---------------------------------------------------------------------------- how problems are cut

TILING = cuda.Tiling(rows=4, threads=128, columns=8, tile_columns=128, shared_bytes=2096, state_bytes=64)


@pytest.mark.parametrize("rows", [1, 511, 513, 10**6, 10**9])
@pytest.mark.parametrize("columns", [0, 1, 5000, 10**6, 10**10])
@pytest.mark.parametrize("batches", [1, 1000, 10**6])
@pytest.mark.parametrize("registers", [24, 72, 255])
def test_launch_shapes_are_valid(rows, columns, batches, registers):
    shape = cuda.choose_launch(TILING, (rows, columns, batches), registers, 132)
    assert all(1 <= size <= most for size, most in zip(shape.grid, cuda.MOST_GRID, strict=True))
    assert (shape.column_splits - 1) * shape.split_columns < max(1, columns)
    assert columns <= shape.column_splits * shape.split_columns
    assert shape.split_columns % TILING.tile_columns == 0
    if shape.column_splits > 1:
        assert shape.column_splits * rows * batches * TILING.state_bytes <= 2 * cuda.PARTIAL_BYTES


def test_launches_fill_the_device_and_no_more():
    assert cuda.choose_launch(TILING, (10**6, 10**6, 1), 72, 132).column_splits == 1
    assert cuda.choose_launch(TILING, (1000, 10**6, 1), 72, 132).column_splits > 132
    assert cuda.choose_launch(TILING, (100, 100, 1000), 72, 132) == cuda.LaunchShape(1, (1, 1000, 1), 1, 128)
    assert cuda.choose_rows(4, 128, 100) == 1
    assert cuda.choose_rows(4, 128, 300) == 2
    assert cuda.choose_rows(4, 128, 512) == 4
