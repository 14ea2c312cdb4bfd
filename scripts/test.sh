#!/usr/bin/env bash
# The one test command: the tests with doctests, and beside them lint, format and types. No network, no GPU.
# Arguments go to pytest alone: bash scripts/test.sh tests/test_boxes.py -k iou
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
cores=$(nproc) # before OMP_NUM_THREADS is set: nproc obeys it
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
unset PYTHONDONTWRITEBYTECODE # else every process that a test starts compiles the package for itself
if [ $# -gt 0 ]; then
  exec python -m pytest "$@"
fi

said="$(mktemp)"
trap 'rm -f "$said"' EXIT
set -m # each of the two has a process group of its own: it ends with all that it started
(
  status=0
  ruff check . || status=$?
  ruff format --check . || status=$?
  mypy || status=$?
  exit $status
) > "$said" 2>&1 < /dev/null &
checks=$!
# Longest files first, to a process a core, at most four: some load torch (tests/conftest.py says which go together).
OMP_NUM_THREADS=1 python -m pytest --numprocesses $((cores < 4 ? cores : 4)) --dist loadfile < /dev/null &
tests=$!

# stop SIGNAL STATUS: end both with all that they started.
stop() {
  trap '' INT TERM
  kill -s "$1" -- "-$checks" "-$tests" 2> /dev/null || true
  wait
  exit "$2"
}
trap 'stop INT 130' INT
trap 'stop TERM 143' TERM

status=0 checked=0
wait "$tests" || status=$?
wait "$checks" || checked=$?
cat "$said"
[ "$status" != 0 ] || status=$checked
exit "$status"
