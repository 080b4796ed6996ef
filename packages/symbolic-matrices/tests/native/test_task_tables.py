"""Kernels that walk along tables of tasks: every vector width, against NumPy with a mask."""

from __future__ import annotations

import numpy as np
import pytest
from native.kernels import SQDIST, formula, load, run

from symbolic_matrices.backends import cpu, task_tables, threads
from symbolic_matrices.sparsity import BlockRanges

SIZES = (150, 400)
# long and short row intervals, touching and apart; column intervals of one column, of a tile, of several, out of order
ROWS = [[100, 103], [0, 37], [37, 90], [120, 150]]
COLUMNS = [[[64, 128], [0, 5]], [[7, 8], [300, 400], [9, 30], [100, 101]], [], [[0, 400]]]
TOLERANCES = {"float32": 2e-6, "float64": 4e-15}

DISTANCE = formula(3, 3, 1, f"{SQDIST} out[0] = d2;")
MINUS_DISTANCE = formula(3, 3, 1, f"{SQDIST} out[0] = -d2;")


def blocks() -> tuple[BlockRanges, np.ndarray]:
    slices = np.cumsum([len(columns) for columns in COLUMNS])
    mask = np.zeros(SIZES, bool)
    for (start, stop), columns in zip(ROWS, COLUMNS, strict=True):
        for left, right in columns:
            mask[start:stop, left:right] = True
    return BlockRanges(ROWS, slices, [interval for columns in COLUMNS for interval in columns]), mask


def clouds(dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points on a grid, whose distances are exact, and their squared distances."""
    rng = np.random.default_rng(7)
    x, y = (rng.integers(0, 9, (size, 3)).astype(dtype) / 8 for size in SIZES)
    return x, y, ((x[:, None].astype("float64") - y) ** 2).sum(-1)


@pytest.fixture(params=["whole", "cut"])
def _cuts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks as they come, or many small ones: blocks of rows, and columns between threads."""
    if request.param == "cut":
        monkeypatch.setattr(threads, "_num_threads", 3)
        monkeypatch.setattr(cpu, "INLINE_OPERATIONS", 1)
        monkeypatch.setattr(cpu, "ROW_BLOCK", 16)
        monkeypatch.setattr(cpu, "_column_splits", lambda *_: 3)


@pytest.mark.usefixtures("_cuts")
@pytest.mark.parametrize(("body", "reduction"), [(DISTANCE, "Sum<1>"), (MINUS_DISTANCE, "LogSumExp<>")])
def test_sums(target: str, dtype: str, body: str, reduction: str) -> None:
    ranges, mask = blocks()
    x, y, d2 = clouds(dtype)
    if reduction == "Sum<1>":
        expected = (d2 * mask).sum(1)
    else:
        expected = np.logaddexp.reduce(np.where(mask, -d2, -np.inf), axis=1)
    found = run(load(body, reduction, dtype), x, y, ranges=ranges).values[:, 0]
    np.testing.assert_allclose(found, expected, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


@pytest.mark.usefixtures("_cuts")
@pytest.mark.parametrize(("reduction", "count"), [("Extremum<1, Order::smallest, Outputs::both>", 1),
                                                  ("Smallest<4, 1, Outputs::both>", 4)])  # fmt: skip
def test_selections(target: str, dtype: str, reduction: str, count: int) -> None:
    """Many ties: the smallest numbers win, and they are those of the whole matrix."""
    ranges, mask = blocks()
    x, y, d2 = clouds(dtype)
    hidden = np.where(mask, d2, np.inf)
    order = np.argsort(hidden, 1, kind="stable")[:, :count]
    values = np.take_along_axis(hidden, order, 1)
    found = run(load(DISTANCE, reduction, dtype), x, y, ranges=ranges)
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found.indices, np.where(np.isinf(values), -1, order))


def test_tables_list_each_row_and_each_pair_once() -> None:
    ranges, mask = blocks()
    cover = ranges.cover(SIZES[0])
    for row_block, splits in ((16, 1), (32, 3), (512, 2)):
        table = task_tables.make_table(cover, row_block, 8, splits)
        assert len(table.tasks) == splits * table.blocks
        count = np.zeros(SIZES, int)
        visits = np.zeros(SIZES[0], int)
        for first, stop, first_interval, stop_interval, _ in table.tasks:
            assert 0 < stop - first <= row_block
            visits[first:stop] += 1
            for left, right in table.intervals[first_interval:stop_interval]:
                count[first:stop, left:right] += 1
        np.testing.assert_array_equal(count, mask)
        np.testing.assert_array_equal(visits, splits)
        groups = -(-(table.tasks[: table.blocks, 1] - table.tasks[: table.blocks, 0]) // 8)
        np.testing.assert_array_equal(table.tasks[: table.blocks, 4], np.cumsum(groups) - groups)
        assert table.groups == groups.sum()


def test_large_tasks_start_first() -> None:
    lengths = np.append(np.full(1000, 10), 500)
    starts = np.cumsum(lengths) - lengths
    rows = np.stack((starts, starts + lengths), 1)
    table = task_tables.make_table(
        BlockRanges(rows, np.arange(1, 1002), rows).cover(lengths.sum()), 512, 8, 1
    )
    assert table.tasks[0, 0] == starts[-1]
    np.testing.assert_array_equal(table.tasks[1:, 0], starts[:-1])


def test_the_table_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        cpu, "make_table", lambda *sizes: made.append(sizes) or task_tables.make_table(*sizes)
    )
    ranges, _ = blocks()
    x, y, _ = clouds("float64")
    kernel = load(DISTANCE, "Sum<1>", "float64")
    run(kernel, x, y, ranges=ranges)
    count = len(made)
    run(kernel, x, y, ranges=ranges)
    assert count == len(made) == 1
