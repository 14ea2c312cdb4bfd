#!/usr/bin/env bash
# The average of both stages, the final model: bash scripts/merge.sh [saves/stage-1 saves/stage-2 saves/migician]
set -euo pipefail
cd "$(dirname "$0")/.."
first="${1:-saves/stage-1}" second="${2:-saves/stage-2}" out="${3:-saves/migician}"
if [ -f "$out/merge.json" ]; then
  echo "merge.sh: $out is finished" >&2
  exit 0
fi
exec migician train merge "$first" "$second" --out "$out"
