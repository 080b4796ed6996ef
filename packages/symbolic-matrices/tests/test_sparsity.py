"""Block-sparse reductions are dense ones with a mask: any structure, both axes, all orders of derivatives, batches."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix_testing import BACKENDS, DTYPES, assert_close, sample
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from symbolic_matrices import (
    ArrayTypeError,
    BlockRanges,
    LazyTensor,
    Profile,
    ShapeError,
    Vi,
    Vj,
    indices,
    intervals,
    ragged,
    ragged_from_batch,
)
from symbolic_matrices import intervals as interval_arithmetic
from symbolic_matrices.backends import cpu, threads
from symbolic_matrices.formulas.reductions import REDUCTIONS as TABLE

RANGES = BlockRanges([[0, 2], [3, 5]], [2, 3], [[2, 4], [0, 1], [1, 3]])
NAMES = ("sum", "logsumexp", "min_argmin", "max_argmax", "Kmin_argKmin")


def cut(draw, size: int) -> np.ndarray:
    """Disjoint intervals of [0, size), some of them empty, some of them touching, in any order."""
    ends = sorted(draw(st.lists(st.integers(0, size), max_size=8)))
    found = np.array(list(zip(ends[::2], ends[1::2], strict=False)), dtype="int64").reshape(-1, 2)
    return found[draw(st.permutations(range(len(found))))]


@st.composite
def structures(draw, most_rows: int = 60, most_columns: int = 90):
    """Row intervals, their column intervals, and the same as a dense mask."""
    rows, columns = draw(st.integers(1, most_rows)), draw(st.integers(1, most_columns))
    mask = np.zeros((rows, columns), bool)
    row_ranges, lists = cut(draw, rows), []
    for start, stop in row_ranges:
        lists.append(cut(draw, columns))
        for first, last in lists[-1]:
            mask[start:stop, first:last] = True
    slices = np.cumsum([len(one) for one in lists], dtype="int64")
    return BlockRanges(row_ranges, slices, np.concatenate([np.zeros((0, 2), "int64"), *lists])), mask


def masked_reduction(name: str, values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """The definition, row by row."""
    found = [
        _reduce_row(name, row[kept], np.flatnonzero(kept)) for row, kept in zip(values, mask, strict=True)
    ]
    return tuple(np.array(output) for output in zip(*found, strict=True))


def _reduce_row(name: str, values: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, ...]:
    if name == "sum":
        return (values.sum(keepdims=True),)
    if name == "logsumexp":
        return (np.logaddexp.reduce(values, keepdims=True, initial=-np.inf),)
    count = 3 if name == "Kmin_argKmin" else 1
    worst = -np.inf if name == "max_argmax" else np.inf
    order = np.argsort(-values if name == "max_argmax" else values, kind="stable")[:count]
    missing = (0, count - len(order))
    nearest = np.pad(values[order], missing, constant_values=worst)
    return nearest, np.pad(columns[order], missing, constant_values=-1)


def reduce(tensor: LazyTensor, name: str, axis: int, backend: str, **options):
    arguments = (3,) if name == "Kmin_argKmin" else ()
    outputs = tensor.reduction(name, *arguments, axis=axis, backend=backend, **options)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def compare(outputs, expected, dtype: str) -> None:
    for actual, wanted in zip(outputs, expected, strict=True):
        if wanted.dtype.kind == "i":
            np.testing.assert_array_equal(actual, wanted)
        else:
            np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(wanted))
            np.testing.assert_array_equal(actual[~np.isfinite(wanted)], wanted[~np.isfinite(wanted)])
            assert_close(
                np.where(np.isfinite(wanted), actual, 0), np.where(np.isfinite(wanted), wanted, 0), dtype
            )


def clouds(
    mask: np.ndarray, dtype: str = "float64", batch: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Points on a coarse grid: many equal distances."""
    rng = np.random.default_rng(mask.size)
    return tuple(rng.integers(-3, 4, (*batch, size, 2)).astype(dtype) / 4 for size in mask.shape)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[..., :, None, :].astype("float64") - y[..., None, :, :]) ** 2).sum(-1)


# ---------------------------------------------------------------------- values


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(
    structure=structures(),
    axis=st.sampled_from([0, 1]),
    dtype=st.sampled_from(DTYPES),
    backend=st.sampled_from(BACKENDS),
)
def test_any_structure_is_a_mask(name, structure, axis, dtype, backend):
    ranges, mask = structure
    x, y = clouds(mask, dtype)
    values = squared_distances(x, y)
    expected = masked_reduction(name, *((values, mask) if axis == 1 else (values.T, mask.T)))
    compare(reduce(Vi(x).sqdist(Vj(y)), name, axis, backend, ranges=ranges), expected, dtype)


@settings(max_examples=100, deadline=None)
@given(structure=structures())
def test_structures_count_and_transpose(structure):
    ranges, mask = structure
    assert ranges.pairs == mask.sum()
    assert ranges.covered_rows == mask.any(1).sum()
    assert ranges.T.pairs == ranges.pairs
    assert ranges.T.T is ranges
    again = BlockRanges.from_keops(ranges.to_keops())
    assert again.is_same_as(ranges)
    assert again.T.is_same_as(ranges.T)
    for found, expected in ((ranges, mask), (ranges.T, mask.T), (pickle.loads(pickle.dumps(ranges)), mask)):
        np.testing.assert_array_equal(dense_mask(found, expected.shape), expected)


def dense_mask(ranges: BlockRanges, shape: tuple[int, int]) -> np.ndarray:
    count = np.zeros(shape, int)
    first = 0
    for (start, stop), last in zip(ranges.row_ranges, ranges.slices, strict=True):
        for left, right in ranges.column_ranges[first:last]:
            count[start:stop, left:right] += 1
        first = last
    return count


@settings(max_examples=100, deadline=None)
@given(structure=structures(), extra=st.integers(0, 5))
def test_covers_list_all_the_rows_in_order(structure, extra):
    ranges, mask = structure
    cover = ranges.cover(len(mask) + extra)
    assert cover.rows[:, 0].tolist() == [0, *cover.rows[:-1, 1]]
    assert cover.rows[-1, 1] == len(mask) + extra
    assert (cover.rows[:, 0] < cover.rows[:, 1]).all()
    for (start, stop), first, last in zip(cover.rows, cover.offsets[:-1], cover.offsets[1:], strict=True):
        columns = cover.columns[first:last]
        assert (columns[:-1, 1] < columns[1:, 0]).all()
        row = np.zeros(mask.shape[1], bool)
        for left, right in columns:
            row[left:right] = True
        np.testing.assert_array_equal(mask[start:stop], np.broadcast_to(row, mask[start:stop].shape))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("thread_count", [1, 3])
def test_long_lists_in_many_tasks(name, thread_count, monkeypatch):
    """Row intervals longer than a task, columns cut between threads, tasks that start with the largest."""
    monkeypatch.setattr(threads, "_num_threads", thread_count)
    monkeypatch.setattr(cpu, "INLINE_OPERATIONS", 100)
    monkeypatch.setattr(cpu, "LEAST_SPLIT_COLUMNS", 50)
    monkeypatch.setattr(cpu, "ROW_BLOCK", 32)
    for row_ranges in ([[40, 50]], [[3, 150], [200, 203], [203, 210]]):
        columns = [[0, 7], [300, 650], [9, 280], [281, 300]]
        lists = [columns[k:] for k in range(len(row_ranges))]
        ranges = BlockRanges(row_ranges, np.cumsum([len(one) for one in lists]), np.concatenate(lists))
        mask = dense_mask(ranges, (211, 700)) > 0
        x, y = clouds(mask)
        expected = masked_reduction(name, squared_distances(x, y), mask)
        compare(reduce(Vi(x).sqdist(Vj(y)), name, 1, "cpu", ranges=ranges), expected, "float64")
        batch = [np.stack([cloud, cloud[::-1]])[..., None, :] for cloud in (x, y)]
        tensor = LazyTensor(batch[0]).sqdist(LazyTensor(np.swapaxes(batch[1], 1, 2)))
        flipped = masked_reduction(name, squared_distances(x[::-1], y[::-1]), mask)
        found = reduce(tensor, name, 2, "cpu", ranges=ranges)
        compare([output[0] for output in found], expected, "float64")
        compare([output[1] for output in found], flipped, "float64")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_visited(name, backend):
    x, y = np.zeros((40, 2)), np.ones((30, 2))
    nothing = {"sum": 0, "logsumexp": -np.inf, "min": np.inf, "max": -np.inf, "Kmin": np.inf}
    for ranges in (BlockRanges([], [], []), BlockRanges([[0, 9], [9, 20]], [1, 1], [[5, 5]])):
        for columns in (y, y[:0]) if ranges.extent == (0, 0) else (y,):
            values, *indices = reduce(Vi(x).sqdist(Vj(columns)), name, 1, backend, ranges=ranges)
            assert (values == nothing[name.partition("_")[0]]).all()
            assert all((output == -1).all() for output in indices)


@pytest.mark.parametrize("name", TABLE)
def test_every_reduction_agrees_with_the_reference(name, rng):
    """Also over nothing: rows 2 and 5 visit no column."""
    x, y, row = sample(rng, (6, 2)), sample(rng, (5, 2)), TABLE[name]
    weight = sample(rng, (5, 2)) if row.make is None else None
    found, expected = (
        Vi(x).sqdist(Vj(y)).reduction(
            name, *(2,) * row.is_counted, axis=1, ranges=RANGES, backend=backend, weight=weight
        )
        for backend in BACKENDS
    )  # fmt: skip
    for one, other in zip(
        *(out if isinstance(out, tuple) else (out,) for out in (found, expected)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-13)


def test_means_divide_by_the_columns_that_are_visited(rng, backend):
    x, y = sample(rng, (6, 2)), sample(rng, (5, 2))
    mask = dense_mask(RANGES, (6, 5))
    with np.errstate(invalid="ignore"):
        expected = (squared_distances(x, y) * mask).sum(1) / mask.sum(1)
    found = Vi(x).sqdist(Vj(y)).mean(axis=1, ranges=RANGES, backend=backend)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert np.isnan(found[[2, 5]]).all()


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8))
def test_ragged_problems_are_a_loop(lengths):
    lengths_i, lengths_j = np.array(lengths, dtype="int32").reshape(-1, 2).T
    x, y = (np.random.default_rng(k).random((n.sum(), 2)) for k, n in enumerate((lengths_i, lengths_j)))
    tensor, ranges = Vi(x).sqdist(Vj(y)), ragged(lengths_i, lengths_j)
    found, indices = tensor.min_argmin(axis=1, ranges=ranges)
    total = tensor.T.sum(axis=1, ranges=ranges.T)
    first, other = 0, 0
    for rows, columns in lengths:
        one = Vi(x[first : first + rows]).sqdist(Vj(y[other : other + columns]))
        if columns > 0:
            values, positions = one.min_argmin(axis=1)
            np.testing.assert_array_equal(found[first : first + rows], values)
            np.testing.assert_array_equal(indices[first : first + rows], positions + other)
        assert_close(total[other : other + columns], one.sum(axis=0))
        first, other = first + rows, other + columns
    batches = [np.repeat(np.arange(len(n)), n) for n in (lengths_i, lengths_j)]
    assert ragged_from_batch(*batches).pairs == ranges.pairs
    assert_close(tensor.sum(axis=1, ranges=ragged_from_batch(*batches)), tensor.sum(axis=1, ranges=ranges))


def test_a_thousand_problems_are_one_launch(rng):
    lengths = rng.integers(50, 151, 1000)
    x = sample(rng, (lengths.sum(), 2))
    ranges = ragged(lengths)
    with Profile() as profile:
        found = Vi(x).sqdist(Vj(x)).sum(axis=1, ranges=ranges)
    assert profile.launches == 1
    stop = lengths[:500].sum()
    part = slice(stop - lengths[499], stop)
    assert_close(found[part], squared_distances(x[part], x[part]).sum(1, keepdims=True))


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
@pytest.mark.parametrize("integers", ["int32", "int64"])
def test_keops_tuples(library, integers):
    """The arrays of from_matrix for two clusters of rows, three of columns."""
    arrays = (
        [[2, 5], [7, 12]], [2, 3], [[1, 4], [4, 9], [4, 9]],
        [[1, 4], [4, 9], [20, 30]], [1, 3, 3], [[2, 5], [2, 5], [7, 12]],
    )  # fmt: skip
    given_ranges = tuple(library(np.array(array, integers)) for array in arrays)
    ranges = BlockRanges.from_keops(given_ranges)
    for array, back in zip(given_ranges, ranges.to_keops(like=given_ranges[0]), strict=True):
        assert type(back) is type(array)
        np.testing.assert_array_equal(back, array)
    mask = np.array([[True, True, False], [False, True, False]])
    same = BlockRanges.from_mask(mask, given_ranges[0], given_ranges[3])
    assert all(map(np.array_equal, same.to_keops(), ranges.to_keops()))
    assert repr(ranges) == (
        "BlockRanges: 2 row intervals, 3 blocks, 49 pairs, 13.6% of the 12 x 30 matrix that they span"
    )


def test_windows_that_overlap(rng, backend):
    """Columns of neighbouring rows overlap: their transposed structure is computed, not taken from the tuple."""
    starts = np.arange(0, 50, 5)
    rows, windows = np.stack((starts, starts + 5), 1), np.stack((starts, starts + 12), 1)
    ranges = BlockRanges.from_mask(np.eye(10, dtype=bool), rows, windows)
    numbers = np.arange(1, 11)
    assert BlockRanges.from_keops((rows, numbers, windows, windows, numbers, rows)).T.is_same_as(ranges.T)
    mask = dense_mask(ranges, (50, 62)) > 0
    x, y = clouds(mask)
    compare(reduce(Vi(x).sqdist(Vj(y)), "min_argmin", 0, backend, ranges=ranges),
            masked_reduction("min_argmin", squared_distances(x, y).T, mask.T), "float64")  # fmt: skip


def test_positions_are_those_of_the_whole_matrix(backend):
    ranges = BlockRanges([[3, 5], [0, 2]], [2, 3], [[4, 6], [1, 2], [0, 3]])
    mask = dense_mask(ranges, (6, 7))
    values = np.arange(6.0)[:, None] * 10 + np.arange(7)
    i, j = indices(6, 7)
    assert_close((10 * i + j).sum(axis=1, ranges=ranges, backend=backend), (values * mask).sum(1)[:, None])
    assert_close((10 * i + j).sum(axis=0, ranges=ranges, backend=backend), (values * mask).sum(0)[:, None])


# ---------------------------------------------------------------------- formulas carry their ranges


def test_operations_propagate_ranges(rng):
    x, y, b = sample(rng, (4, 2)), sample(rng, (6, 2)), sample(rng, (6, 3))
    ranges = BlockRanges([[0, 2], [2, 4]], [1, 2], [[0, 3], [3, 6]])
    dense = squared_distances(x, y) * dense_mask(ranges, (4, 6))
    K = Vi(x).sqdist(Vj(y))
    assert K.ranges is None
    K.ranges = ranges
    assert (2 * K + Vj(y)).ranges is ranges
    assert "BlockRanges: 2 row intervals" in repr(K)
    wide = sample(rng, (6, 150))
    assert_close(K @ b, dense @ b)
    assert_close(K @ wide, dense @ wide)
    assert_close(K.T @ b[:4], dense.T @ b[:4])
    assert_close(b[:4, 0] @ K, b[:4, 0] @ dense)
    assert_close((K * K).sum(axis=0), (dense**2).sum(0)[:, None])
    assert K.T.ranges is ranges.T
    K.ranges = ranges.to_keops(like=torch.zeros(1))
    assert_close(K @ b, dense @ b)
    K.ranges = None
    assert_close(K @ b, squared_distances(x, y) @ b)


def test_ranges_that_disagree(rng):
    x_i, y_j = Vi(sample(rng, (4, 2))), Vj(sample(rng, (6, 2)))
    first, second = (BlockRanges([[0, stop]], [1], [[0, 3]]) for stop in (2, 3))
    x_i.ranges, y_j.ranges = first, BlockRanges([[0, 2]], [1], [[0, 3]])
    assert (x_i - y_j).ranges is first
    y_j.ranges = second
    with pytest.raises(ShapeError, match=r"visit different pairs:\n.*6 pairs.*\n.*9 pairs"):
        x_i - y_j
    K = x_i.sqnorm2()
    L = K.exp()
    L.ranges = second
    with pytest.raises(ShapeError, match="visit different pairs"):
        K + L
    assert (Vi(np.ones((4, 2))).sqdist(Vj(np.ones((6, 2))))).sum(axis=1, ranges=first).shape == (4, 1)


def test_placeholders_take_ranges(rng):
    x, y = sample(rng, (4, 2)), sample(rng, (6, 2))
    ranges = BlockRanges([[0, 2]], [1], [[0, 3]])
    distances = Vi(0, 2).sqdist(Vj(1, 2))
    expected = Vi(x).sqdist(Vj(y)).sum(axis=1, ranges=ranges)
    assert_close(distances.sum(axis=1)(x, y, ranges=ranges), expected)
    assert_close(distances.sum(axis=1, ranges=ranges)(x, y), expected)


# ---------------------------------------------------------------------- derivatives


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.rand(*shape, dtype=torch.float64, generator=generator).requires_grad_()


REDUCTIONS = {
    "sum": (lambda K: K.exp().sum(axis=1), lambda d, mask: (d.exp() * mask).sum(1)),
    "logsumexp": (
        lambda K: K.logsumexp(axis=1),
        lambda d, mask: d.masked_fill(~mask, -torch.inf).logsumexp(1),
    ),
    "max": (lambda K: K.max(axis=1), lambda d, mask: d.masked_fill(~mask, -torch.inf).amax(1)),
    "min over i": (lambda K: K.min(axis=0), lambda d, mask: d.masked_fill(~mask, torch.inf).amin(0)),
}


@pytest.mark.parametrize("name", REDUCTIONS)
@settings(max_examples=15, deadline=None)
@given(structure=structures(12, 14))
def test_gradients_of_any_structure(name, structure):
    ranges, mask = structure
    x, y, s = random(mask.shape[0], 2), random(mask.shape[1], 2), random(1)
    K = -Vi(x).sqdist(Vj(y)) / s
    K.ranges = ranges
    d2 = -((x[:, None] - y[None]) ** 2).sum(-1) / s
    lazy, dense = REDUCTIONS[name]
    found, expected = lazy(K)[:, 0], dense(d2, torch.tensor(mask))
    covered = torch.isfinite(expected)
    assert torch.equal(torch.isfinite(found), covered)
    weights = torch.rand_like(expected)
    found, expected = (
        torch.autograd.grad((weights * torch.where(covered, out, 0)).sum(), (x, y, s))
        for out in (found, expected)
    )
    for one, other in zip(found, expected, strict=True):
        assert_close(one, torch.nan_to_num(other), factor=10)


@pytest.mark.parametrize("name", [*REDUCTIONS, "Kmin"])
def test_derivatives_of_second_order_and_forward_mode(name):
    def function(x, y):
        K = (-Vi(x).sqdist(Vj(y))).exp()
        K.ranges = RANGES
        result = K.Kmin(2, axis=1) if name == "Kmin" else REDUCTIONS[name][0](K)
        return torch.where(torch.isfinite(result), result, 0)

    data = random(6, 2), random(5, 2)
    assert gradcheck(function, data, check_forward_ad=True)
    assert gradgradcheck(function, data, atol=1e-4)


def test_rows_without_columns_have_gradient_zero():
    """Also where the formula cannot be differentiated at the columns that they do not visit."""
    x, y = random(6, 1), random(5, 1)
    y = torch.cat((x[2:3], y[1:])).detach().requires_grad_()  # log |x_2 - y_0| is -inf
    K = Vi(x).sqdist(Vj(y)).log()
    K.ranges = RANGES
    for name in ("min", "max", "sum", "logsumexp"):
        result = getattr(K, name)(axis=1)
        gradients = torch.autograd.grad(result[:, 0][[0, 1, 2, 3, 4]].sum(), (x, y))
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert gradients[0][2] == 0
    with forward_ad.dual_level():
        K = Vi(forward_ad.make_dual(x, torch.ones_like(x))).sqdist(Vj(y)).log()
        K.ranges = RANGES
        assert forward_ad.unpack_dual(K.min(axis=1)).tangent[2] == 0


def test_transforms_of_torch_func():
    x, y = random(3, 6, 2).detach(), random(5, 2).detach()
    mask = torch.tensor(dense_mask(RANGES, (6, 5)))

    def lazy(points):
        return (-Vi(points).sqdist(Vj(y))).exp().sum(axis=1, ranges=RANGES).sum()

    def dense(points):
        return ((-((points[:, None] - y[None]) ** 2).sum(-1)).exp() * mask).sum()

    found, expected = (torch.func.vmap(torch.func.grad(f))(x) for f in (lazy, dense))
    assert_close(found, expected, factor=10)


def test_float32_tensors_and_batches(backend):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(3, n, 2, generator=generator) for n in (6, 5))
    mask = torch.tensor(dense_mask(RANGES, (6, 5)))
    K = LazyTensor(x[:, :, None]).sqdist(LazyTensor(y[:, None]))
    expected = (((x[:, :, None] - y[:, None]) ** 2).sum(-1).double() * mask).sum(2)[..., None]
    assert_close(K.sum(axis=2, ranges=RANGES, backend=backend), expected, "float32")


def test_ragged_systems():
    """Two interpolation problems at once: solutions and gradients of a block-diagonal matrix."""
    x, b, alpha = random(5, 2), random(5, 1), torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    mask = torch.block_diag(torch.ones(2, 2), torch.ones(3, 3))
    K = (-Vi(x).sqdist(Vj(x))).exp()
    K.ranges = ragged([2, 3])
    dense = (-((x[:, None] - x[None]) ** 2).sum(-1)).exp() * mask + alpha * torch.eye(5, dtype=x.dtype)
    found, expected = K.solve(b, alpha, eps=1e-14), torch.linalg.solve(dense, b)
    assert_close(found.detach(), expected.detach(), factor=1e3)
    gradients = (torch.autograd.grad((out**2).sum(), (x, b, alpha)) for out in (found, expected))
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, factor=1e4)


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("attempt", "error", "words"),
    [
        (lambda: BlockRanges([[0, 3], [2, 5]], [1, 2], [[0, 1], [0, 1]]), ShapeError,
         r"row intervals number 0 and 1 overlap: \[0, 3\) and \[2, 5\). List each row once"),
        (lambda: BlockRanges([[0, 3]], [2], [[4, 9], [0, 5]]), ShapeError,
         r"row interval number 0 lists column intervals that overlap: \[0, 5\) and \[4, 9\)"),
        (lambda: BlockRanges([[3, 0]], [1], [[0, 1]]), ShapeError, r"row_ranges\[0\] = \[3, 0\) is no interval"),
        (lambda: BlockRanges([[0, 3]], [1], [[-1, 1]]), ShapeError, r"column_ranges\[0\] = \[-1, 1\)"),
        (lambda: BlockRanges([[0, 3], [3, 4]], [1, 0], [[0, 1]]), ShapeError, "must increase.*entry 1 is 0"),
        (lambda: BlockRanges([[0, 3]], [-1], [[0, 1]]), ShapeError, "must increase from 0.*entry 0 is -1"),
        (lambda: BlockRanges([[0, 3]], [2], [[0, 1]]), ShapeError, "must end at .* column_ranges, 1, but ends at 2"),
        (lambda: BlockRanges([[0, 3]], [1, 1], [[0, 1]]), ShapeError, r"slices must have shape \(1,\)"),
        (lambda: BlockRanges([0, 3], [1], [[0, 1]]), ShapeError, r"row_ranges must have shape \(count, 2\)"),
        (lambda: BlockRanges([[0.0, 3.0]], [1], [[0, 1]]), ArrayTypeError, "hold integers but has dtype float64"),
        (lambda: BlockRanges(3, [1], [[0, 1]]), ArrayTypeError, "row_ranges must be an array or a list but got int"),
        (lambda: BlockRanges.from_keops(([[0, 3]], [1], [[0, 1]])), ShapeError, "six arrays .* but got 3"),
        (lambda: BlockRanges.from_keops(([[0, 3]], [1], [[0, 1]], [[0, 1]], [1], [[0, 2]])), ShapeError,
         "different pairs: 3 for reductions over j, 2 for reductions over i"),
        (lambda: BlockRanges.from_keops(([[0, 3]], [1], [[0, 2]], [[1, 3]], [1], [[0, 3]])), ShapeError,
         "different pairs: 6 .*, 6 "),
        (lambda: BlockRanges.from_keops(([[0, 3]], [1], [[0, 2]], [[0, 2]], [1.0], [[0, 3]])), ArrayTypeError,
         "slices_j must hold integers"),
        (lambda: BlockRanges.from_mask([[1]], [[0, 1]], [[0, 1]]), ArrayTypeError, "mask must be boolean"),
        (lambda: BlockRanges.from_mask(np.ones((1, 2)) > 0, [[0, 1]], [[0, 1]]), ShapeError, r"shape \(1, 1\), one"),
        (lambda: BlockRanges.from_pairs([[0, 1]], [[0, 1]], [[0, 1]]), ShapeError,
         "names the column intervals number 1 to 1 but there are 1"),
        (lambda: BlockRanges.from_pairs([[0, 1]], [[0, 1]], [0, 0]), ShapeError, r"pairs must have shape \(B, 2\)"),
        (lambda: BlockRanges.from_pairs([[0, 1]], [[0, 1]], [[0, 0], [0, 0]]), ShapeError, "overlap"),
        (lambda: ragged([1, 2], [3]), ShapeError, "have 2 and 1 entries"),
        (lambda: ragged([1, -2]), ShapeError, "lengths_i must hold integers >= 0 but holds -2"),
        (lambda: ragged([[1, 2]]), ShapeError, r"lengths_i must have shape \(count,\)"),
        (lambda: ragged_from_batch([0, 2, 1]), ShapeError, "sorted but 1 follows 2 at entry 2; sort the points first"),
        (lambda: ragged_from_batch([0, 1], [-1, 0]), ShapeError, "batch_j must hold integers >= 0 but holds -1"),
        (lambda: (Vi(np.ones((3, 1))) + Vj(np.ones((2, 1)))).sum(
            axis=0, ranges=BlockRanges.from_pairs([[0, 3]], [[0, 2], [2, 90]], [[0, 0]])), ShapeError,
         r"reach row 3 and column 90 but the matrix has shape \(3, 2\)"),
        (lambda: Vi(np.ones((2, 1))).sum(axis=1, ranges="all"), ArrayTypeError, "6-tuple of arrays but got str"),
        (lambda: Vi(np.ones((2, 1))).sum(axis=1, ranges=RANGES), ShapeError,
         r"reach row 5 and column 4 but the matrix has shape \(2, 1\)"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(attempt, error, words):
    with pytest.raises(error, match=words):
        attempt()


def test_a_transposed_structure_that_would_not_fit(monkeypatch):
    monkeypatch.setattr(intervals, "MOST_CUT_BLOCKS", 8)
    windows = BlockRanges([[0, 1], [1, 2], [2, 3]], [1, 2, 3], [[0, 10], [1, 11], [2, 12]])
    with pytest.raises(ShapeError, match="would need 9 blocks"):
        assert windows.T


def test_structures_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        RANGES.row_ranges[0] = 3


@given(st.lists(st.tuples(st.integers(0, 2**35), st.integers(0, 2**20)), max_size=40), st.integers(1, 3))
def test_intervals_are_put_in_order(pairs, copies):
    major, minor = np.array(pairs * copies, "int64").reshape(-1, 2).T
    order = interval_arithmetic._order(major, minor)
    np.testing.assert_array_equal(order, np.lexsort((minor, major)))
