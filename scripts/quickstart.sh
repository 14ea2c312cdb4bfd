#!/usr/bin/env bash
# The whole main job on two cores, without a GPU, weights or datasets: draw a world, build a
# training set, train a tiny Qwen2-VL in two stages, average them, evaluate, report.
#
#   bash scripts/quickstart.sh [folder]                  default folder: outputs/quickstart
#   BASE=qwen3_vl bash scripts/quickstart.sh [folder]    a tiny Qwen3-VL instead, or qwen2_5_vl: outputs/quickstart-qwen3_vl
#   RL=1 bash scripts/quickstart.sh [folder]             and then stage 3 from the merged model: a sixth row, 10 more minutes
#
# Takes 20 to 35 minutes with the installation. Run it again to resume: finished steps are skipped.
# To start over, remove the folder. It ends what it started when it ends; if some of that still
# runs after a kill, it names it and does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"
# Nothing is downloaded, and LLaMA-Factory uses only this machine.
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 WANDB_DISABLED=true TOKENIZERS_PARALLELISM=false CUDA_VISIBLE_DEVICES= DS_ACCELERATOR=cpu

base="${BASE:-qwen2_vl}"
case "$base" in
  qwen2_vl) folder=outputs/quickstart recipe=train/stage-1_finetune_full.yaml pixels=12544 new_tokens=32 prompt=corrected ;;
  qwen2_5_vl | qwen3_vl)
    folder="outputs/quickstart-$base" recipe="train/$base/stage-1_finetune_full.yaml" new_tokens=96 prompt=trained
    [ "$base" = qwen3_vl ] && pixels=16384 || pixels=12544 # 16 tokens an image
    ;;
  *) echo "quickstart.sh: BASE=$base is unknown; use qwen2_vl, qwen2_5_vl or qwen3_vl" >&2; exit 2 ;;
esac
[ -z "${RL:-}" ] || [ "$base" = qwen2_vl ] || { echo "quickstart.sh: RL=1 goes with BASE=qwen2_vl" >&2; exit 2; }
folder="${1:-$folder}"
case "$folder" in *" "*) echo "quickstart.sh: LLaMA-Factory splits paths at spaces: choose a folder without any" >&2; exit 2 ;; esac
mkdir -p "$folder"
. scripts/alone.sh
lock_run "$folder/.lock" quickstart.sh "$folder"
end_with_me
SECONDS=0
say() { printf '\n[%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*" >&2; }

# train STAGE BASE: LLaMA-Factory on the stage's YAML, its log in a file, and a progress line now and then.
# An interrupted stage starts over: without DeepSpeed, LLaMA-Factory
# resumes the step and the optimizer but not the weights of Qwen2-VL.
train() {
  local stage="$1" out="$folder/$1" log="$folder/$1.log"
  [ -f "$out/train_results.json" ] && return
  rm -rf "$out"
  # Launched as on 8 GPUs, with a process a core: 1.6 times as fast as one process with two threads.
  FORCE_TORCHRUN=1 NPROC_PER_NODE=2 OMP_NUM_THREADS=1 llamafactory-cli train "configs/quickstart/$stage.yaml" \
    dataset_dir="$sets" media_dir="$folder/data" output_dir="$out" model_name_or_path="$folder/$2" \
    template="$(migician dev setting "$recipe" template)" image_max_pixels="$pixels" \
    > "$log" 2>&1 <&0 & # else bash gives it /dev/null
  local trainer=$!
  migician train progress "$out" --follow 20 --parent $$ &
  local teller=$!
  if ! wait "$trainer"; then
    tail -n 15 "$log" >&2
    echo "quickstart.sh: training failed; the full log is $log" >&2
    exit 1
  fi
  kill "$teller" 2> /dev/null || true
  wait "$teller" || true
}

# ask NAME: the held-out questions to one model; resumes automatically. One thread is enough for a tiny model.
ask() {
  OMP_NUM_THREADS=1 run migician eval mig-bench --model "$folder/$1" --data "$world/MIG-Bench/MIG_data.json" --images "$world" \
    --out "$folder/scores/$1" --batch-size 32 --max-new-tokens "$new_tokens" --prompt "$prompt" --json > /dev/null 2> "$folder/$1-eval.log" ||
    { cat "$folder/$1-eval.log" >&2; exit 1; }
}

world="$folder/world"
say "drawing the world: six source datasets in small"
[ -d "$world" ] || run migician dev miniature --out "$world"

say "building the training set with the real readers and builders"
if [ ! -f "$folder/data/stage2.json" ]; then
  rm -rf "$folder/data"
  sources=()
  for root in "$world"/sources/*; do sources+=(--source "${root##*/}=$root"); done
  run migician build all --config configs/miniature.yaml --name Miniature --out "$folder/data" "${sources[@]}"
  # Stage 1 is the six representative families; stage 2 is 27 parts of these and 49 of free form, as published.
  run migician data mix --out "$folder/data/stage1.json" --count 13500 \
    --part "$folder/data/Object_Tracking.json=2200" --part "$folder/data/Group_Grounding.json=1100" \
    --part "$folder/data/Difference.json=2500" --part "$folder/data/Common_Object.json=4500" \
    --part "$folder/data/Referring_Grounding.json=2200" --part "$folder/data/Region_Locating.json=1000"
  run migician data mix --out "$folder/data/stage2.json" --count 3000 --part "$folder/data/stage1.json=27" \
    --part "$folder/data/Free-Form.json=49"
fi

sets="$folder/data"
if [ "$base" != qwen2_vl ]; then
  say "writing its boxes as $base does"
  sets="$folder/data-$base"
  mkdir -p "$sets"
  for stage in stage1 stage2; do
    [ -f "$sets/$stage.convention.json" ] ||
      run migician data convert records --from "$folder/data/$stage.json" --media "$folder/data" --to "$base" \
        --max-pixels "$pixels" --out "$sets/$stage.json"
  done
fi

say "making a tiny $base with random weights"
[ -d "$folder/untrained" ] ||
  run migician dev tiny --base "$base" --texts "$sets/stage1.json" --texts "$sets/stage2.json" --out "$folder/untrained"

say "stage 1 (configs/quickstart/stage-1.yaml)"
train stage-1 untrained
say "stage 2 (configs/quickstart/stage-2.yaml)"
train stage-2 stage-1

run migician train curves "$folder/stage-1" "$folder/stage-2" --out "$folder/loss.png"

say "averaging the two stages"
[ -d "$folder/merged" ] || run migician train merge "$folder/stage-1" "$folder/stage-2" --out "$folder/merged"

say "asking the four models the held-out questions"
for models in "untrained stage-1" "stage-2 merged"; do # two at a time, a core each
  ask "${models% *}" <&0 & first=$!
  ask "${models#* }"
  wait "$first"
done
run migician dev baseline mig-bench --data "$world/MIG-Bench/MIG_data.json" --out "$folder/scores/constant" --json \
  > /dev/null 2>&1

scores=("$folder"/scores/{constant,untrained,stage-1,stage-2,merged})
if [ -n "${RL:-}" ]; then
  say "stage 3: reinforcement learning from the merged model (configs/quickstart/stage-3.yaml)"
  NPROC_PER_NODE=2 OMP_NUM_THREADS=1 PROGRESS_SECONDS=20 run bash scripts/stage3.sh configs/quickstart/stage-3.yaml \
    model_name_or_path="$folder/merged" dataset_dir="$sets" media_dir="$folder/data" output_dir="$folder/stage-3" \
    held_out="$world/MIG-Bench/MIG_data.json" held_out_images="$world"
  [ -d "$folder/scores/stage-3" ] || cp -r "$folder/stage-3/scores/after" "$folder/scores/stage-3"
  scores+=("$folder/scores/stage-3")
fi

say "done"
run migician report "${scores[@]}" --images "$world" --out "$folder/page"
