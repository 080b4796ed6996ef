"""What `import symbolic_matrices` brings in, and how long it takes, seen from a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import symbolic_matrices

REPEATS = 10
SECONDS_BEYOND_NUMPY = 0.1

# Runs with site-packages visible, so that optional libraries could be imported if the package asked for them.
PROBE = """
import json, sys, time
import numpy
before = set(sys.modules)
start = time.process_time()
import symbolic_matrices
seconds = time.process_time() - start
modules = set(sys.modules) - before
names = {name.partition(".")[0] for name in modules}
third_party = sorted(names - set(sys.stdlib_module_names) - {"numpy", "symbolic_matrices"})
print(json.dumps({"seconds": seconds, "third_party": third_party, "modules": sorted(modules)}))
"""


def probe(**environment: str) -> dict:
    """Import NumPy, then the package, in a fresh interpreter, and report what the second import did."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_brings_in_numpy_only():
    assert probe()["third_party"] == []


def test_import_loads_no_compiler_and_no_kernel():
    late = {"subprocess", "concurrent.futures", "hashlib"}
    late |= {
        f"symbolic_matrices.{name}" for name in ("compilation", "printing", "backends.cpu", "inspection")
    }
    assert late.isdisjoint(probe()["modules"])


def test_import_is_fast(tmp_path):
    # With bytecode, as installed packages have it. Processor time, the best of a few: others share the machine.
    bytecode = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    probe(**bytecode)
    seconds = (probe(**bytecode)["seconds"] for _ in range(REPEATS))
    assert any(each < SECONDS_BEYOND_NUMPY for each in seconds)


def test_names_that_load_late_are_there():
    for name in symbolic_matrices.__all__:
        assert name in dir(symbolic_matrices)
        assert getattr(symbolic_matrices, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = symbolic_matrices.nothing
