"""CUDA kernels, compiled by NVRTC and disassembled: none of it needs a GPU."""

from __future__ import annotations

import numpy as np
import pytest
from gpu import formulas

from symbolic_matrices import CompilationError, Vi, Vj, explain
from symbolic_matrices.formulas.expressions import Axis, variable
from symbolic_matrices.formulas.operations import OPERATIONS, pointwise
from symbolic_matrices.formulas.reductions import REDUCTIONS
from symbolic_matrices.kernels import nvrtc
from symbolic_matrices.kernels.cuda_printing import OPTIONS, print_cuda_kernel
from symbolic_matrices.kernels.planning import Formats, make_plan
from symbolic_matrices.machine_code.cuda import KernelReport, capability_of, inspect_kernel
from symbolic_matrices.precision import Precision

pytestmark = pytest.mark.skipif(
    not (nvrtc.is_available() and nvrtc.find_disassembler()), reason="there is no NVRTC or no nvdisasm"
)

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
# Instructions per pair on sm_90 in float32, at most. Other versions of NVIDIA's compiler may differ by a few percent.
MOST_INSTRUCTIONS = {
    "Gaussian, D = 3": 9.8,
    "Gaussian, D = 10": 25,
    "log-sum-exp, D = 3": 11.5,
    "Laplacian, D = 3": 11.5,
    "gradient of the Gaussian, D = 3": 14,
    "argmin, D = 3": 10,
    "10 nearest, D = 3": 11,
}


def report(case: str, arch: str) -> KernelReport:
    return inspect_kernel(print_cuda_kernel(formulas.cases()[case]), arch)


@pytest.mark.parametrize("case", MOST_INSTRUCTIONS)
def test_inner_loops_are_as_short_as_promised(case):
    found = report(case, "sm_90")
    assert 1 < found.loop.instructions_per_pair <= MOST_INSTRUCTIONS[case]
    assert found.spill_bytes == found.local_bytes == 0
    assert 16 < found.registers <= 128


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture(arch):
    for case in ("log-sum-exp, D = 3", "10 nearest, D = 3"):
        found = report(case, arch)
        assert found.loop.instructions_per_pair <= 1.15 * MOST_INSTRUCTIONS[case]
        assert found.spill_bytes == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_operation_has_a_cuda_spelling(dtype):
    """All the rows of the table in one kernel, for the oldest architecture."""
    text = print_cuda_kernel(formulas.plan(formulas.all_operations(), dtype=dtype))
    assert len(nvrtc.compile_cubin(text.printed.source, "sm_75", OPTIONS)) > 10_000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in REDUCTIONS if "_" not in name and "max" not in name])
def test_every_reduction_has_a_cuda_twin(name, dtype):
    arguments = (3,) if REDUCTIONS[name].is_counted else ()
    text = print_cuda_kernel(formulas.plan(formulas.sqdist(2), name, *arguments, dtype=dtype))
    assert inspect_kernel(text, "sm_80").spill_bytes == 0


@pytest.mark.parametrize("count", [50, 100])
def test_neighbours_beyond_the_registers_take_local_memory_for_insertions_alone(count):
    """What most columns take is as short as for few neighbours, with columns from shared memory."""
    text = print_cuda_kernel(formulas.plan(formulas.sqdist(3), "argKmin", count))
    found = inspect_kernel(text, "sm_90")
    assert count * (4 + 8) <= found.local_bytes <= count * (4 + 8) + 64
    assert found.loop.instructions_per_pair <= 11
    assert found.loop.stack_accesses == 0
    assert sum("LDS" in line for line in found.loop.listing) == found.loop.counts["load"]
    assert found.registers <= 128  # four blocks of a multiprocessor


def test_refusals_of_the_compiler_hold_its_own_words():
    text = print_cuda_kernel(formulas.cases()["argmin, D = 3"])
    broken = text.printed.source.replace("out[0] =", "out[0] = nonsense +", 1)
    with pytest.raises(CompilationError, match=r"argmin over j(.|\n)*nonsense"):
        nvrtc.compile_cubin(broken, "sm_90", OPTIONS)
    with pytest.raises(CompilationError, match="sm_12345"):
        nvrtc.compile_cubin(text.printed.source, "sm_12345", OPTIONS)


def test_explanation_of_a_cuda_kernel():
    x = np.zeros((10, 3), "float32")
    explanation = explain(Vi(x).sqdist(Vj(x)), "argmin", axis=1, target="cuda", arch="sm_80")
    assert "reduce.cuh" in explanation.source
    assert "--gpu-architecture=sm_80" in explanation.options
    assert explanation.shared_bytes >= 128 * 4 * 4  # a tile of columns
    assert f"{explanation.registers} registers, 0 bytes spilled" in str(explanation)
    assert explanation.instructions_per_pair <= 10
    assert explanation.loop.per_pair("multiply-add") == explanation.loop.per_pair("add") == 3
    assert any("FFMA" in line for line in explanation.loop.listing)
    assert "\ninner loop:\n" in str(explanation)


@pytest.mark.parametrize(("operation", "instructions"), [("sqdist", 2), ("dot", 1)])
def test_products_in_high_dimension_are_register_blocked(operation, instructions):
    """A subtraction and a multiply-add per component, or the latter alone, with a tenth of it for the loads."""
    x, y = variable(0, Axis.I, 64), variable(1, Axis.J, 64)
    text = print_cuda_kernel(formulas.plan(pointwise.exp(OPERATIONS[operation](x, y))))
    found = inspect_kernel(text, "sm_90")
    assert 64 * instructions < found.loop.instructions_per_pair <= 64 * (instructions + 0.12)
    assert found.registers <= 128  # four blocks of a multiprocessor
    assert found.spill_bytes <= 64  # outside of the inner loop


# Of the inner loop on sm_90, in dimension 64: products of matrices by tensor cores, beside 72 and 135 by multiply-adds.
TENSOR_PRODUCTS = {
    ("dot", "float16", "auto"): 1.8,
    ("dot", "bfloat16", "auto"): 1.8,
    ("dot", "float32", "tf32"): 3.5,
    ("dot", "float32", "tf32x3"): 9,
    ("sqdist", "float16", "tf32"): 3.4,
    ("sqdist", "float32", "tf32"): 6.6,
    ("sqdist", "float32", "tf32x3"): 18,
}


def tensor_report(operation: str, dtype: str, precision: str, dim: int, arch: str) -> KernelReport:
    product = OPERATIONS[operation](variable(0, Axis.I, dim), variable(1, Axis.J, dim))
    formats = Formats("float32", (dtype, dtype), Precision(precision))
    plan = make_plan(pointwise.exp(product), REDUCTIONS["sum"](), Axis.J, formats)
    return inspect_kernel(print_cuda_kernel(plan, capability=capability_of(arch)), arch)


@pytest.mark.parametrize("case", TENSOR_PRODUCTS)
def test_tensor_cores_take_a_few_instructions_per_pair(case):
    found = tensor_report(*case, 64, "sm_90")
    assert TENSOR_PRODUCTS[case] / 2 < found.loop.instructions_per_pair <= TENSOR_PRODUCTS[case]
    assert found.loop.per_pair("multiply-add") == 0
    assert found.spill_bytes == found.local_bytes == 0
    assert found.registers <= (128 if case[0] == "dot" else 168)
    depth = 8 if case[1] == "float32" else 16
    instruction = "HMMA.1688.F32.TF32" if case[1] == "float32" else "HMMA.16816.F32"
    assert any(instruction in line for line in found.loop.listing)
    least = 64 / depth / 4 * (3 if case[2] == "tf32x3" else 1)  # a warp computes blocks of 16 x 8 pairs
    norms = 22 / 16 if case[0] == "sqdist" else 1
    assert found.loop.per_pair("tensor core") == least * norms


@pytest.mark.parametrize("arch", ["sm_80", "sm_100", "sm_120"])
@pytest.mark.parametrize("case", [("dot", "bfloat16", "auto"), ("sqdist", "float32", "tf32x3")])
def test_tensor_cores_of_every_architecture(case, arch):
    """In dimension 128, where the components are staged in several steps."""
    found = tensor_report(*case, 128, arch)
    assert (
        0
        < found.loop.per_pair("tensor core")
        < found.loop.instructions_per_pair
        <= 2.1 * TENSOR_PRODUCTS[case]
    )
    assert found.spill_bytes == found.local_bytes == 0


def test_older_architectures_multiply_and_add():
    found = tensor_report("dot", "float16", "tf32", 64, "sm_75")
    assert found.loop.per_pair("tensor core") == 0
    assert 64 < found.loop.instructions_per_pair <= 72


def test_explanations_tell_what_computes_products():
    x = np.zeros((10, 64), "float16")
    product = Vi(x) | Vj(x)
    explanation = explain(product, "max", axis=1, target="cuda", arch="sm_80")
    assert explanation.products == ("dot(x0, y1) by tensor cores, Float16 in 1 term",)
    assert "\nproducts: dot(x0, y1) by tensor cores, Float16 in 1 term\n" in str(explanation)
    older = explain(product, "max", axis=1, target="cuda", arch="sm_75")
    assert older.products == ("dot(x0, y1) by multiply-adds",)
    rounded = explain(Vi(x).sqdist(2 * Vj(x)), "max", axis=1, precision="tf32x3", target="cuda")
    assert rounded.products[0].endswith("by tensor cores, TF32 in 3 terms")
