"""float16 and bfloat16 on a GPU: kernels read them where they are, and compute in float32."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gpu import emulated, formulas

from symbolic_matrices import BlockRanges, LazyTensor, Vi, Vj, execution
from symbolic_matrices.arrays import Array
from symbolic_matrices.backends import cuda
from symbolic_matrices.formulas.expressions import Axis
from symbolic_matrices.formulas.reductions import Sum
from symbolic_matrices.kernels import nvrtc
from symbolic_matrices.kernels.cuda_printing import print_cuda_kernel
from symbolic_matrices.kernels.planning import Formats, Plan, make_plan
from symbolic_matrices.kernels.problems import Problem
from symbolic_matrices.machine_code.cuda import inspect_kernel

pytestmark = emulated.needs_emulator
BACKEND = emulated.NAME
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.fixture(params=HALVES)
def half(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Problem]:
    """The problems that emulated kernels are given."""
    problems: list[Problem] = []

    def launch(kernel: cuda.CudaKernel, problem: Problem) -> tuple[Array, ...]:
        problems.append(problem)
        return cuda.run(kernel, problem)

    monkeypatch.setitem(execution.BACKENDS, BACKEND, emulated)
    monkeypatch.setattr(emulated, "launch", launch)
    execution._compiled.cache_clear()
    return problems


def test_every_half_is_read_as_the_number_that_it_is(half, launched):
    """All the bit patterns: denormals, infinities and NaN too."""
    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    x = bits.view(HALVES[half])[:, None]
    value, _ = Vi(x).min_argmin(axis=1, backend=BACKEND)
    assert launched[0].arrays[0].data_ptr() == x.data_ptr()
    np.testing.assert_array_equal(value.float().numpy(), x.float().numpy())


def clouds(half: str, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator).to(HALVES[half]) for shape in shapes]


def test_batches_strides_and_blocks(half, launched):
    x, y = clouds(half, (2, 40, 1, 6), (3, 1, 1, 50, 3))
    tensor = LazyTensor(x[:, ::2, :, ::2]).sqdist(LazyTensor(y))
    ranges = BlockRanges([[0, 3], [5, 19]], [1, 3], [[10, 17], [4, 50], [1, 2]])
    for visited in (None, ranges):
        found, wanted = (tensor.sum(axis=3, backend=b, ranges=visited) for b in (BACKEND, "reference"))
        assert wanted.shape == (3, 2, 20, 1)
        assert found.dtype is HALVES[half]
        assert torch.equal(found, wanted)
    assert launched[0].arrays[1].data_ptr() == y.data_ptr()


def test_gradients_are_those_of_float32(half, launched):
    """First and second ones, from kernels that read halves beside upstream gradients in float32; rounded at the end."""
    data = clouds(half, (40, 3), (30, 3), (30, 2))

    def derivatives(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        x, y, b = (tensor.requires_grad_() for tensor in tensors)
        out = ((-Vi(x).sqdist(Vj(y)) / 4).exp() * Vj(b)).sum(axis=1, backend=BACKEND)
        first = torch.autograd.grad(out.float().sum(), (x, y, b), create_graph=True)
        return [*first, *torch.autograd.grad(first[0].float().square().sum(), (x, y))]

    found = derivatives([tensor.clone() for tensor in data])
    stored = {array.dtype for problem in launched for array in problem.arrays}
    assert stored == {HALVES[half], torch.float32}
    wanted = derivatives([tensor.float() for tensor in data])
    for gradient, expected in zip(found, wanted, strict=True):
        assert gradient.dtype is HALVES[half]
        rounding = torch.finfo(HALVES[half]).eps
        assert (gradient.float() - expected).abs().max() <= 2 * rounding * expected.abs().max()


def test_forward_mode_and_vmap(half):
    x, y, tangent = clouds(half, (4, 9, 3), (7, 3), (4, 9, 3))

    def total(x: torch.Tensor) -> torch.Tensor:
        return Vi(x).sqdist(Vj(y)).sum(axis=1, backend=BACKEND).float()

    _, moved = torch.func.jvp(torch.func.vmap(total), (x,), (tangent,))
    expected = 2 * ((x[:, :, None].double() - y.double()) * tangent[:, :, None]).sum((2, 3))[..., None]
    assert (moved - expected).abs().max() <= torch.finfo(HALVES[half]).eps * expected.abs().max()


def gaussian_of_halves() -> Plan:
    return make_plan(
        formulas.gaussian(3), Sum(), Axis.J, Formats("float32", ("float16", "bfloat16", "float32"))
    )


def test_plans_and_kernels_tell_how_variables_are_stored():
    plan = gaussian_of_halves()
    assert plan.storage == ((0, "float16"), (1, "bfloat16"))
    assert plan != dataclasses.replace(plan, storage=())
    text = print_cuda_kernel(plan).printed.source
    assert "(variable == 0 ? Storage::float16 : variable == 1 ? Storage::bfloat16 : Storage::real)" in text
    assert "SM_STORAGE_OF" not in print_cuda_kernel(dataclasses.replace(plan, storage=())).printed.source


@pytest.mark.skipif(
    not (nvrtc.is_available() and nvrtc.find_disassembler()), reason="there is no NVRTC or no nvdisasm"
)
@pytest.mark.parametrize("arch", ["sm_75", "sm_90", "sm_120"])
def test_reading_halves_costs_the_inner_loop_nothing(arch):
    plan = gaussian_of_halves()
    found = inspect_kernel(print_cuda_kernel(plan), arch)
    usual = inspect_kernel(print_cuda_kernel(dataclasses.replace(plan, storage=())), arch)
    assert found.loop.instructions_per_pair == usual.loop.instructions_per_pair
    assert found.spill_bytes == found.local_bytes == 0
