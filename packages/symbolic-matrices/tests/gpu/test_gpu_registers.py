"""A sample of the operations and reductions, for every architecture: what they take of registers and local memory."""

from __future__ import annotations

import random

import gpu_registers
import pytest

from symbolic_matrices.kernels import nvrtc
from symbolic_matrices.kernels.cuda_printing import print_cuda_kernel
from symbolic_matrices.machine_code.cuda import resources_of

PLANS = dict(gpu_registers.plans())
WRITTEN = gpu_registers.read_table()
SAMPLE = random.Random(0).sample(sorted(PLANS), 2 * len(gpu_registers.ARCHITECTURES))
MORE_REGISTERS = 8  # than were written down: other versions of NVIDIA's compiler differ


def test_the_table_holds_every_row():
    assert set(WRITTEN) == set(PLANS)


@pytest.mark.skipif(not nvrtc.is_available(), reason="there is no NVRTC")
@pytest.mark.parametrize("number", range(len(SAMPLE)))
def test_kernels_stay_in_the_registers(number):
    """As the table says, which holds some architectures: others are close to those."""
    name, arch = SAMPLE[number], gpu_registers.ARCHITECTURES[number % len(gpu_registers.ARCHITECTURES)]
    found = resources_of(print_cuda_kernel(PLANS[name]), arch)
    written = WRITTEN[name]
    assert found.local_bytes <= max(local_bytes for _, local_bytes in written.values())
    assert 16 <= found.registers <= written.get(arch, [255])[0] + MORE_REGISTERS
