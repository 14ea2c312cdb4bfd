#!/usr/bin/env bash
# Stage 3: reinforcement learning by TRL from the merged model, with greedy held-out accuracy before and after.
#
#   bash scripts/stage3.sh [FILE.yaml] [key=value ...]     else train/stage-3_grpo.yaml
#
# Any setting of the YAML can be given as key=value. Run it again: a finished stage is skipped, and an unfinished one resumes
# from its last complete checkpoint. It ends its trainers when it ends. In the output_dir: trainer_log.jsonl, scores/before,
# scores/after, reward.png, and gain.json, which says whether greedy accuracy rose or only the sampled reward did. It makes and uses
# .venv-rl (scripts/rl_environment.sh). Variables:
#   NPROC_PER_NODE   processes on this machine (its GPUs)      PROGRESS_SECONDS   between two lines (60)
#   RL_VENV          an environment of your own with trl
set -euo pipefail
cd "$(dirname "$0")/.."
config=train/stage-3_grpo.yaml
case "${1:-}" in *.yaml) config="$1"; shift ;; esac
. scripts/rl_environment.sh
. scripts/alone.sh
rl_environment stage3.sh
export TOKENIZERS_PARALLELISM=false
setting() { migician dev setting "$config" "$1" "${given[@]}"; }

given=("$@")
out="$(setting output_dir)"
[ -n "$out" ] || { echo "stage3.sh: $config: output_dir is not set" >&2; exit 2; }
mkdir -p "$out"
lock_run "$out/.lock-0" stage3.sh "$out"
end_with_me

# ask NAME MODEL: the held-out questions, greedily; resumes, and is skipped where the report is there.
ask() {
  [ ! -f "$out/scores/$1/report.json" ] || return 0
  local limit
  limit="$(setting held_out_limit)"
  echo "stage3.sh: asking the held-out questions, $1" >&2
  run migician eval mig-bench --model "$2" --data "$(setting held_out)" --images "$(setting held_out_images)" --out "$out/scores/$1" \
    --max-new-tokens "$(setting max_completion_length)" ${limit:+--limit "$limit"} --json > /dev/null 2> "$out/$1-eval.log" ||
    { tail -n 15 "$out/$1-eval.log" >&2; exit 1; }
}

if [ ! -f "$out/train_results.json" ]; then
  run python -m migician.training.grpo "$config" "$@" --check
  ask before "$(setting model_name_or_path)"
  gpus="$(python -c 'import torch; print(torch.cuda.device_count())')"
  processes="${NPROC_PER_NODE:-$((gpus > 0 ? gpus : 1))}"
  echo "stage3.sh: $config on $processes processes, into $out" >&2
  launch=(python)
  [ "$processes" = 1 ] || launch=(torchrun --nproc_per_node "$processes")
  "${launch[@]}" -m migician.training.grpo "$config" "$@" >> "$out/train.log" 2>&1 <&0 & # else bash gives it /dev/null
  trainer=$!
  migician train progress "$out" --follow "${PROGRESS_SECONDS:-60}" --parent $$ &
  wait "$trainer" || { tail -n 15 "$out/train.log" >&2; echo "stage3.sh: training failed; the full log is $out/train.log" >&2; exit 1; }
fi
ask after "$out"
run migician train curves "$out" --out "$out/reward.png"
run migician train gain "$out"
