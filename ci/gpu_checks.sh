#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one and nothing else of ours: installs hatch's environment with CuPy
# and PyTorch for the driver and the GPU, runs the tests on real CuPy and PyTorch CUDA, then the benchmarks beside their
# peers. Needs an NVIDIA driver, Python 3.10 or later (python3, or $PYTHON), a network, and about 15 GB of disk, which
# are given back. CUDA_VISIBLE_DEVICES chooses a GPU. The report, named after the device, is left in build/gpu/.
# With --dry-run, a machine without a GPU goes through the same lines: nothing is installed, the tests and benchmarks are
# few and tiny, and run in the emulator. A second argument is the folder of the report.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dry_run=
if [ "${1:-}" = --dry-run ]; then dry_run=yes; shift; fi
folder=${1:-build/gpu}

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2> /dev/null; }
if [ -z "${PYTHON:-}" ]; then
    for name in python3 python python3.13 python3.12 python3.11 python3.10; do
        if command -v "$name" > /dev/null && is_recent "$name"; then PYTHON=$(command -v "$name"); break; fi
    done
fi
[ -n "${PYTHON:-}" ] || { echo "Python 3.10 or later was not found: install it, or set PYTHON to its path." >&2; exit 1; }
is_recent "$PYTHON" || { echo "$PYTHON is not a Python of version 3.10 or later." >&2; exit 1; }
export PYTHON
command -v nvidia-smi > /dev/null || { echo "nvidia-smi was not found: install NVIDIA's driver." >&2; exit 1; }

# The first GPU that CUDA will see. nvidia-smi counts them in the order of the bus, and does not know parts of a GPU.
export CUDA_DEVICE_ORDER=PCI_BUS_ID
chosen=${CUDA_VISIBLE_DEVICES:-0}
of_gpu() {
    local found
    found=$(nvidia-smi --id="${chosen%%,*}" --query-gpu="$1" --format=csv,noheader 2> /dev/null) ||
        found=$(nvidia-smi --query-gpu="$1" --format=csv,noheader) || return
    echo "$found" | sed -n 1p
}
device=$(of_gpu name | tr -s ' /' '--') || { echo "nvidia-smi failed: $(nvidia-smi 2>&1)" >&2; exit 1; }
capability=$(of_gpu compute_cap | tr -cd '0-9')
# "CUDA Version: 13.0" of the driver; spelled with more words or another space by some versions.
driver_cuda=$(nvidia-smi | sed -nE 's/.*CUDA[A-Za-z ]*Version *: *([0-9]+)\..*/\1/p' | sed -n 1p)
case $driver_cuda in
    12) cuda=cuda12 torch_indices="cu126 cu128 cu129" ;;
    1[3-9]) cuda=cuda13 torch_indices="cu130 cu132" ;;
    *) echo "The driver supports CUDA '$driver_cuda', but CUDA 12 or later is needed: update it." >&2; exit 1 ;;
esac
# CUDA 13 has left out what came before Turing, which its drivers still run.
if [ "${capability:-75}" -lt 75 ]; then cuda=cuda12 torch_indices=cu126; fi
report=$folder/$device
mkdir -p "$report"
report=$(cd "$report" && pwd)
echo "$device: CUDA $driver_cuda, extra [$cuda], report in $report"

if [ -n "$dry_run" ]; then
    in_environment() { "$PYTHON" "${@:2}"; }  # leaves out the word python
    pip() { echo "would run: pip $*"; }
else
    mkdir -p build  # temporary folders are often too small
    work=$(mktemp -d "$PWD/build/gpu-environment.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    . ci/fresh_hatch.sh "$work"
    TMPDIR=$work hatch env create peers
    # Not `hatch run`, which would install again what is replaced here.
    python=$(hatch run peers:python -c 'import sys; print(sys.executable)' | tail -n 1)
    export MPLBACKEND=Agg
    in_environment() { "$python" "${@:2}"; }
    pip() { TMPDIR=$work in_environment python -m pip "$@"; }
fi
sees_gpu() { [ -n "$dry_run" ] || in_environment python -c 'import torch; torch.ones(3, device="cuda").sum().item()'; }

other=$(echo "cupy-${cuda}x" | tr 23 32)
pip uninstall --quiet --yes "$other"  # they share their folders
pip install --quiet --force-reinstall --no-deps "cupy-${cuda}x>=14"
pip install --quiet "cupy-${cuda}x[ctk]>=14"
for index in $torch_indices; do  # the wheels of the Python index are for one version of CUDA
    if sees_gpu; then break; fi
    pip install --quiet "torch==2.13.0+$index" --extra-index-url "https://download.pytorch.org/whl/$index" || true
done
sees_gpu || { echo "PyTorch cannot use the GPU; see above." >&2; exit 1; }
if ! command -v g++ c++ clang++ > /dev/null; then pip install --quiet ziglang; fi

backend=cuda-copied tests=packages/symbolic-matrices/tests
gpu_tests=$tests/gpu workers=(--numprocesses=4 --dist=worksteal) options=()
if [ -n "$dry_run" ]; then
    backend=cuda-emulated tests=$tests/test_lookup.py::test_labels_out_of_range_give_nan gpu_tests=$gpu_tests/test_on_gpu.py
    workers=() options=(--dry-run -k "attention D=64 64 columns N=100000")
fi

# Each step leaves its own record, and the last line says which ones failed.
failed=
step() {
    local name=$1
    shift
    echo "--- $name: $*"
    "$@" 2>&1 | tee "$report/$name.txt" || failed="$failed $name"
}
# Peers that change what is installed already are left out.
install_peers() {
    pip freeze --exclude-editable > "$report/installed.txt"
    local peer
    for peer in flash-sinkhorn geomloss "cuvs-${cuda/cuda/cu}"; do
        pip install --quiet --constraint "$report/installed.txt" "$peer" || echo "without $peer"
    done
}
step driver nvidia-smi
step configuration in_environment python -c 'import symbolic_matrices; print(symbolic_matrices.show_config())'
step gpu_tests in_environment python -m pytest "$gpu_tests"
step all_tests in_environment python -m pytest ${workers[@]+"${workers[@]}"} --backend "$backend" "$tests"
step peers install_peers
step benchmarks in_environment python tools/run_gpu_benchmarks.py --output "$report" ${options[@]+"${options[@]}"}

[ -z "$failed" ] || { echo "failed:$failed; see $report" >&2; exit 1; }
echo "passed on $device; the timings are in $report/results.md"
