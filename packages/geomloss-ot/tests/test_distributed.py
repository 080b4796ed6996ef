"""Losses in distributed training: two processes, whose mean gradient is that of one process with both batches."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from geomloss_ot import SamplesLoss

LIMIT = datetime.timedelta(seconds=100)


def _data() -> tuple[torch.Tensor, torch.Tensor, torch.nn.Module]:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, 12, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    torch.manual_seed(1)
    return x, y, torch.nn.Linear(2, 2, dtype=torch.float64)


def _save_gradient(rank: int, rendezvous: str, file: Path) -> None:
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2, timeout=LIMIT)
    x, y, layer = _data()
    model = DistributedDataParallel(layer)
    SamplesLoss(blur=0.2, tol=1e-8, backend="tensorized")(model(x[rank]), y[rank]).backward()
    torch.save(layer.weight.grad, file)
    os._exit(0)  # without the destructors of PyTorch's process groups, which may wait for each other for ever


@pytest.mark.skipif(sys.platform == "win32" or not dist.is_available(), reason="needs gloo and files")
def test_gradients_are_averaged_over_processes(tmp_path: Path):
    rendezvous, files = f"file://{tmp_path}/rendezvous", [tmp_path / f"{rank}.pt" for rank in (0, 1)]
    context = mp.get_context("spawn")
    processes = [
        context.Process(target=_save_gradient, args=(rank, rendezvous, file), daemon=True)
        for rank, file in enumerate(files)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LIMIT.total_seconds())
        process.kill()
        assert process.exitcode == 0
    x, y, layer = _data()
    SamplesLoss(blur=0.2, tol=1e-8, backend="tensorized")(layer(x), y).mean().backward()
    for file in files:
        torch.testing.assert_close(torch.load(file), layer.weight.grad)
