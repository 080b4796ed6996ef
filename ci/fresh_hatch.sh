# Source this with a temporary folder: puts a freshly installed hatch first on PATH, with empty environments.
# Nothing that is already installed on the machine is reused, apart from Python itself.
_folder=$1
"${PYTHON:-python3}" -m venv "$_folder/venv"
if [ -d "$_folder/venv/Scripts" ]; then _programs="$_folder/venv/Scripts"; else _programs="$_folder/venv/bin"; fi
export PATH="$_programs:$PATH" VIRTUAL_ENV="$_folder/venv"
export HATCH_DATA_DIR="$_folder/hatch-data" HATCH_CACHE_DIR="$_folder/hatch-cache"
export SYMBOLIC_MATRICES_CACHE="$_folder/kernels"
python -m pip install --quiet hatch
