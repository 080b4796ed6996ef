"""What `import symbolic_matrices` brings in, and how long it takes, seen from a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

REPEATS = 10
SECONDS_BEYOND_NUMPY = 0.2

# Runs with site-packages visible, so that optional libraries could be imported if the package asked for them.
PROBE = """
import json, sys, time
import numpy
before = set(sys.modules)
start = time.process_time()
import symbolic_matrices
seconds = time.process_time() - start
names = {name.partition(".")[0] for name in set(sys.modules) - before}
third_party = sorted(names - set(sys.stdlib_module_names) - {"numpy", "symbolic_matrices"})
print(json.dumps({"seconds": seconds, "third_party": third_party}))
"""


def probe() -> dict:
    """Import NumPy, then the package, in a fresh interpreter, and report what the second import did."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_brings_in_numpy_only():
    assert probe()["third_party"] == []


def test_import_is_fast():
    # Processor time, and the best of a few, as other processes share the machine.
    seconds = (probe()["seconds"] for _ in range(REPEATS))
    assert any(each < SECONDS_BEYOND_NUMPY for each in seconds)
