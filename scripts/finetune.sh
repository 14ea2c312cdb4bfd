#!/usr/bin/env bash
# From two mixtures to a merged Migician: stage 1, stage 2 from its result, their average, its score on MIG-Bench.
#
#   bash scripts/finetune.sh [option ...] [-- key=value ...]      settings after -- go to both stages
#
#   --base NAME         qwen2_vl, qwen2_5_vl, qwen3_vl or qwen3_5: its recipes (train/NAME) and its checkpoint (qwen2_vl)
#   --base MODEL        a folder or a Hub id that stage 1 starts from; recipes by its config.json or by its name
#   --data FOLDER       dataset_info.json with stage1, stage2 (data/mixtures), in the convention that the base learns
#   --media FOLDER      the folder image paths start from     (data)
#   --saves FOLDER      stage-1, stage-2 and migician go here (saves)
#   --stage1 YAML       (train/stage-1_finetune_full.yaml)    --stage2 YAML   (train/stage-2_finetune_full.yaml)
#                       VARIANT=fast uses the ..._fast.yaml of both, for Qwen2-VL: packing and fused kernels
#   --lora              the ..._lora.yaml of both, for one GPU of 24 to 80 GB: adapters go to stage-1-lora, stage-2-lora,
#                       and are merged into stage-1, stage-2   --qlora   the same on a base of 4 bits (bitsandbytes)
#   --bench FILE        MIG_data.json; without it nothing is scored
#   --bench-images DIR  the folder that holds MIG-Bench/      (.)
#   --dry-run           print the commands, run nothing
#
# Safe to run again: finished steps are skipped, an unfinished stage resumes from its last complete checkpoint. It ends what
# it started when it ends; if some of that still runs after kill -9, the next start names it and does nothing. On several
# machines run the same command on each, with NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT set (Slurm:
# scripts/finetune.slurm), on a disk that all of them share; merging and scoring is done by machine 0. Other variables:
# scripts/stage.sh. Published: 8 x A100-80G, about 50 and 10 hours.
set -euo pipefail
cd "$(dirname "$0")/.."
base=qwen2_vl data=data/mixtures media=data saves=saves bench="" images=. dry=""
stage1="" stage2="" variant="${VARIANT:-full}" bits=()
while [ $# -gt 0 ]; do
  case "$1" in
    --base | --data | --media | --saves | --stage1 | --stage2 | --bench | --bench-images)
      [ $# -gt 1 ] || { echo "finetune.sh: $1 needs a value" >&2; exit 2; }
      name="${1#--}"
      [ "$name" != bench-images ] || name=images
      printf -v "$name" %s "$2"
      shift 2
      ;;
    --lora) variant=lora; shift ;;
    --qlora) variant=lora bits=(quantization_bit=4 quantization_method=bnb); shift ;;
    --dry-run) dry=1; shift ;;
    --) shift; break ;;
    -h | --help) sed -n '2,23s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "finetune.sh: '$1' is not an option; see bash scripts/finetune.sh --help" >&2; exit 2 ;;
  esac
done
[ -d .venv ] && export PATH="$PWD/.venv/bin:$PATH" # the launcher calls torchrun by its bare name
name="$(migician dev base "$base" --data "$data" --media "$media")" || exit 2
[ "$name" = qwen2_vl ] && recipes=train || recipes="train/$name"
stage1="${stage1:-$recipes/stage-1_finetune_$variant.yaml}" stage2="${stage2:-$recipes/stage-2_finetune_$variant.yaml}"
for file in "$stage1" "$stage2"; do
  [ -f "$file" ] || { echo "finetune.sh: $file does not exist; VARIANT is full, lora, or for Qwen2-VL fast" >&2; exit 2; }
done
[ "$base" != "$name" ] || base="$(migician dev setting "$stage1" model_name_or_path)"
. scripts/alone.sh
end_with_me
step() { if [ -n "$dry" ]; then printf '%q ' "$@"; echo; else run "$@"; fi; }

places=("dataset_dir=$data" "media_dir=$media")
# stage YAML BASE NAME [key=value ...]: the model goes to $saves/NAME; an adapter beside it, and is merged into its base.
stage() {
  local config="$1" from="$2" out="$saves/$3"
  shift 3
  if [ "$variant" != lora ]; then
    step bash scripts/stage.sh "$config" "model_name_or_path=$from" "output_dir=$out" "${places[@]}" "$@"
    return
  fi
  step bash scripts/stage.sh "$config" "model_name_or_path=$from" "output_dir=$out-lora" "${places[@]}" "${bits[@]}" "$@"
  [ "${NODE_RANK:-0}" = 0 ] || return 0
  if [ -f "$out/merge.json" ]; then
    echo "finetune.sh: $out is finished" >&2
  else
    step migician train merge "$out-lora" --base "$from" --out "$out"
  fi
}
stage "$stage1" "$base" stage-1 "$@"
stage "$stage2" "$saves/stage-1" stage-2 "$@"
[ "${NODE_RANK:-0}" = 0 ] || exit 0
step bash scripts/merge.sh "$saves/stage-1" "$saves/stage-2" "$saves/migician"
logs=("$saves/stage-1" "$saves/stage-2")
[ "$variant" != lora ] || logs=("$saves/stage-1-lora" "$saves/stage-2-lora")
step migician train curves "${logs[@]}" --out "$saves/loss.png"
ask=()
[ "$name" = qwen2_vl ] || ask=(--prompt trained) # as its converted data asks
[ -z "$bench" ] ||
  step migician eval mig-bench --model "$saves/migician" --data "$bench" --images "$images" --out "$saves/scores/migician" \
    "${ask[@]}"
