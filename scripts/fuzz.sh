#!/usr/bin/env bash
# Search with new seeds for cases that break the properties in the tests.
#
#   bash scripts/fuzz.sh 30          30 minutes; the last round is cut short
#
# The test command searches from fixed seeds, so that no run fails by chance; this does the rest. It runs the files with such
# properties again and again. At the first failure it ends with status 1 and prints what to pin: give the failing case to
# the test as @example(...), fix the fault, and run it again.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in '' | *[!0-9]*) echo "fuzz.sh: give the number of minutes: bash scripts/fuzz.sh 30" >&2; exit 2 ;; esac
bash scripts/setup.sh
cores=$(nproc) # before OMP_NUM_THREADS is set: nproc obeys it
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 HYPOTHESIS_SEARCH=1
mapfile -t files < <(grep -rl --include='test_*.py' '^from hypothesis' tests)
end=$((SECONDS + 60 * $1)) rounds=0
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
while [ $SECONDS -lt $end ]; do
  status=0
  timeout --signal INT $((end - SECONDS)) \
    python -m pytest -q --numprocesses $((cores < 4 ? cores : 4)) "${files[@]}" > "$log" 2>&1 || status=$?
  if [ "$status" != 0 ] && [ "$status" != 124 ]; then
    sed -n '/= FAILURES =/,$p' "$log" | grep -E '^(_{3,}|E  |FAILED|tests/)' || tail -n 40 "$log"
    echo "fuzz.sh: pin the failing case above as @example in its test" >&2
    exit 1
  fi
  [ "$status" = 124 ] || rounds=$((rounds + 1))
  echo "fuzz.sh: $rounds rounds over ${#files[@]} files in $((SECONDS / 60)) min, nothing found" >&2
done
