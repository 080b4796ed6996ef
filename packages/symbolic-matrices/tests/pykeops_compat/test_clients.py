"""Libraries written for KeOps, unchanged, on our kernels: one process each, as they keep what they imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = sorted(Path(__file__).with_name("clients").glob("*.py"))


@pytest.mark.parametrize("client", CLIENTS, ids=lambda path: path.stem)
def test_client(client, pytestconfig):
    command = [
        *(sys.executable, "-m", "symbolic_matrices.pykeops_compat"),
        *(
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "addopts=--import-mode=importlib",
            str(client),
        ),
    ]
    done = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
