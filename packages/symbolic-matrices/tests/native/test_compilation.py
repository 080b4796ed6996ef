"""The compiler and the cache: one entry per text and processor, whatever other processes do to it meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from native.kernels import formula, source

from symbolic_matrices.errors import (
    CacheWarning,
    CompilationError,
    CompilerNotFoundError,
    SymbolicMatricesWarning,
)
from symbolic_matrices.kernels import compilation

TEXT = source(formula(1, 1, 1, "out[0] = r[0] * c[0];"), "Sum<1>", "float32")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(compilation.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(compilation, "_run_compiler", refuse)


@pytest.fixture
def fresh_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``find_compiler`` look again, in this test only."""
    monkeypatch.setattr(compilation, "find_compiler", compilation.find_compiler.__wrapped__)


def entries(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_second_load_does_not_compile(
    cache: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    first = compilation.compile_library(TEXT)
    request.getfixturevalue("no_compilation")
    assert compilation.compile_library(TEXT) == first
    assert entries(cache) == [first.parent.name]


def test_key_depends_on_all_that_determines_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = compilation.Compiler(("g++",), "12.2", "gcc")
    keys = [
        compilation.cache_key(TEXT, compiler),
        compilation.cache_key(TEXT + "\n", compiler),
        compilation.cache_key(TEXT, compilation.Compiler(("g++",), "13.1", "gcc")),
    ]
    monkeypatch.setenv(compilation.TARGET_VARIABLE, "x86-64-v3")
    keys.append(compilation.cache_key(TEXT, compiler))
    monkeypatch.setattr(compilation, "processor", lambda: "another")
    keys.append(compilation.cache_key(TEXT, compiler))
    monkeypatch.setattr(compilation, "_headers_digest", lambda: "changed")
    keys.append(compilation.cache_key(TEXT, compiler))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("damage", ["truncate", "empty", "delete", "checksum"])
def test_damaged_entry_is_compiled_again(cache: Path, damage: str) -> None:
    library = compilation.compile_library(TEXT)
    whole = library.read_bytes()
    if damage == "truncate":
        library.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        library.write_bytes(b"")
    elif damage == "delete":
        library.unlink()
    else:
        (library.parent / "kernel.sha256").write_text("0" * 64)
    assert compilation.compile_library(TEXT) == library
    assert hasattr(compilation.load(TEXT), "kernel")
    assert entries(cache) == [library.parent.name]


def test_processes_that_build_the_same_kernel_at_once(cache: Path) -> None:
    program = "import sys; from symbolic_matrices.kernels import compilation; compilation.load(sys.stdin.read()).kernel"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    for process in processes:  # all of them wait for the text
        assert process.stdin is not None
        process.stdin.write(TEXT)
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(entries(cache)) == 1


def test_entry_published_meanwhile_is_kept(cache: Path, tmp_path: Path) -> None:
    """The loser of a race throws its own build away."""
    library = compilation.compile_library(TEXT)
    stamp = library.stat().st_mtime_ns
    compiler = compilation.find_compiler()
    compilation._build(TEXT, compiler, cache, library.parent.name)
    assert library.stat().st_mtime_ns == stamp
    assert entries(cache) == [library.parent.name]


def test_unwritable_cache_warns_once_and_compiles_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("a folder cannot be made below a file")
    monkeypatch.setenv(compilation.CACHE_VARIABLE, str(blocker / "cache"))
    with pytest.warns(CacheWarning, match=compilation.CACHE_VARIABLE):
        library = compilation.compile_library(TEXT)
    assert library.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the second kernel says nothing
        assert compilation.compile_library(TEXT) == library


def test_refused_text_shows_the_formula_and_the_words_of_the_compiler(cache: Path) -> None:
    text = source(formula(1, 1, 1, "out[0] = no_such_function(r[0]);"), "Sum<1>", "float32")
    with pytest.raises(CompilationError, match="no_such_function") as caught:
        compilation.compile_library(text)
    assert "test of Sum<1>" in str(caught.value)
    assert entries(cache) == []


def test_clear_cache_deletes_kernels_only(cache: Path) -> None:
    library = compilation.compile_library(TEXT)
    (cache / "notes.txt").write_text("mine")
    (cache / "folder").mkdir()
    compilation.clear_cache()
    assert not library.exists()
    assert entries(cache) == ["folder", "notes.txt"]
    compilation.clear_cache()


def test_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(compilation.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert compilation.cache_directory() == tmp_path / "symbolic-matrices"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert compilation.cache_directory() == Path.home() / "Library" / "Caches" / "symbolic-matrices"
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr(sys, "platform", "win32")
    assert compilation.cache_directory() == tmp_path / "local" / "symbolic-matrices"


def test_zig_gets_its_own_spelling_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compilation.TARGET_VARIABLE, "x86-64-v3")
    assert compilation.compiler_flags(compilation.Compiler(("zig", "c++"), "", "zig"))[-1].endswith(
        "=x86_64_v3"
    )
    assert compilation.compiler_flags(compilation.Compiler(("g++",), "", "gcc"))[-1].endswith("=x86-64-v3")


def test_requested_compiler_comes_first(fresh_search: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = compilation.find_compiler()
    monkeypatch.setenv("CXX", " ".join([*found.command, "-DREQUESTED"]))
    assert compilation.find_compiler().command == (*found.command, "-DREQUESTED")


@pytest.mark.parametrize("requested", ["no-such-compiler", 'g++ "open quotation'])
def test_requested_compiler_that_does_not_run_is_reported(
    fresh_search: None, monkeypatch: pytest.MonkeyPatch, requested: str
) -> None:
    monkeypatch.setenv("CXX", requested)
    with pytest.warns(SymbolicMatricesWarning, match=requested.split()[0]):
        assert compilation.find_compiler() is not None


def test_program_that_compiles_nothing_is_reported(cache: Path) -> None:
    idle = compilation.Compiler((sys.executable, "-c", ""), "1", "gcc")
    with pytest.raises(CompilationError, match="exited with status 0"):
        compilation.compile_library(TEXT, idle)


def test_no_compiler(fresh_search: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_candidates", lambda: iter(()))
    assert compilation.find_compiler() is None
    with pytest.raises(CompilerNotFoundError, match="pip install"):
        compilation.compile_library(TEXT)


def test_import_starts_no_process() -> None:
    program = (
        "import os, subprocess, sys\n"
        "def refuse(*args, **options): raise AssertionError('started a process')\n"
        "subprocess.Popen = os.system = refuse\n"
        "import symbolic_matrices.kernels.compilation\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True,
                   env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
