#!/usr/bin/env bash
# Stage 2 with the published settings: bash scripts/stage2.sh [key=value ...]; see scripts/stage.sh.
cd "$(dirname "$0")/.." && exec bash scripts/stage.sh train/stage-2_finetune_full.yaml "$@"
