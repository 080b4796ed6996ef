#!/usr/bin/env bash
# Run the tests of the CUDA backend on a machine with a GPU: the whole suite on copies of its arrays, then what only a
# GPU can tell. Needs an NVIDIA driver and hatch. The report, named after the device, is left in build/gpu/.
set -euo pipefail
cd "$(dirname "$0")/.."

cuda=${1:-cuda13}   # or cuda12, by the CUDA version that nvidia-smi shows
torch_index=${2:-https://download.pytorch.org/whl/cu130}
device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1 | tr ' ' '-')
report=build/gpu/$device.txt
mkdir -p build/gpu

hatch run python -m pip install --quiet "cupy-${cuda}x[ctk]>=14"
hatch run python -m pip install --quiet --force-reinstall --no-deps "torch==2.13.0" --index-url "$torch_index"
{
    nvidia-smi
    hatch run python -c "import symbolic_matrices; print(symbolic_matrices.show_config())"
    hatch run test -n 4 packages/symbolic-matrices/tests/gpu
    hatch run test -n 4 --backend cuda-copied packages/symbolic-matrices/tests
} 2>&1 | tee "$report"
