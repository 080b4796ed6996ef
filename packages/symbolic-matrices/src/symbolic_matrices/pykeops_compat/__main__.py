"""``python -m symbolic_matrices.pykeops_compat program.py ...`` runs a program written for KeOps, unchanged."""

from __future__ import annotations

import os
import runpy
import sys

from .modules import install

_USAGE = (
    "Usage: python -m symbolic_matrices.pykeops_compat (program.py | -m module) [arguments of the program]"
)


def main() -> None:
    """Install the modules, then run the program as Python would."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[:1] == ["-m"] and len(arguments) == 1):
        raise SystemExit(_USAGE)
    install()
    if arguments[0] == "-m":
        sys.argv[:] = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = arguments
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
