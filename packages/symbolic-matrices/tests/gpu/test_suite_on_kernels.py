"""A part of the package's other tests, on the kernels for GPUs: `pytest --backend cuda-emulated` runs all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gpu import emulated

pytestmark = emulated.needs_emulator
TESTS = Path(__file__).parent.parent
FILES = ("test_lazy_tensor.py", "test_execution.py", "pykeops_compat/test_keops_lazy_tensor.py")


def test_some_files_pass_on_kernels_for_gpus():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--backend", emulated.NAME]
    done = subprocess.run(
        [*command, *(str(TESTS / name) for name in FILES)],
        capture_output=True, text=True, check=False, cwd=TESTS.parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
