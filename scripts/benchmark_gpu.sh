#!/usr/bin/env bash
# Measure on one GPU, in one call of at most eight minutes, what docs/performance.md and docs/training.md leave open.
#
#   bash scripts/benchmark_gpu.sh                                 one GPU of 80 GB
#   bash scripts/benchmark_gpu.sh --shape tiny --device cpu       minutes, to see that all of it works
#   bash scripts/benchmark_gpu.sh --minutes 4 --only evaluation   a part; see scripts/benchmark_gpu.py
#
# It needs no network, no weights and no installation: a Python (PYTHON, else python3) with torch, torchvision,
# transformers and msgspec; peft and liger-kernel where they are there. Weights are random and made on the GPU.
# Each figure is printed when it is known; with OUT set to a folder they are also in OUT/gpu.txt and OUT/gpu.json, what
# libraries say in OUT/gpu.err. Parts that --minutes leaves no time for are said to be left out.
set -euo pipefail
cd "$(dirname "$0")/.."

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_PROGRESS_BARS=1
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
out="${OUT:-$work}"
status=0
"${PYTHON:-python3}" scripts/benchmark_gpu.py --folder "$work/bench" --json "$out/gpu.json" --began "$EPOCHSECONDS" "$@" \
  2> "$out/gpu.err" | tee "$out/gpu.txt" || status=$?
if [ "$status" -ne 0 ]; then
  echo "benchmark_gpu.sh: status $status; the end of what was said:" >&2
  tail -n 15 "$out/gpu.err" >&2
fi
exit "$status"
