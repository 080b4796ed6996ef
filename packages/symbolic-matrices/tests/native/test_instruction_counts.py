"""Inner loops of reference kernels take no more instructions than `instruction_counts.json` says, on any machine."""

from __future__ import annotations

import instruction_counts as counts
import pytest

from symbolic_matrices import BackendError
from symbolic_matrices.kernels import compilation

HELD = {counts.ALL: 20.0, "multiply-add": 8.0, "move": 1.0}  # an invented count


@pytest.mark.parametrize("arch", counts.ARCHITECTURES)
def test_inner_loops_do_not_grow(arch: str) -> None:
    name = counts.name_of(compilation.require_compiler())
    try:
        found = {case: counts.count(case, arch) for case in counts.CASES}
    except BackendError as error:
        pytest.skip(str(error))
    grown = [words for case in found for words in counts.complaints(name, arch, case, found[case])]
    assert not grown, "\n".join(grown)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "read", lambda: {"gcc 12": {"avx2": {"case": HELD}}})


@pytest.mark.parametrize("growth", [{"multiply-add": 8.6}, {"spill": 0.6}])
def test_growth_is_reported_with_its_kind_and_the_remedy(held: None, growth: dict[str, float]) -> None:
    found = {**HELD, **growth, counts.ALL: 20.6}
    words = " ".join(counts.complaints("gcc 12", "avx2", "case", found))
    assert "takes 20.6 instructions" in words
    assert f"{next(iter(growth))} +0.6" in words
    assert "hatch run instruction_counts" in words


def test_spills_are_reported_even_if_the_sum_is_the_same(held: None) -> None:
    found = {**HELD, "move": 0.0, "spill": 1.0}
    (words,) = counts.complaints("gcc 12", "avx2", "case", found)
    assert "(spill)" in words
    assert "move -1.00" in words


def test_tolerance(held: None) -> None:
    assert not list(counts.complaints("gcc 12", "avx2", "case", {**HELD, counts.ALL: 20.5}))


def test_unknown_compilers_are_held_to_a_multiple_of_the_known_ones(held: None) -> None:
    assert not list(counts.complaints("gcc 99", "avx2", "case", {counts.ALL: 30.0}))
    (words,) = counts.complaints("gcc 99", "avx2", "case", {counts.ALL: 30.1})
    assert "hatch run instruction_counts" in words


@pytest.mark.parametrize(
    ("version", "kind", "name"),
    [
        ("g++ (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright", "gcc", "gcc 12"),
        ("Ubuntu clang version 18.1.3 (1ubuntu1)", "clang", "clang 18"),
        ("Apple clang version 16.0.0 (clang-1600.0.26.6)", "clang", "apple clang 16"),
        ("clang version 22.1.4 (https://github.com/ziglang/zig-bootstrap)", "zig", "clang 22"),
        ("clang of my own", "clang", "clang"),
    ],
)
def test_names_of_compilers(version: str, kind: str, name: str) -> None:
    assert counts.name_of(compilation.Compiler(("c++",), version, kind)) == name


def test_update_writes_what_the_compiler_can_and_keeps_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    def count(case: str, arch: str) -> dict[str, float]:
        if arch == "neon":
            raise BackendError("another family")
        return {counts.ALL: 1.0}

    monkeypatch.setattr(counts, "FILE", tmp_path / "counts.json")
    monkeypatch.setattr(counts, "PAGE", tmp_path / "counts.md")
    monkeypatch.setattr(counts, "PAGE_COMPILER", counts.name_of(compilation.require_compiler()))
    monkeypatch.setattr(counts, "count", count)
    counts.FILE.write_text('{"another 1": {}}')
    counts.update()
    name = counts.name_of(compilation.require_compiler())
    written = counts.read()
    assert set(written) == {"another 1", name}
    assert set(written[name]) == set(counts.ARCHITECTURES) - {"neon"}
    assert "neon: another family" in capsys.readouterr().out
    assert counts.PAGE.read_text() == counts.page()


def test_the_page_on_speed_shows_the_committed_counts() -> None:
    assert counts.PAGE.read_text() == counts.page(), f"Write the page anew: {counts.UPDATE}"
