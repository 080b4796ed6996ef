"""Owns the tables that block-sparse kernels walk along: tasks, and the column intervals of each.

They are computed on whole arrays, and mirror the structures of ``native/reduce.hpp``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..intervals import Cover, expand

LARGE_SHARE = (
    256  # tasks that do more than 1/256 of all the work start first, so that none of them is the last to end
)


class TaskTable(NamedTuple):
    """A block-sparse problem as a list of tasks.

    Attributes
    ----------
    tasks : (splits * blocks, 5) int64, lines ``Task`` of native/reduce.hpp, split by split.
    intervals : (splits * C, 2) int64, lines ``Interval``.
    blocks : blocks of rows, hence tasks of one split.
    groups : groups of rows of all the tasks of one split.
    """

    tasks: np.ndarray
    intervals: np.ndarray
    blocks: int
    groups: int


def make_table(cover: Cover, row_block: int, group_rows: int, splits: int) -> TaskTable:
    """Cut row intervals into blocks of about equal sizes, and the columns of each into ``splits`` equal parts."""
    sizes = cover.rows[:, 1] - cover.rows[:, 0]
    block = group_rows * _divide_up(sizes, group_rows * _divide_up(sizes, row_block))
    counts = _divide_up(sizes, block)
    owner = np.repeat(np.arange(len(sizes)), counts)
    first = expand(cover.rows[:, 0], counts, block)
    stop = np.minimum(first + block[owner], cover.rows[owner, 1])
    groups = _divide_up(stop - first, group_rows)
    order = _large_first(groups * _column_counts(cover)[owner])
    owner, first, stop, groups = owner[order], first[order], stop[order], groups[order]
    tasks = np.stack(
        (first, stop, cover.offsets[owner], cover.offsets[owner + 1], np.cumsum(groups) - groups), 1
    )
    parts = [tasks + np.array([0, 0, 1, 1, 0]) * (split * len(cover.columns)) for split in range(splits)]
    return TaskTable(
        np.ascontiguousarray(np.concatenate(parts)),
        np.ascontiguousarray(np.concatenate([_part(cover, split, splits) for split in range(splits)])),
        len(tasks),
        int(groups.sum()),
    )


def _divide_up(a: np.ndarray, b: np.ndarray | int) -> np.ndarray:
    return -(-a // b)


def _column_counts(cover: Cover) -> np.ndarray:
    """How many columns each row interval is reduced over."""
    ends = np.append(0, np.cumsum(cover.columns[:, 1] - cover.columns[:, 0]))
    return ends[cover.offsets[1:]] - ends[cover.offsets[:-1]]


def _large_first(work: np.ndarray) -> np.ndarray:
    """An order of tasks: neighbours stay together, as they may read the same columns, but for the large ones."""
    return np.argsort(-(LARGE_SHARE * work // max(1, int(work.sum()))), kind="stable")


def _part(cover: Cover, split: int, splits: int) -> np.ndarray:
    """The intervals that remain when each row interval keeps one part of its columns; some become empty."""
    starts, stops = cover.columns[:, 0], cover.columns[:, 1]
    lengths = stops - starts
    owner = np.repeat(np.arange(len(cover.rows)), np.diff(cover.offsets))
    before = np.cumsum(lengths) - lengths
    place = before - before[cover.offsets[owner]]  # columns of the same rows in earlier intervals
    total = _column_counts(cover)[owner]
    bounds = (total * split // splits, total * (split + 1) // splits)
    return np.stack([starts + np.clip(bound - place, 0, lengths) for bound in bounds], 1)
