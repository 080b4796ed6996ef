"""Owns the modules that stand in for KeOps': their names, what they hold, and their places in ``sys.modules``."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import AlreadyImportedError
from . import cluster
from . import configuration as c
from .generic import generic_argkmin, generic_argmin, generic_logsumexp, generic_sum
from .genred import Genred
from .kernel_solve import KernelSolve
from .lazy_tensor import ComplexLazyTensor, KeopsInterface, LazyTensor, Pm, Var, Vi, Vj

NAME = "pykeops"
_FILE = str(Path(__file__).with_name("__init__.py"))
_GENERIC = {f.__name__: f for f in (generic_sum, generic_logsumexp, generic_argmin, generic_argkmin)}
_TENSORS = {"LazyTensor": LazyTensor, "ComplexLazyTensor": ComplexLazyTensor, "Vi": Vi, "Vj": Vj, "Pm": Pm}


def _library() -> dict[str, dict[str, Any]]:
    """What ``pykeops.numpy`` and ``pykeops.torch`` hold, by the name of the module below them."""
    return {
        "": {**_TENSORS, **_GENERIC, "Genred": Genred, "KernelSolve": KernelSolve},
        ".cluster": {name: getattr(cluster, name) for name in cluster.__all__},
        ".generic": {**_GENERIC, "Genred": Genred},
        ".generic.generic_red": {"Genred": Genred},
        ".generic.generic_ops": _GENERIC,
        ".operations": {"KernelSolve": KernelSolve},
        ".lazytensor": {},
        ".lazytensor.LazyTensor": {**_TENSORS, "Var": Var},
    }


def _contents() -> dict[str, Mapping[str, Any]]:
    """What each module holds, by its name; a parent comes before its children."""
    found = {"numpy_found": c.has_module("numpy"), "torch_found": c.has_module("torch")}
    contents: dict[str, Mapping[str, Any]] = {
        NAME: {
            "__version__": c.API_VERSION,
            "check_health": c.check_health,
            "clean_pykeops": c.clean_pykeops,
            "default_device_id": 0,
            "get_build_folder": c.get_build_folder,
            "set_build_folder": c.set_build_folder,
            "set_verbose": c.set_verbose,
            "test_numpy_bindings": c.test_numpy_bindings,
            "test_torch_bindings": c.test_torch_bindings,
            "verbose": False,
            **found,
        },
        f"{NAME}.config": {
            "get_build_folder": c.get_build_folder,
            "gpu_available": c.gpu_available(),
            **found,
        },
        f"{NAME}.common": {},
        f"{NAME}.common.lazy_tensor": {
            "GenericLazyTensor": KeopsInterface,
            "ComplexGenericLazyTensor": ComplexLazyTensor,
        },
    }
    for library in ("numpy", "torch"):
        contents |= {f"{NAME}.{library}{below}": inside for below, inside in _library().items()}
    return contents


def make_modules() -> dict[str, ModuleType]:
    """The modules, by their names, each one an attribute of its parent."""
    modules: dict[str, ModuleType] = {}
    contents = _contents()
    for name, inside in contents.items():
        module = ModuleType(name, "KeOps' interface on the kernels of symbolic_matrices.")
        is_package = any(other.startswith(f"{name}.") for other in contents)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin=_FILE, is_package=is_package)
        module.__file__ = _FILE
        if is_package:
            module.__path__ = []  # no other module is found below it
        module.__dict__.update(inside)
        module.__dict__["__all__"] = sorted(key for key in inside if not key.startswith("_"))
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(modules[parent], last, module)
        modules[name] = module
    return modules


_ours: dict[str, ModuleType] = {}
_hidden: dict[str, ModuleType] = {}


def is_installed() -> bool:
    """Whether ``import pykeops`` finds our modules."""
    return bool(_ours) and sys.modules.get(NAME) is _ours[NAME]


def install(replace: bool = False) -> None:
    """Let ``import pykeops`` find modules that run on our kernels, in this process, until :func:`uninstall`.

    Call it before the programs that import pykeops are themselves imported.

    Parameters
    ----------
    replace : bool
        What to do if KeOps itself is imported already: by default an error, since code that holds its classes would go
        on using them; True hides its modules until :func:`uninstall` shows them again.

    Raises
    ------
    AlreadyImportedError
        If KeOps is imported already and ``replace`` is False.

    Examples
    --------
    >>> from symbolic_matrices import pykeops_compat
    >>> pykeops_compat.install()
    >>> from pykeops.numpy import LazyTensor
    >>> LazyTensor.__module__
    'symbolic_matrices.pykeops_compat.lazy_tensor'
    >>> pykeops_compat.uninstall()
    """
    if is_installed():
        return
    present = _present()
    if present and not replace:
        where = getattr(present.get(NAME), "__file__", None)
        raise AlreadyImportedError(
            f"pykeops is imported already, from {where}, and what holds its classes would go on using them. Call "
            "install() first in your program, or install(replace=True) to hide its modules until uninstall()."
        )
    _hidden.update(present)
    for name in present:
        del sys.modules[name]
    _ours.update(make_modules())
    sys.modules.update(_ours)


def uninstall() -> None:
    """Take our modules out of the way of ``import pykeops``, and show those of KeOps again if they were hidden.

    What was imported from our modules keeps working. Does nothing where nothing is installed.
    """
    if is_installed():
        for name in _present():
            del sys.modules[name]
        sys.modules.update(_hidden)
    _ours.clear()
    _hidden.clear()


def _present() -> dict[str, ModuleType]:
    """The modules of that name that are imported, whoever made them."""
    return {
        name: module for name, module in sys.modules.items() if name == NAME or name.startswith(f"{NAME}.")
    }
