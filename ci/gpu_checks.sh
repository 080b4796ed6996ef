#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one and nothing else of ours: installs hatch's environment with CuPy
# and PyTorch for the driver, runs the tests on real CuPy and PyTorch CUDA, then the benchmarks beside their peers.
# Needs an NVIDIA driver and Python (python3 or python, or $PYTHON). The report, named after the device, is left in
# build/gpu/. With --dry-run, a machine without a GPU goes through the same lines: nothing is installed, the tests and
# benchmarks are few and tiny, and run in the emulator. A second argument is the folder of the report.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry_run=
if [ "${1:-}" = --dry-run ]; then dry_run=yes; shift; fi
folder=${1:-build/gpu}

if [ -z "${PYTHON:-}" ]; then PYTHON=$(command -v python3 || command -v python) || PYTHON=; fi
[ -n "$PYTHON" ] || { echo "Python was not found: install it, or set PYTHON to its path." >&2; exit 1; }
command -v nvidia-smi > /dev/null || { echo "nvidia-smi was not found: install NVIDIA's driver." >&2; exit 1; }

device=$(nvidia-smi --query-gpu=name --format=csv,noheader | sed 1q | tr -s ' /' '--')
# "CUDA Version: 13.0" of the driver; spelled with more words or another space by some versions.
driver_cuda=$(nvidia-smi | sed -nE 's/.*CUDA[A-Za-z ]*Version *: *([0-9]+)\..*/\1/p' | sed 1q)
case $driver_cuda in
    12) cuda=cuda12; torch_indices="cu126 cu128 cu129" ;;
    1[3-9]) cuda=cuda13; torch_indices="cu130 cu132" ;;
    *) echo "The driver supports CUDA '$driver_cuda', but CUDA 12 or later is needed: update it." >&2; exit 1 ;;
esac
report=$folder/$device
mkdir -p "$report"
echo "$device: CUDA $driver_cuda, extra [$cuda], report in $report"

if [ -n "$dry_run" ]; then
    in_environment() { "$PYTHON" "${@:2}"; }  # leaves out the word python
    install() { echo "would install: $*"; }
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    . ci/fresh_hatch.sh "$work"
    in_environment() { hatch run peers:"$@"; }
    install() { in_environment python -m pip install --quiet "$@"; }
fi
sees_gpu() { [ -n "$dry_run" ] || in_environment python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; }

install "cupy-${cuda}x[ctk]>=14"
for index in $torch_indices; do  # the wheels of the Python index are for one version of CUDA
    if sees_gpu; then break; fi
    install --force-reinstall --no-deps "torch==2.13.0" --index-url "https://download.pytorch.org/whl/$index" || true
done
sees_gpu || { echo "PyTorch finds no GPU." >&2; exit 1; }

backend=cuda-copied tests=packages/symbolic-matrices/tests
gpu_tests=$tests/gpu options=()
if [ -n "$dry_run" ]; then
    backend=cuda-emulated tests=$tests/test_lookup.py gpu_tests=$gpu_tests/test_on_gpu.py options=(--dry-run -k "N=10000")
fi

# Each step leaves its own record, and the last line says which ones failed.
failed=
step() {
    local name=$1
    shift
    echo "--- $name: $*"
    "$@" 2>&1 | tee "$report/$name.txt" || failed="$failed $name"
}
step driver nvidia-smi
step configuration in_environment python -c 'import symbolic_matrices; print(symbolic_matrices.show_config())'
step gpu_tests in_environment python -m pytest "$gpu_tests"
step all_tests in_environment python -m pytest --backend "$backend" "$tests"
step benchmarks in_environment python tools/run_gpu_benchmarks.py --output "$report" ${options[@]+"${options[@]}"}

[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
echo "passed on $device; the timings are in $report/results.md"
