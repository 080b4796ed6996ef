"""What only a GPU can tell: streams, graphs, devices. Skipped where CuPy finds none; see ci/gpu_checks.sh."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matrix_testing import assert_close, sample

from symbolic_matrices import BlockRanges, LazyTensor, Vi, Vj, show_config

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU"),
    pytest.mark.skipif("cuda" not in show_config().backends, reason="CuPy finds no GPU"),
]


def product(x, y, b):
    return (-Vi(x).sqdist(Vj(y))).exp() @ b


@pytest.fixture
def data(rng) -> list[np.ndarray]:
    return [sample(rng, shape, dtype="float32") for shape in ((2000, 3), (3000, 3), (3000, 2))]


def test_tensors_and_gradients(data):
    on_gpu = [torch.tensor(array, device="cuda", requires_grad=True) for array in data]
    on_cpu = [torch.tensor(array, requires_grad=True) for array in data]
    results = [product(*tensors) for tensors in (on_gpu, on_cpu)]
    gradients = [
        torch.autograd.grad(out.square().sum(), tensors)
        for out, tensors in zip(results, (on_gpu, on_cpu), strict=True)
    ]
    for found, expected in zip((results[0], *gradients[0]), (results[1], *gradients[1]), strict=True):
        assert found.is_cuda
        assert_close(found.detach().cpu(), expected.detach(), "float32", factor=10)


def test_the_current_stream_is_used(data):
    """The data are written on a side stream, behind a long computation: another stream would read them too early."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x, y, b = (torch.zeros(array.shape, device="cuda") for array in data)
        busy = torch.ones(4000, 4000, device="cuda")
        for _ in range(20):
            busy = busy @ busy / 4000
        for tensor, array in zip((x, y, b), data, strict=True):
            tensor.copy_(torch.from_numpy(array).to("cuda") * busy[0, 0])
        out = product(x, y, b)
    stream.synchronize()
    assert_close(out.cpu(), product(*data), "float32", factor=10)


def test_launches_are_captured_in_graphs(data):
    x, y, b = (torch.tensor(array, device="cuda") for array in data)
    product(x, y, b)  # compiled beforehand
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = product(x, y, b)
    x.mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    assert_close(out.cpu(), product(0.5 * data[0], *data[1:]), "float32", factor=10)


def test_block_ranges_in_graphs(data):
    """Their tables are on the GPU after the first reduction, and a graph reads them there."""
    x, y, b = (torch.tensor(array, device="cuda") for array in data)
    ranges = BlockRanges([[0, 700], [700, 2000]], [1, 2], [[0, 1000], [500, 3000]])

    def reduce(x, y, b):
        return ((-Vi(x).sqdist(Vj(y))).exp() * Vj(b)).sum(axis=1, ranges=ranges)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        reduce(x, y, b)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = reduce(x, y, b)
    x.mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    assert_close(out.cpu(), reduce(0.5 * data[0], *data[1:]), "float32", factor=10)


def test_compiled_programs(data):
    on_gpu, on_cpu = (
        [torch.tensor(array, device=device, requires_grad=True) for array in data]
        for device in ("cuda", "cpu")
    )
    compiled = torch.compile(
        lambda *tensors: product(*tensors).square().sum(), backend="aot_eager", fullgraph=True
    )
    gradients = torch.autograd.grad(compiled(*on_gpu), on_gpu)
    expected = torch.autograd.grad(product(*on_cpu).square().sum(), on_cpu)
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert_close(gradient.cpu(), wanted, "float32", factor=10)


def test_batch_dimensions_that_do_not_merge(rng):
    x = sample(rng, (2, 1) * 5 + (5, 1, 2), dtype="float32")
    y = sample(rng, (1, 2) * 5 + (1, 4, 2), dtype="float32")
    found = LazyTensor(torch.tensor(x, device="cuda")).sqdist(LazyTensor(torch.tensor(y, device="cuda")))
    expected = LazyTensor(x).sqdist(LazyTensor(y)).sum(axis=11, backend="reference")
    assert_close(found.sum(axis=11).cpu(), expected, "float32")


def test_memory_of_dropped_ranges_is_not_reused_too_early(data):
    """Their tables, on the default stream, are read by another one, behind a long computation."""
    x, y, b = (torch.tensor(array, device="cuda") for array in data)
    kernel = (-Vi(x).sqdist(Vj(y))).exp() * Vj(b)
    ranges = BlockRanges([[0, 2000]], [1], [[0, 2000]])
    expected = kernel.sum(axis=1, ranges=ranges).clone()
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        busy = torch.ones(4000, 4000, device="cuda")
        for _ in range(20):
            busy = busy @ busy / 4000
        out = kernel.sum(axis=1, ranges=ranges)
    kernel = ranges = None
    for size in (1, 2, 5, 10):  # takes the place of what was freed
        torch.full((size,), 1 << 40, dtype=torch.int64, device="cuda")
    torch.cuda.synchronize()
    assert torch.equal(out, expected)


def test_arrays_of_cupy(data):
    cupy = pytest.importorskip("cupy")
    with cupy.cuda.Stream(non_blocking=True) as stream:
        out = product(*(cupy.asarray(array) for array in data))
    stream.synchronize()
    assert_close(cupy.asnumpy(out), product(*data), "float32", factor=10)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
def test_another_device_than_the_current_one(data):
    out = product(*(torch.tensor(array, device="cuda:1") for array in data))
    assert out.device.index == 1
    assert_close(out.cpu(), product(*data), "float32", factor=10)


def test_large_problems_against_float64(rng):
    """Rows and columns are cut; every row is compared with the CPU."""
    x, y = sample(rng, (100_000, 3), dtype="float32"), sample(rng, (100_000, 3), dtype="float32")
    out = (-Vi(torch.tensor(x, device="cuda")).sqdist(Vj(torch.tensor(y, device="cuda")))).exp().sum(axis=1)
    exact = (-Vi(x[:500].astype("float64")).sqdist(Vj(y.astype("float64")))).exp().sum(axis=1)
    assert_close(out[:500].cpu(), exact, "float32")
