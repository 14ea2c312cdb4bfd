#!/usr/bin/env bash
# The one test command: lint, format, types, then the tests with doctests. No network, no GPU.
# Arguments go to pytest: bash scripts/test.sh tests/test_boxes.py -k iou
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if [ $# -eq 0 ]; then
  ruff check .
  ruff format --check .
  mypy
fi
exec python -m pytest "$@"
