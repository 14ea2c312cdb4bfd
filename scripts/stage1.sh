#!/usr/bin/env bash
# Stage 1 with the published settings: bash scripts/stage1.sh [key=value ...]; see scripts/stage.sh.
cd "$(dirname "$0")/.." && exec bash scripts/stage.sh train/stage-1_finetune_full.yaml "$@"
