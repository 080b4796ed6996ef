"""Owns KeOps' functions about its installation: the cache of kernels, its folder, checks."""

from __future__ import annotations

import importlib
import importlib.util
import os

import numpy as np

from ..inspection import show_config
from ..kernels.compilation import CACHE_VARIABLE, cache_directory, clear_cache
from .genred import Genred

API_VERSION = "2.3"  # of KeOps: the interface that programs find here


def clean_pykeops(recompile_jit_binaries: bool = True) -> None:
    """Delete the compiled kernels on disk; there are no binaries to compile again."""
    clear_cache()


def set_build_folder(path: str | os.PathLike[str] | None = None) -> None:
    """Keep compiled kernels in this folder; None for the default one."""
    if path is None:
        os.environ.pop(CACHE_VARIABLE, None)
    else:
        os.environ[CACHE_VARIABLE] = os.fspath(path)


def get_build_folder() -> str:
    """Where compiled kernels are kept."""
    return str(cache_directory())


def check_health(config_type: str = "all") -> None:
    """Print what the engine found on this machine."""
    print(show_config())


def set_verbose(value: bool) -> None:
    """Has no effect: nothing is printed."""


def gpu_available() -> bool:
    """Whether a compiled backend runs on a GPU of this machine."""
    return "cuda" in show_config().backends


def has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def test_numpy_bindings() -> None:
    """Compare a small reduction of NumPy arrays with its known result."""
    x, y, expected = _example()
    result = _routine()(x, y)
    _report("numpy", bool(np.allclose(result, expected)))


def test_torch_bindings() -> None:
    """Compare a small reduction of PyTorch tensors with its known result."""
    torch = importlib.import_module("torch")
    x, y, expected = _example()
    result = _routine()(torch.tensor(x), torch.tensor(y))
    _report("torch", bool(np.allclose(result.numpy(), expected)))


# pytest must not take these two for tests of its own where they are imported
test_numpy_bindings.__test__ = test_torch_bindings.__test__ = False  # type: ignore[attr-defined]


def _routine() -> Genred:
    return Genred("SqNorm2(x - y)", ["x = Vi(3)", "y = Vj(3)"], axis=1)


def _example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = np.arange(1.0, 10.0).reshape(3, 3), np.arange(3.0, 9.0).reshape(2, 3)
    return x, y, ((x[:, None] - y) ** 2).sum((1, 2))[:, None]


def _report(name: str, is_right: bool) -> None:
    if not is_right:
        raise AssertionError(f"A reduction of {name} arrays gives a wrong result; please report it.")
    print(f"symbolic_matrices, in the place of pyKeOps, works with {name}.")
