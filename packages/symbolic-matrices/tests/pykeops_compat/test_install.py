"""install() and uninstall(): what programs that import pykeops find, and that nothing stays behind."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest
from matrix_testing import assert_close

import symbolic_matrices
from symbolic_matrices import execution, pykeops_compat
from symbolic_matrices.errors import AlreadyImportedError

MODULES = [
    "pykeops",
    "pykeops.config",
    "pykeops.common",
    "pykeops.common.lazy_tensor",
    *(
        f"pykeops.{library}{below}"
        for library in ("numpy", "torch")
        for below in ("", ".cluster", ".operations", ".generic",
                       ".generic.generic_red", ".generic.generic_ops", ".lazytensor",
                      ".lazytensor.LazyTensor")
    ),
]  # fmt: skip


def names():
    return {name for name in sys.modules if name.partition(".")[0] == "pykeops"}


@pytest.fixture(autouse=True)
def clean():
    """No pykeops before, none after: neither ours nor the real one, which may be on this machine."""
    assert names() == set()
    yield
    pykeops_compat.uninstall()
    left = names()
    for name in left:
        del sys.modules[name]
    assert left == set()


@pytest.fixture
def pykeops():
    pykeops_compat.install()
    return importlib.import_module("pykeops")


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_ours(name, pykeops):
    module = importlib.import_module(name)
    assert module.__name__ == name
    assert module.__file__ == pykeops_compat.__file__
    assert importlib.util.find_spec(name) is module.__spec__
    exec_namespace = {key: getattr(module, key) for key in module.__all__}
    owners = {
        value.__module__ for value in exec_namespace.values() if isinstance(value, type) or callable(value)
    }
    assert all(owner.startswith("symbolic_matrices.") for owner in owners)


@pytest.mark.usefixtures("pykeops")
def test_modules_hold_what_programs_import():
    from pykeops.common.lazy_tensor import GenericLazyTensor
    from pykeops.numpy import Genred, LazyTensor, Pm, Vi, Vj, generic_argkmin, generic_logsumexp, generic_sum
    from pykeops.torch import ComplexLazyTensor, generic_argmin
    from pykeops.torch.generic.generic_red import Genred as torch_genred
    from pykeops.torch.lazytensor.LazyTensor import LazyTensor as torch_tensor

    assert Genred is torch_genred is pykeops_compat.Genred
    assert LazyTensor is torch_tensor is pykeops_compat.LazyTensor
    assert issubclass(LazyTensor, GenericLazyTensor)
    assert issubclass(ComplexLazyTensor, GenericLazyTensor)
    assert (Vi, Vj, Pm) == (pykeops_compat.Vi, pykeops_compat.Vj, pykeops_compat.Pm)
    shorthands = (generic_sum, generic_logsumexp, generic_argmin, generic_argkmin)
    assert all(getattr(pykeops_compat, function.__name__) is function for function in shorthands)


def test_submodules_that_do_not_exist(pykeops):
    with pytest.raises(ModuleNotFoundError, match=r"pykeops\.nothing"):
        importlib.import_module("pykeops.nothing")


def test_uninstall_leaves_nothing(pykeops):
    assert pykeops_compat.is_installed()
    pykeops_compat.install()  # once more changes nothing
    assert sys.modules["pykeops"] is pykeops
    routine = pykeops.numpy.Genred("x", ["x = Vi(1)"], axis=1)
    pykeops_compat.uninstall()
    assert not pykeops_compat.is_installed()
    assert names() == set()
    assert_close(routine(np.ones((2, 1)), backend="reference"), np.ones((2, 1)))
    pykeops_compat.uninstall()  # does nothing


def test_keops_that_is_imported_already(monkeypatch):
    real, child = ModuleType("pykeops"), ModuleType("pykeops.torch")
    real.__file__ = "/somewhere/pykeops/__init__.py"
    monkeypatch.setitem(sys.modules, "pykeops", real)
    monkeypatch.setitem(sys.modules, "pykeops.torch", child)
    with pytest.raises(
        AlreadyImportedError, match=r"imported already, from /somewhere.*install\(replace=True\)"
    ):
        pykeops_compat.install()
    assert sys.modules["pykeops"] is real
    pykeops_compat.install(replace=True)
    assert sys.modules["pykeops"].__file__ == pykeops_compat.__file__
    assert sys.modules["pykeops.torch"] is not child
    pykeops_compat.uninstall()
    assert (sys.modules["pykeops"], sys.modules["pykeops.torch"]) == (real, child)
    assert names() == {"pykeops", "pykeops.torch"}
    monkeypatch.undo()


def test_uninstall_leaves_the_real_library_alone(monkeypatch):
    real = ModuleType("pykeops")
    monkeypatch.setitem(sys.modules, "pykeops", real)
    pykeops_compat.uninstall()
    assert sys.modules["pykeops"] is real
    monkeypatch.undo()


# ---------------------------------------------------------------------- functions about the installation


@pytest.mark.cpu_only  # other kernels are kept elsewhere
def test_build_folder(pykeops, monkeypatch, tmp_path):
    monkeypatch.setenv("SYMBOLIC_MATRICES_CACHE", "elsewhere")
    assert pykeops.get_build_folder() == "elsewhere"
    pykeops.set_build_folder(tmp_path)
    execution._compiled.cache_clear()  # another test of this process may have compiled the same formula
    assert pykeops.get_build_folder() == pykeops.config.get_build_folder() == str(tmp_path)
    result = pykeops.numpy.Genred("x + IntCst(17)", ["x = Vi(1)", "y = Vj(1)"], axis=1)
    x = np.ones((3, 1))
    assert_close(result(x, x), np.full((3, 1), 54.0))
    if "cpu" in symbolic_matrices.show_config().backends:
        assert list(tmp_path.iterdir())
    pykeops.clean_pykeops()
    assert not list(tmp_path.iterdir())
    monkeypatch.delenv("SYMBOLIC_MATRICES_CACHE")
    default = pykeops.get_build_folder()
    pykeops.set_build_folder(tmp_path)
    pykeops.set_build_folder()
    assert pykeops.get_build_folder() == default


def test_checks(pykeops, capsys):
    pykeops.test_numpy_bindings()
    pykeops.test_torch_bindings()
    assert "works with numpy" in capsys.readouterr().out
    pykeops.check_health()
    assert "compiler:" in capsys.readouterr().out
    pykeops.set_verbose(True)
    assert capsys.readouterr().out == ""
    assert pykeops.config.gpu_available is ("cuda" in symbolic_matrices.show_config().backends)
    assert pykeops.config.torch_found is True
    assert pykeops.__version__ >= "2.2"


# ---------------------------------------------------------------------- programs, unchanged

PROGRAM = """
import sys
import numpy as np
import pykeops
from pykeops.numpy import LazyTensor

x = np.arange(6.0).reshape(3, 2)
x_i, x_j = LazyTensor(x[:, None, :]), LazyTensor(x[None, :, :])
nearest = ((x_i - x_j) ** 2).sum(-1).argKmin(2, dim=1)
print(pykeops.__file__, sys.argv[1:], nearest.tolist(), __name__)
"""


@pytest.mark.parametrize("as_module", [False, True])
def test_programs_run_unchanged_from_the_command_line(as_module, tmp_path):
    program = tmp_path / "my_program.py"
    program.write_text(PROGRAM)
    target = ["-m", "my_program"] if as_module else [str(program)]
    command = [sys.executable, "-m", "symbolic_matrices.pykeops_compat", *target, "one", "two"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = f"{pykeops_compat.__file__} ['one', 'two'] [[0, 1], [1, 0], [2, 1]] __main__\n"
    assert done.stdout == expected


@pytest.mark.parametrize("arguments", [[], ["-m"]])
def test_command_line_without_program(arguments):
    command = [sys.executable, "-m", "symbolic_matrices.pykeops_compat", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Usage: python -m symbolic_matrices.pykeops_compat" in done.stderr
