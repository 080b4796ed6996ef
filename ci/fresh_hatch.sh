# Source this with a temporary folder: puts a freshly installed hatch first on PATH, with empty environments.
# Nothing that is already installed on the machine is reused, apart from Python itself.
_folder=$1
_python=${PYTHON:-python3}
if "$_python" -m venv "$_folder/venv" > "$_folder/venv.txt" 2>&1; then
    :
# Debian and its like part venv from Python: virtualenv does the same, if there is pip.
elif ! { "$_python" -m pip install --quiet --target "$_folder/virtualenv" virtualenv &&
    PYTHONPATH="$_folder/virtualenv" "$_python" -m virtualenv --quiet --clear "$_folder/venv"; }; then
    cat "$_folder/venv.txt" >&2
    echo "$_python makes no virtual environments: install its package venv (Debian, Ubuntu: python3-venv)." >&2
    exit 1
fi
if [ -d "$_folder/venv/Scripts" ]; then _programs="$_folder/venv/Scripts"; else _programs="$_folder/venv/bin"; fi
export PATH="$_programs:$PATH" VIRTUAL_ENV="$_folder/venv"
export HATCH_DATA_DIR="$_folder/hatch-data" HATCH_CACHE_DIR="$_folder/hatch-cache"
export SYMBOLIC_MATRICES_CACHE="$_folder/kernels"
python -m pip install --quiet hatch
