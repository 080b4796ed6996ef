"""The host side of the CUDA backend: arrays of CuPy, the choice of the backend, and errors, through a stand-in."""

from __future__ import annotations

import functools
import mmap
import sys
from types import ModuleType

import numpy as np
import pytest
from cuda_emulator.stand_in import make_cupy, special_functions
from gpu import copied, emulated, formulas
from matrix_testing import assert_close, sample

from symbolic_matrices import (
    ArrayTypeError,
    BackendError,
    BlockRanges,
    CompilationError,
    LazyTensor,
    ShapeError,
    Vi,
    Vj,
    execution,
    show_config,
)
from symbolic_matrices.arrays import CuPy, library_named
from symbolic_matrices.backends import cuda
from symbolic_matrices.formulas.expressions import Axis, variable
from symbolic_matrices.formulas.operations.pointwise import multiply
from symbolic_matrices.kernels.cuda_printing import MOST_SHARED_BYTES, choose_tiling

pytestmark = emulated.needs_emulator


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for CuPy that the engine takes for the real one."""
    module = make_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", special_functions())
    library = library_named("cupy")
    monkeypatch.setitem(vars(library), "namespace", None)  # restored at the end,
    del vars(library)["namespace"]  # and looked up anew until then
    # Kernels belong to the CuPy that compiled them.
    monkeypatch.setattr(execution, "_compiled", functools.lru_cache(execution._compiled.__wrapped__))
    return module


def test_arrays_of_cupy_run_where_they_live(cupy, rng):
    x, y, b = (sample(rng, shape, dtype="float32") for shape in ((30, 3), (40, 3), (40, 2)))
    on_gpu = [cupy.asarray(array) for array in (x, y, b)]
    product = (-Vi(on_gpu[0]).sqdist(Vj(on_gpu[1]))).exp() @ on_gpu[2]
    assert isinstance(product, cupy.ndarray)
    expected = (-Vi(x).sqdist(Vj(y))).exp() @ b
    assert_close(cupy.asnumpy(product), expected, "float32")
    assert "cuda" in show_config().backends


def test_arrays_are_read_where_they_are(cupy, rng):
    """The kernel gets the addresses and the strides of the user's arrays, not of copies."""
    x = cupy.asarray(sample(rng, (64, 3)))[::2]
    request_kernel = cuda.compile(formulas.plan(formulas.sqdist(3), dtype="float64"))
    seen = []
    variant = next(iter(request_kernel.variants.values()))
    run = variant.run

    class Spy:
        num_regs = run.num_regs

        def __call__(self, grid, block, arguments, *, shared_mem):
            seen.append(arguments[0].view("int64"))
            run(grid, block, arguments, shared_mem=shared_mem)

    request_kernel.variants[1, 90] = cuda.Variant(variant.text, Spy(), variant.merge)
    library = library_named("cupy")
    problem = cuda.Problem(library, "float64", "cuda:0", (x, x), 32, 32, ())
    (out,) = cuda.run(request_kernel, problem)
    assert seen[0][0] == seen[0][1] == 32
    assert seen[0][8] == out.data.ptr
    assert x.data.ptr in seen[0]
    assert 6 in seen[0]  # elements from one row to the next


def test_the_suite_can_run_on_copies(cupy, monkeypatch, rng):
    monkeypatch.setitem(execution.BACKENDS, copied.NAME, copied)
    x, y = sample(rng, (5, 2)), sample(rng, (7, 2))
    tensor = Vi(x).sqdist(Vj(y))
    assert_close(tensor.sum(axis=1, backend=copied.NAME), tensor.sum(axis=1, backend="reference"))


def test_backends_need_arrays_where_they_run(cupy, rng):
    x = cupy.asarray(sample(rng, (5, 2)))
    with pytest.raises(
        BackendError, match="backend='cpu' needs arrays in main memory but they live on 'cuda:0'"
    ):
        Vi(x).sqdist(Vj(x)).sum(axis=1, backend="cpu")
    with pytest.raises(BackendError, match="backend='cuda' needs arrays on a GPU but they live on 'cpu'"):
        Vi(np.zeros((5, 2))).sum(axis=1, backend="cuda")


def test_arrays_on_different_devices_are_refused(cupy, rng):
    host = sample(rng, (5, 2))
    x, y = cupy.ndarray(host, device=0), cupy.ndarray(host, device=1)
    with pytest.raises(ArrayTypeError, match="cuda:1"):
        Vi(x).sqdist(Vj(y)).sum(axis=1)


def compile_something() -> None:
    cuda.compile(formulas.plan(formulas.sqdist(3)))


def test_missing_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match=r"pip install symbolic-matrices\[cuda13\]"):
        compile_something()
    assert "cuda" not in show_config().backends


@pytest.mark.parametrize(
    "failure",
    [
        "cudaErrorNoDevice: no CUDA-capable device is detected",
        "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    ],
)
def test_missing_gpu_or_driver(cupy, failure):
    cupy.cuda.device_count, cupy.cuda.failure = 0, failure
    with pytest.raises(
        BackendError, match=rf"no GPU that it can use \({failure}.*nvidia-smi.*as recent as CuPy's CUDA"
    ):
        compile_something()


def test_old_driver(cupy):
    cupy.cuda.driver_version = 11040
    with pytest.raises(BackendError, match=r"supports CUDA 11\.4, but kernels need CUDA 12\.0"):
        compile_something()


def test_missing_nvrtc(cupy, monkeypatch):
    def fail(self: object) -> None:
        raise RuntimeError("CuPy failed to load libnvrtc.so.13")

    monkeypatch.setattr(cupy.RawKernel.func, "compile", fail)
    with pytest.raises(CompilationError, match=r"libnvrtc(.|\n)*pip install symbolic-matrices\[cuda13\]"):
        compile_something()


def test_refusals_of_the_compiler(cupy, monkeypatch):
    monkeypatch.setattr(cuda, "OPTIONS", ("--include-path=/nowhere",))
    with pytest.raises(CompilationError, match=r"sum over j of  sqdist(.|\n)*reduce\.cuh"):
        compile_something()


def test_gpus_that_the_compiler_has_forgotten(cupy, monkeypatch):
    def fail(self: object) -> None:
        raise cupy.cuda.compiler.CompileException(
            "nvrtc: error: invalid value for --gpu-architecture (-arch)"
        )

    monkeypatch.setattr(cupy.RawKernel.func, "compile", fail)
    with pytest.raises(
        CompilationError, match=r"invalid value for --gpu(.|\n)*symbolic-matrices\[cuda12\] there"
    ):
        compile_something()


@pytest.mark.parametrize(
    "failure", [ImportError("libcurand.so.10: cannot open"), PermissionError("/home/me/.cupy")]
)
def test_a_cupy_that_does_not_start(monkeypatch, failure):
    """It needs libraries, and makes a folder for compiled kernels."""

    def fail(name: str) -> None:
        raise failure

    monkeypatch.setattr(cuda.importlib, "import_module", fail)
    with pytest.raises(BackendError, match=f"need CuPy, but importing it failed: {failure}"):
        cuda.find_cupy()


def test_running_out_of_memory_is_said_by_the_library(cupy, monkeypatch, rng):
    x = cupy.asarray(sample(rng, (5, 2)))

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Out of memory allocating 40 bytes")

    monkeypatch.setattr(cupy, "empty", fail)
    with pytest.raises(MemoryError, match="allocating 40 bytes"):
        Vi(x).sqdist(Vj(x)).sum(axis=1)


def test_columns_stay_whole_without_memory_for_partial_states(cupy, monkeypatch, rng):
    x, y = sample(rng, (5, 2)), sample(rng, (5000, 2))
    ranges = BlockRanges([[0, 5]], [1], [[100, 5000]])
    empty = CuPy.empty

    def refuse_partial_states(self: CuPy, shape: tuple[int, ...], dtype_name: str, device: str) -> object:
        if dtype_name == "int64":
            raise MemoryError("Out of memory")
        return empty(self, shape, dtype_name, device)

    for refuses in (False, True):
        if refuses:
            monkeypatch.setattr(CuPy, "empty", refuse_partial_states)
        for visited in (None, ranges):
            cupy.cuda.events.clear()
            found = Vi(cupy.asarray(x)).sqdist(Vj(cupy.asarray(y))).sum(axis=1, ranges=visited)
            assert [kind for kind, _ in cupy.cuda.events].count("launch") == (1 if refuses else 2)
            wanted = Vi(x).sqdist(Vj(y)).sum(axis=1, ranges=visited)
            assert_close(cupy.asnumpy(found), wanted)


def test_tables_of_block_ranges_belong_to_a_stream(cupy, monkeypatch, rng):
    """CuPy hands memory out again on the stream that it was allocated on, without asking who else reads it."""
    x = cupy.asarray(sample(rng, (5, 2)))
    ranges = BlockRanges([[0, 5]], [1], [[1, 5]])
    tables = []
    make_tables = cuda._make_tables
    monkeypatch.setattr(cuda, "_make_tables", lambda *given: tables.append(make_tables(*given)) or tables[-1])
    for stream in (0, 0, 7, 7, 0):
        cupy.cuda.current_stream = stream
        Vi(x).sqdist(Vj(x)).sum(axis=1, ranges=ranges)
    assert len(tables) == 2


def test_graphs_do_not_capture_the_copy_of_tables(cupy, rng):
    x = cupy.asarray(sample(rng, (5, 2)))
    ranges = BlockRanges([[0, 5]], [1], [[1, 5]])
    cupy.cuda.is_capturing = True
    with pytest.raises(BackendError, match="run it once on this stream beforehand"):
        Vi(x).sqdist(Vj(x)).sum(axis=1, ranges=ranges)
    cupy.cuda.is_capturing = False
    expected = Vi(x).sqdist(Vj(x)).sum(axis=1, ranges=ranges)
    cupy.cuda.is_capturing = True
    again = Vi(x).sqdist(Vj(x)).sum(axis=1, ranges=ranges)
    assert_close(cupy.asnumpy(again), cupy.asnumpy(expected))


SIZES = [1, 127, 129, 4096, 100_000, (1 << 31) - 1, 1 << 31, 1 << 33]


@pytest.mark.parametrize("rows", SIZES)
def test_launches_of_any_size_fit_the_grid(rows):
    """And the intervals cover the columns, the last one shorter than a tile more than it needs."""
    tiling = choose_tiling(formulas.plan(formulas.sqdist(3)))
    for columns in SIZES:
        for batches in (1, 1000, 1 << 20, (1 << 32) - 1):
            shape = cuda.choose_launch(tiling, (rows, columns, batches), 64, 132)
            assert all(1 <= size <= most for size, most in zip(shape.grid, cuda.MOST_GRID, strict=True))
            assert (shape.blocks - 1) * tiling.rows * tiling.threads < rows
            assert shape.blocks * tiling.rows * tiling.threads >= rows
            assert shape.column_splits * shape.split_columns - columns >= 0
            assert (shape.column_splits - 1) * shape.split_columns < columns
            partial_bytes = shape.column_splits * rows * batches * tiling.state_bytes
            assert shape.column_splits == 1 or partial_bytes <= cuda.PARTIAL_BYTES


def test_vectors_too_large_for_shared_memory():
    def tile_columns(dim: int) -> int:
        formula = multiply(variable(0, Axis.I, 1), variable(1, Axis.J, dim))
        return choose_tiling(formulas.plan(formula)).tile_columns

    assert tile_columns(MOST_SHARED_BYTES // 4 - 64) == 1
    with pytest.raises(ShapeError, match=r"12288 and 0 numbers.*49152 bytes of shared memory"):
        tile_columns(MOST_SHARED_BYTES // 4)
    assert (
        choose_tiling(formulas.plan(formulas.sqdist(100_000))).tile_columns == 64
    )  # products take any dimension


def test_many_batch_dimensions_merge(cupy, rng):
    """Nine dimensions, of which the arrays share all but one: they count as two."""
    x = sample(rng, (2, 1, 2, 1, 2, 1, 1, 1, 2, 5, 1, 2))
    y = sample(rng, (2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 4, 2))
    found = LazyTensor(cupy.asarray(x)).sqdist(LazyTensor(cupy.asarray(y))).sum(axis=10)
    assert_close(cupy.asnumpy(found), LazyTensor(x).sqdist(LazyTensor(y)).sum(axis=10, backend="reference"))


@pytest.mark.parametrize("visited", [None, BlockRanges([[0, 2], [3, 5]], [1, 2], [[1, 4], [0, 2]])])
def test_batch_dimensions_that_do_not_merge(cupy, visited, rng):
    """The arrays vary along different ones in turn: the kernel takes 8 of 10, and the host the other two."""
    x = sample(rng, (2, 1) * 5 + (5, 1, 2), dtype="float32")
    y = sample(rng, (1, 2) * 5 + (1, 4, 2), dtype="float32")
    scale = sample(rng, (2, 1, 2, 1, 1, 1), dtype="float32")
    on_gpu = [LazyTensor(cupy.asarray(array)) for array in (x, y, scale)]
    on_cpu = [LazyTensor(array) for array in (x, y, scale)]
    (found, smallest), (expected, wanted) = (
        ((a.sqdist(b) * c).sum(axis=11, ranges=visited), (a.sqdist(b) * c).argmin(axis=11, ranges=visited))
        for a, b, c in (on_gpu, on_cpu)
    )
    assert [kind for kind, _ in cupy.cuda.events].count("launch") == 2 * 4
    assert_close(cupy.asnumpy(found), expected, "float32")
    np.testing.assert_array_equal(cupy.asnumpy(smallest), wanted)


def test_batches_of_more_problems_than_are_counted(cupy, rng):
    wide = np.broadcast_to(sample(rng, (1, 1, 1)), (1 << 33, 1, 1))
    x, y = (cupy.ndarray(array) for array in (wide[:, None], wide[:, :, None]))
    problem = cuda.Problem(library_named("cupy"), "float64", "cuda:0", (x, y), 0, 1, (1 << 33,))
    with pytest.raises(
        BackendError, match=r"at most 4294967295 problems at once but the batch \(8589934592,\)"
    ):
        cuda.run(cuda.compile(formulas.plan(formulas.sqdist(1), dtype="float64")), problem)


def test_grids_that_are_too_small_take_blocks_in_turn(cupy, monkeypatch, rng):
    """Blocks of rows, problems of the batch and intervals of columns, each more than the grid holds."""
    monkeypatch.setattr(cuda, "MOST_GRID", (2, 2, 3))
    cuda.choose_launch.cache_clear()
    x, y = sample(rng, (5, 700, 1, 2)), sample(rng, (5, 1, 6000, 2))
    found = LazyTensor(cupy.asarray(x)).sqdist(LazyTensor(cupy.asarray(y))).sum(axis=2)
    cuda.choose_launch.cache_clear()
    assert_close(cupy.asnumpy(found), LazyTensor(x).sqdist(LazyTensor(y)).sum(axis=2, backend="reference"))


@pytest.mark.skipif(sys.maxsize < 1 << 40, reason="needs a large address space")
def test_positions_beyond_32_bits(cupy):
    """Nine gigabytes that nobody fills: a few columns past number 2^31, and rows 2^31 numbers apart."""
    length = (1 << 31) + 16
    memory = mmap.mmap(-1, 4 * length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
    numbers = np.frombuffer(memory, "float32")
    numbers[-4:] = 3, -1, 2, -1
    x, y = np.zeros((2, 1), "float32"), numbers[:, None]
    ranges = BlockRanges([[0, 2]], [1], [[length - 8, length]])
    tensor = Vi(cupy.ndarray(x)) + Vj(cupy.ndarray(y))
    assert cupy.asnumpy(tensor.argmin(axis=1, ranges=ranges)).tolist() == [[length - 3]] * 2
    assert cupy.asnumpy(tensor.sum(axis=1, ranges=ranges)).tolist() == [[3.0]] * 2
    far_apart = np.lib.stride_tricks.as_strided(numbers[12:], (2, 1), (4 * (1 << 31), 4))
    assert far_apart[:, 0].tolist() == [0, 3]
    tensor = Vi(cupy.ndarray(x)) + Vj(cupy.ndarray(far_apart))
    assert cupy.asnumpy(tensor.max(axis=1)).tolist() == [[3.0]] * 2
