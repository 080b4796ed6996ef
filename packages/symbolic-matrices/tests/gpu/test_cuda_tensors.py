"""PyTorch tensors that pretend to live on a GPU: streams, devices, allocations, capture and gradients of the host code.

The tensors stay in main memory, and the stand-in for CuPy runs their kernels in the emulator. What would synchronise
with a GPU fails.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from cuda_emulator.stand_in import RawKernel, make_cupy
from gpu import emulated
from matrix_testing import assert_close, sample

from symbolic_matrices import BackendError, BlockRanges, Vi, Vj, execution
from symbolic_matrices.arrays import PyTorch
from symbolic_matrices.backends import cuda

pytestmark = emulated.needs_emulator
STREAM = 0xABC0


@dataclass
class Machine:
    """What the engine is made to believe: the device of all tensors, and what it asked for."""

    cupy: ModuleType
    device: int = 0
    allocations: list[tuple[tuple[int, ...], str, str]] = field(default_factory=list)

    @property
    def events(self) -> list[tuple[str, object]]:
        return self.cupy.cuda.events


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(make_cupy())
    monkeypatch.setitem(sys.modules, "cupy", machine.cupy)
    monkeypatch.setattr(PyTorch, "device", lambda self, array: f"cuda:{machine.device}")

    def empty(self, shape, dtype_name, device):
        machine.allocations.append((tuple(shape), dtype_name, device))
        return torch.full(tuple(shape), -7, dtype=getattr(torch, dtype_name))

    def convert(self, value, dtype_name, device):
        return torch.as_tensor(np.array(value)).to(getattr(torch, dtype_name))

    # Kernels belong to the CuPy that compiled them.
    monkeypatch.setattr(execution, "_compiled", functools.lru_cache(execution._compiled.__wrapped__))
    monkeypatch.setattr(PyTorch, "empty", empty)
    monkeypatch.setattr(
        PyTorch,
        "full",
        lambda self, shape, value, dtype, device: torch.full(shape, value, dtype=getattr(torch, dtype)),
    )
    monkeypatch.setattr(PyTorch, "convert", convert)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda number: SimpleNamespace(cuda_stream=STREAM + number)
    )
    return machine


@contextlib.contextmanager
def no_synchronisation(machine: Machine) -> Iterator[None]:
    """Whatever makes the host wait for the device, copies from it or to it, or allocates elsewhere, fails."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the host waits for the device")

    names = ("cpu", "item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(torch.Tensor, name, fail)
        patch.setattr(torch.cuda, "synchronize", fail)
        patch.setattr(PyTorch, "convert", fail)
        patch.setattr(machine.cupy, "empty", fail)
        yield


def clouds(rng: np.random.Generator, *sizes: int) -> list[torch.Tensor]:
    return [torch.from_numpy(sample(rng, (size, 3), dtype="float32")) for size in sizes]


def gaussian(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (-Vi(x).sqdist(Vj(y))).exp().sum(axis=1)


def expected(x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    return np.exp(-((x.numpy()[:, None] - y.numpy()[None]) ** 2).sum(-1)).sum(1, keepdims=True)


@pytest.mark.parametrize("device", [0, 3])
def test_launches_are_on_the_current_stream_of_the_tensors_device(machine, device, rng):
    machine.device = device
    x, y = clouds(rng, 20, 30)
    machine.events.clear()
    found = gaussian(x, y)
    start, stream, launch, stop = machine.events
    assert (start, stream, stop) == (("device", device), ("stream", STREAM + device), ("stream", None))
    assert launch[0] == "launch"
    assert machine.allocations == [((20, 1), "float32", f"cuda:{device}")]  # by PyTorch, on that device
    assert machine.cupy.cuda.current_device == 0  # as it was
    assert_close(found, expected(x, y), "float32")


def test_partial_states_are_allocated_by_the_library_too(machine, rng):
    x, y = clouds(rng, 20, 5000)
    found = gaussian(x, y)
    assert [kind for kind, _ in machine.events].count("launch") == 2  # one merges
    (values, partial) = machine.allocations
    assert values[0] == (20, 1)
    assert (partial[1], partial[2]) == ("int64", "cuda:0")
    assert_close(found, expected(x, y), "float32")


def test_launches_do_not_synchronise(machine, rng):
    """Nor do those of block ranges, once their tables are on the device. So a CUDA graph can capture them."""
    x, y = clouds(rng, 20, 30)
    ranges = BlockRanges([[0, 20]], [1], [[5, 30]])
    wanted = [expected(x, y), expected(x, y[5:])]
    kernel = (-Vi(x).sqdist(Vj(y))).exp()

    def reduce() -> list[torch.Tensor]:
        return [kernel.sum(axis=1), kernel.sum(axis=1, ranges=ranges)]

    reduce()
    with no_synchronisation(machine):
        found = reduce()
    for output, values in zip(found, wanted, strict=True):
        assert_close(output, values, "float32")


def test_captured_launches_read_the_data_again(machine, rng, monkeypatch):
    """A graph that replays the very arguments of a launch gives the results of the data as they are then."""
    x, y = clouds(rng, 20, 5000)
    captured = []
    variant_of = cuda._variant

    def launch_and_keep(node, *arguments, **options):
        captured.append((node, arguments, options))
        node(*arguments, **options)

    def capture(kernel, rows, device):
        variant = variant_of(kernel, rows, device)
        run, merge = (functools.partial(launch_and_keep, node) for node in (variant.run, variant.merge))
        run.num_regs = variant.run.num_regs
        return cuda.Variant(variant.text, run, merge)

    monkeypatch.setattr(cuda, "_variant", capture)
    keep = []
    empty = PyTorch.empty
    monkeypatch.setattr(PyTorch, "empty", lambda *arguments: keep.append(empty(*arguments)) or keep[-1])
    found = gaussian(x, y)
    x.mul_(0.5)
    assert len(captured) == 2
    for node, arguments, options in captured:
        node(*arguments, **options)
    assert_close(found, expected(x, y), "float32")


def test_copies_live_until_the_launch(machine, rng, monkeypatch):
    """Components that are no neighbours are copied; other threads must not get that memory before the launch."""
    copies, alive = [], []
    contiguous, call = PyTorch.contiguous, RawKernel.__call__

    def copy(self, array):
        copied = contiguous(self, array)
        copies.append(weakref.ref(copied))
        return copied

    def launch(self, *arguments, **options):
        alive.append([reference() is not None for reference in copies])
        call(self, *arguments, **options)

    monkeypatch.setattr(PyTorch, "contiguous", copy)
    monkeypatch.setattr(RawKernel, "__call__", launch)
    x, y = (tensor.T.contiguous().T for tensor in clouds(rng, 20, 30))
    assert_close(gaussian(x, y), expected(x, y), "float32")
    assert alive == [[True, True]]


def test_tables_outlive_the_launches_that_read_them(machine, rng, monkeypatch):
    """Block ranges may be dropped while a stream, other than the one that allocated their tables, still reads them."""
    kept = []
    monkeypatch.setattr(PyTorch, "keep_until_done", lambda self, array: kept.append(tuple(array.shape)))
    x, y = clouds(rng, 20, 30)
    (-Vi(x).sqdist(Vj(y))).exp().sum(axis=1, ranges=BlockRanges([[0, 20]], [1], [[5, 30]]))
    assert kept == [(1, 5), (1, 2)]  # a task and an interval


def test_the_current_stream_keeps_memory(machine):
    recorded = []
    tensor = SimpleNamespace(
        is_cuda=True, device=3, record_stream=lambda stream: recorded.append(stream.cuda_stream)
    )
    PyTorch().keep_until_done(tensor)
    assert recorded == [STREAM + 3]


def test_columns_stay_whole_without_memory_for_partial_states(machine, rng, monkeypatch):
    empty = PyTorch.empty

    def refuse_partial_states(self, shape, dtype_name, device):
        if dtype_name == "int64":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return empty(self, shape, dtype_name, device)

    monkeypatch.setattr(PyTorch, "empty", refuse_partial_states)
    x, y = clouds(rng, 20, 5000)
    assert_close(gaussian(x, y), expected(x, y), "float32")
    assert [kind for kind, _ in machine.events].count("launch") == 1


def test_gradients_of_tensors_on_a_gpu(machine, rng):
    x, y = (tensor.double() for tensor in clouds(rng, 20, 30))
    x.requires_grad_()
    (found,) = torch.autograd.grad(gaussian(x, y).square().sum(), x)
    dense = (-((x[:, None] - y[None]) ** 2).sum(-1)).exp().sum(1, keepdim=True)
    (wanted,) = torch.autograd.grad(dense.square().sum(), x)
    assert_close(found, wanted, factor=10)
    assert [kind for kind, _ in machine.events].count("launch") == 2
    assert all(device == "cuda:0" for *_, device in machine.allocations)


def test_tensors_on_a_gpu_need_cupy(machine, monkeypatch, rng):
    monkeypatch.setitem(sys.modules, "cupy", None)
    x, y = clouds(rng, 4, 5)
    with pytest.raises(BackendError, match=r"need CuPy.*pip install symbolic-matrices\[cuda13\]"):
        ((-Vi(x).sqdist(Vj(y))).exp() + 3).sum(axis=1)


def test_devices_have_their_own_sizes(machine, rng):
    """The columns are cut by the number of multiprocessors of the tensors' device."""
    x, y = clouds(rng, 20, 20_000)
    machine.cupy.cuda.multiprocessors = 2
    gaussian(x, y)
    machine.device, machine.cupy.cuda.multiprocessors = 1, 1000
    gaussian(x, y)
    bytes_of_states = [shape[0] for shape, dtype, _ in machine.allocations if dtype == "int64"]
    assert bytes_of_states[0] < bytes_of_states[1]
