#!/usr/bin/env bash
# The one test command: lint, format, types, then the tests with doctests. No network, no GPU.
# Arguments go to pytest: bash scripts/test.sh tests/test_boxes.py -k iou
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if [ $# -gt 0 ]; then
  exec python -m pytest "$@"
fi
ruff check .
ruff format --check .
mypy
# All of it goes by files to a process a core, at most four: some load torch.
cores=$(nproc)
OMP_NUM_THREADS=1 exec python -m pytest --numprocesses $((cores < 4 ? cores : 4)) --dist loadfile
