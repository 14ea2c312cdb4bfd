#!/usr/bin/env bash
# A Qwen2-VL with tied embeddings that transformers 4.57 saved has a random head in transformers 5.
#
# 4.52 to 4.57 write `tie_word_embeddings: true` of such a model (the released 2B is one) into `text_config` alone, and no
# lm_head, which is right: it is the embeddings. Transformers 5 asks the whole config alone, finds nothing, takes its
# default, False, and draws the head at random, another one at each load. A report of missing weights is printed, and
# replies are noise. Folders of 4.45 and of 5.x are fine. The fix: say tie_word_embeddings: true in the config itself.
#
# Seen with transformers 4.57.6 and 5.5.4, torch 2.11.0, Python 3.11. Takes 6 GB and some minutes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  "${PYTHON:-python3.11}" -m venv "$work/venv"
  python="$work/venv/bin/python"
  "$python" -m pip install --quiet torch==2.11.0 torchvision==0.26.0 transformers==5.5.4
fi
"$python" -m pip install --quiet --no-deps --target "$work/old" transformers==4.57.6 tokenizers==0.22.1 huggingface_hub==0.36.0
cat > "$work/save.py" <<'END'
import sys

import torch
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

torch.manual_seed(0)
config = Qwen2VLConfig(
    vocab_size=400, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, tie_word_embeddings=True, rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]},
    vision_config={"embed_dim": 32, "depth": 1, "num_heads": 2, "hidden_size": 64, "mlp_ratio": 2},
)
Qwen2VLForConditionalGeneration(config).save_pretrained(sys.argv[1])
END
cat > "$work/load.py" <<'END'
import sys

import torch
import transformers
from transformers import Qwen2VLForConditionalGeneration

model = Qwen2VLForConditionalGeneration.from_pretrained(sys.argv[1])
tied = torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)
print(f"transformers {transformers.__version__}: the head is {'the embeddings' if tied else 'something else'}")
sys.exit(tied != (sys.argv[2] == "tied"))
END
export HF_HUB_OFFLINE=1
PYTHONPATH="$work/old" "$python" "$work/save.py" "$work/model" 2>/dev/null
grep -n tie_word_embeddings "$work/model/config.json"
if PYTHONPATH="$work/old" "$python" "$work/load.py" "$work/model" tied 2>/dev/null &&
  "$python" "$work/load.py" "$work/model" lost 2>/dev/null; then
  sed -i '0,/{/s//{"tie_word_embeddings": true,/' "$work/model/config.json"
  "$python" "$work/load.py" "$work/model" tied 2>/dev/null
  echo "as described"
else
  echo "this has changed: see the top of the script" >&2
  exit 1
fi
