"""Products of matrices by tensor cores: which ones, their values and their errors, in the emulator."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from cuda_emulator.compiler import EmulationError, compile_kernels
from gpu import emulated

from symbolic_matrices import BlockRanges, LazyTensor, OptionError, Vi, Vj, execution
from symbolic_matrices.arrays import library_named
from symbolic_matrices.backends import cuda
from symbolic_matrices.formulas.expressions import Axis, Node, variable
from symbolic_matrices.formulas.operations import OPERATIONS, pointwise
from symbolic_matrices.formulas.reductions import REDUCTIONS, Sum
from symbolic_matrices.kernels.cuda_printing import chosen_products
from symbolic_matrices.kernels.planning import Formats, Plan, make_plan
from symbolic_matrices.kernels.products import MULTIPLY_ADD, Format
from symbolic_matrices.precision import Precision

pytestmark = emulated.needs_emulator
BACKEND = emulated.NAME
TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
FLOAT16, BFLOAT16 = Format("Float16", 1, 16), Format("BFloat16", 1, 16)
TF32, TF32X3 = Format("TF32", 1, 8), Format("TF32", 3, 8)


@pytest.fixture(autouse=True)
def _emulated_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(execution.BACKENDS, BACKEND, emulated)


# ---------------------------------------------------------------------------- which products

VECTORS = variable(0, Axis.I, 64), variable(1, Axis.J, 64)
HALVES = ("float16", "float16")


def plan_of(
    formula: Node, stored: tuple[str, ...] = (), precision: str = "auto", dtype: str = "float32"
) -> Plan:
    return make_plan(formula, Sum(), Axis.J, Formats(dtype, stored, Precision(precision)))


@pytest.mark.parametrize(
    ("operation", "stored", "precision", "expected"),
    [
        ("dot", HALVES, "auto", FLOAT16),
        ("dot", ("bfloat16", "bfloat16"), "auto", BFLOAT16),
        ("dot", HALVES, "tf32x3", FLOAT16),
        ("dot", ("float16", "bfloat16"), "auto", MULTIPLY_ADD),
        ("dot", ("float16", "float32"), "auto", MULTIPLY_ADD),
        ("dot", ("float16", "float32"), "tf32", TF32),
        ("dot", (), "auto", MULTIPLY_ADD),
        ("dot", (), "tf32", TF32),
        ("dot", (), "tf32x3", TF32X3),
        ("sqdist", HALVES, "auto", MULTIPLY_ADD),
        ("sqdist", HALVES, "tf32", FLOAT16),
        ("sqdist", (), "tf32x3", TF32X3),
    ],
)
def test_formats_are_a_function_of_the_plan_and_the_capability(operation, stored, precision, expected):
    plan = plan_of(OPERATIONS[operation](*VECTORS), stored, precision)
    for capability in (80, 89, 90, 120):
        assert [product.format for product in chosen_products(plan, capability)] == [expected]
    for capability in (0, 70, 75):
        assert [product.format for product in chosen_products(plan, capability)] == [MULTIPLY_ADD]


def test_products_that_are_not_of_two_variables_in_half_precision():
    x, y = VECTORS
    scaled = plan_of(
        OPERATIONS["dot"](pointwise.multiply(x, variable(2, Axis.I, 1)), y), (*HALVES, "float16")
    )
    assert [product.format for product in chosen_products(scaled, 90)] == [MULTIPLY_ADD]
    in_tf32 = dataclasses.replace(scaled, precision=Precision.TF32)
    assert [product.format for product in chosen_products(in_tf32, 90)] == [TF32]
    broadcast = plan_of(OPERATIONS["sqdist"](x, variable(1, Axis.J, 1)), HALVES, "tf32")
    assert [product.format for product in chosen_products(broadcast, 90)] == [TF32]
    in_double = plan_of(OPERATIONS["dot"](x, y), (), "tf32", "float64")
    assert [product.format for product in chosen_products(in_double, 90)] == [MULTIPLY_ADD]


def test_split_words_need_the_space_of_32_columns():
    """Two products and a wide column leave room for 16 columns."""
    x, y = VECTORS
    both = pointwise.multiply(OPERATIONS["dot"](x, y), OPERATIONS["sqdist"](x, y))
    for width, expected in ((20, TF32X3), (150, MULTIPLY_ADD)):
        formula = pointwise.multiply(both, variable(2, Axis.J, width))
        formats = Formats("float32", (), Precision.TF32X3)
        plan = make_plan(formula, REDUCTIONS["max"](), Axis.J, formats)
        assert [product.format for product in chosen_products(plan, 90)] == [expected] * 2


def test_kernels_of_devices_differ_where_their_products_do():
    plan = plan_of(OPERATIONS["dot"](*VECTORS), HALVES)
    kernel = cuda.compile_with(emulated.stand_in(), plan)
    (variant,) = kernel.variants.values()
    assert "typedef Float16 Format" in variant.text.printed.source
    assert "typedef FusedMultiplyAdd Format" in cuda.print_cuda_kernel(plan, None, 75).printed.source
    assert list(kernel.variants) == [(1, 90)]


def test_unknown_precisions_are_refused():
    x = np.zeros((2, 3))
    with pytest.raises(
        OptionError, match=r"precision must be one of 'auto', 'tf32x3', 'tf32' but got 'half'"
    ):
        Vi(x).sqdist(Vj(x)).sum(axis=1, precision="half")


# ---------------------------------------------------------------------------- values


def clouds(dtype: str, dim: int, sizes=(150, 203), seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((size, dim), generator=generator).to(TORCH[dtype]) for size in sizes]


def error_of(operation: str, x: torch.Tensor, y: torch.Tensor, precision: str) -> float:
    """The largest error of an entry, relative to that of products of norms: columns are told apart by random weights.

    The results are those of the kernel, before they are rounded to half precision.
    """
    weight = torch.rand((len(y), 1), generator=torch.Generator().manual_seed(9)) + 0.5
    dim = x.shape[1]
    formula = pointwise.multiply(
        OPERATIONS[operation](variable(0, Axis.I, dim), variable(1, Axis.J, dim)), variable(2, Axis.J, 1)
    )
    request = execution.Request(
        formula, REDUCTIONS["max"](), Axis.J, (len(x), len(y)), (), library_named("torch"), "float32", "cpu",
        BACKEND, None, Precision(precision),
    )  # fmt: skip
    (found,) = execution.execute(request, (x, y, weight))
    left, right = x.double(), y.double()
    products = left @ right.T
    if operation == "sqdist":
        products = left.square().sum(1)[:, None] + right.square().sum(1) - 2 * products
    expected = (products * weight.double().T).amax(1, keepdim=True)
    scale = left.norm(dim=1).max() * right.norm(dim=1).max()
    return float((found - expected).abs().max() / scale)


@pytest.mark.parametrize(
    ("operation", "dtype", "precision", "dim", "most", "least"),
    [
        ("dot", "float16", "auto", 43, 2e-6, 0),
        ("dot", "bfloat16", "auto", 64, 2e-6, 0),
        ("sqdist", "float16", "tf32", 150, 5e-6, 0),
        ("sqdist", "bfloat16", "tf32", 40, 5e-6, 0),
        ("dot", "float32", "tf32", 43, 5e-4, 1e-5),
        ("sqdist", "float32", "tf32", 64, 2e-3, 1e-5),
        ("dot", "float32", "tf32x3", 70, 2e-6, 0),
        ("sqdist", "float32", "tf32x3", 43, 5e-6, 0),
    ],
)
def test_values_against_float64(operation, dtype, precision, dim, most, least):
    """Rows, columns and components that do not fill the last tile or the last step."""
    x, y = clouds(dtype, dim)
    assert least <= error_of(operation, x, y, precision) <= most


def test_vectors_that_start_anywhere():
    """Vectors of 40 halves, not all at multiples of 16 bytes; a few components of longer ones, in a single block."""
    x, y = clouds("float16", 41, (5, 30))
    for rows, columns in ((x[:, 1:], y[:, :40]), (x[:, :40].contiguous(), y[:, 1:].contiguous())):
        assert error_of("dot", rows, columns, "auto") <= 2e-6


@pytest.mark.parametrize("precision", ["tf32", "tf32x3"])
def test_distances_of_equal_points_vanish(precision):
    x, _ = clouds("float32", 43)
    assert (Vi(x).sqdist(Vj(x)).min(axis=1, backend=BACKEND, precision=precision) == 0).all()
    assert (
        Vi(x).sqdist(Vj(x)).argmin(axis=1, backend=BACKEND, precision=precision)[:, 0] == torch.arange(150)
    ).all()


def test_distances_far_from_the_origin_lose_nothing():
    """Operands are relative to the first row of a block."""
    x, y = clouds("float32", 43)
    near, far = (
        Vi(x + shift).sqdist(Vj(y + shift)).sum(axis=1, backend=BACKEND, precision="tf32x3")
        for shift in (0, 1024)
    )
    expected = Vi((x + 1024).double()).sqdist(Vj((y + 1024).double())).sum(axis=1)
    assert (far - expected).abs().max() <= 2e-6 * expected.max()
    assert not torch.equal(near, far)


def test_nan_of_one_point_stays_there():
    x, y = clouds("float32", 43)
    x[3, 7] = torch.nan
    found = Vi(x).sqdist(Vj(y)).sum(axis=1, backend=BACKEND, precision="tf32x3")
    assert found.isnan().flatten().nonzero().flatten().tolist() == [3]


def test_batches_blocks_and_cut_columns():
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(shape, generator=generator).half() for shape in ((2, 150, 1, 40), (1, 1, 2200, 40)))
    ranges = BlockRanges([[0, 3], [5, 140]], [1, 3], [[100, 170], [1500, 2200], [1, 2]])
    for visited in (None, ranges):
        tensor = ((LazyTensor(x) | LazyTensor(y)) / 8).exp()
        found, wanted = (tensor.sum(axis=2, backend=b, ranges=visited) for b in (BACKEND, "reference"))
        assert ((found.double() - wanted.double()).abs() <= 2.0**-10 * wanted.double().abs() + 1e-6).all()


def test_two_products_of_different_formats():
    """The distance of halves by multiply-adds, beside their inner product by tensor cores; with vectors of the pair."""
    x, y = clouds("float16", 43)
    tensor = (Vi(x).sqdist(Vj(y)) / -43).exp() * (Vi(x) | Vj(y)) * (Vi(x) - Vj(y))[..., :2]
    found, wanted = (tensor.sum(axis=1, backend=b) for b in (BACKEND, "reference"))
    assert (found.double() - wanted.double()).abs().max() <= 2.0**-10 * wanted.abs().max()


@pytest.mark.parametrize(
    ("dtype", "precision", "most"), [("bfloat16", "auto", 0.01), ("float32", "tf32x3", 5e-6)]
)
def test_gradients(dtype, precision, most, monkeypatch):
    """Kernels of the backward pass take the same liberties."""
    planned: list[Plan] = []

    def compile(plan: Plan) -> cuda.CudaKernel:
        planned.append(plan)
        return cuda.compile_with(emulated.stand_in(), plan)

    monkeypatch.setattr(emulated, "compile", compile)
    execution._compiled.cache_clear()
    data = [tensor.requires_grad_() for tensor in clouds(dtype, 40, (30, 50))]
    doubles = [tensor.detach().double().requires_grad_() for tensor in data]
    out = ((Vi(data[0]) | Vj(data[1])) / 40).exp().sum(axis=1, backend=BACKEND, precision=precision)
    found = torch.autograd.grad(out.float().square().sum(), data)
    wanted = torch.autograd.grad((doubles[0] @ doubles[1].T / 40).exp().sum(1).square().sum(), doubles)
    for gradient, expected in zip(found, wanted, strict=True):
        assert (gradient - expected).abs().max() <= most * expected.abs().max()
    assert len(planned) == 3
    assert {plan.precision for plan in planned} == {Precision(precision)}
    assert all(chosen_products(plan, 90)[0].format.is_tensor for plan in planned)


def test_other_backends_compute_as_usual():
    x, y = clouds("float32", 43)
    for backend in ("cpu", "reference"):
        usual, allowed = (
            Vi(x).sqdist(Vj(y)).sum(axis=1, backend=backend, precision=p) for p in ("auto", "tf32")
        )
        assert torch.equal(usual, allowed)


# ---------------------------------------------------------------------------- the emulated instructions

PRODUCT = """
#include "instructions.cuh"
extern "C" __global__ void load(const unsigned* unused, unsigned* words, int shift) {
    extern __shared__ float4 memory[];
    unsigned* const row = reinterpret_cast<unsigned*>(memory) + 4 * threadIdx.x;
    for (int k = 0; k < 4; ++k) row[k] = 100 * threadIdx.x + k;
    __syncthreads();
    unsigned loaded[4];
    load_matrices(loaded, row + shift);
    for (int k = 0; k < 4; ++k) words[4 * threadIdx.x + k] = loaded[k];
}
"""


def test_emulated_loads_of_matrices():
    kernel = compile_kernels(PRODUCT)["load"]
    words = np.zeros((32, 4), np.uint32)
    pointer = np.int64(words.ctypes.data).tobytes()
    kernel.launch((1,), (32,), [pointer, pointer, np.int32(0).tobytes()], 512)
    lanes, matrices = np.arange(32)[:, None], np.arange(4)
    np.testing.assert_array_equal(words, 100 * (8 * matrices + lanes // 4) + lanes % 4)
    with pytest.raises(EmulationError, match="multiples of 16 bytes"):
        kernel.launch((1,), (32,), [pointer, pointer, np.int32(1).tobytes()], 600)
