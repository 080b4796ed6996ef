"""The search through a tree of boxes: which formulas it serves, and that it finds what visiting all the pairs finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix_testing import sample

from symbolic_matrices import LazyTensor, Pm, Profile, Vi, Vj, execution, explain, set_num_threads
from symbolic_matrices.backends import search
from symbolic_matrices.backends.threads import get_num_threads
from symbolic_matrices.formulas.expressions import Axis, call, constant
from symbolic_matrices.formulas.operations.pointwise import multiply
from symbolic_matrices.formulas.reductions import REDUCTIONS
from symbolic_matrices.formulas.simplification import simplify
from symbolic_matrices.kernels.compilation import find_compiler
from symbolic_matrices.kernels.planning import make_plan
from symbolic_matrices.kernels.pruning import find_monotone, find_search
from symbolic_matrices.sparsity import BlockRanges

DATA = np.ones((4, 3))
X, Y, S = Vi(DATA), Vj(DATA), Pm(np.ones((1, 3)))
NUMBER = Pm(np.ones((1, 1)))

SERVED = {
    "squared distance": X.sqdist(Y),
    "difference, written out": ((X - Y) ** 2).sum(-1),
    "columns first": (Y - X).sqnorm2(),
    "distance": (X - Y).norm2(),
    "sum of absolute differences": abs(X - Y).sum(-1),
    "largest difference": abs(X - Y).max(-1),
    "numbers": abs(X[..., 0] - Y[..., 2]),
    "squares of numbers": (X[..., 0] - Y[..., 2]) ** 2,
    "points that are computed": (X * S + 1).sqdist((Y * 2).exp()),
    "divided": X.sqdist(Y) / 2.5,
    "root of a multiple": (X.sqdist(Y) * 2.5).sqrt() * NUMBER,
}
NOT_SERVED = {
    "an inner product": X | Y,
    "a function that rounds anyhow": X.sqdist(Y).exp(),
    "more of the column": X.sqdist(Y) + Y[..., 0],
    "a factor of the column": X.sqdist(Y) * Y[..., 0],
    "a factor for each component": ((X - Y) * S).sqnorm2(),
    "sum instead of difference": (X + Y).sqnorm2(),
    "between rows": X.sqdist(X) * (Y * 0 + 1).sum(-1),
    "a sum of distances": X.sqdist(Y) + X[..., :2].sqdist(Y[..., :2]),
    "a vector": abs(X - Y),
    "the smallest difference": abs(X - Y).min(-1),
    "a root of what is negative": (-X.sqdist(Y)).sqrt(),
    "a number against vectors": X[..., 0].sqdist(Y),
}


def monotone(formula: LazyTensor):
    return find_monotone(simplify(formula._formula))


@pytest.mark.parametrize("name", SERVED)
def test_distances_grow_with_the_differences(name):
    found = monotone(SERVED[name])
    assert found is not None
    assert found.grows
    assert found.dim == (1 if "numbers" in name else 3)
    assert not monotone(-SERVED["distance"]).grows


@pytest.mark.parametrize("name", NOT_SERVED)
def test_other_formulas_have_no_such_order(name):
    assert monotone(NOT_SERVED[name]) is None


@pytest.mark.parametrize(("factor", "grows"), [(2.5, True), (-2.5, False)])
def test_numbers_of_the_formula_may_turn_its_order(factor, grows):
    found = find_monotone(call(multiply, (constant(factor), simplify(SERVED["squared distance"]._formula))))
    assert found.grows == grows
    assert found.positive == ()


@pytest.mark.parametrize("factor", [0.0, np.nan])
def test_numbers_that_order_nothing_are_refused(factor):
    scaled = call(multiply, (constant(factor), simplify(SERVED["squared distance"]._formula)))
    assert find_monotone(scaled) is None


def plan_search(formula: LazyTensor, name: str, *count: int):
    return find_search(make_plan(formula._formula, REDUCTIONS[name](*count), Axis.J, "float64"))


def test_only_the_near_end_is_searched():
    distance = SERVED["distance"]
    assert plan_search(distance, "argKmin", 4).count == 4
    assert plan_search(distance, "min").count == 1
    assert plan_search(distance, "max") is None
    assert plan_search(-distance, "argmax").dim == 3
    assert plan_search(-distance, "Kmin", 4) is None
    assert plan_search(distance, "sum") is None


# ---------------------------------------------------------------------- the same answers, bit by bit


REDUCE = {
    "min_argmin": lambda F, axis: F.min_argmin(axis=axis),
    "Kmin": lambda F, axis: F.Kmin_argKmin(5, axis=axis),
    "many": lambda F, axis: F.Kmin_argKmin(30, axis=axis),
}


def reduce(formula: LazyTensor, name: str, searches: bool, axis: int = 1):
    """The outputs, through the tree or pair by pair, whatever the sizes."""
    with pytest.MonkeyPatch.context() as patch:
        runs, run = [], search.TreeSearch.run
        patch.setattr(search.TreeSearch, "pays", lambda self, arguments: searches)
        patch.setattr(search.TreeSearch, "run", lambda self, arguments: runs.append(run(self, arguments)))
        outputs = REDUCE[name](formula, axis)
    assert len(runs) == int(searches)
    return outputs


def check_search(formula: LazyTensor, name: str, axis: int = 1) -> None:
    for found, expected in zip(
        reduce(formula, name, True, axis), reduce(formula, name, False, axis), strict=True
    ):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def _uniform(rng, size, dim):
    return rng.random((size, dim))


def _grid(rng, size, dim):
    return rng.integers(0, 4, (size, dim)).astype(float)


def _outlier(rng, size, dim):
    return np.concatenate([rng.random((size - 1, dim)), np.full((1, dim), 1e12)])


def _collinear(rng, size, dim):
    return rng.random((size, 1)) * np.arange(1.0, dim + 1)


def _clusters(rng, size, dim):
    return rng.integers(0, 5, (size, 1)) * 100 + rng.normal(size=(size, dim)) * 1e-3


def _far_away(rng, size, dim):
    return rng.random((size, dim)) + 1e6


def _wild(rng, size, dim):
    """Infinities, NaN, numbers whose squares overflow or vanish, and both zeros."""
    odd = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-30, 0.0, -0.0])
    return np.where(rng.random((size, dim)) < 0.1, rng.choice(odd, (size, dim)), rng.random((size, dim)))


CLOUDS = (_uniform, _grid, _outlier, _collinear, _clusters, _far_away, _wild)


@pytest.mark.parametrize("name", REDUCE)
@settings(max_examples=30, deadline=None)
@given(
    clouds=st.tuples(st.sampled_from(CLOUDS), st.sampled_from(CLOUDS)),
    sizes=st.tuples(st.integers(1, 400), st.integers(1, 3000)),
    seed=st.integers(0, 2**32 - 1),
    same=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_the_search_finds_what_visiting_all_pairs_finds(name, clouds, sizes, seed, same, dtype):
    rng = np.random.default_rng(seed)
    if find_compiler().kind != "gcc":
        sizes = (
            sizes[0],
            sizes[1] + -sizes[1] % 8,
        )  # others fuse products and sums differently in shorter registers
    x, y = (cloud(rng, size, 3).astype(dtype) for cloud, size in zip(clouds, sizes, strict=True))
    check_search(Vi(y if same else x).sqdist(Vj(y)), name)


FORMULAS = {
    "distance": lambda x, y, s: (x - y).norm2(),
    "sum": lambda x, y, s: abs(x - y).sum(-1),
    "largest": lambda x, y, s: abs(x - y).max(-1),
    "computed": lambda x, y, s: (x * 2).sqdist(y / s),
    "scaled": lambda x, y, s: x.sqdist(y) * s,
}


@pytest.mark.parametrize("scale", [2.5, -1.0, 0.0, np.nan, np.inf])
@pytest.mark.parametrize("name", FORMULAS)
def test_every_formula_that_qualifies(name, scale):
    rng = np.random.default_rng(len(name))
    x, y = (_wild(rng, size, 2).astype("float32") for size in (300, 2000))
    check_search(FORMULAS[name](Vi(x), Vj(y), float(scale)), "min_argmin")


def test_the_largest_of_negative_distances(monkeypatch):
    rng = np.random.default_rng(0)
    F = -Vi(_wild(rng, 300, 2).astype("float32")).sqdist(Vj(_grid(rng, 2000, 2).astype("float32")))
    monkeypatch.setitem(REDUCE, "max_argmax", lambda F, axis: F.max_argmax(axis=axis))
    check_search(F, "max_argmax")


def test_batches_other_axes_and_strides():
    rng = np.random.default_rng(1)
    x, y = (
        sample(rng, (2, 3, 152, 1, 3), dtype="float32"),
        sample(rng, (3, 1, 904, 6), dtype="float32")[..., 1::2],
    )
    F = LazyTensor(x).sqdist(LazyTensor(y))
    check_search(F, "Kmin", axis=3)
    check_search(F, "Kmin", axis=2)


def test_one_thread_and_many():
    rng, before = np.random.default_rng(2), get_num_threads()
    F = Vi(sample(rng, (700, 3), dtype="float32")).sqdist(Vj(sample(rng, (5000, 3), dtype="float32")))
    try:
        for count in (1, 5):
            set_num_threads(count)
            check_search(F, "Kmin")
    finally:
        set_num_threads(before)


# ---------------------------------------------------------------------- when


def _arguments(rows: int, columns: int, ranges=None) -> search.Arguments:
    return search.Arguments(rows, columns, (), [], None, None, ranges)


def tree_search(dim: int, count: int) -> search.TreeSearch:
    formula = Vi(np.ones((4, dim))).sqdist(Vj(np.ones((4, dim))))
    return search.find(make_plan(formula._formula, REDUCTIONS["argKmin"](count), Axis.J, "float32"))


def test_the_search_is_chosen_where_it_pays(monkeypatch):
    monkeypatch.setattr(search.threads, "get_num_threads", lambda: 2)
    tree = tree_search(3, 10)
    assert tree.pays(_arguments(10_000, 10_000))
    assert not tree.pays(_arguments(300, 300)), "small problems are over before the tree stands"
    assert not tree.pays(_arguments(10, 100_000)), "few rows do not pay for the tree"
    assert not tree.pays(_arguments(0, 100_000))
    ranges = BlockRanges.from_mask(np.ones((1, 1), bool), np.array([[0, 10_000]]), np.array([[0, 10_000]]))
    assert not tree.pays(_arguments(10_000, 10_000, ranges)), "blocks are visited pair by pair"
    assert not tree_search(20, 10).pays(_arguments(10_000, 10_000)), "boxes prune nothing in high dimension"
    assert not tree_search(3, 2000).pays(_arguments(10**6, 10**6)), "long lists leave the cache"


def test_batches_share_the_threads(monkeypatch):
    monkeypatch.setattr(search.threads, "get_num_threads", lambda: 8)
    tree = tree_search(3, 10)
    batch = _arguments(1000, 1000)._replace(batch_shape=(10, 3))
    assert tree.pays(batch), "each thread arranges the points of some problems"
    assert not tree.pays(_arguments(1000, 1000)), "two threads arrange those of one problem"
    assert not tree_search(3, 1).pays(_arguments(100, 100)._replace(batch_shape=(1000,)))


def test_large_batches_are_searched_in_parts(monkeypatch):
    rng = np.random.default_rng(4)
    x, y = (sample(rng, (5, 1, *shape), dtype="float32") for shape in ((40, 1, 3), (1, 300, 3)))
    monkeypatch.setattr(search, "MOST_BYTES", 16_000)
    check_search(LazyTensor(x).sqdist(LazyTensor(y)), "Kmin", axis=3)


def test_only_what_is_run_is_compiled():
    rng = np.random.default_rng(5)
    x = rng.random((2000, 2)).astype("float32")
    execution._compiled.cache_clear()
    with Profile() as profile:
        Vi(x).sqdist(Vj(x)).argmin(axis=1)
    assert profile.kernels == 1, "the search, not the kernel of all the pairs"
    with Profile() as profile:
        for size in (50, 60):
            Vi(x[:size]).sqdist(Vj(x[:size])).argmin(axis=1)
    assert profile.kernels == 1, "the kernel of all the pairs, once"
    assert profile.run_seconds < profile.compile_seconds, "what compiles does not run"


def test_explain_tells_of_the_search():
    x = np.zeros((10, 3), "float32")
    explained = explain(Vi(x).sqdist(Vj(x)), "argKmin", count=10)
    assert "SM_SEARCH" in explained.search_source
    assert 256 <= explained.searched_from <= 8192
    assert f"from some {explained.searched_from:,} rows" in str(explained)
    for formula in ((-Vi(x).sqdist(Vj(x))).exp(), (Vi(x) | Vj(x))):
        assert explain(formula, "argKmin", count=10).search_source == ""
    y = np.zeros((10, 20), "float32")
    unsearched = explain(Vi(y).sqdist(Vj(y)), "argKmin", count=2000)
    assert unsearched.searched_from == 0
    assert "search:" not in str(unsearched)


def test_uniform_points_visit_what_is_expected():
    assert search.visited_columns(20, 1, 1000, 1000) == pytest.approx(1000), "all of them in high dimension"
    few, many = (search.visited_columns(3, 10, size, size) for size in (10**5, 10**6))
    assert few == pytest.approx(many, rel=0.1), "what is near does not depend on how many are far"
    assert 300 < many < 600
    gains = [search.expected_gain(3, 10, (size, size, 1), 2) for size in (10**3, 10**4, 10**5)]
    assert gains == sorted(gains)


def test_neighbours_of_many_points_are_right():
    rng = np.random.default_rng(3)
    x = rng.random((3000, 3))
    found = Vi(x).sqdist(Vj(x)).argKmin(4, axis=1)
    squared = ((x[:300, None] - x[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(found[:300], np.argsort(squared, 1, kind="stable")[:, :4])
