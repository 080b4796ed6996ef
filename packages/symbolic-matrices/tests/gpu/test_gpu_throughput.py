"""The arithmetic of the page on GPUs follows from counted instructions, and those are the present ones."""

from __future__ import annotations

import gpu_throughput as throughput
import pytest

from symbolic_matrices.kernels import nvrtc
from symbolic_matrices.kernels.cuda_printing import Tiling

TILING = Tiling(4, 128, 8, 128, 2096, 48)
DEVICE = throughput.Device("a GPU", "sm_90", 100, 1e9, 4)


def counts(
    instructions: dict[str, int], is_double: bool = False, is_product: bool = False
) -> throughput.Counts:
    return throughput.Counts(32, instructions, 64, TILING, is_double, is_product)


def test_each_unit_can_be_the_limit():
    """By hand: 32 pairs of each of 32 threads."""
    loop = counts({"multiply-add": 200, "special function": 32, "compare, blend": 16, "load": 8})
    assert throughput.clocks_per_pair(loop, DEVICE) == {
        "issue": 256 / 32 / 128, "comparisons": 16 / 32 / 64, "MUFU": 1 / 16, "shared memory": 8 / 32 / 32,
    }  # fmt: skip
    doubles = throughput.clocks_per_pair(counts({"multiply-add": 64, "integer": 64}, is_double=True), DEVICE)
    assert doubles["float64"] == 2 / 4
    product = throughput.clocks_per_pair(counts({"load": 8}, is_product=True), DEVICE)
    assert product["shared memory"] == 1.5 * 8 / 32 / 32


def test_times_are_those_of_the_busiest_multiprocessor():
    loop = counts({"multiply-add": 128 * 32})  # a clock per pair
    # 1954 blocks of 512 rows: 20 of them on 54 of 100 multiprocessors.
    assert throughput.seconds(loop, DEVICE, 1_000_000) == pytest.approx(20 * 512 * 1e6 * 1e-9 + 5e-6)
    # 20 blocks by 9 intervals of 1152 columns: two of them, then a launch to merge.
    assert throughput.seconds(loop, DEVICE, 10_000) == pytest.approx(2 * 512 * 1152 * 1e-9 + 1e-5)


def test_the_page_follows_from_the_counts():
    assert throughput.PAGE.read_text(encoding="utf-8") == throughput.page(throughput.read()), (
        "hatch run gpu_throughput"
    )


@pytest.mark.skipif(
    not (nvrtc.is_available() and nvrtc.find_disassembler()), reason="there is no NVRTC or no nvdisasm"
)
@pytest.mark.parametrize("case", ["log-sum-exp, D = 3", "Gaussian, D = 64, without the epilogue"])
def test_the_counts_are_the_present_ones(case):
    """Other versions of NVIDIA's compiler may differ by a few percent."""
    written = throughput.read()["sm_90"][case]
    found = throughput.count(throughput.texts()[case], "sm_90")
    assert (found.tiling, found.is_product) == (written.tiling, written.is_product), (
        "hatch run gpu_throughput"
    )
    instructions = [record.per_pair(*record.instructions) for record in (found, written)]
    assert instructions[0] == pytest.approx(instructions[1], rel=0.05), "hatch run gpu_throughput"
