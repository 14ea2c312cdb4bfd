#!/usr/bin/env bash
# Train one stage through LLaMA-Factory: check first, then start, resume or skip.
#
#   bash scripts/stage.sh train/stage-1_finetune_full.yaml [key=value ...]
#
# Any setting of the YAML can be given as key=value. Run it again: a finished stage is skipped, and an unfinished one resumes
# from its last complete checkpoint. It ends its trainers when it ends; if those of an earlier start still run, it names
# them and does nothing (docs/reliability.md). Beside the checkpoints are check.json (what the check found) and, at the
# end, loss.png; one line per minute gives progress, speed and time left. Variables:
#   NPROC_PER_NODE   processes on this machine (its GPUs)     NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT   several machines
#   GPU_MEMORY       GB of one GPU, for the check (its own)   SKIP_CHECK=1                                  do not check
#   REPORT_TO        none, tensorboard or wandb               PROGRESS_SECONDS                              between two lines (60)
set -euo pipefail
config="${1:?stage.sh: name a training YAML, such as train/stage-1_finetune_full.yaml}"
shift
[ -z "${REPORT_TO:-}" ] || set -- "$@" "report_to=$REPORT_TO"
setting() { migician dev setting "$config" "$1" "${@:2}"; }
. "$(dirname "${BASH_SOURCE[0]}")/alone.sh"

out="$(setting output_dir "$@")"
if [ -f "$out/train_results.json" ]; then
  echo "stage.sh: $out is finished" >&2
  exit 0
fi
nodes="${NNODES:-1}" rank="${NODE_RANK:-0}"
mkdir -p "$out"
lock_run "$out/.lock-$rank" stage.sh "$out" # a machine each: they may share the disk
end_with_me
gpus="$(python -c 'import torch; print(torch.cuda.device_count())')"
export NPROC_PER_NODE="${NPROC_PER_NODE:-$((gpus > 0 ? gpus : 1))}"
processes=$((nodes * NPROC_PER_NODE))

zero="$(setting deepspeed "$@")"
mapfile -t again < <(migician train resume "$out" --processes "$processes" ${zero:+--deepspeed "$zero"} || echo failed)
[ "${again[*]:-}" != failed ] || exit 2
# Without a complete checkpoint LLaMA-Factory must not look for one itself: it would take an incomplete one.
[ "${#again[@]}" -gt 0 ] || again=(overwrite_output_dir=true)

if [ "$rank" = 0 ] && [ -z "${SKIP_CHECK:-}" ]; then
  settings=()
  for one in "$@" "${again[@]}"; do settings+=(--set "$one"); done
  [ "$gpus" != 0 ] || GPU_MEMORY="${GPU_MEMORY:-0}" # the check asks nvidia-smi for what is not given
  run migician train check "$config" "${settings[@]}" --gpus "$processes" ${GPU_MEMORY:+--gpu-memory "$GPU_MEMORY"} \
    --quick --out "$out/check.json" || {
    echo "stage.sh: fix the problems above, or set SKIP_CHECK=1 to train anyway" >&2
    exit 1
  }
fi

echo "stage.sh: $config on $processes processes, into $out" >&2
launch=(llamafactory-cli train)
# A checkpoint converted for another number of processes: see migician/training/universal_checkpoint.py.
[[ " ${again[*]} " != *" deepspeed="* ]] ||
  launch=(torchrun --nnodes "$nodes" --node_rank "$rank" --nproc_per_node "$NPROC_PER_NODE"
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${MASTER_PORT:-29500}" -m migician.training.universal_checkpoint)
FORCE_TORCHRUN=1 "${launch[@]}" "$config" "$@" "${again[@]}" <&0 & # else bash gives it /dev/null
trainer=$!
if [ "$rank" = 0 ]; then
  migician train progress "$out" --follow "${PROGRESS_SECONDS:-60}" --parent $$ &
fi
wait "$trainer" # its status is this script's
[ "$rank" != 0 ] || run migician train curves "$out" --out "$out/loss.png"
