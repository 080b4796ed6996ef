"""ci/gpu_checks.sh on machines that we do not have: what it chooses, what it refuses, and what it does on failures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gpu import emulated

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = ROOT / "ci" / "gpu_checks.sh"
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not SCRIPT.exists(), reason="needs Linux and the repository"
)

NVIDIA_SMI = """#!/bin/sh
case "$*" in
    *--id=GPU-2*name*) echo "NVIDIA RTX A/1" ;;
    *--id=MIG*) echo "No devices were found"; exit 6 ;;
    *name*) printf 'NVIDIA H100 80GB HBM3\\nNVIDIA T4\\n' ;;
    *compute_cap*) echo "{capability}" ;;
    *) echo "| NVIDIA-SMI 580.65   Driver Version: 580.65   {version} |" ;;
esac
"""
# Everything succeeds but pytest and the reading of versions.
PYTHON = """#!/bin/sh
case "$*" in
    "-c "*) ;;
    *"-m pytest"*) exit 1 ;;
    *) echo "run: $*" ;;
esac
"""


def machine(folder: Path, version: str = "CUDA Version: 13.0", capability: str = "9.0") -> dict[str, str]:
    """The environment of a machine with a driver, and with a Python that does nothing, in a folder with a space."""
    programs = folder / "some programs"
    programs.mkdir()
    texts = {"nvidia-smi": NVIDIA_SMI.format(version=version, capability=capability), "nothing": PYTHON}
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    return {**environment, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHON": str(programs / "nothing")}


def dry_run(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPT), "--dry-run", str(folder / "a report")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    ("version", "capability", "extra"),
    [
        ("CUDA Version: 13.0", "9.0", "cuda13"),
        ("CUDA UMD Version : 14.1", "12.0", "cuda13"),
        ("CUDA Version: 12.4", "8.9", "cuda12"),
        ("CUDA Version: 13.0", "7.0", "cuda12"),  # CUDA 13 does not compile for Volta, but its drivers run it
    ],
)
def test_libraries_follow_the_driver_and_the_gpu(version, capability, extra, tmp_path):
    done = dry_run(tmp_path, machine(tmp_path, version, capability))
    assert f"NVIDIA-H100-80GB-HBM3: CUDA {version.split()[-1][:2]}, extra [{extra}]" in done.stdout, (
        done.stderr
    )
    other = {"cuda12": "cuda13", "cuda13": "cuda12"}[extra]
    assert f"would run: pip uninstall --quiet --yes cupy-{other}x" in done.stdout
    assert f"would run: pip install --quiet cupy-{extra}x[ctk]>=14" in done.stdout


def test_failures_are_told_at_the_end(tmp_path):
    """The benchmarks run all the same."""
    done = dry_run(tmp_path, machine(tmp_path))
    report = tmp_path / "a report" / "NVIDIA-H100-80GB-HBM3"
    assert done.returncode == 1
    assert done.stderr.endswith(f"failed: gpu_tests all_tests; see {report}\n")
    assert "run_gpu_benchmarks.py --output" in (report / "benchmarks.txt").read_text()


@pytest.mark.parametrize(
    ("chosen", "name"), [("GPU-2,GPU-1", "NVIDIA-RTX-A-1"), ("MIG-7", "NVIDIA-H100-80GB-HBM3")]
)
def test_the_visible_gpu_gives_the_name(chosen, name, tmp_path):
    done = dry_run(tmp_path, {**machine(tmp_path), "CUDA_VISIBLE_DEVICES": chosen})
    assert done.stdout.startswith(f"{name}: CUDA 13")


def test_drivers_that_are_missing_or_too_old(tmp_path):
    environment = machine(tmp_path, "CUDA Version: 11.8")
    done = dry_run(tmp_path, environment)
    assert done.returncode == 1
    assert "The driver supports CUDA '11', but CUDA 12 or later is needed" in done.stderr
    (tmp_path / "some programs" / "nvidia-smi").unlink()
    for program in ("bash", "dirname", "sed", "tr"):
        (tmp_path / "some programs" / program).symlink_to(str(shutil.which(program)))
    done = dry_run(tmp_path, {**environment, "PATH": str(tmp_path / "some programs")})
    assert (done.returncode, done.stderr) == (1, "nvidia-smi was not found: install NVIDIA's driver.\n")


def test_pythons_that_are_missing_or_too_old(tmp_path):
    environment = machine(tmp_path)
    python = Path(environment["PYTHON"])
    python.write_text("#!/bin/sh\nexit 1\n")
    done = dry_run(tmp_path, environment)
    assert done.stderr == f"{python} is not a Python of version 3.10 or later.\n"
    for name in ("python3", "python", "python3.13", "python3.12", "python3.11", "python3.10"):
        shutil.copy(python, python.with_name(name))
    done = dry_run(tmp_path, {**environment, "PYTHON": ""})
    assert done.stderr == "Python 3.10 or later was not found: install it, or set PYTHON to its path.\n"


@emulated.needs_emulator
def test_a_dry_run_goes_through_all_the_steps(tmp_path):
    done = dry_run(tmp_path, {**machine(tmp_path), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""})
    report = tmp_path / "a report" / "NVIDIA-H100-80GB-HBM3"
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.endswith(f"passed on NVIDIA-H100-80GB-HBM3; the timings are in {report}/results.md\n")
    rows = json.loads((report / "results.json").read_text())["rows"]
    seconds = {row["contender"]: row["seconds"] for row in rows}
    assert seconds["ours"] > 0
    assert seconds["torch SDPA"] > 0
    assert "backends:" in (report / "configuration.txt").read_text()
    assert " passed" in (report / "all_tests.txt").read_text()
