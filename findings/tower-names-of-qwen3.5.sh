#!/usr/bin/env bash
# A Qwen3.5 that transformers 5.5.4 saved has a random vision tower in transformers 5.24.
#
# In memory the tower is `model.visual.*`, as in the released checkpoints, and 5.5.4 reads those. But save_pretrained of 5.5.4
# writes it as `model.language_model.visual.*`. It reads that back too, so a save and a load show nothing; 5.24 does not
# know the names: it draws the tower at random, prints a report of missing weights and goes on, and the model is blind.
# LLaMA-Factory 0.9.5 trains with 5.5.4 at most, so each full finetuning of a Qwen3.5 ends so. The fix: rename the tensors.
#
# Seen with transformers 5.5.4 and 5.24.0, torch 2.11.0, Python 3.11. Takes 6 GB and some minutes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  "${PYTHON:-python3.11}" -m venv "$work/venv"
  python="$work/venv/bin/python"
  "$python" -m pip install --quiet torch==2.11.0 torchvision==0.26.0 transformers==5.5.4
fi
"$python" -m pip install --quiet --target "$work/new" transformers==5.24.0
cat > "$work/save.py" <<'END'
import sys

from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

text = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 1, "linear_num_value_heads": 1, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}
tower = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
config = Qwen3_5Config(text_config=text, vision_config=tower | {"num_position_embeddings": 16})
Qwen3_5ForConditionalGeneration(config).save_pretrained(sys.argv[1])
END
cat > "$work/load.py" <<'END'
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

folder, wanted = sys.argv[1:3]
saved = load_file(f"{folder}/model.safetensors")
if wanted == "rename":
    saved = {name.replace("model.language_model.visual.", "model.visual."): one for name, one in saved.items()}
    save_file(saved, f"{folder}/model.safetensors", metadata={"format": "pt"})
(own,) = [name for name in saved if name.endswith("visual.blocks.0.attn.proj.weight")]
model = transformers.Qwen3_5ForConditionalGeneration.from_pretrained(folder)
same = torch.equal(model.model.visual.blocks[0].attn.proj.weight, saved[own])
print(f"transformers {transformers.__version__}: {own} is {'read' if same else 'NOT read, the tower is random'}")
sys.exit(same is (wanted == "lost"))
END
export HF_HUB_OFFLINE=1
"$python" "$work/save.py" "$work/model" 2>/dev/null
if "$python" "$work/load.py" "$work/model" kept 2>/dev/null &&
  PYTHONPATH="$work/new" "$python" "$work/load.py" "$work/model" lost 2>/dev/null &&
  PYTHONPATH="$work/new" "$python" "$work/load.py" "$work/model" rename 2>/dev/null &&
  "$python" "$work/load.py" "$work/model" kept 2>/dev/null; then
  echo "as described"
else
  echo "this has changed: see the top of the script" >&2
  exit 1
fi
